/* SPDX-License-Identifier: GPL-2.0 */
/* user-space stand-in: lock assertions, which the tests of a booted kernel check */
#ifndef _SHIM_LINUX_LOCKDEP_H
#define _SHIM_LINUX_LOCKDEP_H

#include_next <linux/lockdep.h>

#define lockdep_assert(cond)	do { (void)(cond); } while (0)

#endif
