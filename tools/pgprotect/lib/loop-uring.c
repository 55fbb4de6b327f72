// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * The event loop on io_uring.
 *
 * A multishot read of the context brings events into a ring of buffers without
 * being asked again. The answers go out as a PGPROTECT_IOC_NEXT command that
 * fetches nothing, so that it never has to wait and needs no kernel worker; it
 * is submitted by the same call that then waits for the next events:
 *
 *	io_uring_enter(submit: answers, wait: their completion + events)
 *
 * which makes one system call for each batch, busy or not. A NEXT command that
 * waits would need a worker thread for each wait, and two context switches.
 * The read completes in this thread, which is therefore the context's handler.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"

#define NR_BUFFERS	4	/* a power of two */

/* Newer than Debian 12's <liburing/io_uring.h>. */
#define OP_READ_MULTISHOT	49

enum tag {
	TAG_READ = 1,
	TAG_WAKE,
	TAG_SEND,
	TAG_CANCEL,
};

/*
 * @bufs, @events: the buffers that the read fills, opts.batch events each.
 * @sent: the verdicts that the kernel is looking at while @sending.
 * @next: the command's argument, likewise. @given: how many it was given.
 * @enabled: the ring belongs to the thread that ran the loop first.
 * @reading, @polling, @sending: the request is under way.
 */
struct uring_state {
	struct io_uring ring;
	struct io_uring_buf_ring *bufs;
	struct pgprotect_event *events;
	struct pgp_answers sent;
	struct pgprotect_next next;
	uint32_t given;
	bool enabled;
	bool reading;
	bool polling;
	bool sending;
};

static void give_buffer(struct pgprotect_loop *loop, unsigned int i)
{
	struct uring_state *state = loop->state;
	size_t batch = loop->opts.batch;

	io_uring_buf_ring_add(state->bufs, state->events + i * batch,
			      batch * sizeof(*state->events), i,
			      io_uring_buf_ring_mask(NR_BUFFERS), 0);
	io_uring_buf_ring_advance(state->bufs, 1);
}

static int setup_buffers(struct pgprotect_loop *loop)
{
	struct uring_state *state = loop->state;
	struct io_uring_buf_reg reg = { .ring_entries = NR_BUFFERS };
	unsigned int i;
	int ret;

	state->events = calloc(NR_BUFFERS * (size_t)loop->opts.batch,
			       sizeof(*state->events));
	if (!state->events ||
	    posix_memalign((void **)&state->bufs, sysconf(_SC_PAGESIZE),
			   NR_BUFFERS * sizeof(struct io_uring_buf)))
		return -ENOMEM;
	memset(state->bufs, 0, NR_BUFFERS * sizeof(struct io_uring_buf));
	reg.ring_addr = (uintptr_t)state->bufs;
	ret = io_uring_register_buf_ring(&state->ring, &reg, 0);
	if (ret < 0)
		return ret == -EINVAL ? -EOPNOTSUPP : ret;
	for (i = 0; i < NR_BUFFERS; i++)
		give_buffer(loop, i);
	return 0;
}

static int check_opcodes(struct uring_state *state)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(&state->ring);
	int ret = -EOPNOTSUPP;

	if (!probe)
		return ret;
	if (io_uring_opcode_supported(probe, IORING_OP_URING_CMD) &&
	    io_uring_opcode_supported(probe, OP_READ_MULTISHOT))
		ret = 0;
	io_uring_free_probe(probe);
	return ret;
}

static void uring_teardown(struct pgprotect_loop *loop)
{
	struct uring_state *state = loop->state;

	if (!state)
		return;
	io_uring_queue_exit(&state->ring);
	free(state->bufs);
	free(state->events);
	free(state->sent.verdicts);
	free(state);
	loop->state = NULL;
}

static int uring_setup(struct pgprotect_loop *loop)
{
	/* Not yet anybody's: the thread that runs the loop will own it. */
	struct io_uring_params params = {
		.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
			 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
		.cq_entries = 8 * NR_BUFFERS,
	};
	struct uring_state *state;
	int ret;

	state = calloc(1, sizeof(*state));
	if (!state)
		return -ENOMEM;
	ret = io_uring_queue_init_params(8, &state->ring, &params);
	if (ret < 0) {
		free(state);
		return ret == -EINVAL ? -EOPNOTSUPP : ret;
	}
	loop->state = state;
	ret = check_opcodes(state);
	if (!ret)
		ret = setup_buffers(loop);
	if (ret)
		uring_teardown(loop);
	return ret;
}

/* The queue has 8 entries and four kinds of request: there is always one. */
static struct io_uring_sqe *new_request(struct uring_state *state, enum tag tag)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&state->ring);

	memset(sqe, 0, sizeof(*sqe));
	io_uring_sqe_set_data64(sqe, tag);
	return sqe;
}

static void start_read(struct pgprotect_loop *loop)
{
	struct uring_state *state = loop->state;
	struct io_uring_sqe *sqe = new_request(state, TAG_READ);

	sqe->opcode = OP_READ_MULTISHOT;
	sqe->fd = pgprotect_fd(loop->ctx);
	sqe->flags = IOSQE_BUFFER_SELECT;
	state->reading = true;
}

static void start_poll(struct pgprotect_loop *loop)
{
	struct uring_state *state = loop->state;
	struct io_uring_sqe *sqe = new_request(state, TAG_WAKE);

	io_uring_prep_poll_multishot(sqe, loop->wake, POLLIN);
	io_uring_sqe_set_data64(sqe, TAG_WAKE);
	state->polling = true;
}

static void start_send(struct pgprotect_loop *loop)
{
	struct uring_state *state = loop->state;
	struct pgprotect_uring_cmd cmd = { .arg = (uintptr_t)&state->next };
	struct io_uring_sqe *sqe = new_request(state, TAG_SEND);
	struct pgp_answers empty = state->sent;

	state->sent = loop->answers;
	loop->answers = empty;

	memset(&state->next, 0, sizeof(state->next));
	state->next.size = sizeof(state->next);
	state->next.verdicts = (uintptr_t)state->sent.verdicts;
	state->next.nr_verdicts = state->sent.nr < PGPROTECT_MAX_BATCH ?
				  state->sent.nr : PGPROTECT_MAX_BATCH;
	state->given = state->next.nr_verdicts;

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = pgprotect_fd(loop->ctx);
	sqe->cmd_op = PGPROTECT_IOC_NEXT;
	memcpy((char *)sqe + offsetof(struct io_uring_sqe, cmd), &cmd, sizeof(cmd));
	state->sending = true;
}

/* The first @taken of the verdicts have acted; the rest is to be given again. */
static int end_send(struct pgprotect_loop *loop, size_t taken)
{
	struct uring_state *state = loop->state;
	struct pgp_answers *sent = &state->sent, *answers = &loop->answers;
	int ret;

	state->sending = false;
	pgp_answers_drop(sent, taken);
	if (!sent->nr)
		return 0;
	ret = pgp_answers_reserve(answers, answers->nr + sent->nr);
	if (ret)
		return ret;
	memcpy(answers->verdicts + answers->nr, sent->verdicts,
	       sent->nr * sizeof(*sent->verdicts));
	answers->nr += sent->nr;
	sent->nr = 0;
	return 0;
}

static int finish_send(struct pgprotect_loop *loop, int res)
{
	struct uring_state *state = loop->state;
	uint32_t taken = 0;
	int ret;

	if (res >= 0)
		taken = state->given;
	else if (res == -ENOMEM && state->next.nr_verdicts < state->given)
		taken = state->next.nr_verdicts;
	ret = end_send(loop, taken);
	if (ret)
		return ret;
	if (res >= 0 || res == -EINTR || res == -EAGAIN || res == -ECANCELED)
		return 0;
	if (res == -EOPNOTSUPP && !(loop->opts.flags & PGPROTECT_LOOP_URING))
		return PGP_TRY_OTHER;
	return res;
}

static int finish_read(struct pgprotect_loop *loop, int res, unsigned int flags)
{
	struct uring_state *state = loop->state;
	unsigned int i = flags >> IORING_CQE_BUFFER_SHIFT;
	int ret = 0;

	if (!(flags & IORING_CQE_F_MORE))
		state->reading = false;
	if (res > 0) {
		ret = pgp_loop_dispatch(loop, state->events + i * loop->opts.batch,
					res / sizeof(*state->events));
		if (!ret)
			give_buffer(loop, i);
		return ret;
	}
	if (res == -ENOBUFS || res == -ECANCELED || res == -EINTR)
		return 0;
	/* Whatever it is, also -EAGAIN of a file that cannot be waited for. */
	if (!(loop->opts.flags & PGPROTECT_LOOP_URING))
		return PGP_TRY_OTHER;
	return res ? res : -EIO;
}

static int finish_one(struct pgprotect_loop *loop, const struct io_uring_cqe *cqe)
{
	struct uring_state *state = loop->state;

	switch (io_uring_cqe_get_data64(cqe)) {
	case TAG_READ:
		return finish_read(loop, cqe->res, cqe->flags);
	case TAG_SEND:
		return finish_send(loop, cqe->res);
	case TAG_WAKE:
		if (!(cqe->flags & IORING_CQE_F_MORE))
			state->polling = false;
		return 0;
	default:
		return 0;
	}
}

/* One that runs out of memory stays in the queue and is tried again. */
static int finish_all(struct pgprotect_loop *loop)
{
	struct uring_state *state = loop->state;
	struct io_uring_cqe *cqe;
	int ret, first = 0;

	while (!io_uring_peek_cqe(&state->ring, &cqe)) {
		bool read = io_uring_cqe_get_data64(cqe) == TAG_READ;

		ret = finish_one(loop, cqe);
		if (ret == -ENOMEM && read && cqe->res > 0)
			return ret;
		io_uring_cqe_seen(&state->ring, cqe);
		if (ret && !first)
			first = ret;
	}
	return first;
}

/* Submits, and waits for @nr completions or until there is something to do. */
static int submit_and_wait(struct pgprotect_loop *loop, unsigned int nr,
			   int64_t wait)
{
	struct uring_state *state = loop->state;
	struct __kernel_timespec ts = {
		.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000,
	};
	struct io_uring_cqe *cqe;
	int ret;

	ret = io_uring_submit_and_wait_timeout(&state->ring, &cqe, nr,
					       wait < 0 ? NULL : &ts, NULL);
	if (ret == -ETIME || ret == -EINTR || ret == -EAGAIN || ret == -EBUSY)
		return 0;
	return ret < 0 ? ret : 0;
}

static int uring_step(struct pgprotect_loop *loop)
{
	struct uring_state *state = loop->state;
	unsigned int nr = 1;
	int ret;

	if (!state->enabled) {
		/* liburing 2.3 declares io_uring_enable_rings() and lacks it. */
		ret = io_uring_register(state->ring.ring_fd,
					IORING_REGISTER_ENABLE_RINGS, NULL, 0);
		if (ret < 0)
			return ret;
		state->enabled = true;
	}
	if (!state->reading)
		start_read(loop);
	if (!state->polling)
		start_poll(loop);
	if (!state->sending && loop->answers.nr) {
		/* Usually complete when it returns, which is not a reason to. */
		start_send(loop);
		nr++;
	}
	if (loop->busy && loop->opts.idle) {
		/* It may take long: the answers go first. */
		ret = io_uring_submit(&state->ring);
		if (ret < 0 && ret != -EAGAIN && ret != -EBUSY && ret != -EINTR)
			return ret;
		ret = pgp_loop_idle(loop);
		if (ret)
			return ret;
	}
	ret = submit_and_wait(loop, nr, pgp_loop_wait_ns(loop));
	return ret ? ret : finish_all(loop);
}

static int uring_drain(struct pgprotect_loop *loop)
{
	struct uring_state *state = loop->state;
	int ret = 0;

	if (!state->enabled)
		return 0;
	if (state->reading) {
		struct io_uring_sqe *sqe = new_request(state, TAG_CANCEL);

		io_uring_prep_cancel64(sqe, TAG_READ, 0);
		io_uring_sqe_set_data64(sqe, TAG_CANCEL);
	}
	/* An error is one of answers, which stay; what was fetched goes out. */
	while (ret != -ENOMEM && (state->reading || state->sending)) {
		ret = submit_and_wait(loop, 1, -1);
		if (ret < 0)
			return ret;
		ret = finish_all(loop);
	}
	return ret == PGP_TRY_OTHER ? 0 : ret;
}

const struct pgp_backend pgp_uring_backend = {
	.name = "io_uring",
	.setup = uring_setup,
	.step = uring_step,
	.drain = uring_drain,
	.teardown = uring_teardown,
};
