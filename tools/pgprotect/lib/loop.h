/* SPDX-License-Identifier: LGPL-2.1 OR MIT */
/*
 * The event loop inside: what it keeps, and what a way of waiting provides.
 */
#ifndef PGP_LOOP_H
#define PGP_LOOP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "internal.h"

/* pgp_backend.step: this way of waiting does not work here. */
#define PGP_TRY_OTHER	1

/* Verdicts to give. */
struct pgp_answers {
	struct pgprotect_verdict *verdicts;
	size_t nr;
	size_t room;
};

/*
 * A way of waiting. All are called by the thread that runs the loop, but for
 * @setup and @teardown.
 *
 * @step gives answers, fetches events and hands them out; it waits until
 * there is something to do or pgp_loop_wait_ns() has passed.
 * @drain ends what is under way, handing out what was fetched.
 */
struct pgp_backend {
	const char *name;
	int (*setup)(struct pgprotect_loop *loop);
	int (*step)(struct pgprotect_loop *loop);
	int (*drain)(struct pgprotect_loop *loop);
	void (*teardown)(struct pgprotect_loop *loop);
};

/*
 * Written by the thread that runs the loop, or before it runs, except:
 * @owner: the thread that runs the loop, named by an address of its own.
 * @stopping: set by anybody, cleared by the owner when the run ends.
 * @wake: an eventfd; written by anybody who sets @stopping or adds to @posted.
 * @lock: protects @posted, the answers of other threads.
 */
struct pgprotect_loop {
	struct pgprotect *ctx;
	struct pgprotect_loop_options opts;
	const struct pgp_backend *backend;
	void *state;
	struct pgp_answers answers;
	int64_t next_tick;
	bool busy;
	int wake;
	_Atomic(const char *) owner;
	atomic_bool stopping;
	atomic_bool has_posted;
	pthread_mutex_t lock;
	struct pgp_answers posted;
};

extern const struct pgp_backend pgp_epoll_backend;
extern const struct pgp_backend pgp_uring_backend;

/* Makes room for @nr verdicts in all. */
int pgp_answers_reserve(struct pgp_answers *answers, size_t nr);

/* Forgets the first @nr. */
void pgp_answers_drop(struct pgp_answers *answers, size_t nr);

/* Calls the event callback for each and collects the answers. */
int pgp_loop_dispatch(struct pgprotect_loop *loop,
		      const struct pgprotect_event *events, size_t nr);

/* Called before waiting. */
int pgp_loop_idle(struct pgprotect_loop *loop);

/* How long to wait, nanoseconds; -1: no limit; 0: something is to be done. */
int64_t pgp_loop_wait_ns(struct pgprotect_loop *loop);

#endif /* PGP_LOOP_H */
