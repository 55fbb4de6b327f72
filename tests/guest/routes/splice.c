// SPDX-License-Identifier: GPL-2.0
/* Writes that move pages or copy inside the kernel: splice, sendfile, copy_file_range. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

static long result_of(ssize_t done)
{
	return done < 0 ? -errno : done;
}

static long by_splice(struct attempt *attempt)
{
	int pipe = pipe_with(attempt->length);
	loff_t at = attempt->at;

	route_ready(attempt);
	return result_of(splice(pipe, NULL, attempt->file.fd, &at, attempt->length, 0));
}

static long by_splice_at_position(struct attempt *attempt)
{
	int pipe = pipe_with(attempt->length);

	lseek(attempt->file.fd, attempt->at, SEEK_SET);
	route_ready(attempt);
	return result_of(splice(pipe, NULL, attempt->file.fd, NULL, attempt->length, 0));
}

/* The pages in the pipe are the caller's own. */
static long by_vmsplice_and_splice(struct attempt *attempt)
{
	struct iovec iov = { value_buffer(2 * PAGE), attempt->length };
	loff_t at = attempt->at;
	int ends[2];

	if (pipe(ends) || vmsplice(ends[1], &iov, 1, 0) != (ssize_t)attempt->length)
		die("vmsplice");
	route_ready(attempt);
	return result_of(splice(ends[0], NULL, attempt->file.fd, &at, attempt->length,
				SPLICE_F_MOVE));
}

/* A memfd of ROUTE_VALUE, at position 0. */
static int source_file(size_t length)
{
	enum file_kind kind = file_kind_wanted(FILE_MEMFD);
	/* copy_file_range stays on one file system. */
	int fd = kind == FILE_MEMFD ? memfd_make(length, 0) : disk_make(kind, length, NULL);
	void *data = value_buffer(length);

	if (write(fd, data, length) != (ssize_t)length)
		die("fill a source");
	free(data);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static long by_file_to_pipe_to_file(struct attempt *attempt)
{
	int source = source_file(attempt->length);
	loff_t at = attempt->at;
	int ends[2];

	if (pipe(ends) ||
	    splice(source, NULL, ends[1], NULL, attempt->length, 0) != (ssize_t)attempt->length)
		die("splice into a pipe");
	route_ready(attempt);
	return result_of(splice(ends[0], NULL, attempt->file.fd, &at, attempt->length, 0));
}

static long by_sendfile(struct attempt *attempt)
{
	int source = source_file(attempt->length);

	lseek(attempt->file.fd, attempt->at, SEEK_SET);
	route_ready(attempt);
	return result_of(sendfile(attempt->file.fd, source, NULL, attempt->length));
}

static long by_copy_file_range(struct attempt *attempt)
{
	int source = source_file(attempt->length);
	loff_t from = 0, at = attempt->at;

	route_ready(attempt);
	return result_of(copy_file_range(source, &from, attempt->file.fd, &at,
					 attempt->length, 0));
}

ROUTE_FAMILY(splice);

#define SPLICE(name, function, bytes, ...)					\
	ROUTE_ADD(splice, name, .op = function, .length = bytes, .success = bytes,	\
		  .denied = -EPERM, .origin = PGPROTECT_ORIGIN_SPLICE, ##__VA_ARGS__)
/* How much a pipe holds is known only page by page. */
#define PIECEWISE	.many_events = true, .any_length = true

SPLICE(from_pipe, by_splice, 100)
SPLICE(from_pipe_at_position, by_splice_at_position, 100)
SPLICE(from_pipe_many_pages, by_splice, 9 * PAGE, PIECEWISE)
SPLICE(from_pipe_to_tmpfs, by_splice, 100, .kind = FILE_TMPFS)
SPLICE(from_vmsplice, by_vmsplice_and_splice, PAGE, .at = 5 * PAGE)
SPLICE(from_file_by_pipe, by_file_to_pipe_to_file, PAGE, .at = 5 * PAGE)
SPLICE(sendfile, by_sendfile, 100)
SPLICE(sendfile_many_pages, by_sendfile, 9 * PAGE, PIECEWISE)
SPLICE(copy_file_range, by_copy_file_range, 2 * PAGE)
SPLICE(copy_file_range_protected_page_in_the_middle, by_copy_file_range, 3 * PAGE,
       .at = 4 * PAGE, .protect_offset = 5 * PAGE, .protect_length = PAGE,
       .event_offset = 5 * PAGE, .event_length = PAGE)

static long by_copy_within_file(struct attempt *attempt)
{
	loff_t from = 20 * PAGE, at = attempt->at;

	route_ready(attempt);
	return result_of(copy_file_range(attempt->file.fd, &from, attempt->file.fd, &at,
					 attempt->length, 0));
}

static void expect_page_21(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, 21, attempt->length);
}

SPLICE(copy_file_range_within_the_file, by_copy_within_file, PAGE, .at = 5 * PAGE,
       .expect = expect_page_21)

FIXTURE(pipe) {
	struct subject subject;
	int pipe[2];
	struct image before;
};

FIXTURE_SETUP(pipe)
{
	char *data = value_buffer(3 * PAGE);

	self->subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	file_fill(&self->subject.file);
	image_read(self->subject.file.fd, &self->before);
	ASSERT_EQ(0, pipe(self->pipe));
	ASSERT_EQ(3 * PAGE, write(self->pipe[1], data, 3 * PAGE));
}

FIXTURE_TEARDOWN(pipe)
{
	subject_close(&self->subject);
	image_free(&self->before);
}

static long op_splice_three_pages(struct writer *self)
{
	struct _test_data_pipe *pipe = self->arg;
	loff_t at = 0;

	return result_of(splice(pipe->pipe[0], NULL, pipe->subject.file.fd, &at, 3 * PAGE, 0));
}

static long op_fill_pipe(struct writer *self)
{
	struct _test_data_pipe *pipe = self->arg;

	return result_of(write(pipe->pipe[1], "abc", 3));
}

static int bytes_in(int pipe)
{
	int bytes = -1;

	ioctl(pipe, FIONREAD, &bytes);
	return bytes;
}

/* Whoever fills the pipe may be the handler: it must not wait for the writer. */
TEST_F(pipe, is_not_held_by_a_splice_that_waits)
{
	struct subject *s = &self->subject;
	struct writer *writer, *filler;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	writer = writer_fork(op_splice_three_pages, self);
	ASSERT_TRUE(writer_stalled(writer));
	filler = writer_fork(op_fill_pipe, self);
	EXPECT_TRUE(WAIT_FOR(writer_done(filler)));
	EXPECT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	EXPECT_EQ(3 * PAGE, writer_join(writer));
	EXPECT_EQ(3, writer_join(filler));
}

TEST_F(pipe, is_not_held_by_a_splice_that_waits_at_a_later_page)
{
	struct subject *s = &self->subject;
	struct writer *writer, *filler;

	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 2 * PAGE, PAGE));
	writer = writer_fork(op_splice_three_pages, self);
	ASSERT_TRUE(writer_stalled(writer));
	filler = writer_fork(op_fill_pipe, self);
	EXPECT_TRUE(WAIT_FOR(writer_done(filler)));
	EXPECT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	EXPECT_EQ(3 * PAGE, writer_join(writer));
	EXPECT_EQ(3, writer_join(filler));
}

TEST_F(pipe, spliced_over_a_protected_page_waits_there_as_splice)
{
	struct subject *s = &self->subject;
	struct pgprotect_event event;
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, PAGE, PAGE));
	writer = writer_fork(op_splice_three_pages, self);
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(PAGE, event.offset);
	EXPECT_EQ(PAGE, event.length);
	EXPECT_EQ(PGPROTECT_ORIGIN_SPLICE, event.origin);
	EXPECT_EQ(2, read_page(s->file.fd, 1));
	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(3 * PAGE, writer_join(writer));
	memset(self->before.data, ROUTE_VALUE, 3 * PAGE);
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

/* What was spliced before is reported; what was not is still in the pipe. */
TEST_F(pipe, keeps_what_was_refused)
{
	struct subject *s = &self->subject;
	uint32_t deny = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	loff_t at = 0;
	long done;

	ASSERT_EQ(0, ctx_protect_range(s->ctx, deny, PAGE, PAGE));
	done = result_of(splice(self->pipe[0], NULL, s->file.fd, &at, 3 * PAGE, 0));
	EXPECT_TRUE(done == -EPERM || done == PAGE) {
		TH_LOG("splice gave %ld", done);
	}
	EXPECT_EQ(3 * PAGE - (done > 0 ? done : 0), bytes_in(self->pipe[0]));
	EXPECT_EQ(2, read_page(s->file.fd, 1));
	EXPECT_EQ(3, read_page(s->file.fd, 2));
	EXPECT_EQ(-EPERM, result_of(splice(self->pipe[0], NULL, s->file.fd,
					   &(loff_t){ PAGE }, PAGE, 0)));
}

/* A splice that found the pipe empty when the file was not protected yet. */

FIXTURE(empty_pipe) {
	struct subject subject;
	int pipe[2];
	struct writer *splicer;
};

FIXTURE_VARIANT(empty_pipe) { bool attached; };
FIXTURE_VARIANT_ADD(empty_pipe, to_attached_file) { .attached = true };
FIXTURE_VARIANT_ADD(empty_pipe, to_file_attached_meanwhile) { .attached = false };

FIXTURE_SETUP(empty_pipe)
{
	struct subject *s = &self->subject;

	*s = (struct subject){ .ctx = ctx_open(), .file = file_memfd(ROUTE_PAGES) };
	if (variant->attached)
		ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, pipe(self->pipe));
}

FIXTURE_TEARDOWN(empty_pipe)
{
	subject_close(&self->subject);
}

static long op_splice_a_byte(struct writer *self)
{
	struct _test_data_empty_pipe *pipe = self->arg;
	loff_t at = PAGE + 7;

	return result_of(splice(pipe->pipe[0], NULL, pipe->subject.file.fd, &at, 1, 0));
}

/* Starts the splicer, protects in this mode while it waits for data, writes a byte. */
static void splice_then_protect(struct _test_data_empty_pipe *self, uint32_t mode)
{
	struct subject *s = &self->subject;

	self->splicer = writer_fork(op_splice_a_byte, self);
	if (!writer_sleeps(self->splicer) ||
	    ctx_protect_all(s->ctx, ctx_attach(s->ctx, s->file.fd, mode, 0)) ||
	    writer_done(self->splicer) || write(self->pipe[1], "x", 1) != 1)
		die("protect while a splice waits for data");
}

/* All that others do with a pipe, but for taking what is in it. */
static long op_use_pipe(struct writer *self)
{
	struct _test_data_empty_pipe *pipe = self->arg;
	struct pollfd poll_of = { .fd = pipe->pipe[0], .events = POLLIN };
	char path[32];
	int fd;

	if (write(pipe->pipe[1], "yz", 2) != 2)
		return -1;
	if (bytes_in(pipe->pipe[0]) != 3)
		return -2;
	if (poll(&poll_of, 1, 0) != 1 || !(poll_of.revents & POLLIN))
		return -3;
	if (read(pipe->pipe[0], path, 0) != 0)
		return -4;
	/* Another open file of the pipe, so that its close is one. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", pipe->pipe[1]);
	fd = open(path, O_WRONLY);
	if (fd < 0 || close(fd))
		return -5;
	return 0;
}

TEST_F(empty_pipe, is_not_held_by_a_splice_whose_file_was_protected_meanwhile)
{
	struct subject *s = &self->subject;
	struct pgprotect_event event;
	struct writer *user;
	char rest[8] = "";

	splice_then_protect(self, PGPROTECT_MODE_STALL);
	ASSERT_TRUE(writer_stalled(self->splicer));
	ASSERT_EQ(0, ctx_read_event(s->ctx, &event));
	EXPECT_EQ(PGPROTECT_ORIGIN_SPLICE, event.origin);
	EXPECT_EQ(PAGE, event.offset);
	EXPECT_EQ(PAGE, event.length);

	user = writer_fork(op_use_pipe, self);
	EXPECT_EQ(0, writer_join(user));
	EXPECT_TRUE(task_stalled(self->splicer->tid));
	EXPECT_EQ(0, s->file.map[PAGE + 7]);

	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(1, writer_join(self->splicer));
	EXPECT_EQ('x', s->file.map[PAGE + 7]);
	EXPECT_EQ(0, s->file.map[PAGE + 8]);
	EXPECT_EQ(2, read(self->pipe[0], rest, sizeof(rest)));
	EXPECT_STREQ("yz", rest);
}

TEST_F(empty_pipe, keeps_the_byte_of_a_splice_that_is_denied)
{
	char byte = 0;

	splice_then_protect(self, PGPROTECT_MODE_DENY);
	EXPECT_EQ(-EPERM, writer_join(self->splicer));
	EXPECT_EQ(0, self->subject.file.map[PAGE + 7]);
	ASSERT_EQ(1, bytes_in(self->pipe[0]));
	EXPECT_EQ(1, read(self->pipe[0], &byte, 1));
	EXPECT_EQ('x', byte);
}

TEST_F(pipe, filled_from_a_protected_file_raises_nothing)
{
	struct subject *s = &self->subject;
	loff_t at = 0;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(PAGE, splice(s->file.fd, &at, self->pipe[1], NULL, PAGE, 0));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
}

/* Files that nobody can protect are none of the gate's business. */

static long op_splice_to_socket(struct writer *self)
{
	int *sock = self->arg;

	return result_of(splice(pipe_with(100), NULL, *sock, NULL, 100, 0));
}

static long op_sendfile_to_socket(struct writer *self)
{
	int *sock = self->arg;

	return result_of(sendfile(*sock, source_file(100), NULL, 100));
}

static void full_socket_is_not_waited_for(struct __test_metadata *_metadata,
					  long (*op)(struct writer *))
{
	static char data[PAGE];
	struct writer *writer;
	int pair[2];
	bool ended;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
	while (write(pair[0], data, sizeof(data)) > 0)
		;
	ASSERT_EQ(EAGAIN, errno);
	writer = writer_thread(op, &pair[0]);
	ended = WAIT_FOR(writer_done(writer));
	EXPECT_TRUE(ended);
	close(pair[1]);
	EXPECT_EQ(-EAGAIN, writer_join(writer));
	close(pair[0]);
}

TEST(splice_does_not_wait_for_a_full_socket)
{
	full_socket_is_not_waited_for(_metadata, op_splice_to_socket);
}

TEST(sendfile_does_not_wait_for_a_full_socket)
{
	full_socket_is_not_waited_for(_metadata, op_sendfile_to_socket);
}

TEST_HARNESS_MAIN
