// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * The event loop: callbacks, answers, ticks and stopping. How it waits is in
 * loop-uring.c and loop-epoll.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"

#define DEFAULT_BATCH	256
#define LAST_ERRNO	133

/* Its address tells threads apart, in a form that fits an atomic. */
static _Thread_local const char this_thread;

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

int pgp_answers_reserve(struct pgp_answers *answers, size_t nr)
{
	struct pgprotect_verdict *bigger;
	size_t room = answers->room ? answers->room : 64;

	if (nr <= answers->room)
		return 0;
	while (room < nr)
		room *= 2;
	bigger = reallocarray(answers->verdicts, room, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	answers->verdicts = bigger;
	answers->room = room;
	return 0;
}

void pgp_answers_drop(struct pgp_answers *answers, size_t nr)
{
	answers->nr -= nr;
	if (answers->nr && nr)
		memmove(answers->verdicts, answers->verdicts + nr,
			answers->nr * sizeof(*answers->verdicts));
}

/* Room has been made. A value that means nothing refuses: the safe side. */
static void answers_add(struct pgp_answers *answers, uint64_t id, int answer)
{
	struct pgprotect_verdict *verdict = &answers->verdicts[answers->nr++];

	memset(verdict, 0, sizeof(*verdict));
	verdict->id = id;
	verdict->action = PGPROTECT_ALLOW;
	if (answer != PGPROTECT_LOOP_ALLOW) {
		verdict->action = PGPROTECT_REFUSE;
		if (answer < 0 && answer >= -LAST_ERRNO)
			verdict->error = -answer;
	}
}

int pgp_loop_dispatch(struct pgprotect_loop *loop,
		      const struct pgprotect_event *events, size_t nr)
{
	size_t i;
	int answer;

	/* Before the first callback: none is called and its answer then lost. */
	if (pgp_answers_reserve(&loop->answers, loop->answers.nr + nr))
		return -ENOMEM;
	for (i = 0; i < nr; i++) {
		const struct pgprotect_event *event = &events[i];

		loop->busy = true;
		answer = loop->opts.event(loop, event, loop->opts.data);
		if (event->type == PGPROTECT_EVENT_STALL && event->id &&
		    answer != PGPROTECT_LOOP_PENDING)
			answers_add(&loop->answers, event->id, answer);
	}
	return 0;
}

int pgp_loop_idle(struct pgprotect_loop *loop)
{
	int ret = 0;

	if (loop->busy && loop->opts.idle)
		ret = loop->opts.idle(loop, loop->opts.data);
	loop->busy = false;
	return ret < 0 ? ret : 0;
}

int64_t pgp_loop_wait_ns(struct pgprotect_loop *loop)
{
	int64_t wait;

	if (atomic_load(&loop->stopping) || atomic_load(&loop->has_posted))
		return 0;
	if (!loop->opts.tick)
		return -1;
	wait = loop->next_tick - now_ns();
	return wait > 0 ? wait : 0;
}

static int loop_take_posted(struct pgprotect_loop *loop)
{
	struct pgp_answers *to = &loop->answers, *from = &loop->posted;
	int ret;

	if (!atomic_load(&loop->has_posted))
		return 0;
	pthread_mutex_lock(&loop->lock);
	ret = pgp_answers_reserve(to, to->nr + from->nr);
	if (!ret) {
		memcpy(to->verdicts + to->nr, from->verdicts,
		       from->nr * sizeof(*from->verdicts));
		to->nr += from->nr;
		from->nr = 0;
		atomic_store(&loop->has_posted, false);
	}
	pthread_mutex_unlock(&loop->lock);
	return ret;
}

/* Gives the answers that are left, fetching nothing. */
static int loop_flush(struct pgprotect_loop *loop)
{
	struct pgp_answers *answers = &loop->answers;
	int ret = 0;

	while (answers->nr && ret >= 0) {
		struct pgprotect_batch batch = {
			.size = sizeof(batch),
			.verdicts = answers->verdicts,
			.nr_verdicts = answers->nr < PGPROTECT_MAX_BATCH ?
				       answers->nr : PGPROTECT_MAX_BATCH,
		};
		uint32_t given = batch.nr_verdicts;

		ret = pgprotect_next(loop->ctx, &batch);
		if (ret == -EINTR) {
			ret = 0;
			continue;
		}
		if (ret == -ENOMEM && batch.nr_verdicts < given)
			given = batch.nr_verdicts;
		else if (ret < 0)
			given = 0;	/* nothing has acted */
		pgp_answers_drop(answers, given);
	}
	return ret;
}

static int loop_tick(struct pgprotect_loop *loop)
{
	int64_t now;
	int ret;

	if (!loop->opts.tick)
		return 0;
	now = now_ns();
	if (now < loop->next_tick)
		return 0;
	loop->next_tick += loop->opts.interval_ns;
	if (loop->next_tick <= now)
		loop->next_tick = now + loop->opts.interval_ns;
	/* So that what it does comes after the answers, protecting again above all. */
	ret = loop_flush(loop);
	if (ret < 0)
		return ret;
	ret = loop->opts.tick(loop, loop->opts.data);
	return ret < 0 ? ret : 0;
}

static int loop_change_backend(struct pgprotect_loop *loop)
{
	int ret = loop->backend->drain(loop);

	if (ret < 0)
		return ret;
	loop->backend->teardown(loop);
	loop->backend = &pgp_epoll_backend;
	return loop->backend->setup(loop);
}

int pgprotect_loop_run(struct pgprotect_loop *loop)
{
	const char *nobody = NULL;
	eventfd_t count;
	int ret, end;

	if (!atomic_compare_exchange_strong(&loop->owner, &nobody, &this_thread))
		return -EBUSY;

	loop->next_tick = now_ns() + loop->opts.interval_ns;
	do {
		ret = loop_take_posted(loop);
		if (!ret)
			ret = loop_tick(loop);
		if (!ret)
			ret = loop->backend->step(loop);
		if (ret == PGP_TRY_OTHER)
			ret = loop_change_backend(loop);
	} while (!ret && !atomic_load(&loop->stopping));

	end = loop->backend->drain(loop);
	if (end >= 0)
		end = loop_take_posted(loop);
	if (end >= 0)
		end = loop_flush(loop);
	if (!ret) {
		ret = end < 0 ? end : pgp_loop_idle(loop);
		atomic_store(&loop->stopping, false);
		(void)!eventfd_read(loop->wake, &count);
	}
	atomic_store(&loop->owner, NULL);
	return ret;
}

void pgprotect_loop_stop(struct pgprotect_loop *loop)
{
	int saved = errno;

	atomic_store(&loop->stopping, true);
	(void)!eventfd_write(loop->wake, 1);
	errno = saved;
}

int pgprotect_loop_answer(struct pgprotect_loop *loop, uint64_t id, int answer)
{
	struct pgp_answers *to = &loop->answers;
	int ret;

	if (!id || answer > 0 || answer < -LAST_ERRNO)
		return -EINVAL;
	if (atomic_load(&loop->owner) == &this_thread) {
		/* Keeps free what pgp_loop_dispatch() has reserved. */
		ret = pgp_answers_reserve(to, to->nr + 1 + loop->opts.batch);
		if (!ret)
			answers_add(to, id, answer);
		return ret;
	}

	pthread_mutex_lock(&loop->lock);
	ret = pgp_answers_reserve(&loop->posted, loop->posted.nr + 1);
	if (!ret) {
		answers_add(&loop->posted, id, answer);
		atomic_store(&loop->has_posted, true);
	}
	pthread_mutex_unlock(&loop->lock);
	if (!ret)
		(void)!eventfd_write(loop->wake, 1);
	return ret;
}

const char *pgprotect_loop_backend(const struct pgprotect_loop *loop)
{
	return loop->backend->name;
}

static int loop_choose_backend(struct pgprotect_loop *loop)
{
	int ret;

	if (!(loop->opts.flags & PGPROTECT_LOOP_EPOLL)) {
		loop->backend = &pgp_uring_backend;
		ret = loop->backend->setup(loop);
		if (!ret || loop->opts.flags & PGPROTECT_LOOP_URING)
			return ret;
	}
	loop->backend = &pgp_epoll_backend;
	return loop->backend->setup(loop);
}

static int loop_check_options(struct pgprotect_loop_options *opts)
{
	const uint32_t both = PGPROTECT_LOOP_URING | PGPROTECT_LOOP_EPOLL;

	if (!opts->event || (opts->flags & ~both) || (opts->flags & both) == both)
		return -EINVAL;
	if (opts->batch > PGPROTECT_MAX_BATCH)
		return -EINVAL;
	if (opts->tick && opts->interval_ns <= 0)
		return -EINVAL;
	if (!opts->batch)
		opts->batch = DEFAULT_BATCH;
	return 0;
}

int pgprotect_loop_new(struct pgprotect_loop **loop, struct pgprotect *ctx,
		       const struct pgprotect_loop_options *options)
{
	struct pgprotect_loop *new;
	int ret;

	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	new->ctx = ctx;
	pthread_mutex_init(&new->lock, NULL);
	ret = pgp_copy_options(&new->opts, sizeof(new->opts), sizeof(new->opts),
			       options);
	if (!ret)
		ret = loop_check_options(&new->opts);
	if (ret)
		goto out_free;

	new->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (new->wake < 0) {
		ret = -errno;
		goto out_free;
	}
	ret = loop_choose_backend(new);
	if (ret)
		goto out_close;
	*loop = new;
	return 0;

out_close:
	close(new->wake);
out_free:
	pthread_mutex_destroy(&new->lock);
	free(new);
	return ret;
}

void pgprotect_loop_free(struct pgprotect_loop *loop)
{
	if (!loop)
		return;
	loop->backend->teardown(loop);
	close(loop->wake);
	pthread_mutex_destroy(&loop->lock);
	free(loop->answers.verdicts);
	free(loop->posted.verdicts);
	free(loop);
}
