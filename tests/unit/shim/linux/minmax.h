/* SPDX-License-Identifier: GPL-2.0 */
/* user-space stand-in: min() and max() are in tools' kernel.h */
#ifndef _SHIM_LINUX_MINMAX_H
#define _SHIM_LINUX_MINMAX_H

#include <linux/kernel.h>

#endif
