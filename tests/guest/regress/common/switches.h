/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's debug-only delay points and switches (CONFIG_PGPROTECT_DEBUG_DELAY),
 * in /sys/kernel/debug/pgprotect. Whoever sets one resets all before it ends: they
 * are the whole system's.
 */
#ifndef SWITCHES_H
#define SWITCHES_H

#include <stdbool.h>

bool switches_present(void);
/* Microseconds that whoever passes the point "fault_install", ... sleeps or spins. */
void delay_set(const char *point, unsigned int us);
/* How many are at such a point now. */
unsigned int delayed_now(void);
/* Leaves a protection out: "write_filter", ... */
void fix_disable(const char *name);
/* Leaves out the filters that are called from these kernel functions, space-separated. */
void filter_disable(const char *functions);
/*
 * Lets who next enters the first of two functions "CALLED CALLER" by the second spin so long.
 * False: this kernel has no such function.
 */
bool hold_set(const char *place, unsigned int ms);
void switches_reset(void);

#endif
