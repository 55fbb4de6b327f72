/* SPDX-License-Identifier: GPL-2.0 */
/* user-space stand-in: RCU by liburcu, with the checks that it can make */
#ifndef _SHIM_LINUX_RCUPDATE_H
#define _SHIM_LINUX_RCUPDATE_H

#include <stdlib.h>

#include_next <linux/rcupdate.h>

#define rcu_read_lock_held()	rcu_read_ongoing()

/* The tests hold RCU for every read, so the lock need not be looked at. */
#define RCU_LOCKDEP_WARN(cond, text)				\
	do {							\
		(void)(cond);					\
		if (!rcu_read_lock_held()) {			\
			fprintf(stderr, "%s: %s\n", __func__, text); \
			abort();				\
		}						\
	} while (0)

#ifndef rcu_access_pointer
#define rcu_access_pointer(p)	READ_ONCE(p)
#endif

void shim_kfree_rcu(void *object);

#define kfree_rcu(ptr, field)	shim_kfree_rcu(ptr)

#endif
