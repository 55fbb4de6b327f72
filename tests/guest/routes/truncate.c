// SPDX-License-Identifier: GPL-2.0
/* Shrinking a file over protected pages: by fd, by name, by opening it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

static long by_ftruncate(struct attempt *attempt)
{
	route_ready(attempt);
	return ftruncate(attempt->file.fd, attempt->at) ? -errno : 0;
}

static long by_truncate(struct attempt *attempt)
{
	route_ready(attempt);
	return truncate(attempt->path, attempt->at) ? -errno : 0;
}

/* By name also for what has none of its own. */
static long by_truncate_of_proc_fd(struct attempt *attempt)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", attempt->file.fd);
	route_ready(attempt);
	return truncate(path, attempt->at) ? -errno : 0;
}

static long by_open(struct attempt *attempt)
{
	route_ready(attempt);
	return open(attempt->path, O_RDWR | O_TRUNC | O_CLOEXEC) < 0 ? -errno : 0;
}

static long by_creat(struct attempt *attempt)
{
	route_ready(attempt);
	return creat(attempt->path, 0600) < 0 ? -errno : 0;
}

static long by_openat2(struct attempt *attempt)
{
	struct { uint64_t flags, mode, resolve; } how = { .flags = O_WRONLY | O_TRUNC };

	route_ready(attempt);
	return syscall(SYS_openat2, AT_FDCWD, attempt->path, &how, sizeof(how)) < 0 ? -errno : 0;
}

static void expect_shorter(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, 0, image->size - attempt->at);
	image->size = attempt->at;
}

/* attempt.at cannot say 0: that is "where a route writes by default". */
static void expect_empty(struct attempt *attempt, struct image *image)
{
	memset(image->data, 0, image->size);
	image->size = 0;
}

ROUTE_FAMILY(truncate);

#define TRUNCATE(name, function, size, expected, first_protected, ...)		\
	ROUTE_ADD(truncate, name, .op = function, .at = size, .length = 1,		\
		  .denied = -EPERM, .origin = PGPROTECT_ORIGIN_TRUNCATE,		\
		  .event_offset = (first_protected) * PAGE,			\
		  .event_length = PAGE, .protect_offset = (first_protected) * PAGE,	\
		  .protect_length = PAGE, .expect = expected, ##__VA_ARGS__)

TRUNCATE(ftruncate_aligned, by_ftruncate, 5 * PAGE, expect_shorter, 5)
/* The page that holds the new end is changed in part: zeros behind the end. */
TRUNCATE(ftruncate_unaligned, by_ftruncate, 5 * PAGE + 100, expect_shorter, 5)
TRUNCATE(ftruncate_by_one_byte, by_ftruncate, ROUTE_SIZE - 1, expect_shorter, ROUTE_PAGES - 1)
TRUNCATE(ftruncate_far_below_the_page, by_ftruncate, 3 * PAGE + 1, expect_shorter, 20)
TRUNCATE(ftruncate_last_page, by_ftruncate, 2 * PAGE, expect_shorter, ROUTE_PAGES - 1)
TRUNCATE(ftruncate_tmpfs, by_ftruncate, 5 * PAGE, expect_shorter, 5, .kind = FILE_TMPFS)
TRUNCATE(truncate, by_truncate, 5 * PAGE + 100, expect_shorter, 5, .kind = FILE_TMPFS)
TRUNCATE(truncate_memfd_by_proc, by_truncate_of_proc_fd, 5 * PAGE + 100, expect_shorter, 5)
TRUNCATE(open_o_trunc, by_open, 1, expect_empty, 5, .kind = FILE_TMPFS)
TRUNCATE(creat, by_creat, 1, expect_empty, 5, .kind = FILE_TMPFS)
TRUNCATE(openat2_o_trunc, by_openat2, 1, expect_empty, 0, .kind = FILE_TMPFS)

FIXTURE(size) {
	struct subject subject;
};

FIXTURE_SETUP(size)
{
	self->subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_DENY, 0);
	file_fill(&self->subject.file);
}

FIXTURE_TEARDOWN(size)
{
	subject_close(&self->subject);
}

static long op_shrink(struct writer *self)
{
	struct test_file *file = self->arg;

	return ftruncate(file->fd, 5 * PAGE) ? -errno : 0;
}

TEST_F(size, growth_passes)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(0, ftruncate(s->file.fd, ROUTE_SIZE + 1));
	EXPECT_EQ(0, ftruncate(s->file.fd, 2 * ROUTE_SIZE));
}

TEST_F(size, growth_does_not_open_what_is_behind_the_old_end)
{
	struct subject *s = &self->subject;
	char *map;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	ASSERT_EQ(0, ftruncate(s->file.fd, 2 * ROUTE_SIZE));
	map = map_shared(s->file.fd, 2 * ROUTE_SIZE);
	EXPECT_EQ(GOT_SIGBUS, store_byte(map + ROUTE_SIZE, 1));
	EXPECT_EQ(-EPERM, write_page(s->file.fd, ROUTE_PAGES + 1, 1));
}

TEST_F(size, shrinking_above_the_protected_pages_passes)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 0, 5 * PAGE));
	EXPECT_EQ(0, ftruncate(s->file.fd, 6 * PAGE));
	EXPECT_EQ(0, ftruncate(s->file.fd, 5 * PAGE));
	EXPECT_EQ(-1, ftruncate(s->file.fd, 5 * PAGE - 1));
	EXPECT_EQ(EPERM, errno);
}

/* What is behind the end of the file is not changed, and not part of the event. */
TEST_F(size, event_ends_at_the_old_end)
{
	struct subject *s = &self->subject;
	struct subject stall = { .ctx = ctx_open(), .file = s->file };
	struct pgprotect_event event;
	struct writer *writer;

	stall.id = ctx_attach(stall.ctx, s->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(stall.ctx, stall.id));
	writer = writer_thread(op_shrink, &s->file);
	ASSERT_EQ(1, ctx_next(stall.ctx, &event, 1, 1));
	EXPECT_EQ(5 * PAGE, event.offset);
	EXPECT_EQ(ROUTE_SIZE - 5 * PAGE, event.length);
	ASSERT_EQ(0, ctx_verdict(stall.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	/* Grown again, what was never released is protected still. */
	ASSERT_EQ(0, ftruncate(s->file.fd, 2 * ROUTE_SIZE));
	writer = writer_thread(op_store, &(struct access){
		.map = map_shared(s->file.fd, 2 * ROUTE_SIZE), .offset = ROUTE_SIZE });
	EXPECT_TRUE(writer_stalled(writer));
	close(stall.ctx);
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(size, shrinking_to_the_same_size_passes)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(0, ftruncate(s->file.fd, ROUTE_SIZE));
}

TEST_F(size, setting_of_a_negative_size_raises_nothing)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(-1, ftruncate(s->file.fd, -1));
	EXPECT_EQ(EINVAL, errno);
}

/* Protection is of the index: pages cut off and grown again are still protected. */
TEST_F(size, pages_cut_off_and_grown_again_are_protected)
{
	struct subject *s = &self->subject;
	struct pgprotect_event event;
	struct subject stall = { .ctx = ctx_open(), .file = s->file };
	struct access store = { .map = s->file.map, .offset = 20 * PAGE, .value = 9 };
	struct writer *writer;

	stall.id = ctx_attach(stall.ctx, s->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ftruncate(s->file.fd, 10 * PAGE));
	ASSERT_EQ(0, ctx_protect_range(stall.ctx, stall.id, 15 * PAGE, 10 * PAGE));
	ASSERT_EQ(0, ftruncate(s->file.fd, ROUTE_SIZE));
	writer = writer_thread(op_store, &store);
	ASSERT_EQ(1, ctx_next(stall.ctx, &event, 1, 1));
	EXPECT_EQ(20 * PAGE, event.offset);
	EXPECT_EQ(0, s->file.map[20 * PAGE]);
	close(stall.ctx);
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(size, open_with_o_trunc_of_who_may_not_write_raises_nothing)
{
	struct subject stall = { .ctx = ctx_open() };
	char path[32];
	int fd = tmpfs_make(PAGE, path);
	pid_t pid;

	stall.id = ctx_attach(stall.ctx, fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(stall.ctx, stall.id));
	pid = fork_child();
	if (!pid) {
		become_user(OTHER_UID);
		_exit(open(path, O_WRONLY | O_TRUNC) == -1 && errno == EACCES &&
		      truncate(path, 0) == -1 && errno == EACCES ? 0 : 1);
	}
	EXPECT_EQ(0, wait_child(pid));
	EXPECT_FALSE(ctx_readable(stall.ctx, 0));
	unlink(path);
}

TEST_HARNESS_MAIN
