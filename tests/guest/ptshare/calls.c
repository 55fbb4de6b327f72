// SPDX-License-Identifier: GPL-2.0
/* What each call does to a mapping with shared page tables: works, unshares, fails. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE	(5 * UNIT)
#define RW	(PROT_READ | PROT_WRITE)

#ifndef SYS_mseal
#define SYS_mseal	462
#endif

/* One guest that the call is made on, and one that must not notice. */
FIXTURE(call) {
	int fd;
	char *map;
	char *witness;
	long links;	/* of the witness */
};

FIXTURE_SETUP(call)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	self->fd = memfd_make(SIZE, 0);
	self->map = map_guest(self->fd, SIZE, 0, RW, true);
	self->witness = map_guest(self->fd, SIZE, 0, RW, true);
	dirty_pages(self->witness, SIZE);
	touch_pages(self->map, SIZE);
}

FIXTURE_TEARDOWN(call)
{
	EXPECT_TRUE(is_shared(self->witness, SIZE));
	EXPECT_EQ((long)(SIZE >> 10), mapping_kb(self->witness, "PtShared"));
	munmap(self->map, SIZE);
	for (size_t at = 0; at < SIZE; at += page_size()) {
		ASSERT_EQ(1, self->witness[at]);
	}
	munmap(self->witness, SIZE);
	close(self->fd);
}

/* The content and, by stores, that entries are those of the file. */
static bool intact(char *map, size_t size)
{
	for (size_t at = 0; at < size; at += page_size()) {
		if (map[at] != 1)
			return false;
		map[at] = 1;
	}
	return true;
}

TEST_F(call, munmap_of_units_leaves_the_rest_shared)
{
	ASSERT_EQ(0, munmap(self->map + UNIT, 2 * UNIT));
	EXPECT_TRUE(is_shared(self->map, UNIT));
	EXPECT_TRUE(is_shared(self->map + 3 * UNIT, SIZE - 3 * UNIT));
	EXPECT_EQ(SIGSEGV, try_load(self->map + UNIT));
	EXPECT_TRUE(intact(self->map, UNIT));
	EXPECT_TRUE(intact(self->map + 3 * UNIT, SIZE - 3 * UNIT));
}

TEST_F(call, munmap_of_a_page_unshares_its_unit)
{
	const size_t page = page_size();

	ASSERT_EQ(0, munmap(self->map + UNIT + page, page));
	EXPECT_TRUE(is_shared(self->map, UNIT));
	EXPECT_TRUE(is_ordinary(self->map + UNIT, page));
	EXPECT_TRUE(is_ordinary(self->map + UNIT + 2 * page, UNIT - 2 * page));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
	EXPECT_EQ(SIGSEGV, try_load(self->map + UNIT + page));
	EXPECT_TRUE(intact(self->map, UNIT + page));
	EXPECT_TRUE(intact(self->map + UNIT + 2 * page, SIZE - UNIT - 2 * page));
}

/* Which needs no more mappings than there are; it may cost more sharing than elsewhere. */
TEST_F(call, munmap_of_an_end_works_at_the_limit_of_mappings)
{
	const size_t page = page_size();
	char limit[24] = { 0 };
	int fd = open("/proc/sys/vm/max_map_count", O_RDWR | O_CLOEXEC), ret;

	ASSERT_LT(0, read(fd, limit, sizeof(limit) - 1));
	ASSERT_EQ(1, pwrite(fd, "1", 1, 0));
	ret = munmap(self->map + SIZE - page, page) ? errno : 0;
	ASSERT_LT(0, pwrite(fd, limit, strlen(limit), 0));
	close(fd);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(SIGSEGV, try_load(self->map + SIZE - page));
	EXPECT_TRUE(is_ordinary(self->map, SIZE - page));
	EXPECT_TRUE(intact(self->map, SIZE - page));
}

TEST_F(call, munmap_from_one_unit_into_another_unshares_both)
{
	const size_t page = page_size();

	ASSERT_EQ(0, munmap(self->map + page, 3 * UNIT));
	EXPECT_TRUE(is_ordinary(self->map, page));
	EXPECT_TRUE(is_ordinary(self->map + 3 * UNIT + page, UNIT - page));
	EXPECT_TRUE(is_shared(self->map + 4 * UNIT, SIZE - 4 * UNIT));
	EXPECT_TRUE(intact(self->map + 3 * UNIT + page, SIZE - 3 * UNIT - page));
}

TEST_F(call, mmap_over_a_page_unshares_its_unit)
{
	char *over = mmap(self->map + UNIT, page_size(), RW,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	ASSERT_NE(MAP_FAILED, over);
	EXPECT_EQ(0, over[0]);
	EXPECT_TRUE(is_ordinary(self->map + UNIT + page_size(), UNIT - page_size()));
	EXPECT_TRUE(intact(self->map, UNIT));
	EXPECT_TRUE(intact(self->map + UNIT + page_size(), SIZE - UNIT - page_size()));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
}

TEST_F(call, mprotect_of_a_page_unshares_its_unit)
{
	ASSERT_EQ(0, mprotect(self->map + UNIT, page_size(), PROT_READ));
	EXPECT_EQ(SIGSEGV, try_store(self->map + UNIT, 'x'));
	EXPECT_TRUE(is_ordinary(self->map + UNIT, UNIT));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
	EXPECT_TRUE(intact(self->map + UNIT + page_size(), SIZE - UNIT - page_size()));
}

TEST_F(call, mprotect_execute_only_unshares)
{
	ASSERT_EQ(0, mprotect(self->map, UNIT, PROT_EXEC));
	EXPECT_TRUE(is_ordinary(self->map, UNIT));
	EXPECT_TRUE(is_shared(self->map + UNIT, SIZE - UNIT));
}

TEST_F(call, pkey_mprotect_unshares)
{
	int pkey = pkey_alloc(0, 0);

	if (pkey < 0)
		SKIP(return, "no protection keys");
	ASSERT_EQ(0, pkey_mprotect(self->map, UNIT, RW, pkey));
	EXPECT_TRUE(is_ordinary(self->map, UNIT));
	EXPECT_TRUE(intact(self->map, SIZE));
	pkey_free(pkey);
}

/* -1: none in particular; 0: that of all mappings. */
TEST_F(call, pkey_mprotect_with_the_key_that_all_have_leaves_links)
{
	ASSERT_EQ(0, pkey_mprotect(self->map, UNIT, PROT_READ, -1));
	EXPECT_EQ(SIGSEGV, try_store(self->map, 1));
	EXPECT_TRUE(is_shared(self->map, SIZE));
	ASSERT_EQ(0, pkey_mprotect(self->map, UNIT, RW, 0));
	EXPECT_EQ(0, try_store(self->map, 1));
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_TRUE(intact(self->map, SIZE));
}

TEST_F(call, mremap_shrinks_an_ordinary_mapping)
{
	char *map = mremap(self->map, SIZE, SIZE - UNIT - page_size(), 0);

	ASSERT_EQ(self->map, map);
	EXPECT_TRUE(is_ordinary(map, SIZE - UNIT - page_size()));
	EXPECT_TRUE(intact(map, SIZE - UNIT - page_size()));
	EXPECT_EQ(SIGSEGV, try_load(map + SIZE - UNIT - page_size()));
	EXPECT_EQ(SIGSEGV, try_load(map + SIZE - 1));
}

TEST_F(call, mremap_moves_an_ordinary_mapping)
{
	char *moved = mremap(self->map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
			     NULL);

	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_TRUE(is_ordinary(moved, SIZE));
	EXPECT_TRUE(intact(moved, SIZE));
	EXPECT_TRUE(intact(self->map, SIZE));
	munmap(moved, SIZE);
}

TEST_F(call, mremap_of_a_part_moves_that_part)
{
	char *to = map_congruent(self->fd, UNIT, 0, RW);
	char *moved = mremap(self->map + UNIT, page_size(), page_size(),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to);

	ASSERT_EQ(to, moved);
	EXPECT_TRUE(intact(moved, UNIT));
	EXPECT_EQ(SIGSEGV, try_load(self->map + UNIT));
	EXPECT_TRUE(intact(self->map + UNIT + page_size(), SIZE - UNIT - page_size()));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
	munmap(to, UNIT);
}

TEST_F(call, mremap_grows_an_ordinary_mapping)
{
	char *grown;

	ASSERT_EQ(0, ftruncate(self->fd, SIZE + UNIT));
	grown = mremap(self->map, SIZE, SIZE + UNIT, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, grown);
	self->map = grown;
	EXPECT_TRUE(is_ordinary(grown, SIZE));
	EXPECT_TRUE(intact(grown, SIZE));
	EXPECT_EQ(0, grown[SIZE]);
	munmap(grown + SIZE, UNIT);
}

/* Shared are the whole units of a mapping; for its owner it is one, all the same. */
TEST_F(call, mremap_takes_a_mapping_that_is_shared_in_part)
{
	const size_t size = 2 * UNIT + page_size();
	char *map = map_congruent(self->fd, size, 0, RW), *grown;

	ASSERT_EQ(0, advise(map, size, MADV_PTSHARE));
	ASSERT_TRUE(is_shared(map, 2 * UNIT));
	grown = mremap(map, size, 3 * UNIT, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, grown);
	EXPECT_TRUE(intact(grown, 3 * UNIT));

	munmap(grown, 3 * UNIT);

	/* Nor do the splits outlast the sharing. */
	map = map_congruent(self->fd, 3 * UNIT, 0, RW);
	ASSERT_EQ(0, advise(map + UNIT, UNIT, MADV_PTSHARE));
	ASSERT_TRUE(is_shared(map + UNIT, UNIT));
	ASSERT_EQ(0, advise(map + UNIT, UNIT, MADV_NOPTSHARE));
	grown = mremap(map, 3 * UNIT, 4 * UNIT, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, grown);
	EXPECT_TRUE(intact(grown, 4 * UNIT));
	munmap(grown, 4 * UNIT);
}

/* Where the caller says, and nowhere else: not at a better place. */
static int map_at_zero(void *arg)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS;
	void *map = mmap(NULL, 2 * UNIT, RW, flags | MAP_FIXED, -1, 0);

	if (map != MAP_FAILED || errno != EPERM)
		return 1;
	map = mmap(NULL, 2 * UNIT, RW, flags, -1, 0);
	if (map == MAP_FAILED)
		return 2;
	map = mremap(map, 2 * UNIT, 2 * UNIT, MREMAP_MAYMOVE | MREMAP_FIXED, NULL);
	return map != MAP_FAILED || errno != EPERM ? 3 : 0;
}

TEST_F(call, mmap_and_mremap_to_address_zero_are_refused)
{
	EXPECT_EQ(0, run_as(65534, map_at_zero, NULL));
}

TEST_F(call, madvise_pageout_leaves_what_others_use)
{
	unsigned char resident[SIZE / 4096];
	size_t at;

	EXPECT_EQ(0, advise(self->map, SIZE, MADV_PAGEOUT));
	ASSERT_EQ(0, mincore(self->witness, SIZE, resident));
	for (at = 0; at < SIZE / page_size() && resident[at] & 1; at++)
		;
	EXPECT_EQ(SIZE / page_size(), at);
}

TEST_F(call, madvise_dontneed_drops_links_of_its_own)
{
	EXPECT_EQ(0, advise(self->map, 2 * UNIT, MADV_DONTNEED));
	EXPECT_EQ((long)((SIZE - 2 * UNIT) >> 10), mapping_kb(self->map, "PtShared"));
	EXPECT_EQ(0, advise(self->map + 2 * UNIT, page_size(), MADV_DONTNEED));
	EXPECT_EQ((long)((SIZE - 2 * UNIT) >> 10), mapping_kb(self->map, "PtShared"));
	EXPECT_EQ(0, advise(self->map + 2 * UNIT, UNIT, MADV_DONTNEED_LOCKED));
	EXPECT_EQ((long)((SIZE - 3 * UNIT) >> 10), mapping_kb(self->map, "PtShared"));
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_TRUE(intact(self->map, SIZE));
}

TEST_F(call, madvise_of_a_page_unshares_its_unit_if_it_is_kept)
{
	EXPECT_EQ(0, advise(self->map + UNIT, page_size(), MADV_DONTFORK));
	EXPECT_TRUE(is_ordinary(self->map + UNIT, UNIT));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
	EXPECT_TRUE(intact(self->map, SIZE));
	EXPECT_EQ(0, advise(self->map + 2 * UNIT, UNIT, MADV_DONTDUMP));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
}

TEST_F_TIMEOUT(call, madvise_that_only_looks_or_hints_works, 150)
{
	const int works[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_COLD,
		MADV_PAGEOUT, MADV_POPULATE_READ, MADV_POPULATE_WRITE, MADV_DONTFORK,
		MADV_DOFORK, MADV_DONTDUMP, MADV_DODUMP, MADV_MERGEABLE, MADV_UNMERGEABLE,
		MADV_NOHUGEPAGE, MADV_KEEPONFORK,
	};

	for (size_t i = 0; i < ARRAY_LEN(works); i++) {
		EXPECT_EQ(0, advise(self->map, SIZE, works[i])) {
			TH_LOG("advice %d", works[i]);
		}
	}
	EXPECT_EQ(-EINVAL, advise(self->map, SIZE, MADV_FREE));
	EXPECT_EQ(-EINVAL, advise(self->map, SIZE, MADV_WIPEONFORK));
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_TRUE(intact(self->map, SIZE));
	touch_pages(self->witness, SIZE);
}

TEST_F(call, madvise_for_huge_pages_unshares)
{
	/* Whether there are any is up to the file and to what is free. */
	EXPECT_EQ(0, advise(self->map, UNIT, MADV_HUGEPAGE));
	EXPECT_TRUE(is_ordinary(self->map, UNIT));
	EXPECT_TRUE(is_shared(self->map + UNIT, SIZE - UNIT));
	advise(self->map + 2 * UNIT, UNIT, MADV_COLLAPSE);
	EXPECT_TRUE(is_ordinary(self->map + 2 * UNIT, UNIT));
	EXPECT_TRUE(is_shared(self->map + 3 * UNIT, SIZE - 3 * UNIT));
	EXPECT_TRUE(intact(self->map, SIZE));
}

static long op_be_advised(struct writer *self)
{
	char *map = self->arg, *last = map + SIZE - UNIT;

	touch_pages(map, SIZE);
	writer_checkpoint(self);
	if (!is_shared(map, SIZE - UNIT) || !is_ordinary(last, UNIT))
		return 1;
	return intact(map, SIZE) ? 0 : 2;
}

TEST_F(call, process_madvise_does_what_madvise_does)
{
	const int works[] = { MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED };
	struct iovec all = { self->map, SIZE }, last = { self->map + SIZE - UNIT, UNIT };
	struct writer *other = writer_fork(op_be_advised, self->map);
	int pidfd;

	writer_wait_ready(other);
	pidfd = syscall(SYS_pidfd_open, other->pid, 0);
	ASSERT_LE(0, pidfd);
	for (size_t i = 0; i < ARRAY_LEN(works); i++) {
		EXPECT_EQ((long)SIZE, syscall(SYS_process_madvise, pidfd, &all, 1UL, works[i], 0)) {
			TH_LOG("advice %d", works[i]);
		}
	}
	EXPECT_EQ(-1, syscall(SYS_process_madvise, pidfd, &all, 1UL, MADV_PTSHARE, 0));
	EXPECT_EQ(EINVAL, errno);
	/* Whether it becomes a huge page is up to what is free. */
	syscall(SYS_process_madvise, pidfd, &last, 1UL, MADV_COLLAPSE, 0);
	EXPECT_TRUE(is_shared(self->map, SIZE));
	writer_go(other);
	EXPECT_EQ(0, writer_join(other));
	close(pidfd);
}

TEST_F(call, madvise_remove_punches_a_hole_for_all)
{
	EXPECT_EQ(0, advise(self->map + UNIT, page_size(), MADV_REMOVE));
	EXPECT_EQ(0, self->map[UNIT]);
	EXPECT_EQ(0, self->witness[UNIT]);
	self->witness[UNIT] = 1;
	EXPECT_TRUE(intact(self->map, SIZE));
	EXPECT_TRUE(is_shared(self->map, SIZE));
}

TEST_F(call, truncate_takes_pages_from_all_and_gives_them_back)
{
	ASSERT_EQ(0, ftruncate(self->fd, UNIT));
	EXPECT_EQ(SIGBUS, try_load(self->map + UNIT));
	EXPECT_EQ(SIGBUS, try_store(self->witness + SIZE - 1, 'x'));
	EXPECT_TRUE(intact(self->map, UNIT));
	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	EXPECT_EQ(0, self->map[UNIT]);
	for (size_t at = UNIT; at < SIZE; at += page_size())
		self->map[at] = 1;
}

TEST_F(call, mlock_unshares_what_it_locks)
{
	ASSERT_EQ(0, mlock(self->map + UNIT, page_size()));
	EXPECT_TRUE(is_ordinary(self->map + UNIT, UNIT));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
	/* In proportion to those who map it. */
	EXPECT_LT(0, mapping_kb(self->map + UNIT, "Locked"));
	EXPECT_TRUE(intact(self->map, SIZE));
	ASSERT_EQ(0, munlock(self->map, SIZE));
}

TEST_F(call, mlock2_on_fault_unshares_what_it_locks)
{
	ASSERT_EQ(0, mlock2(self->map + UNIT, page_size(), MLOCK_ONFAULT));
	EXPECT_TRUE(is_ordinary(self->map + UNIT, UNIT));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
	EXPECT_TRUE(intact(self->map, SIZE));
	ASSERT_EQ(0, munlock(self->map, SIZE));
}

/* With two units, of one mapping: to lock much takes long on a slow machine. */
static int lock_all(void *arg)
{
	struct _test_data_call *self = arg;
	const size_t size = 2 * UNIT;
	int fd;

	if (munmap(self->witness, SIZE) || munmap(self->map + size, SIZE - size) ||
	    !is_shared(self->map, size))
		return 1;
	if (mlockall(MCL_CURRENT) || !is_ordinary(self->map, size) || !intact(self->map, size))
		return 2;
	if (mlockall(MCL_FUTURE))
		return 3;
	fd = memfd_make(UNIT, 0);
	return advise(map_congruent(fd, UNIT, 0, RW), UNIT, MADV_PTSHARE) == -EINVAL ? 0 : 4;
}

TEST_F(call, mlockall_unshares_all_and_keeps_what_comes_from_sharing)
{
	EXPECT_EQ(0, run_as(0, lock_all, self));
}

TEST_F(call, msync_works)
{
	EXPECT_EQ(0, msync(self->map, SIZE, MS_SYNC));
	EXPECT_EQ(0, msync(self->map + page_size(), page_size(), MS_ASYNC));
	EXPECT_TRUE(is_shared(self->map, SIZE));
}

TEST_F(call, userfaultfd_registers_an_ordinary_mapping)
{
	static const uint64_t modes[] = {
		UFFDIO_REGISTER_MODE_MISSING, UFFDIO_REGISTER_MODE_WP, UFFDIO_REGISTER_MODE_MINOR,
	};

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		char *unit = self->map + (1 + i) * UNIT;
		struct uffdio_register args = {
			.range = { .start = (uintptr_t)unit, .len = UNIT }, .mode = modes[i],
		};
		struct uffdio_api api = {
			.api = UFFD_API,
			.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_MINOR_SHMEM,
		};
		int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

		if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
			SKIP(return, "no userfaultfd");
		EXPECT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &args));
		EXPECT_TRUE(is_shared(self->map, UNIT));
		EXPECT_TRUE(is_ordinary(unit, UNIT));
		EXPECT_EQ(-EINVAL, advise(unit, UNIT, MADV_PTSHARE));
		close(fd);
	}
	EXPECT_TRUE(intact(self->map, SIZE));
}

static long op_register_for_write_protection(struct writer *self)
{
	struct _test_data_call *guests = self->arg;
	char *map = guests->map;
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register args = {
		.range = { .start = (uintptr_t)map, .len = SIZE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	struct uffdio_writeprotect protect = {
		.range = args.range, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		return 0;
	if (ioctl(fd, UFFDIO_REGISTER, &args) || !intact(map, SIZE) ||
	    ioctl(fd, UFFDIO_WRITEPROTECT, &protect))
		return -1;
	writer_checkpoint(self);
	/* Protected are the entries of this mapping, and no other's. */
	return try_store(guests->witness + UNIT, 1);
}

TEST_F(call, userfaultfd_write_protects_no_entries_of_others)
{
	struct writer *other = writer_fork(op_register_for_write_protection, self);

	if (writer_wait_ready(other), writer_done(other))
		SKIP(return, "no userfaultfd");
	for (size_t at = 0; at < SIZE; at += UNIT)
		EXPECT_EQ(0, try_store(self->witness + at, 1));
	writer_go(other);
	EXPECT_EQ(0, writer_join(other));
}

static int seal_a_unit(void *arg)
{
	char *map = arg;

	if (syscall(SYS_mseal, map + UNIT, UNIT, 0))
		return errno == ENOSYS ? 0 : 1;
	if (!is_shared(map, SIZE) || !intact(map, SIZE) || try_store(map + UNIT, 1))
		return 2;
	/* What a seal keeps, and what it does not. */
	if (!munmap(map + UNIT, UNIT) || errno != EPERM ||
	    !mprotect(map + UNIT, UNIT, PROT_READ) || errno != EPERM)
		return 3;
	return munmap(map + 2 * UNIT, UNIT) || !is_shared(map, 2 * UNIT) ? 4 : 0;
}

TEST_F(call, mseal_of_a_unit_seals_it_as_it_is)
{
	EXPECT_EQ(0, run_as(0, seal_a_unit, self->map));
}

TEST_F(call, mseal_of_a_page_unshares_its_unit)
{
	pid_t pid = fork_child();

	if (pid == 0) {
		long ret = syscall(SYS_mseal, self->map + UNIT, page_size(), 0);

		_exit(ret ? (errno == ENOSYS ? 0 : 1) :
		      !is_ordinary(self->map + UNIT, UNIT) ||
		      !is_shared(self->map, UNIT) || !intact(self->map, SIZE));
	}
	EXPECT_EQ(0, wait_child(pid));
}

TEST_F(call, mbind_of_a_page_unshares_its_unit)
{
	unsigned long nodes = 1;

	EXPECT_EQ(0, syscall(SYS_mbind, self->map, 2 * UNIT, MPOL_BIND, &nodes, 8, 0));
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_EQ(0, syscall(SYS_mbind, self->map + UNIT, page_size(), MPOL_PREFERRED, &nodes, 8,
			     MPOL_MF_MOVE));
	EXPECT_TRUE(is_ordinary(self->map + UNIT, UNIT));
	EXPECT_TRUE(intact(self->map, SIZE));
}

/* The node that a page is on, or an error; after a move to @node if that is not -1. */
static int node_of(char *page, int node)
{
	void *pages[1] = { page };
	int status = -1;

	if (syscall(SYS_move_pages, 0, 1UL, pages, node < 0 ? NULL : &node, &status,
		    node < 0 ? 0 : MPOL_MF_MOVE) < 0)
		return -errno;
	return status;
}

/* The policy is the file's, as that of an ordinary mapping would be. */
TEST_F(call, mbind_says_where_pages_go_whoever_faults_them_in)
{
	const size_t size = 2 * UNIT;
	int fd = memfd_make(size, 0);
	char *map = map_guest(fd, size, 0, RW, true);
	char *other = map_guest(fd, size, 0, RW, true);

	if (node_of(self->map, 1) == -ENODEV)
		SKIP(return, "one node");
	for (unsigned long node = 0; node < 2; node++) {
		unsigned long nodes = 1UL << node;

		ASSERT_EQ(0, syscall(SYS_mbind, map + node * UNIT, UNIT, MPOL_BIND, &nodes, 8, 0));
	}
	dirty_pages(other, size);
	touch_pages(map, size);
	for (size_t at = 0; at < size; at += UNIT / 8)
		EXPECT_EQ(at / UNIT, node_of(map + at, -1));
	EXPECT_TRUE(is_shared(map, size));
	EXPECT_TRUE(is_shared(other, size));
	munmap(map, size);
	munmap(other, size);
	close(fd);
}

TEST_F(call, move_pages_and_mbind_move_no_page_that_others_share)
{
	int here = node_of(self->map, -1), there = !here;
	unsigned long nodes = 1UL << there;

	if (node_of(self->map, there) == -ENODEV)
		SKIP(return, "one node");
	EXPECT_EQ(-EACCES, node_of(self->map, there));
	EXPECT_EQ(0, syscall(SYS_mbind, self->map, UNIT, MPOL_BIND, &nodes, 8, MPOL_MF_MOVE));
	EXPECT_EQ(here, node_of(self->map, -1));
	/* As with mappings of its own, once nobody else maps the page. */
	munmap(self->witness, UNIT);
	ASSERT_EQ(0, advise(self->witness + UNIT, SIZE - UNIT, MADV_NOPTSHARE));
	EXPECT_EQ(there, node_of(self->map, there));
	self->witness = mmap(self->witness, SIZE, RW, MAP_SHARED | MAP_FIXED, self->fd, 0);
	ASSERT_EQ(0, advise(self->witness, SIZE, MADV_PTSHARE));
	touch_pages(self->witness, SIZE);
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_TRUE(intact(self->map, SIZE));
}

/* Whoever maps them, if the caller may move those of others. */
TEST_F(call, migrate_pages_moves_pages_below_links)
{
	int here = node_of(self->map, -1), there = !here;
	unsigned long from = 1UL << here, to = 1UL << there;

	if (node_of(self->map, there) == -ENODEV)
		SKIP(return, "one node");
	EXPECT_LE(0, syscall(SYS_migrate_pages, 0, 8 * sizeof(from), &from, &to));
	EXPECT_EQ(there, node_of(self->map, -1));
	EXPECT_EQ(there, node_of(self->witness, -1));
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_TRUE(intact(self->map, SIZE));
}

TEST_F(call, remap_file_pages_unshares_its_unit)
{
	ASSERT_EQ(0, remap_file_pages(self->map + UNIT, page_size(), 0, 3, 0));
	EXPECT_TRUE(is_ordinary(self->map + UNIT, UNIT));
	EXPECT_TRUE(is_shared(self->map + 2 * UNIT, SIZE - 2 * UNIT));
	EXPECT_TRUE(intact(self->map, SIZE));
}

/* As over any mappings that differ. */
TEST_F(call, remap_file_pages_of_a_guest_and_more_fails)
{
	ASSERT_EQ(0, advise(self->map + UNIT, UNIT, MADV_NOPTSHARE));
	EXPECT_EQ(-1, remap_file_pages(self->map, 2 * UNIT, 0, UNIT / page_size(), 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(is_shared(self->map, UNIT));
	EXPECT_TRUE(intact(self->map, SIZE));
}

static int clear_soft_dirty(void *arg)
{
	char *map = arg;

	/* Pages that were accessed: all, anonymous, of files; and the largest RSS so far. */
	static const char *const others[] = { "1", "2", "3", "5" };
	long shared = intact(map, SIZE) ? mapping_kb(map, "PtShared") : -1;

	for (size_t i = 0; i < ARRAY_LEN(others); i++)
		if (!write_text("/proc/self/clear_refs", others[i]) || !is_shared(map, SIZE) ||
		    mapping_kb(map, "PtShared") != shared || !intact(map, SIZE))
			return 1;
	if (!write_text("/proc/self/clear_refs", "4") || !is_ordinary(map, SIZE))
		return 2;
	return intact(map, SIZE) ? 0 : 3;
}

TEST_F(call, clear_refs_of_soft_dirty_unshares_and_others_do_not)
{
	EXPECT_EQ(0, run_as(0, clear_soft_dirty, self->map));
}

TEST_F(call, pagemap_and_map_files_tell_of_its_pages)
{
	uint64_t ours, theirs;
	int fd = open("/proc/self/pagemap", O_RDONLY);
	int file;

	ASSERT_LE(0, fd);
	ASSERT_EQ(8, pread(fd, &ours, 8, (uintptr_t)self->map / page_size() * 8));
	ASSERT_EQ(8, pread(fd, &theirs, 8, (uintptr_t)self->witness / page_size() * 8));
	EXPECT_EQ(ours, theirs);
	EXPECT_NE(0, ours >> 63);
	close(fd);
	file = map_files_open(self->map, SIZE);
	EXPECT_EQ(1, write_page(file, 0, 1));
	close(file);
}

/* Pages of a mapping, on all nodes, as numa_maps has them; -1: it has no such mapping. */
static long numa_pages(const char *map)
{
	FILE *maps = fopen("/proc/self/numa_maps", "r");
	char line[512];
	long pages = -1;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (strtoul(line, NULL, 16) != (uintptr_t)map)
			continue;
		pages = 0;
		for (char *at = line; (at = strstr(at, " N")); at++) {
			long count;

			if (sscanf(at, " N%*d=%ld", &count) == 1)
				pages += count;
		}
	}
	if (maps)
		fclose(maps);
	return pages;
}

TEST_F(call, numa_maps_tells_of_its_pages)
{
	EXPECT_EQ((long)(SIZE / page_size()), numa_pages(self->map));
	EXPECT_EQ(0, advise(self->map, UNIT, MADV_DONTNEED));
	EXPECT_EQ((long)((SIZE - UNIT) / page_size()), numa_pages(self->map));
	EXPECT_TRUE(is_shared(self->map, SIZE));
}

TEST_F(call, exec_and_exit_leave_others_alone)
{
	pid_t pid = fork_child();

	if (pid == 0) {
		touch_pages(self->map, SIZE);
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	EXPECT_EQ(0, wait_child(pid));
	EXPECT_TRUE(intact(self->map, SIZE));
}

/* A huge page in the file: khugepaged frees the tables of ordinary mappings. */
TEST_F(call, collapse_by_an_ordinary_mapping_keeps_shared_tables)
{
	char *own = map_congruent(self->fd, SIZE, 0, RW);
	int ret;

	touch_pages(own, SIZE);
	ret = advise(own, SIZE, MADV_COLLAPSE);
	if (ret)
		TH_LOG("collapse: %d", ret);
	EXPECT_TRUE(intact(self->map, SIZE));
	EXPECT_TRUE(intact(self->witness, SIZE));
	EXPECT_TRUE(intact(own, SIZE));
	munmap(own, SIZE);
}

TEST_HARNESS_MAIN
