// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * The event loop on epoll and PGPROTECT_IOC_NEXT.
 *
 * NEXT gives the answers of one batch and fetches the next, so that a busy
 * queue costs one system call for each batch. Only when it has run dry is
 * there a second one, to wait for the context and the wake-up at once.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop.h"

/* @fd: the epoll instance. @events: opts.batch of them. */
struct epoll_state {
	int fd;
	struct pgprotect_event events[];
};

static int watch_fd(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void epoll_teardown(struct pgprotect_loop *loop)
{
	struct epoll_state *state = loop->state;

	if (!state)
		return;
	close(state->fd);
	free(state);
	loop->state = NULL;
}

static int epoll_setup(struct pgprotect_loop *loop)
{
	struct epoll_state *state;
	int ret;

	state = calloc(1, sizeof(*state) +
		       loop->opts.batch * sizeof(state->events[0]));
	if (!state)
		return -ENOMEM;
	state->fd = epoll_create1(EPOLL_CLOEXEC);
	if (state->fd < 0) {
		ret = -errno;
		free(state);
		return ret;
	}
	loop->state = state;
	ret = watch_fd(state->fd, pgprotect_fd(loop->ctx));
	if (!ret)
		ret = watch_fd(state->fd, loop->wake);
	if (ret)
		epoll_teardown(loop);
	return ret;
}

static int epoll_sleep(struct pgprotect_loop *loop)
{
	struct epoll_state *state = loop->state;
	struct epoll_event ready[2];
	int64_t wait = pgp_loop_wait_ns(loop);
	int i, nr, ms = -1;
	eventfd_t count;

	/* Rounded up: to wake too early would be to go round for nothing. */
	if (wait >= 0)
		ms = wait < INT64_C(3600000000000) ? (wait + 999999) / 1000000 :
		     3600000;
	nr = epoll_wait(state->fd, ready, 2, ms);
	if (nr < 0)
		return errno == EINTR ? 0 : -errno;
	for (i = 0; i < nr; i++)
		if (ready[i].data.fd == loop->wake)
			(void)!eventfd_read(loop->wake, &count);
	return 0;
}

static int epoll_step(struct pgprotect_loop *loop)
{
	struct epoll_state *state = loop->state;
	struct pgp_answers *answers = &loop->answers;
	struct pgprotect_batch batch = {
		.size = sizeof(batch),
		.events = state->events,
		.max_events = loop->opts.batch,
		.nr_verdicts = answers->nr < PGPROTECT_MAX_BATCH ?
			       answers->nr : PGPROTECT_MAX_BATCH,
	};
	uint32_t given = batch.nr_verdicts;
	int ret;

	/* So that no event is fetched that cannot be handed out. */
	ret = pgp_answers_reserve(answers, answers->nr + loop->opts.batch);
	if (ret)
		return ret;
	batch.verdicts = answers->verdicts;

	ret = pgprotect_next(loop->ctx, &batch);
	if (ret == -EINTR)
		return 0;
	if (ret == -ENOMEM && batch.nr_verdicts < given)
		pgp_answers_drop(answers, batch.nr_verdicts);
	if (ret < 0)
		return ret;
	pgp_answers_drop(answers, given);
	if (ret > 0)
		return pgp_loop_dispatch(loop, state->events, ret);
	if (answers->nr)
		return 0;
	ret = pgp_loop_idle(loop);
	return ret ? ret : epoll_sleep(loop);
}

static int epoll_drain(struct pgprotect_loop *loop)
{
	(void)loop;
	return 0;
}

const struct pgp_backend pgp_epoll_backend = {
	.name = "epoll",
	.setup = epoll_setup,
	.step = epoll_step,
	.drain = epoll_drain,
	.teardown = epoll_teardown,
};
