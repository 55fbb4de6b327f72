// SPDX-License-Identifier: GPL-2.0
/* What a process may do to shared page tables is its own mapping's permission. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE	(4 * UNIT)
#define RW	(PROT_READ | PROT_WRITE)

/* The same file, by one mapping that may write and one that may not. */
FIXTURE(reader) {
	int fd;
	char *writable;
	char *map;
};

FIXTURE_SETUP(reader)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	self->fd = memfd_make(SIZE, 0);
	self->writable = map_guest(self->fd, SIZE, 0, RW, true);
	self->map = map_guest(self->fd, SIZE, 0, PROT_READ, true);
	/* Every entry of the tables is there and writable, every link is made. */
	dirty_pages(self->writable, SIZE);
	touch_pages(self->map, SIZE);
}

FIXTURE_TEARDOWN(reader)
{
	size_t wrong = 0;

	for (size_t at = 0; at < SIZE; at += page_size())
		wrong += self->writable[at] != 1;
	EXPECT_EQ(0, wrong);
	EXPECT_TRUE(is_shared(self->map, SIZE));
	munmap(self->map, SIZE);
	munmap(self->writable, SIZE);
	close(self->fd);
}

TEST_F(reader, cannot_store)
{
	EXPECT_EQ(SIGSEGV, try_store(self->map, 'x'));
	EXPECT_EQ(SIGSEGV, try_store(self->map + SIZE - 1, 'x'));
	EXPECT_EQ(0, try_load(self->map));
}

TEST_F(reader, cannot_be_read_into)
{
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(1, write(pipes[1], "x", 1));
	EXPECT_EQ(-1, read(pipes[0], self->map, 1));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(reader, cannot_be_filled_by_vmsplice)
{
	struct iovec iov = { self->map, 1 };
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(1, write(pipes[1], "\1", 1));
	EXPECT_EQ(-1, vmsplice(pipes[0], &iov, 1, 0));
	EXPECT_EQ(EFAULT, errno);
	/* The byte is still there, for who may. */
	ASSERT_EQ(0, mprotect(self->map, 2 * UNIT, RW));
	EXPECT_EQ(1, vmsplice(pipes[0], &iov, 1, 0));
}

TEST_F(reader, cannot_be_read_into_directly)
{
	int fd = direct_open();

	if (fd < 0)
		SKIP(return, "no ext4");
	/* gup_fast: all entries are there. */
	EXPECT_EQ(-1, pread(fd, self->map, page_size(), 0));
	EXPECT_EQ(EFAULT, errno);
	/* From such memory it works. */
	EXPECT_EQ((ssize_t)page_size(), pwrite(fd, self->map, page_size(), 0));
	close(fd);
}

TEST_F(reader, cannot_be_written_by_process_vm_writev)
{
	char byte = 0;
	struct iovec from = { .iov_base = self->map, .iov_len = 1 };
	struct iovec to = { .iov_base = &byte, .iov_len = 1 };

	EXPECT_EQ(-EFAULT, copy_to(getpid(), self->map, 'x'));
	EXPECT_EQ(1, process_vm_readv(getpid(), &to, 1, &from, 1, 0));
	EXPECT_EQ(1, byte);
}

TEST_F(reader, cannot_be_written_by_proc_mem)
{
	int fd = open("/proc/self/mem", O_RDWR);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, pwrite(fd, "x", 1, (off_t)self->map));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(1, pwrite(fd, "\1", 1, (off_t)self->writable));
	close(fd);
}

TEST_F(reader, cannot_be_a_buffer_that_a_ring_writes)
{
	int ret = register_with_ring(self->map);

	if (ret == -ENOSYS)
		SKIP(return, "no io_uring");
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(0, register_with_ring(self->writable));
}

TEST_F(reader, cannot_be_read_into_by_a_ring)
{
	int ret = read_by_ring(self->map, 'x');

	if (ret == -ENOSYS)
		SKIP(return, "no io_uring");
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(1, read_by_ring(self->writable, 1));
}

TEST_F(reader, cannot_be_written_by_a_debugger)
{
	EXPECT_EQ(-EIO, poke_forked_child(self->map, SIZE, 'x'));
	EXPECT_EQ(0, poke_forked_child(self->writable, SIZE, 1));
	/* The whole word was set. */
	memset(self->writable, 1, page_size());
}

TEST_F(reader, cannot_be_a_futex_that_is_changed)
{
	long ret = syscall(SYS_futex, self->map, FUTEX_LOCK_PI, 0, NULL, NULL, 0);

	EXPECT_EQ(-1, ret);
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(reader, can_be_written_from_and_looked_at)
{
	unsigned char resident[SIZE / 4096];
	struct iovec iov = { .iov_base = self->map, .iov_len = SIZE };
	int pipes[2];

	ASSERT_EQ(0, mincore(self->map, SIZE, resident));
	for (size_t i = 0; i < SIZE / page_size(); i++) {
		ASSERT_EQ(1, resident[i] & 1);
	}
	ASSERT_EQ(0, pipe(pipes));
	EXPECT_LT(0, vmsplice(pipes[1], &iov, 1, SPLICE_F_NONBLOCK));
	EXPECT_EQ((long)(SIZE >> 10), mapping_kb(self->map, "Rss"));
}

TEST_F(reader, may_write_after_mprotect_and_not_after_another)
{
	EXPECT_EQ(0, mprotect(self->map, 2 * UNIT, RW));
	EXPECT_EQ(0, try_store(self->map, 1));
	EXPECT_EQ(0, try_store(self->map + 2 * UNIT - 1, 1));
	EXPECT_EQ(SIGSEGV, try_store(self->map + 2 * UNIT, 1));
	EXPECT_EQ(0, mprotect(self->map, UNIT, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_store(self->map, 1));
	EXPECT_EQ(0, try_store(self->map + UNIT, 1));
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_EQ(0, try_store(self->writable, 1));
}

TEST_F(reader, may_do_nothing_after_prot_none)
{
	EXPECT_EQ(0, mprotect(self->map, UNIT, PROT_NONE));
	EXPECT_EQ(SIGSEGV, try_load(self->map));
	EXPECT_EQ(SIGSEGV, try_store(self->map, 'x'));
	EXPECT_EQ(0, try_load(self->map + UNIT));
	EXPECT_EQ(0, try_load(self->writable));
	EXPECT_EQ(0, try_store(self->writable, 1));
	EXPECT_EQ(0, mprotect(self->map, UNIT, PROT_READ));
	EXPECT_EQ(0, try_load(self->map));
	EXPECT_EQ(SIGSEGV, try_store(self->map, 'x'));
}

/* By force, a debugger reads where an ordinary mapping has pages: here there is none. */
TEST_F(reader, cannot_be_read_by_force_after_prot_none)
{
	int fd = open("/proc/self/mem", O_RDWR);
	char byte;

	ASSERT_LE(0, fd);
	EXPECT_EQ(1, pread(fd, &byte, 1, (off_t)self->map));
	EXPECT_EQ(0, mprotect(self->map, UNIT, PROT_NONE));
	EXPECT_EQ(-1, pread(fd, &byte, 1, (off_t)self->map));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(-1, pwrite(fd, "x", 1, (off_t)self->map));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(0, mprotect(self->map, UNIT, PROT_READ));
	close(fd);
}

TEST_F(reader, may_execute_only_if_it_says_so)
{
	char *code = map_guest(self->fd, SIZE, 0, PROT_READ | PROT_EXEC, true);

	self->writable[UNIT] = 0xc3;	/* ret */
	EXPECT_EQ(0, try_call(code + UNIT));
	EXPECT_EQ(SIGSEGV, try_call(self->map + UNIT));
	EXPECT_EQ(SIGSEGV, try_call(self->writable + UNIT));
	EXPECT_EQ(0, mprotect(self->map, SIZE, PROT_READ | PROT_EXEC));
	EXPECT_EQ(0, try_call(self->map + UNIT));
	EXPECT_EQ(0, mprotect(self->map, SIZE, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_call(self->map + UNIT));
	EXPECT_EQ(SIGSEGV, try_store(code + UNIT, 'x'));
	self->writable[UNIT] = 1;
	munmap(code, SIZE);
}

TEST_F(reader, is_what_a_forked_child_is)
{
	pid_t pid = fork_child();
	int bad = 0;

	if (pid == 0) {
		bad |= try_store(self->map, 'x') != SIGSEGV;
		bad |= try_load(self->map) != 0;
		bad |= try_store(self->map + UNIT, 'x') != SIGSEGV;
		bad |= try_store(self->writable, 1) != 0;
		_exit(bad);
	}
	EXPECT_EQ(0, wait_child(pid));
}

TEST_HARNESS_MAIN
