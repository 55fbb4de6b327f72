// SPDX-License-Identifier: GPL-2.0
/* Writes by AIO and io_uring, which complete later and must not stop who submits. */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <liburing.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

#ifndef IORING_OP_FTRUNCATE
#define OP_FTRUNCATE	55	/* Linux 6.9 */
#endif

static long aio_wait(io_context_t aio)
{
	struct io_event event;

	if (io_getevents(aio, 1, 1, &event, NULL) != 1)
		die("io_getevents");
	return (long)event.res;
}

static long aio_run(struct attempt *attempt, struct iocb *iocb)
{
	io_context_t aio = NULL;
	struct iocb *list[] = { iocb };
	long ret;

	if (io_setup(4, &aio))
		die("io_setup");
	route_ready(attempt);
	ret = io_submit(aio, 1, list);
	/* What is refused at once is refused to who submits. */
	return ret == 1 ? aio_wait(aio) : ret;
}

static long by_aio_pwrite(struct attempt *attempt)
{
	struct iocb iocb;

	io_prep_pwrite(&iocb, attempt->file.fd, value_buffer(attempt->length), attempt->length,
		       attempt->at);
	return aio_run(attempt, &iocb);
}

static long by_aio_pwritev(struct attempt *attempt)
{
	struct iovec iov = { value_buffer(attempt->length), attempt->length };
	struct iocb iocb;

	io_prep_pwritev(&iocb, attempt->file.fd, &iov, 1, attempt->at);
	return aio_run(attempt, &iocb);
}

static struct io_uring *ring_make(unsigned int flags)
{
	static struct io_uring ring;
	int ret = io_uring_queue_init(8, &ring, flags);

	if (ret) {
		errno = -ret;
		die("io_uring_queue_init");
	}
	return &ring;
}

static long ring_wait(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	long res;

	if (io_uring_wait_cqe(ring, &cqe))
		die("io_uring_wait_cqe");
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

static long ring_run(struct attempt *attempt, struct io_uring *ring)
{
	route_ready(attempt);
	if (io_uring_submit(ring) != 1)
		die("io_uring_submit");
	return ring_wait(ring);
}

static long uring_write_with(struct attempt *attempt, unsigned int ring_flags,
			     unsigned int sqe_flags)
{
	struct io_uring *ring = ring_make(ring_flags);
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_write(sqe, attempt->file.fd, value_buffer(attempt->length),
			    attempt->length, attempt->at);
	sqe->flags |= sqe_flags;
	return ring_run(attempt, ring);
}

static long by_uring_write(struct attempt *attempt)
{
	return uring_write_with(attempt, 0, 0);
}

static long by_uring_write_of_worker(struct attempt *attempt)
{
	return uring_write_with(attempt, 0, IOSQE_ASYNC);
}

static long by_uring_write_of_sqpoll(struct attempt *attempt)
{
	return uring_write_with(attempt, IORING_SETUP_SQPOLL, 0);
}

static long by_uring_writev(struct attempt *attempt)
{
	struct iovec iov = { value_buffer(attempt->length), attempt->length };
	struct io_uring *ring = ring_make(0);

	io_uring_prep_writev(io_uring_get_sqe(ring), attempt->file.fd, &iov, 1, attempt->at);
	return ring_run(attempt, ring);
}

static long by_uring_write_fixed(struct attempt *attempt)
{
	struct iovec iov = { value_buffer(attempt->length), attempt->length };
	struct io_uring *ring = ring_make(0);

	if (io_uring_register_buffers(ring, &iov, 1))
		die("register a buffer");
	io_uring_prep_write_fixed(io_uring_get_sqe(ring), attempt->file.fd, iov.iov_base,
				  attempt->length, attempt->at, 0);
	return ring_run(attempt, ring);
}

static long by_uring_fixed_file(struct attempt *attempt)
{
	struct io_uring *ring = ring_make(0);
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (io_uring_register_files(ring, &attempt->file.fd, 1))
		die("register a file");
	io_uring_prep_write(sqe, 0, value_buffer(attempt->length), attempt->length, attempt->at);
	sqe->flags |= IOSQE_FIXED_FILE;
	return ring_run(attempt, ring);
}

static long by_uring_append(struct attempt *attempt)
{
	struct io_uring *ring = ring_make(0);

	if (fcntl(attempt->file.fd, F_SETFL, O_APPEND))
		die("O_APPEND");
	io_uring_prep_write(io_uring_get_sqe(ring), attempt->file.fd,
			    value_buffer(attempt->length), attempt->length, 0);
	return ring_run(attempt, ring);
}

static void expect_longer(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, ROUTE_VALUE, attempt->length);
	image->size = attempt->at + attempt->length;
}

static long by_uring_splice(struct attempt *attempt)
{
	struct io_uring *ring = ring_make(0);

	io_uring_prep_splice(io_uring_get_sqe(ring), pipe_with(attempt->length), -1,
			     attempt->file.fd, attempt->at, attempt->length, 0);
	return ring_run(attempt, ring);
}

static long by_uring_punch(struct attempt *attempt)
{
	struct io_uring *ring = ring_make(0);

	io_uring_prep_fallocate(io_uring_get_sqe(ring), attempt->file.fd,
				FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				attempt->at, attempt->length);
	return ring_run(attempt, ring);
}

static void expect_zeros(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, 0, attempt->length);
}

static long by_uring_ftruncate(struct attempt *attempt)
{
	struct io_uring *ring = ring_make(0);
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_rw(OP_FTRUNCATE, sqe, attempt->file.fd, NULL, 0, attempt->at);
	return ring_run(attempt, ring);
}

static void expect_shorter(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, 0, image->size - attempt->at);
	image->size = attempt->at;
}

/* What is read goes to the file through a mapping. */
static long by_uring_read_of_sqpoll(struct attempt *attempt)
{
	struct io_uring *ring = ring_make(IORING_SETUP_SQPOLL);

	io_uring_prep_read(io_uring_get_sqe(ring), pipe_with(attempt->length),
			   map_file(attempt, 0) + attempt->at, attempt->length, -1);
	return ring_run(attempt, ring);
}

ROUTE_FAMILY(async);

#define ASYNC(name, function, bytes, ...)					\
	ROUTE_ADD(async, name, .op = function, .length = bytes, .success = bytes,	\
		  .denied = -EPERM, .origin = PGPROTECT_ORIGIN_WRITE, ##__VA_ARGS__)
/* A worker of io_uring meets the gate in the submitter's stead. */
#define URING(name, function, bytes, ...)					\
	ASYNC(name, function, bytes, .other_task = true, ##__VA_ARGS__)

ASYNC(aio_pwrite, by_aio_pwrite, 100)
ASYNC(aio_pwritev, by_aio_pwritev, 2 * PAGE)
URING(uring_write, by_uring_write, 100)
URING(uring_write_to_tmpfs, by_uring_write, 100, .kind = FILE_TMPFS)
URING(uring_write_many_pages, by_uring_write, 9 * PAGE)
URING(uring_write_by_worker, by_uring_write_of_worker, 100)
URING(uring_write_by_sqpoll, by_uring_write_of_sqpoll, 100)
URING(uring_writev, by_uring_writev, 2 * PAGE)
URING(uring_write_fixed_buffer, by_uring_write_fixed, PAGE)
URING(uring_write_fixed_file, by_uring_fixed_file, 100)
URING(uring_append, by_uring_append, 100, .at = ROUTE_SIZE, .expect = expect_longer)
URING(uring_write_protected_page_in_the_middle, by_uring_write, 3 * PAGE, .at = 4 * PAGE,
      .protect_offset = 5 * PAGE, .protect_length = PAGE,
      .event_offset = 5 * PAGE, .event_length = PAGE)

ROUTE_ADD(async, uring_splice, .op = by_uring_splice, .length = 100, .success = 100,
	  .denied = -EPERM, .origin = PGPROTECT_ORIGIN_SPLICE, .other_task = true)
ROUTE_ADD(async, uring_punch_hole, .op = by_uring_punch, .at = 5 * PAGE, .length = 2 * PAGE,
	  .denied = -EPERM, .origin = PGPROTECT_ORIGIN_FALLOCATE, .other_task = true,
	  .expect = expect_zeros)
ROUTE_ADD(async, uring_ftruncate, .op = by_uring_ftruncate, .at = 5 * PAGE, .length = PAGE,
	  .protect_offset = 5 * PAGE, .protect_length = PAGE, .denied = -EPERM,
	  .origin = PGPROTECT_ORIGIN_TRUNCATE, .other_task = true, .expect = expect_shorter)

ROUTE_ADD(async, uring_read_to_mapping_by_sqpoll, .op = by_uring_read_of_sqpoll, .length = 100,
	  .success = 100, .denied = -EFAULT, .other_task = true)

static long op_read_by_sqpoll(struct writer *self)
{
	struct subject *subject = self->arg;
	struct io_uring *ring = ring_make(IORING_SETUP_SQPOLL);

	io_uring_prep_read(io_uring_get_sqe(ring), pipe_with(100), subject->file.map, 100, -1);
	if (io_uring_submit(ring) != 1)
		die("io_uring_submit");
	return ring_wait(ring);
}

TEST(thread_of_an_sqpoll_ring_that_waits_in_a_store_dies_with_its_process)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_STALL, 0);
	struct writer *writer = writer_fork(op_read_by_sqpoll, &subject);
	struct pgprotect_event event;

	ASSERT_TRUE(ctx_wait_stalled(subject.ctx, 1));
	ASSERT_EQ(0, ctx_read_event(subject.ctx, &event));
	EXPECT_EQ(writer->pid, (pid_t)event.pid);
	EXPECT_NE(writer->pid, (pid_t)event.tid);
	writer_kill(writer, SIGKILL);
	EXPECT_EQ(SIGKILL, WTERMSIG(writer_wait(writer)));
	EXPECT_TRUE(ctx_wait_stalled(subject.ctx, 0));
	EXPECT_EQ(0, read_page(subject.file.fd, 0));
	subject_close(&subject);
}

/* Submitting must not stop the submitter, nor what it submits besides. */

FIXTURE(submitter) {
	struct subject subject;
	struct io_uring *ring;
};

FIXTURE_VARIANT(submitter) { unsigned int flags; };
FIXTURE_VARIANT_ADD(submitter, enters_the_kernel) { .flags = 0 };
FIXTURE_VARIANT_ADD(submitter, is_sqpoll) { .flags = IORING_SETUP_SQPOLL };
FIXTURE_VARIANT_ADD(submitter, defers_task_work) {
	.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
};

FIXTURE_SETUP(submitter)
{
	self->subject = subject_protected(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	self->ring = ring_make(variant->flags);
}

FIXTURE_TEARDOWN(submitter)
{
	subject_close(&self->subject);
	io_uring_queue_exit(self->ring);
}

static void submit_write(struct io_uring *ring, int fd, uint64_t page, uint64_t number, int rw_flags)
{
	static char data[] = "data";
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	io_uring_prep_write(sqe, fd, data, 4, page * PAGE);
	sqe->rw_flags = rw_flags;
	sqe->user_data = number;
	if (io_uring_submit(ring) < 0)
		die("io_uring_submit");
}

static struct io_uring_cqe next_cqe(struct io_uring *ring)
{
	struct __kernel_timespec limit = { .tv_sec = DEADLINE_MS / 1000 };
	struct io_uring_cqe *cqe, copy = { .user_data = ~0ULL };

	if (io_uring_wait_cqe_timeout(ring, &cqe, &limit))
		return copy;
	copy = *cqe;
	io_uring_cqe_seen(ring, cqe);
	return copy;
}

/*
 * io_uring has 64 queues for writes to files, and takes one by the address of the
 * inode: any two files may get the same one, and wait for each other.
 */
#define SOME_FILES	6

TEST_F(submitter, goes_on_and_completes_other_requests_meanwhile)
{
	uint64_t seen = 0;
	struct io_uring_cqe cqe;

	submit_write(self->ring, self->subject.file.fd, 3, 1, 0);
	ASSERT_TRUE(ctx_wait_stalled(self->subject.ctx, 1));
	io_uring_prep_nop(io_uring_get_sqe(self->ring));
	ASSERT_LE(0, io_uring_submit(self->ring));
	EXPECT_EQ(0, next_cqe(self->ring).user_data);
	for (uint64_t i = 0; i < SOME_FILES; i++)
		submit_write(self->ring, memfd_make(PAGE, 0), 0, 2 + i, 0);
	cqe = next_cqe(self->ring);
	EXPECT_LE(2, cqe.user_data);
	EXPECT_EQ(4, cqe.res);
	seen |= 1 << cqe.user_data;

	ASSERT_EQ(0, ctx_unprotect_all(self->subject.ctx, self->subject.id));
	for (int i = 0; i < SOME_FILES; i++) {
		cqe = next_cqe(self->ring);
		ASSERT_NE(~0ULL, cqe.user_data);
		EXPECT_EQ(4, cqe.res);
		seen |= 1 << cqe.user_data;
	}
	EXPECT_EQ(0xfe, seen);
	EXPECT_STREQ("data", self->subject.file.map + 3 * PAGE);
}

/* io_uring itself writes to one file by one worker at a time. */
TEST_F(submitter, has_many_writes_to_one_file_wait_and_complete)
{
	uint64_t seen = 0;

	for (uint64_t i = 0; i < 6; i++)
		submit_write(self->ring, self->subject.file.fd, i, i, 0);
	ASSERT_TRUE(WAIT_FOR(ctx_fdinfo(self->subject.ctx, "stalled") > 0));
	ASSERT_EQ(0, ctx_unprotect_all(self->subject.ctx, self->subject.id));
	for (int i = 0; i < 6; i++) {
		struct io_uring_cqe cqe = next_cqe(self->ring);

		ASSERT_NE(~0ULL, cqe.user_data);
		EXPECT_EQ(4, cqe.res);
		seen |= 1 << cqe.user_data;
	}
	EXPECT_EQ(0x3f, seen);
}

/* Six files have fewer than four queues three times in 10,000. */
TEST_F(submitter, has_writes_to_many_files_wait_at_once)
{
	struct test_file files[SOME_FILES];

	for (int i = 0; i < SOME_FILES; i++) {
		files[i] = file_memfd(1);
		ASSERT_EQ(0, ctx_protect_all(self->subject.ctx,
					     ctx_attach(self->subject.ctx, files[i].fd,
							PGPROTECT_MODE_STALL, 0)));
		submit_write(self->ring, files[i].fd, 0, i, 0);
	}
	ASSERT_TRUE(WAIT_FOR(ctx_fdinfo(self->subject.ctx, "stalled") >= 4));
	close(self->subject.ctx);
	self->subject.ctx = ctx_open();
	for (int i = 0; i < SOME_FILES; i++)
		EXPECT_EQ(4, next_cqe(self->ring).res);
}

/* Not every file system knows RWF_NOWAIT; none may let the write wait. */
TEST_F(submitter, that_may_not_wait_does_not)
{
	struct io_uring_cqe cqe;

	submit_write(self->ring, self->subject.file.fd, 3, 1, RWF_NOWAIT);
	cqe = next_cqe(self->ring);
	EXPECT_EQ(1, cqe.user_data);
	EXPECT_TRUE(cqe.res == -EAGAIN || cqe.res == -EOPNOTSUPP) {
		TH_LOG("the write gave %d", cqe.res);
	}
	EXPECT_FALSE(ctx_readable(self->subject.ctx, 0));
}

TEST_F(submitter, can_cancel_a_write_that_waits)
{
	uint64_t cancelled = 0;

	submit_write(self->ring, self->subject.file.fd, 3, 1, 0);
	ASSERT_TRUE(ctx_wait_stalled(self->subject.ctx, 1));
	io_uring_prep_cancel64(io_uring_get_sqe(self->ring), 1, 0);
	ASSERT_LE(0, io_uring_submit(self->ring));
	for (int i = 0; i < 2; i++) {
		struct io_uring_cqe cqe = next_cqe(self->ring);

		ASSERT_NE(~0ULL, cqe.user_data);
		if (cqe.user_data == 1) {
			EXPECT_TRUE(cqe.res == -EINTR || cqe.res == -ECANCELED) {
				TH_LOG("the write gave %d", cqe.res);
			}
			cancelled++;
		}
	}
	EXPECT_EQ(1, cancelled);
	EXPECT_TRUE(ctx_wait_stalled(self->subject.ctx, 0));
	EXPECT_EQ(0, self->subject.file.map[3 * PAGE]);
}

TEST_HARNESS_MAIN
