/* SPDX-License-Identifier: GPL-2.0 */
/*
 * user-space stand-in: a stop at every marked access
 *
 * Included before the production file and the maple tree. A test sets a function
 * that runs at each READ_ONCE(), WRITE_ONCE(), rcu_dereference() and
 * rcu_assign_pointer(), in the thread that makes the access and after it. So a
 * reader can be run at each step of a writer, or a writer within a reader,
 * without waiting for threads to meet there.
 */
#ifndef _SHIM_STEP_H
#define _SHIM_STEP_H

#include <linux/compiler.h>
#include <linux/rcupdate.h>

/* Per thread; NULL for none. Is not entered again from within. */
extern __thread void (*shim_step_fn)(void);

void shim_step_call(void);

static inline void shim_step(void)
{
	if (shim_step_fn)
		shim_step_call();
}

#ifdef SHIM_STEP_MARKED_ACCESSES

#undef READ_ONCE
#undef WRITE_ONCE
#undef rcu_dereference
#undef rcu_assign_pointer

#define shim_load(x)							\
	({								\
		__typeof__(x) __val = *(const volatile __typeof__(x) *)&(x); \
		shim_step();						\
		__val;							\
	})

#define READ_ONCE(x)		shim_load(x)
#define rcu_dereference(p)	shim_load(p)

#define WRITE_ONCE(x, val)						\
	do {								\
		*(volatile __typeof__(x) *)&(x) = (val);		\
		shim_step();						\
	} while (0)

#define rcu_assign_pointer(p, val)					\
	do {								\
		__atomic_store_n(&(p), (__typeof__(p))(val),		\
				 __ATOMIC_RELEASE);			\
		shim_step();						\
	} while (0)

#endif /* SHIM_STEP_MARKED_ACCESSES */

#endif
