// SPDX-License-Identifier: GPL-2.0
/*
 * A loop device over a protected file: its writes are made by kernel threads, past
 * the gate of write(), and there is nobody who could be sent a signal.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/loop.h"
#include "common/route.h"

static long result_of(ssize_t done)
{
	return done < 0 ? -errno : done;
}

static long write_device(struct attempt *attempt, int device)
{
	void *data = value_buffer(attempt->length);

	if (device < 0)
		return ROUTE_SKIP;
	route_ready(attempt);
	return result_of(pwrite(device, data, attempt->length, attempt->at));
}

static long by_direct_write(struct attempt *attempt)
{
	return write_device(attempt, loop_open(attempt->file.fd, 0, O_DIRECT));
}

/* The device itself uses direct I/O, for which a memfd has to be opened by name. */
static long by_direct_write_of_direct_loop(struct attempt *attempt)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", attempt->file.fd);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		die("open %s", path);
	return write_device(attempt, loop_open(fd, LO_FLAGS_DIRECT_IO, O_DIRECT));
}

/* The write is over; what fails is the writeback, and fsync tells. */
static long by_writeback(struct attempt *attempt)
{
	int device = loop_open(attempt->file.fd, 0, 0);
	long result = write_device(attempt, device);

	if (result < 0)
		return result;
	return fsync(device) ? -errno : result;
}

static long on_device(struct attempt *attempt, unsigned long command)
{
	uint64_t range[] = { attempt->at, attempt->length };
	int device = loop_open(attempt->file.fd, 0, 0);

	if (device < 0)
		return ROUTE_SKIP;
	route_ready(attempt);
	return ioctl(device, command, range) ? -errno : 0;
}

static long by_discard(struct attempt *attempt)
{
	return on_device(attempt, BLKDISCARD);
}

static long by_zeroout(struct attempt *attempt)
{
	return on_device(attempt, BLKZEROOUT);
}

static void expect_zeros(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, 0, attempt->length);
}

ROUTE_FAMILY(loop);

#define LOOP(name, function, bytes, ...)					\
	ROUTE_ADD(loop, name, .op = function, .at = 5 * PAGE, .length = bytes,		\
		  .success = bytes, .denied = -EIO, .origin = PGPROTECT_ORIGIN_WRITE,	\
		  .other_task = true, ##__VA_ARGS__)

LOOP(direct_write, by_direct_write, PAGE)
LOOP(direct_write_of_three_pages, by_direct_write, 3 * PAGE)
LOOP(direct_write_to_tmpfs, by_direct_write, PAGE, .kind = FILE_TMPFS)
LOOP(direct_write_by_direct_io, by_direct_write_of_direct_loop, PAGE)
LOOP(direct_write_over_one_protected_page, by_direct_write, 3 * PAGE,
     .protect_offset = 6 * PAGE, .protect_length = PAGE,
     .event_offset = 6 * PAGE, .event_length = PAGE)
LOOP(writeback, by_writeback, PAGE)
/* First tried in a way that tmpfs does not know, then by writing zeros. */
ROUTE_ADD(loop, zeroout, .op = by_zeroout, .at = 5 * PAGE, .length = 2 * PAGE,
	  .denied = -EIO, .origin = PGPROTECT_ORIGIN_WRITE, .other_task = true,
	  .expect = expect_zeros)
ROUTE_ADD(loop, discard, .op = by_discard, .at = 5 * PAGE, .length = 2 * PAGE,
	  .denied = -EIO, .origin = PGPROTECT_ORIGIN_FALLOCATE, .other_task = true,
	  .expect = expect_zeros)

/* What a file system on the device may have to wait for must not wait for ever. */

FIXTURE(stalled_loop) {
	struct subject subject;
	int device;
};

FIXTURE_SETUP(stalled_loop)
{
	struct subject *s = &self->subject;

	*s = (struct subject){ .ctx = ctx_open(), .file = file_memfd(ROUTE_PAGES) };
	self->device = loop_open(s->file.fd, 0, O_DIRECT);
	if (self->device < 0)
		SKIP(return, "no loop device");
}

FIXTURE_TEARDOWN(stalled_loop)
{
	close(self->device);
	subject_close(&self->subject);
}

static long op_write_device(struct writer *self)
{
	struct _test_data_stalled_loop *loop = self->arg;

	return result_of(pwrite(loop->device, value_buffer(PAGE), PAGE, 5 * PAGE));
}

TEST_F(stalled_loop, gets_an_error_at_the_limit)
{
	struct subject *s = &self->subject;
	long result;

	s->id = ctx_attach_limit(s->ctx, s->file.fd, PGPROTECT_MODE_STALL, 0, 200);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	result = writer_join(writer_fork(op_write_device, self));
	EXPECT_TRUE(result == -ETIMEDOUT || result == -EIO) {
		TH_LOG("the write gave %ld", result);
	}
	EXPECT_EQ(0, s->file.map[5 * PAGE]);
	EXPECT_EQ(0, ctx_fdinfo(s->ctx, "stalled"));
}

TEST_F(stalled_loop, goes_on_when_the_context_is_closed)
{
	struct subject *s = &self->subject;
	struct writer *writer;

	s->id = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	writer = writer_thread(op_write_device, self);
	ASSERT_TRUE(ctx_wait_stalled(s->ctx, 1));
	close(s->ctx);
	EXPECT_EQ(PAGE, writer_join(writer));
	EXPECT_EQ(ROUTE_VALUE, s->file.map[5 * PAGE]);
	s->ctx = ctx_open();
}

/* The handler's own work on the file does not wait for the kernel thread. */
TEST_F(stalled_loop, does_not_hold_up_the_handler)
{
	struct subject *s = &self->subject;
	struct pgprotect_event event;
	struct writer *writer;

	s->id = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 5 * PAGE, PAGE));
	writer = writer_fork(op_write_device, self);
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(5 * PAGE, event.offset);
	EXPECT_EQ(1, write_page(s->file.fd, 7, 1));
	EXPECT_EQ(0, ftruncate(s->file.fd, ROUTE_SIZE + PAGE));
	EXPECT_EQ(0, ctx_protect_range(s->ctx, s->id, 9 * PAGE, PAGE));
	EXPECT_EQ(0, fallocate(s->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       12 * PAGE, PAGE));
	EXPECT_FALSE(writer_done(writer));
	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(PAGE, writer_join(writer));
}

/* Kernel threads are stalled by the administrator's contexts only. */
TEST(loop_is_refused_not_stalled_by_the_context_of_a_user)
{
	struct subject s = { .ctx = ctx_open_by(OTHER_UID, -1), .file = file_memfd(ROUTE_PAGES) };
	int device = loop_open(s.file.fd, 0, O_DIRECT);

	if (device < 0)
		SKIP(return, "no loop device");
	ASSERT_EQ(0, fchown(s.file.fd, OTHER_UID, OTHER_UID));
	s.id = ctx_attach(s.ctx, s.file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(s.ctx, s.id));
	EXPECT_EQ(-EIO, result_of(pwrite(device, value_buffer(PAGE), PAGE, 5 * PAGE)));
	EXPECT_EQ(0, s.file.map[5 * PAGE]);
	EXPECT_FALSE(ctx_readable(s.ctx, 0));
	close(device);
	subject_close(&s);
}

TEST_HARNESS_MAIN
