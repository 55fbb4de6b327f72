// SPDX-License-Identifier: GPL-2.0
/* Writes that move pages or copy inside the kernel: splice, sendfile, copy_file_range. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
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
	int fd = memfd_make(length, 0);
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

SPLICE(from_pipe, by_splice, 100)
SPLICE(from_pipe_at_position, by_splice_at_position, 100)
SPLICE(from_pipe_many_pages, by_splice, 9 * PAGE)
SPLICE(from_pipe_to_tmpfs, by_splice, 100, .kind = FILE_TMPFS)
SPLICE(from_vmsplice, by_vmsplice_and_splice, PAGE, .at = 5 * PAGE)
SPLICE(from_file_by_pipe, by_file_to_pipe_to_file, PAGE, .at = 5 * PAGE)
SPLICE(sendfile, by_sendfile, 2 * PAGE)
SPLICE(copy_file_range, by_copy_file_range, 2 * PAGE)
SPLICE(from_pipe_protected_page_in_the_middle, by_splice, 3 * PAGE, .at = 4 * PAGE,
       .protect_offset = 5 * PAGE, .protect_length = PAGE,
       .event_offset = 5 * PAGE, .event_length = PAGE)
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

struct spliced {
	struct subject subject;
	int pipe[2];
};

static long op_splice(struct writer *self)
{
	struct spliced *spliced = self->arg;
	loff_t at = 0;

	return result_of(splice(spliced->pipe[0], NULL, spliced->subject.file.fd, &at, 10, 0));
}

/* Whoever fills the pipe may be the handler: it must not wait for the writer. */
TEST(splice_that_waits_does_not_hold_the_pipe)
{
	struct spliced spliced = { subject_protected(1, PGPROTECT_MODE_STALL, 0), {} };
	struct writer *writer;
	int bytes;

	ASSERT_EQ(0, pipe(spliced.pipe));
	ASSERT_EQ(10, write(spliced.pipe[1], "0123456789", 10));
	writer = writer_fork(op_splice, &spliced);
	ASSERT_TRUE(writer_stalled(writer));
	EXPECT_EQ(3, write(spliced.pipe[1], "abc", 3));
	EXPECT_EQ(0, ioctl(spliced.pipe[0], FIONREAD, &bytes));
	EXPECT_EQ(13, bytes);
	EXPECT_EQ(0, ctx_unprotect_all(spliced.subject.ctx, spliced.subject.id));
	EXPECT_EQ(10, writer_join(writer));
}

TEST(splice_that_is_refused_leaves_the_pipe_full)
{
	struct spliced spliced = { subject_protected(1, PGPROTECT_MODE_DENY, 0), {} };
	loff_t at = 0;
	int bytes;

	ASSERT_EQ(0, pipe(spliced.pipe));
	ASSERT_EQ(10, write(spliced.pipe[1], "0123456789", 10));
	EXPECT_EQ(-1, splice(spliced.pipe[0], NULL, spliced.subject.file.fd, &at, 10, 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(0, ioctl(spliced.pipe[0], FIONREAD, &bytes));
	EXPECT_EQ(10, bytes);
}

TEST(reading_by_splice_raises_nothing)
{
	struct spliced spliced = { subject_protected(1, PGPROTECT_MODE_STALL, 0), {} };
	loff_t at = 0;

	ASSERT_EQ(0, pipe(spliced.pipe));
	EXPECT_EQ(PAGE, splice(spliced.subject.file.fd, &at, spliced.pipe[1], NULL, PAGE, 0));
	EXPECT_FALSE(ctx_readable(spliced.subject.ctx, 0));
}

TEST_HARNESS_MAIN
