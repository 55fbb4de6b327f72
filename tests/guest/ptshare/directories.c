// SPDX-License-Identifier: GPL-2.0
/* A mapping that covers a whole directory, 1 GiB, hangs on the host's PMD table. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE		(2 * DIRECTORY)
#define UNITS		(DIRECTORY / UNIT)
#define PROCESSES	64
#define RW		(PROT_READ | PROT_WRITE)
#define KB(bytes)	((long)((bytes) >> 10))

/*
 * One page of each unit of the first directory has content. One guest that is used,
 * and one that must not notice.
 */
FIXTURE(directory) {
	int fd;
	char *map;
	char *witness;
	long hosts;
};

/* One page of each unit, which says which. */
static void fill(volatile char *map)
{
	for (size_t unit = 0; unit < UNITS; unit++)
		map[unit * UNIT] = 1 + unit % 100;
}

static bool intact(const volatile char *map, size_t first, size_t end)
{
	for (size_t unit = first; unit < end; unit++)
		if (map[unit * UNIT] != (char)(1 + unit % 100))
			return false;
	return true;
}

FIXTURE_SETUP(directory)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	self->hosts = sharing_count("hosts");
	self->fd = memfd_make(SIZE, 0);
	self->witness = map_guest(self->fd, SIZE, 0, RW, true);
	fill(self->witness);
	self->witness[DIRECTORY] = 1;
	self->map = map_guest(self->fd, SIZE, 0, RW, true);
	(void)*(volatile char *)self->map;
}

FIXTURE_TEARDOWN(directory)
{
	EXPECT_TRUE(is_shared(self->witness, SIZE));
	EXPECT_EQ(KB(SIZE), mapping_kb(self->witness, "PtShared"));
	EXPECT_TRUE(intact(self->witness, 0, UNITS));
	munmap(self->map, SIZE);
	munmap(self->witness, SIZE);
	close(self->fd);
	EXPECT_TRUE(WAIT_FOR(sharing_count("hosts") <= self->hosts));
	EXPECT_EQ(0, sharing_count("links"));
}

TEST_F(directory, is_linked_by_one_fault)
{
	long faults;

	EXPECT_EQ(KB(DIRECTORY), mapping_kb(self->map, "PtShared"));
	faults = fault_count();
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	EXPECT_EQ(0, fault_count() - faults);
	self->map[DIRECTORY] = 1;
	EXPECT_EQ(KB(SIZE), mapping_kb(self->map, "PtShared"));
	/* What comes to the tables later is there, too. */
	self->witness[UNIT + page_size()] = 'n';
	faults = fault_count();
	EXPECT_EQ('n', self->map[UNIT + page_size()]);
	EXPECT_EQ(0, fault_count() - faults);
	self->map[2 * UNIT + page_size()] = 'm';
	EXPECT_EQ('m', self->witness[2 * UNIT + page_size()]);
}

TEST_F(directory, is_linked_by_units_where_addresses_suit_no_better)
{
	char *space = map_congruent(self->fd, SIZE, 0, PROT_NONE);
	char *map = mmap(space + UNIT, DIRECTORY, RW, MAP_SHARED | MAP_FIXED, self->fd, 0);

	ASSERT_EQ(space + UNIT, map);
	ASSERT_EQ(0, advise(map, DIRECTORY, MADV_PTSHARE));
	(void)*(volatile char *)map;
	EXPECT_EQ(KB(UNIT), mapping_kb(map, "PtShared"));
	EXPECT_TRUE(intact(map, 0, UNITS));
	EXPECT_EQ(KB(DIRECTORY), mapping_kb(map, "PtShared"));
	munmap(space, SIZE);
}

TEST_F(directory, is_linked_by_units_where_it_is_not_whole)
{
	char *map = map_guest(self->fd, SIZE - UNIT, UNIT, RW, true);

	(void)*(volatile char *)map;
	EXPECT_EQ(KB(UNIT), mapping_kb(map, "PtShared"));
	map[DIRECTORY - UNIT] = 1;
	EXPECT_EQ(KB(UNIT + DIRECTORY), mapping_kb(map, "PtShared"));
	EXPECT_EQ(2, map[0]);
	map[page_size()] = 'p';
	EXPECT_EQ('p', self->map[UNIT + page_size()]);
	munmap(map, SIZE - UNIT);
}

static long op_map_and_touch(struct writer *self)
{
	int fd = *(int *)self->arg;
	char *map = map_guest(fd, DIRECTORY, 0, RW, true);
	long vmpte = status_kb("VmPTE"), faults = fault_count();
	bool good = intact(map, 0, UNITS);

	faults = fault_count() - faults;
	vmpte = status_kb("VmPTE") - vmpte;
	writer_checkpoint(self);
	return good ? vmpte << 32 | faults : -1;
}

TEST_F_TIMEOUT(directory, costs_each_process_one_fault_and_no_table, 120)
{
	struct writer *writers[PROCESSES];
	long vmpte = 0, faults = 0;

	for (int i = 0; i < PROCESSES; i++) {
		writers[i] = writer_fork(op_map_and_touch, &self->fd);
		writer_wait_ready(writers[i]);
	}
	for (int i = 0; i < PROCESSES; i++) {
		long result;

		writer_go(writers[i]);
		result = writer_join(writers[i]);
		ASSERT_LE(0, result);
		vmpte += result >> 32;
		faults += result & UINT32_MAX;
	}
	TH_LOG("%d processes: tables %ld kB, %ld faults", PROCESSES, vmpte, faults);
	EXPECT_LE(vmpte, 8L * PROCESSES);
	EXPECT_LE(faults, 10L * PROCESSES);
}

static long op_touch(struct writer *self)
{
	char *map = self->arg;
	long faults = fault_count();

	return intact(map, 0, UNITS) ? fault_count() - faults : -1;
}

TEST_F(directory, costs_a_forked_child_one_fault)
{
	long faults = writer_join(writer_fork(op_touch, self->map));

	EXPECT_LT(0, faults);
	EXPECT_GE(10, faults);
}

TEST_F(directory, is_of_units_again_when_a_unit_is_unmapped)
{
	ASSERT_EQ(0, munmap(self->map + 3 * UNIT, UNIT));
	EXPECT_EQ(SIGSEGV, try_load(self->map + 3 * UNIT));
	EXPECT_EQ(0, mapping_kb(self->map, "PtShared"));
	EXPECT_TRUE(intact(self->map, 0, 3));
	EXPECT_TRUE(intact(self->map, 4, UNITS));
	EXPECT_EQ(KB(3 * UNIT), mapping_kb(self->map, "PtShared"));
	EXPECT_TRUE(is_shared(self->map + 4 * UNIT, SIZE - 4 * UNIT));
	EXPECT_EQ(0, try_store(self->map + 5 * UNIT + 1, 1));
}

TEST_F(directory, is_of_units_again_when_a_page_is_unmapped)
{
	ASSERT_EQ(0, munmap(self->map + 3 * UNIT, page_size()));
	EXPECT_EQ(SIGSEGV, try_load(self->map + 3 * UNIT));
	EXPECT_TRUE(is_ordinary(self->map + 3 * UNIT + page_size(), UNIT - page_size()));
	EXPECT_EQ(0, try_load(self->map + 3 * UNIT + page_size()));
	EXPECT_TRUE(intact(self->map, 0, 3));
	EXPECT_TRUE(intact(self->map, 4, UNITS));
}

TEST_F(directory, is_of_units_again_when_a_part_is_mapped_over)
{
	char *over = mmap(self->map + UNIT, 2 * UNIT, RW,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	ASSERT_EQ(self->map + UNIT, over);
	EXPECT_EQ(0, over[0]);
	over[0] = 'o';
	EXPECT_TRUE(intact(self->map, 0, 1));
	EXPECT_TRUE(intact(self->map, 3, UNITS));
}

TEST_F(directory, is_of_units_again_when_a_part_is_not_shared)
{
	ASSERT_EQ(0, advise(self->map + UNIT, UNIT, MADV_NOPTSHARE));
	EXPECT_TRUE(is_ordinary(self->map + UNIT, UNIT));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	EXPECT_EQ(KB(UNIT), mapping_kb(self->map, "PtShared"));
	/* Nobody merges what was split. */
	ASSERT_EQ(0, advise(self->map + UNIT, UNIT, MADV_PTSHARE));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	EXPECT_TRUE(is_shared(self->map, SIZE));
}

TEST_F(directory, can_be_unshared_and_shared_again)
{
	ASSERT_EQ(0, advise(self->map, SIZE, MADV_NOPTSHARE));
	EXPECT_TRUE(is_ordinary(self->map, SIZE));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	ASSERT_EQ(0, advise(self->map, SIZE, MADV_PTSHARE));
	EXPECT_EQ(0, mapping_kb(self->map, "PtShared"));
	EXPECT_TRUE(intact(self->map, 0, 1));
	EXPECT_EQ(KB(DIRECTORY), mapping_kb(self->map, "PtShared"));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
}

TEST_F(directory, stays_linked_after_madvise_dontneed)
{
	EXPECT_EQ(0, advise(self->map, SIZE, MADV_DONTNEED));
	EXPECT_EQ(KB(DIRECTORY), mapping_kb(self->map, "PtShared"));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
}

TEST_F(directory, moves_as_an_ordinary_mapping)
{
	char *moved = mremap(self->map, DIRECTORY, DIRECTORY, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
			     NULL);

	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_TRUE(is_ordinary(moved, DIRECTORY));
	EXPECT_TRUE(intact(moved, 0, UNITS));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	munmap(moved, DIRECTORY);
}

TEST_F(directory, is_taken_from_all_by_truncation)
{
	self->map[DIRECTORY + 1] = 1;
	ASSERT_EQ(0, ftruncate(self->fd, UNITS * UNIT));
	EXPECT_EQ(SIGBUS, try_load(self->map + DIRECTORY));
	EXPECT_EQ(SIGBUS, try_store(self->witness + DIRECTORY, 1));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	EXPECT_EQ(0, self->map[DIRECTORY + 1]);
	EXPECT_EQ(0, try_store(self->witness + DIRECTORY, 1));
}

TEST_F(directory, is_gone_through_by_walks_of_page_tables)
{
	unsigned char resident[2] = { 0 };
	uint64_t ours, theirs;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	ASSERT_LE(0, fd);
	ASSERT_EQ(8, pread(fd, &ours, 8, (uintptr_t)(self->map + UNIT) / page_size() * 8));
	ASSERT_EQ(8, pread(fd, &theirs, 8, (uintptr_t)(self->witness + UNIT) / page_size() * 8));
	close(fd);
	EXPECT_EQ(ours, theirs);
	EXPECT_NE(0, ours >> 63);
	EXPECT_EQ(0, mincore(self->map + UNIT, page_size(), resident));
	EXPECT_EQ(1, resident[0] & 1);
	EXPECT_EQ(0, try_load(self->map + DIRECTORY));
	EXPECT_EQ(mapping_kb(self->witness, "Rss"), mapping_kb(self->map, "Rss"));
	EXPECT_EQ(0, advise(self->map, DIRECTORY, MADV_COLD));
	EXPECT_EQ(0, advise(self->map, DIRECTORY, MADV_PAGEOUT));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
}

/* Of each kind: as it is mapped by the call that makes it, and once more; unasked. */
FIXTURE(kind) {
	struct test_file file;
	char *map;
	int ctx;
	uint32_t id;
};

FIXTURE_VARIANT(kind) {
	enum file_kind kind;
};

FIXTURE_VARIANT_ADD(kind, memfd) {
	.kind = FILE_MEMFD,
};

FIXTURE_VARIANT_ADD(kind, tmpfs) {
	.kind = FILE_TMPFS,
};

FIXTURE_VARIANT_ADD(kind, shared_anonymous) {
	.kind = FILE_SHARED_ANON,
};

FIXTURE_VARIANT_ADD(kind, sysv) {
	.kind = FILE_SYSV,
};

FIXTURE_SETUP(kind)
{
	self->ctx = -1;
	if (!sharing_set("always"))
		SKIP(return, "no ptshare");
	self->file = file_sparse(variant->kind, DIRECTORY / page_size());
	fill(self->file.map);
	self->map = map_congruent(self->file.fd, DIRECTORY, 0, RW);
	(void)*(volatile char *)self->map;
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
}

FIXTURE_TEARDOWN(kind)
{
	sharing_set("madvise");
	if (self->ctx < 0)
		return;
	close(self->ctx);
	munmap(self->map, DIRECTORY);
	file_close(&self->file);
}

TEST_F(kind, is_linked_by_one_fault_wherever_it_is_mapped)
{
	long faults;

	EXPECT_EQ(KB(DIRECTORY), mapping_kb(self->file.map, "PtShared"));
	EXPECT_EQ(KB(DIRECTORY), mapping_kb(self->map, "PtShared"));
	faults = fault_count();
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	EXPECT_EQ(0, fault_count() - faults);
	self->map[UNIT + page_size()] = 'n';
	EXPECT_EQ('n', self->file.map[UNIT + page_size()]);
}

TEST_F(kind, is_fenced_for_all_and_pushed_down_by_who_may_write)
{
	struct protect_counts counts = protect_counted(self->ctx, self->id, 0, DIRECTORY);

	EXPECT_EQ(UNITS, counts.fences);
	EXPECT_EQ(0, counts.tables);
	EXPECT_EQ(SIGBUS, try_store(self->map + UNIT, 'x'));
	EXPECT_EQ(SIGBUS, try_store(self->file.map + 3 * UNIT, 'x'));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	/* One page of a unit is released: its neighbour, which is mapped, is not. */
	ASSERT_EQ(0, ctx_unprotect_range(self->ctx, self->id, 2 * UNIT, page_size()));
	EXPECT_EQ(0, try_store(self->map + 2 * UNIT, 3));
	EXPECT_EQ(0, try_store(self->file.map + 2 * UNIT, 3));
	EXPECT_EQ(SIGBUS, try_store(self->file.map + 2 * UNIT + page_size(), 'x'));
	EXPECT_EQ(SIGBUS, try_store(self->map + 4 * UNIT, 'x'));
}

TEST_F(kind, is_read_only_for_who_asks_for_that)
{
	ASSERT_EQ(0, mprotect(self->map, DIRECTORY, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_store(self->map + UNIT, 'x'));
	EXPECT_EQ(-EFAULT, copy_to(getpid(), self->map + UNIT, 'x'));
	EXPECT_EQ(0, try_store(self->file.map + UNIT, 2));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
	EXPECT_EQ(KB(DIRECTORY), mapping_kb(self->map, "PtShared"));
}

/* One that may write, and one that may not. */
FIXTURE(reader) {
	int fd;
	char *writable;
	char *map;
};

FIXTURE_SETUP(reader)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	self->fd = memfd_make(DIRECTORY, 0);
	self->writable = map_guest(self->fd, DIRECTORY, 0, RW, true);
	fill(self->writable);
	self->map = map_guest(self->fd, DIRECTORY, 0, PROT_READ, true);
	ASSERT_TRUE(intact(self->map, 0, UNITS));
}

FIXTURE_TEARDOWN(reader)
{
	EXPECT_TRUE(intact(self->writable, 0, UNITS));
	EXPECT_TRUE(is_shared(self->map, DIRECTORY));
	munmap(self->map, DIRECTORY);
	munmap(self->writable, DIRECTORY);
	close(self->fd);
}

TEST_F(reader, cannot_store_and_may_after_mprotect)
{
	EXPECT_EQ(SIGSEGV, try_store(self->map + UNIT, 'x'));
	EXPECT_EQ(KB(DIRECTORY), mapping_kb(self->map, "PtShared"));
	EXPECT_EQ(0, mprotect(self->map, DIRECTORY, RW));
	EXPECT_EQ(KB(DIRECTORY), mapping_kb(self->map, "PtShared"));
	EXPECT_EQ(0, try_store(self->map + UNIT, 2));
	EXPECT_EQ(0, mprotect(self->map, DIRECTORY, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_store(self->map + UNIT, 'x'));
	EXPECT_EQ(0, try_store(self->writable + UNIT, 2));
}

TEST_F(reader, may_do_nothing_after_prot_none)
{
	EXPECT_EQ(0, mprotect(self->map, DIRECTORY, PROT_NONE));
	EXPECT_EQ(0, mapping_kb(self->map, "PtShared"));
	EXPECT_EQ(SIGSEGV, try_load(self->map));
	EXPECT_EQ(SIGSEGV, try_store(self->map + UNIT, 'x'));
	EXPECT_EQ(0, try_store(self->writable + UNIT, 2));
	EXPECT_EQ(0, mprotect(self->map, DIRECTORY, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_store(self->map, 'x'));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
}

TEST_F(reader, may_write_the_part_that_mprotect_says)
{
	EXPECT_EQ(0, mprotect(self->map + 2 * UNIT, UNIT, RW));
	EXPECT_EQ(SIGSEGV, try_store(self->map + UNIT, 'x'));
	EXPECT_EQ(0, try_store(self->map + 2 * UNIT, 3));
	EXPECT_EQ(SIGSEGV, try_store(self->map + 3 * UNIT, 'x'));
	EXPECT_EQ(0, mprotect(self->map + 4 * UNIT, UNIT, PROT_NONE));
	EXPECT_EQ(SIGSEGV, try_load(self->map + 4 * UNIT));
	EXPECT_TRUE(intact(self->map, 5, UNITS));
	EXPECT_EQ(0, mprotect(self->map, DIRECTORY, PROT_READ));
	EXPECT_EQ(SIGSEGV, try_store(self->map + 2 * UNIT, 'x'));
	EXPECT_TRUE(intact(self->map, 0, UNITS));
}

TEST_F(reader, may_execute_only_if_it_says_so)
{
	char *code = map_guest(self->fd, DIRECTORY, 0, PROT_READ | PROT_EXEC, true);

	self->writable[UNIT + 1] = 0xc3;	/* ret */
	EXPECT_EQ(0, try_call(code + UNIT + 1));
	EXPECT_EQ(SIGSEGV, try_call(self->map + UNIT + 1));
	EXPECT_EQ(SIGSEGV, try_call(self->writable + UNIT + 1));
	EXPECT_EQ(0, mprotect(self->map, DIRECTORY, PROT_READ | PROT_EXEC));
	EXPECT_EQ(0, try_call(self->map + UNIT + 1));
	EXPECT_EQ(SIGSEGV, try_store(code + UNIT + 1, 'x'));
	munmap(code, DIRECTORY);
}

TEST_F(reader, cannot_be_written_by_others_for_it)
{
	EXPECT_EQ(-EFAULT, copy_to(getpid(), self->map + UNIT, 'x'));
	EXPECT_EQ(2, self->map[UNIT]);
	EXPECT_EQ(0, copy_to(getpid(), self->writable + UNIT, 2));
}

TEST_F(reader, cannot_be_written_by_proc_mem_nor_a_debugger)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, pwrite(fd, "x", 1, (off_t)self->map + UNIT));
	EXPECT_EQ(EIO, errno);
	close(fd);
	EXPECT_EQ(-EIO, poke_forked_child(self->map, UNIT, 'x'));
}

TEST_F(reader, cannot_be_filled_by_a_ring_nor_vmsplice)
{
	struct iovec iov = { .iov_base = self->map + UNIT, .iov_len = 1 };
	int pipes[2], ret = read_by_ring(self->map + UNIT, 'x');

	if (ret != -ENOSYS)
		EXPECT_EQ(-EFAULT, ret);
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(1, write(pipes[1], "x", 1));
	EXPECT_EQ(-1, vmsplice(pipes[0], &iov, 1, 0));
	EXPECT_EQ(EFAULT, errno);
}

TEST_F(reader, cannot_be_a_buffer_that_a_ring_writes)
{
	int ret = register_with_ring(self->map + UNIT);

	if (ret == -ENOSYS)
		SKIP(return, "no io_uring");
	EXPECT_EQ(-EFAULT, ret);
}

TEST_F(reader, cannot_be_read_into_directly)
{
	int fd = direct_open();

	if (fd < 0)
		SKIP(return, "no ext4");
	/* gup_fast: all entries are there. */
	EXPECT_EQ(-1, pread(fd, self->map, page_size(), 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ((ssize_t)page_size(), pwrite(fd, self->map, page_size(), 0));
	EXPECT_EQ((ssize_t)page_size(), pread(fd, self->writable, page_size(), 0));
	close(fd);
}

TEST_F(reader, is_what_a_forked_child_is)
{
	pid_t pid = fork_child();
	int bad = 0;

	if (pid == 0) {
		bad |= try_store(self->map, 'x') != SIGSEGV;
		bad |= !intact(self->map, 0, UNITS);
		bad |= try_store(self->map + UNIT, 'x') != SIGSEGV;
		bad |= try_store(self->writable, 1) != 0;
		_exit(bad);
	}
	EXPECT_EQ(0, wait_child(pid));
}

/* Protection reaches all who hang on the directory. */
static void check_stopped(struct __test_metadata *_metadata, int ctx, uint32_t id, char *map,
			  size_t offset)
{
	struct access access = { .map = map, .offset = offset, .value = 'w' };
	struct writer *writer = writer_fork(op_store, &access);
	char before = map[offset];

	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(before, map[offset]);
	EXPECT_EQ(0, ctx_unprotect_range(ctx, id, offset, page_size()));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('w', map[offset]);
	map[offset] = before;
}

TEST_F(directory, is_protected_for_all)
{
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, self->fd, PGPROTECT_MODE_STALL, 0);
	char *late;

	ASSERT_EQ(0, ctx_protect_all(ctx, id));
	check_stopped(_metadata, ctx, id, self->map, 0);
	check_stopped(_metadata, ctx, id, self->witness, UNIT);
	check_stopped(_metadata, ctx, id, self->map, 2 * UNIT + page_size());
	late = map_guest(self->fd, SIZE, 0, RW, true);
	check_stopped(_metadata, ctx, id, late, 3 * UNIT);
	EXPECT_EQ(0, mprotect(late, UNIT, PROT_READ));
	check_stopped(_metadata, ctx, id, late, 4 * UNIT);
	EXPECT_EQ(0, advise(late, SIZE, MADV_NOPTSHARE));
	check_stopped(_metadata, ctx, id, late, 5 * UNIT);
	ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	EXPECT_EQ(0, try_store(self->map + 6 * UNIT, 7));
	munmap(late, SIZE);
	close(ctx);
}

#define EXPECT_COUNTS(counted, tables_, flushes_, fences_) do {		\
	struct protect_counts got_ = (counted);				\
	EXPECT_EQ(tables_, (long)got_.tables);				\
	EXPECT_EQ(flushes_, (long)got_.flushes);			\
	EXPECT_EQ(fences_, (long)got_.fences);				\
} while (0)

TEST_F(directory, is_protected_by_one_entry_for_each_unit)
{
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, self->fd, PGPROTECT_MODE_DENY, 0);

	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), 0, 1, (long)UNITS);
	/* All of it is fenced. */
	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), 0, 0, 0);
	EXPECT_EQ(SIGBUS, try_store(self->map, 'x'));
	EXPECT_EQ(SIGBUS, try_store(self->witness + UNIT, 'x'));
	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), 0, 0, 0);
	/* A write that may be done opens its unit, and no other page in there. */
	ASSERT_EQ(0, ctx_unprotect_range(ctx, id, 2 * UNIT, page_size()));
	EXPECT_EQ(0, try_store(self->map + 2 * UNIT, 3));
	EXPECT_EQ(SIGBUS, try_store(self->map + 2 * UNIT + page_size(), 'x'));
	EXPECT_EQ(SIGBUS, try_store(self->witness + UNIT, 'x'));
	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), 0, 1, 1);
	EXPECT_EQ(SIGBUS, try_store(self->map + 2 * UNIT, 'x'));
	/* A part of a unit is not worth one. */
	ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	EXPECT_EQ(0, try_store(self->map + UNIT, 2));
	EXPECT_COUNTS(protect_counted(ctx, id, UNIT, page_size()), 1, 1, 0);
	EXPECT_EQ(SIGBUS, try_store(self->map + UNIT, 'x'));
	EXPECT_EQ(0, try_store(self->map + UNIT + page_size(), 'y'));
	ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	fill(self->map);
	close(ctx);
}

TEST_F(directory, is_protected_by_its_tables_if_a_unit_is_linked)
{
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, self->fd, PGPROTECT_MODE_DENY, 0);
	char *part;

	/* A link that comes after a fence. */
	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), 0, 1, (long)UNITS);
	part = map_guest(self->fd, 4 * UNIT, 0, RW, true);
	EXPECT_EQ(1, part[0]);
	EXPECT_EQ(SIGBUS, try_store(part, 'x'));
	EXPECT_EQ(SIGBUS, try_store(part + page_size(), 'x'));
	EXPECT_EQ(SIGBUS, try_store(part + UNIT, 'x'));
	EXPECT_EQ(SIGBUS, try_store(self->map, 'x'));
	/* And one that is there. */
	ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	part[0] = 1;
	fill(self->map);
	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), (long)UNITS, 1, 0);
	EXPECT_EQ(SIGBUS, try_store(part, 'x'));
	EXPECT_EQ(SIGBUS, try_store(self->map + 5 * UNIT, 'x'));
	munmap(part, 4 * UNIT);
	ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), 0, 1, (long)UNITS);
	ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	close(ctx);
}

TEST_F(directory, is_protected_against_writes_by_others)
{
	int ctx = ctx_open(), fd = direct_open();
	uint32_t id = ctx_attach(ctx, self->fd, PGPROTECT_MODE_DENY, 0);

	if (fd < 0)
		SKIP(return, "no ext4");
	EXPECT_EQ((ssize_t)page_size(), pread(fd, self->map + 7 * UNIT, page_size(), 0));
	self->map[7 * UNIT] = 8;
	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), 0, 1, (long)UNITS);
	/* Entries are there, and writable but for the fence. */
	EXPECT_EQ(-1, pread(fd, self->map + 7 * UNIT, page_size(), 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-EFAULT, copy_to(getpid(), self->map + UNIT, 'x'));
	EXPECT_COUNTS(protect_counted(ctx, id, 0, DIRECTORY), 0, 0, 0);
	ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	EXPECT_EQ(0, copy_to(getpid(), self->map + UNIT, 2));
	EXPECT_EQ((ssize_t)page_size(), pread(fd, self->map + 7 * UNIT, page_size(), 0));
	self->map[7 * UNIT] = 8;
	close(fd);
	close(ctx);
}

static long op_store_all_the_time(struct writer *self)
{
	struct access *access = self->arg;
	volatile uint64_t *word = (void *)(access->map + access->offset);

	writer_checkpoint(self);
	while (store_word(word, *word + 1) == 0)
		self->progress++;
	return GOT_SIGBUS;
}

/* Threads and processes whose TLBs all have writable translations. */
TEST_F(directory, does_not_change_once_protect_has_returned)
{
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, self->fd, PGPROTECT_MODE_DENY, 0);

	for (int round = 0; round < 4; round++) {
		struct access access[4];
		struct writer *writers[4];
		uint64_t before;

		for (int i = 0; i < 4; i++) {
			access[i] = (struct access) {
				.map = i % 2 ? self->witness : self->map,
				.offset = UNIT + page_size() + i * 64,
			};
			writers[i] = i < 2 ? writer_thread(op_store_all_the_time, &access[i]) :
					     writer_fork(op_store_all_the_time, &access[i]);
			writer_wait_ready(writers[i]);
			writer_go(writers[i]);
		}
		for (int i = 0; i < 4; i++) {
			ASSERT_TRUE(WAIT_FOR(writers[i]->progress > 1000));
		}
		ASSERT_EQ(0, ctx_protect_all(ctx, id));
		before = checksum(self->map + UNIT, 2 * page_size());
		EXPECT_TRUE(HOLDS_FOR(100, checksum(self->map + UNIT, 2 * page_size()) == before));
		for (int i = 0; i < 4; i++) {
			EXPECT_EQ(GOT_SIGBUS, writer_join(writers[i]));
		}
		ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	}
	close(ctx);
}

TEST_HARNESS_MAIN
