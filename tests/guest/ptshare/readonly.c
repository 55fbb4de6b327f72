// SPDX-License-Identifier: GPL-2.0
/*
 * A mapping of a file that was opened for reading only does not share, and nothing makes
 * it writable while others share and write the same file.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE	(4 * UNIT)
#define RW	(PROT_READ | PROT_WRITE)

FIXTURE(readonly) {
	char path[32];
	int fd;			/* O_RDONLY */
	char *map;
	struct writer *sharer;
};

/* Another process: every entry of the shared tables is there, and writable. */
static long op_share_and_write(struct writer *self)
{
	int fd = open(self->arg, O_RDWR | O_CLOEXEC);
	char *map = map_guest(fd, SIZE, 0, RW, true);
	long wrong = 0;

	dirty_pages(map, SIZE);
	writer_checkpoint(self);
	for (size_t at = 0; at < SIZE; at += page_size())
		wrong += map[at] != 1;
	dirty_pages(map, SIZE);
	writer_checkpoint(self);
	return wrong + !is_shared(map, SIZE);
}

FIXTURE_SETUP(readonly)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	close(tmpfs_make(SIZE, self->path));
	self->sharer = writer_fork(op_share_and_write, self->path);
	writer_wait_ready(self->sharer);
	self->fd = open(self->path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->fd);
	self->map = map_congruent(self->fd, SIZE, 0, PROT_READ);
	touch_pages(self->map, SIZE);
}

/* What the sharer wrote is as it was, and it goes on. */
FIXTURE_TEARDOWN(readonly)
{
	writer_go(self->sharer);
	writer_wait_ready(self->sharer);
	EXPECT_EQ(2, self->map[0]);
	EXPECT_EQ(2, self->map[SIZE - page_size()]);
	writer_go(self->sharer);
	EXPECT_EQ(0, writer_join(self->sharer));
	munmap(self->map, SIZE);
	close(self->fd);
	unlink(self->path);
}

TEST_F(readonly, shares_nothing)
{
	char *other;

	EXPECT_EQ(-EINVAL, advise(self->map, SIZE, MADV_PTSHARE));
	EXPECT_TRUE(is_ordinary(self->map, SIZE));
	sharing_set("always");
	other = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, self->fd, 0);
	sharing_set("madvise");
	ASSERT_NE(MAP_FAILED, other);
	EXPECT_TRUE(is_ordinary(other, SIZE));
	EXPECT_EQ(1, other[UNIT]);
	munmap(other, SIZE);
}

TEST_F(readonly, cannot_be_mapped_or_made_writable)
{
	EXPECT_EQ(MAP_FAILED, mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(self->map, SIZE, RW));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(self->map + UNIT, page_size(), PROT_WRITE));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(SIGSEGV, try_store(self->map, 'x'));
}

TEST_F(readonly, cannot_be_stored_to)
{
	EXPECT_EQ(SIGSEGV, try_store(self->map, 'x'));
	EXPECT_EQ(SIGSEGV, try_store(self->map + SIZE - 1, 'x'));
	EXPECT_EQ(0, try_load(self->map));
}

TEST_F(readonly, cannot_be_written_by_process_vm_writev)
{
	EXPECT_EQ(-EFAULT, copy_to(getpid(), self->map, 'x'));
	EXPECT_EQ(-EFAULT, copy_to(getpid(), self->map + SIZE - 1, 'x'));
}

TEST_F(readonly, cannot_be_written_by_proc_mem)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, pwrite(fd, "x", 1, (off_t)self->map));
	EXPECT_EQ(EIO, errno);
	close(fd);
}

TEST_F(readonly, cannot_be_written_by_a_debugger)
{
	EXPECT_EQ(-EIO, poke_forked_child(self->map, SIZE, 'x'));
}

TEST_F(readonly, cannot_be_read_into_directly)
{
	int fd = direct_open();

	if (fd < 0)
		SKIP(return, "no ext4");
	EXPECT_EQ(-1, pread(fd, self->map, page_size(), 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ((ssize_t)page_size(), pwrite(fd, self->map, page_size(), 0));
	close(fd);
}

TEST_F(readonly, cannot_be_a_buffer_that_a_ring_writes)
{
	int ret = register_with_ring(self->map);

	if (ret == -ENOSYS)
		SKIP(return, "no io_uring");
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(-EFAULT, read_by_ring(self->map, 'x'));
}

TEST_HARNESS_MAIN
