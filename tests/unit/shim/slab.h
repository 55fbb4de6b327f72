/* SPDX-License-Identifier: GPL-2.0 */
/* user-space stand-in: what the tests ask of the allocator */
#ifndef _SHIM_SLAB_H
#define _SHIM_SLAB_H

#include <stdbool.h>

/*
 * Make allocation number @nth of this thread from now on fail, counted from 0,
 * and all later ones if @stay. An allocation with __GFP_NOFAIL counts, and
 * succeeds.
 */
void shim_slab_fail(unsigned long nth, bool stay);

/* Back to normal. Returns true if any allocation was made to fail. */
bool shim_slab_heal(void);

/* Allocations of this thread since the last shim_slab_fail(). */
unsigned long shim_slab_count(void);

/* Objects in use by all threads, after rcu_barrier(). */
long shim_slab_live(void);

#endif
