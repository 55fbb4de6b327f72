/* SPDX-License-Identifier: GPL-2.0 */
/* user-space stand-in: types that tools/include lacks */
#ifndef _SHIM_LINUX_TYPES_H
#define _SHIM_LINUX_TYPES_H

#include_next <linux/types.h>

typedef unsigned long pgoff_t;

#endif
