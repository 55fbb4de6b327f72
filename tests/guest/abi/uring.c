// SPDX-License-Identifier: GPL-2.0
/* io_uring on a context: read, multishot read, NEXT and UNPROTECT as commands. */
#include <errno.h>
#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES		8
#define RECORD		((int)sizeof(struct pgprotect_event))
#define NR_BUFFERS	4
#define GROUP		7

/* Younger than the installed liburing. */
#define READ_MULTISHOT	49

FIXTURE(uring) {
	struct subject notes;	/* DENY: events that nobody waits for */
	struct subject stalls;
	struct io_uring ring;
};

FIXTURE_SETUP(uring)
{
	int ret = io_uring_queue_init(16, &self->ring, 0);

	self->notes = subject_protected(PAGES, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);
	self->stalls = subject_protected(PAGES, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ret);
}

FIXTURE_TEARDOWN(uring)
{
	io_uring_queue_exit(&self->ring);
	subject_close(&self->notes);
	subject_close(&self->stalls);
}

static void raise_event(struct subject *subject, uint64_t page)
{
	if (write_page(subject->file.fd, page, 1) != -EPERM)
		die("write of page %llu was not refused", (unsigned long long)page);
}

static void submit(struct io_uring *ring)
{
	int ret = io_uring_submit(ring);

	if (ret < 1)
		die("io_uring_submit: %d", ret);
}

/* Waits for a completion: its res. */
static int complete(struct io_uring *ring, uint32_t *flags)
{
	struct __kernel_timespec limit = { .tv_sec = DEADLINE_MS / 1000 };
	struct io_uring_cqe *cqe;
	int ret = io_uring_wait_cqe_timeout(ring, &cqe, &limit);

	if (ret)
		die("no completion: %d", ret);
	ret = cqe->res;
	if (flags)
		*flags = cqe->flags;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

static bool nothing_completed(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;

	return io_uring_peek_cqe(ring, &cqe) == -EAGAIN;
}

TEST_F(uring, read_completes_at_once_if_there_is_an_event)
{
	struct pgprotect_event event = { 0 };

	raise_event(&self->notes, 2);
	io_uring_prep_read(io_uring_get_sqe(&self->ring), self->notes.ctx, &event, RECORD, 0);
	submit(&self->ring);
	EXPECT_EQ(RECORD, complete(&self->ring, NULL));
	EXPECT_EQ(2 * page_size(), event.offset);
}

TEST_F(uring, read_waits_for_an_event)
{
	struct pgprotect_event event = { 0 };

	io_uring_prep_read(io_uring_get_sqe(&self->ring), self->notes.ctx, &event, RECORD, 0);
	submit(&self->ring);
	EXPECT_TRUE(nothing_completed(&self->ring));
	raise_event(&self->notes, 3);
	EXPECT_EQ(RECORD, complete(&self->ring, NULL));
	EXPECT_EQ(3 * page_size(), event.offset);
}

TEST_F(uring, read_of_a_short_buffer_is_invalid)
{
	struct pgprotect_event event;

	raise_event(&self->notes, 0);
	io_uring_prep_read(io_uring_get_sqe(&self->ring), self->notes.ctx, &event, RECORD - 1, 0);
	submit(&self->ring);
	EXPECT_EQ(-EINVAL, complete(&self->ring, NULL));
	EXPECT_TRUE(ctx_readable(self->notes.ctx, 0));
}

TEST_F(uring, pending_read_can_be_cancelled)
{
	struct pgprotect_event event;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
	int one, two;

	io_uring_prep_read(sqe, self->notes.ctx, &event, RECORD, 0);
	io_uring_sqe_set_data64(sqe, 1);
	submit(&self->ring);
	io_uring_prep_cancel64(io_uring_get_sqe(&self->ring), 1, 0);
	submit(&self->ring);
	one = complete(&self->ring, NULL);
	two = complete(&self->ring, NULL);
	EXPECT_TRUE((one == 0 && two == -ECANCELED) || (one == -ECANCELED && two == 0)) {
		TH_LOG("%d and %d", one, two);
	}
}

TEST_F(uring, multishot_read_delivers_event_after_event)
{
	struct pgprotect_event buffers[NR_BUFFERS];
	struct io_uring_sqe *sqe = io_uring_get_sqe(&self->ring);
	uint32_t flags;

	io_uring_prep_provide_buffers(sqe, buffers, RECORD, NR_BUFFERS, GROUP, 0);
	submit(&self->ring);
	ASSERT_EQ(0, complete(&self->ring, NULL));

	sqe = io_uring_get_sqe(&self->ring);
	io_uring_prep_rw(READ_MULTISHOT, sqe, self->notes.ctx, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = GROUP;
	submit(&self->ring);
	for (int i = 0; i < NR_BUFFERS - 1; i++) {
		raise_event(&self->notes, i);
		ASSERT_EQ(RECORD, complete(&self->ring, &flags));
		ASSERT_TRUE(flags & IORING_CQE_F_BUFFER);
		EXPECT_TRUE(flags & IORING_CQE_F_MORE);
		EXPECT_EQ(i * page_size(), buffers[flags >> IORING_CQE_BUFFER_SHIFT].offset);
	}
}

static void prep_command(struct io_uring_sqe *sqe, int ctx, uint32_t op, void *arg,
			 uint64_t reserved)
{
	struct pgprotect_uring_cmd cmd = { .arg = (uintptr_t)arg, .reserved = reserved };

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, ctx, NULL, 0, 0);
	sqe->cmd_op = op;
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
}

static void command(struct io_uring *ring, int ctx, uint32_t op, void *arg)
{
	prep_command(io_uring_get_sqe(ring), ctx, op, arg, 0);
	submit(ring);
}

TEST_F(uring, next_fetches_what_there_is)
{
	struct pgprotect_event event;
	struct pgprotect_next next = {
		.size = sizeof(next), .events = (uintptr_t)&event, .max_events = 1,
	};

	raise_event(&self->notes, 4);
	command(&self->ring, self->notes.ctx, PGPROTECT_IOC_NEXT, &next);
	EXPECT_EQ(0, complete(&self->ring, NULL));
	EXPECT_EQ(1, next.nr_events);
	EXPECT_EQ(4 * page_size(), event.offset);
}

TEST_F(uring, next_waits_without_holding_up_the_submitter)
{
	struct pgprotect_event event;
	struct pgprotect_next next = {
		.size = sizeof(next), .events = (uintptr_t)&event,
		.max_events = 1, .min_events = 1, .timeout_ns = -1,
	};

	command(&self->ring, self->notes.ctx, PGPROTECT_IOC_NEXT, &next);
	EXPECT_TRUE(HOLDS_FOR(20, nothing_completed(&self->ring)));
	raise_event(&self->notes, 5);
	EXPECT_EQ(0, complete(&self->ring, NULL));
	EXPECT_EQ(1, next.nr_events);
	EXPECT_EQ(5 * page_size(), event.offset);
}

TEST_F(uring, next_answers_a_writer_and_fetches_the_following)
{
	struct access access[2] = {
		{ .map = self->stalls.file.map, .value = 1 },
		{ .map = self->stalls.file.map, .offset = page_size(), .value = 2 },
	};
	struct pgprotect_event first, second;
	struct pgprotect_verdict verdict = { .action = PGPROTECT_ALLOW };
	struct pgprotect_next next = {
		.size = sizeof(next),
		.verdicts = (uintptr_t)&verdict, .nr_verdicts = 1,
		.events = (uintptr_t)&second, .max_events = 1, .min_events = 1,
		.timeout_ns = -1,
	};
	struct writer *writers[2];

	writers[0] = writer_thread(op_store, &access[0]);
	ASSERT_EQ(1, ctx_next(self->stalls.ctx, &first, 1, 1));
	verdict.id = first.id;
	command(&self->ring, self->stalls.ctx, PGPROTECT_IOC_NEXT, &next);
	EXPECT_EQ(0, writer_join(writers[0]));
	writers[1] = writer_thread(op_store, &access[1]);
	EXPECT_EQ(0, complete(&self->ring, NULL));
	EXPECT_EQ(1, next.nr_events);
	EXPECT_EQ(0, next.nr_stale);
	EXPECT_EQ(page_size(), second.offset);
	EXPECT_EQ(0, ctx_verdict(self->stalls.ctx, second.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writers[1]));
}

TEST_F(uring, next_with_a_timeout_expires)
{
	struct pgprotect_event event;
	struct pgprotect_next next = {
		.size = sizeof(next), .events = (uintptr_t)&event,
		.max_events = 1, .min_events = 1, .timeout_ns = 30 * 1000000,
	};

	command(&self->ring, self->notes.ctx, PGPROTECT_IOC_NEXT, &next);
	EXPECT_EQ(0, complete(&self->ring, NULL));
	EXPECT_EQ(0, next.nr_events);
}

TEST_F(uring, unprotect_releases_the_writer)
{
	struct access access = { .map = self->stalls.file.map, .value = 1 };
	struct writer *writer = writer_thread(op_store, &access);
	struct pgprotect_range range = range_of(self->stalls.id, 0, page_size());
	struct pgprotect_unprotect unprotect = {
		.size = sizeof(unprotect), .ranges = (uintptr_t)&range, .nr_ranges = 1,
	};

	EXPECT_TRUE(writer_stalled(writer));
	command(&self->ring, self->stalls.ctx, PGPROTECT_IOC_UNPROTECT, &unprotect);
	EXPECT_EQ(0, complete(&self->ring, NULL));
	EXPECT_EQ(1, unprotect.nr_pages);
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(uring, errors_of_commands_are_those_of_the_ioctl)
{
	struct pgprotect_range range = range_of(self->stalls.id + 1, 0, page_size());
	struct pgprotect_unprotect unprotect = {
		.size = sizeof(unprotect), .ranges = (uintptr_t)&range, .nr_ranges = 1,
	};
	struct pgprotect_next next = { .size = sizeof(next), .flags = 1 };

	command(&self->ring, self->stalls.ctx, PGPROTECT_IOC_UNPROTECT, &unprotect);
	EXPECT_EQ(-ENOENT, complete(&self->ring, NULL));
	command(&self->ring, self->stalls.ctx, PGPROTECT_IOC_NEXT, &next);
	EXPECT_EQ(-EINVAL, complete(&self->ring, NULL));
	command(&self->ring, self->stalls.ctx, PGPROTECT_IOC_NEXT, nowhere);
	EXPECT_EQ(-EFAULT, complete(&self->ring, NULL));
}

TEST_F(uring, other_commands_are_not_supported)
{
	static const uint32_t others[] = {
		PGPROTECT_IOC_INFO, PGPROTECT_IOC_ATTACH, PGPROTECT_IOC_PROTECT,
		PGPROTECT_IOC_COPY, PGPROTECT_IOC_LIST, 0,
	};
	struct pgprotect_info info = { .size = sizeof(info) };

	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		command(&self->ring, self->notes.ctx, others[i], &info);
		EXPECT_EQ(-EOPNOTSUPP, complete(&self->ring, NULL)) {
			TH_LOG("command %#x", others[i]);
		}
	}
	EXPECT_EQ(0, info.version);
}

TEST_F(uring, reserved_word_of_a_command_must_be_zero)
{
	struct pgprotect_next next = { .size = sizeof(next) };

	prep_command(io_uring_get_sqe(&self->ring), self->notes.ctx, PGPROTECT_IOC_NEXT, &next, 1);
	submit(&self->ring);
	EXPECT_EQ(-EINVAL, complete(&self->ring, NULL));
}

/* Waits for an event by io_uring, which it does not get; then touches its file. */
static long op_submit_next_and_store(struct writer *self)
{
	struct subject *subject = self->arg;
	struct pgprotect_event event;
	struct pgprotect_next next = {
		.size = sizeof(next), .events = (uintptr_t)&event,
		.max_events = 1, .min_events = 1, .timeout_ns = -1,
	};
	struct io_uring ring;
	long result;

	if (io_uring_queue_init(2, &ring, 0))
		die("io_uring_queue_init");
	command(&ring, subject->ctx, PGPROTECT_IOC_NEXT, &next);
	result = store_byte(subject->file.map, 1);
	if (result == GOT_SIGBUS)
		result = write_page(subject->file.fd, 0, 1);
	io_uring_queue_exit(&ring);
	return result;
}

TEST_F(uring, submitter_of_a_next_that_waits_is_a_handler)
{
	struct writer *writer = writer_thread(op_submit_next_and_store, &self->stalls);

	EXPECT_EQ(-EDEADLK, writer_join(writer));
	EXPECT_FALSE(ctx_readable(self->stalls.ctx, 0));
	EXPECT_EQ(0, self->stalls.file.map[0]);
}

/* The one worker there is waits for the NEXT and then makes the write. */
TEST_F(uring, worker_that_waited_for_a_next_is_no_handler)
{
	struct access access = { .map = self->stalls.file.map, .value = 1 };
	unsigned int workers[] = { 1, 1 };
	struct pgprotect_event event;
	struct pgprotect_next next = {
		.size = sizeof(next), .events = (uintptr_t)&event,
		.max_events = 1, .min_events = 1, .timeout_ns = -1,
	};
	struct io_uring_sqe *sqe;
	struct writer *writer;

	ASSERT_EQ(0, io_uring_register_iowq_max_workers(&self->ring, workers));
	command(&self->ring, self->stalls.ctx, PGPROTECT_IOC_NEXT, &next);
	writer = writer_thread(op_store, &access);
	ASSERT_EQ(0, complete(&self->ring, NULL));
	ASSERT_EQ(1, next.nr_events);

	sqe = io_uring_get_sqe(&self->ring);
	io_uring_prep_write(sqe, self->stalls.file.fd, "w", 1, page_size());
	sqe->flags |= IOSQE_ASYNC;
	submit(&self->ring);
	EXPECT_TRUE(ctx_wait_stalled(self->stalls.ctx, 2));
	EXPECT_TRUE(nothing_completed(&self->ring));
	EXPECT_EQ(0, ctx_unprotect_all(self->stalls.ctx, self->stalls.id));
	EXPECT_EQ(1, complete(&self->ring, NULL));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('w', self->stalls.file.map[page_size()]);
}

/* A ring that is left with a NEXT under way: exits, and the context still works. */
static int leave_a_pending_next(void *arg)
{
	struct subject *subject = arg;
	struct pgprotect_event event;
	struct pgprotect_next next = {
		.size = sizeof(next), .events = (uintptr_t)&event,
		.max_events = 1, .min_events = 1, .timeout_ns = -1,
	};
	struct io_uring ring;

	if (io_uring_queue_init(2, &ring, 0))
		return 1;
	command(&ring, subject->ctx, PGPROTECT_IOC_NEXT, &next);
	return 0;
}

TEST_F(uring, process_can_exit_with_a_next_under_way)
{
	struct pgprotect_event event;

	EXPECT_EQ(0, run_as(0, leave_a_pending_next, &self->notes));
	raise_event(&self->notes, 6);
	EXPECT_EQ(0, ctx_read_event(self->notes.ctx, &event));
	EXPECT_EQ(6 * page_size(), event.offset);
}

TEST_HARNESS_MAIN
