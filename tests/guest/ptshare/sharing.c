// SPDX-License-Identifier: GPL-2.0
/* Processes that map a file share its page tables, wherever they map it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE		(16 * UNIT)
#define PROCESSES	8
#define RW		(PROT_READ | PROT_WRITE)

FIXTURE(file) {
	int fd;
	char *map;		/* a guest, all of the file */
	long hosts;
};

FIXTURE_SETUP(file)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	/* Those of tests before go after a grace period. */
	self->hosts = sharing_count("hosts");
	self->fd = memfd_create("pgtest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	self->map = map_guest(self->fd, SIZE, 0, RW, true);
}

FIXTURE_TEARDOWN(file)
{
	munmap(self->map, SIZE);
	close(self->fd);
	EXPECT_TRUE(WAIT_FOR(sharing_count("hosts") <= self->hosts));
}

TEST_F(file, is_one_memory_at_all_addresses)
{
	char *other = map_guest(self->fd, SIZE, 0, RW, true);
	char *own = map_guest(self->fd, SIZE, 0, RW, false);

	ASSERT_NE(other, self->map);
	for (size_t at = 0; at < SIZE; at += UNIT / 4) {
		self->map[at] = 'a' + at / UNIT;
		EXPECT_EQ('a' + (char)(at / UNIT), other[at]);
		other[at + 1] = 'x';
		EXPECT_EQ('x', self->map[at + 1]);
		EXPECT_EQ('x', own[at + 1]);
		own[at + 2] = 'y';
		EXPECT_EQ('y', self->map[at + 2]);
	}
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_TRUE(is_shared(other, SIZE));
	EXPECT_TRUE(is_ordinary(own, SIZE));
	munmap(other, SIZE);
	munmap(own, SIZE);
}

TEST_F(file, has_one_host_and_a_guest_for_each_mapping)
{
	long guests = sharing_count("guests");
	char *other = map_guest(self->fd, SIZE, 0, RW, true);

	EXPECT_EQ(self->hosts + 1, sharing_count("hosts"));
	EXPECT_EQ(guests + 1, sharing_count("guests"));
	munmap(other, SIZE);
	EXPECT_EQ(guests, sharing_count("guests"));
}

TEST_F(file, is_shared_where_mappings_overlap)
{
	char *part = map_guest(self->fd, 3 * UNIT, 2 * UNIT, RW, true);

	dirty_pages(self->map, SIZE);
	for (size_t at = 0; at < 3 * UNIT; at += page_size()) {
		ASSERT_EQ(1, part[at]);
		part[at] = 7;
	}
	EXPECT_EQ(1, self->map[2 * UNIT - page_size()]);
	EXPECT_EQ(7, self->map[2 * UNIT]);
	EXPECT_EQ(7, self->map[5 * UNIT - page_size()]);
	EXPECT_EQ(1, self->map[5 * UNIT]);
	munmap(part, 3 * UNIT);
}

TEST_F(file, mapping_that_is_not_whole_units_is_shared_inside)
{
	const size_t page = page_size();
	char *part = map_guest(self->fd, 3 * UNIT, page, RW, true);

	EXPECT_TRUE(is_ordinary(part, UNIT - page));
	EXPECT_TRUE(is_shared(part + UNIT - page, 2 * UNIT));
	EXPECT_TRUE(is_ordinary(part + 3 * UNIT - page, page));
	dirty_pages(part, 3 * UNIT);
	EXPECT_EQ(0, self->map[0]);
	EXPECT_EQ(1, self->map[page]);
	EXPECT_EQ(1, self->map[UNIT]);
	EXPECT_EQ(1, self->map[3 * UNIT]);
	EXPECT_EQ(0, self->map[3 * UNIT + page]);
	munmap(part, 3 * UNIT);
}

struct cost {
	int fd;
	bool shared;
	long vmpte;	/* kB more after touching all of it */
	long faults;
};

/* In a child. */
static long op_map_and_touch(struct writer *self)
{
	struct cost *cost = self->arg;
	char *map = map_guest(cost->fd, SIZE, 0, RW, cost->shared);
	long vmpte = status_kb("VmPTE"), faults = fault_count();

	touch_pages(map, SIZE);
	faults = fault_count() - faults;
	vmpte = status_kb("VmPTE") - vmpte;
	writer_checkpoint(self);
	return vmpte << 32 | faults;
}

static void measure(struct cost *cost)
{
	struct writer *writers[PROCESSES];

	cost->vmpte = cost->faults = 0;
	for (int i = 0; i < PROCESSES; i++) {
		writers[i] = writer_fork(op_map_and_touch, cost);
		writer_wait_ready(writers[i]);
	}
	for (int i = 0; i < PROCESSES; i++) {
		long result;

		writer_go(writers[i]);
		result = writer_join(writers[i]);
		cost->vmpte += result >> 32;
		cost->faults += result & UINT32_MAX;
	}
}

TEST_F_TIMEOUT(file, costs_each_process_no_page_tables_and_a_fault_for_each_unit, 120)
{
	struct cost own = { .fd = self->fd, .shared = false };
	struct cost guest = { .fd = self->fd, .shared = true };

	dirty_pages(self->map, SIZE);
	measure(&own);
	measure(&guest);
	TH_LOG("%d processes: own tables %ld kB, %ld faults; shared %ld kB, %ld faults",
	       PROCESSES, own.vmpte, own.faults, guest.vmpte, guest.faults);
	/* A table for each unit, against a directory or two in all. */
	EXPECT_GE(own.vmpte, (long)(PROCESSES * (SIZE / UNIT) * 4));
	EXPECT_LE(guest.vmpte, PROCESSES * 8);
	EXPECT_LE(guest.faults, (long)(PROCESSES * (SIZE / UNIT + 8)));
	EXPECT_GT(own.faults, guest.faults);
}

/* In a child that has inherited the mapping. Return: faults, or -1. */
static long op_touch_inherited(struct writer *self)
{
	char *map = self->arg;
	long vmpte = status_kb("VmPTE"), faults;

	if (!is_shared(map, SIZE) || mapping_kb(map, "PtShared"))
		return -1;
	faults = fault_count();
	touch_pages(map, SIZE);
	faults = fault_count() - faults;
	/* One that holds the links, perhaps. */
	return status_kb("VmPTE") <= vmpte + 4 ? faults : -1;
}

TEST_F(file, forked_child_has_no_tables_for_it_and_takes_a_fault_for_each_unit)
{
	long faults;

	dirty_pages(self->map, SIZE);
	EXPECT_EQ((long)(SIZE >> 10), mapping_kb(self->map, "PtShared"));
	faults = writer_join(writer_fork(op_touch_inherited, self->map));
	EXPECT_LE((long)(SIZE / UNIT), faults);
	EXPECT_GE((long)(SIZE / UNIT + 4), faults);
}

static long op_look(struct writer *self)
{
	char *map = self->arg;
	long wrong = 0;

	for (size_t at = 0; at < SIZE; at += page_size())
		wrong += map[at] != 1;
	writer_checkpoint(self);
	for (size_t at = 0; at < SIZE; at += page_size())
		wrong += map[at] != 2;
	map[0] = 'c';
	return wrong;
}

TEST_F(file, is_shared_with_a_forked_child_and_outlives_the_parents_mapping)
{
	struct writer *child;

	dirty_pages(self->map, SIZE);
	child = writer_fork(op_look, self->map);
	writer_wait_ready(child);
	dirty_pages(self->map, SIZE);
	munmap(self->map, SIZE);
	writer_go(child);
	EXPECT_EQ(0, writer_join(child));
	self->map = map_guest(self->fd, SIZE, 0, RW, true);
	EXPECT_EQ('c', self->map[0]);
}

TEST_F(file, is_mapped_by_nobody_as_soon_as_the_last_guest_is_unmapped)
{
	dirty_pages(self->map, SIZE);
	EXPECT_EQ(-1, fcntl(self->fd, F_ADD_SEALS, F_SEAL_WRITE));
	munmap(self->map, SIZE);
	EXPECT_EQ(0, fcntl(self->fd, F_ADD_SEALS, F_SEAL_WRITE)) {
		TH_LOG("errno %d", errno);
	}
}

TEST_F(file, shows_what_is_shared)
{
	long before = memory_kb("PtShared");

	EXPECT_EQ(0, mapping_kb(self->map, "PtShared"));
	EXPECT_EQ(0, status_kb("PtShared"));
	touch_pages(self->map, 3 * UNIT);
	EXPECT_EQ((long)(3 * UNIT >> 10), mapping_kb(self->map, "PtShared"));
	EXPECT_EQ(0, mapping_kb(&self->map, "PtShared"));
	EXPECT_EQ((long)(3 * UNIT >> 10), status_kb("PtShared"));
	EXPECT_EQ(before + (long)(3 * UNIT >> 10), memory_kb("PtShared"));
	EXPECT_EQ(0, advise(self->map, UNIT, MADV_NOPTSHARE));
	EXPECT_EQ((long)(2 * UNIT >> 10), status_kb("PtShared"));
	EXPECT_EQ(before + (long)(2 * UNIT >> 10), memory_kb("PtShared"));
}

/* In pages: the third number of statm. */
static long statm_shared(void)
{
	FILE *statm = fopen("/proc/self/statm", "r");
	long pages = -1;

	if (!statm || fscanf(statm, "%*d %*d %ld", &pages) != 1)
		die("statm");
	fclose(statm);
	return pages;
}

/* The counters of a process are kept at entries, and those are the host's. */
TEST_F(file, counts_in_smaps_and_not_in_the_counters_of_its_process)
{
	const long size = SIZE >> 10, few = SIZE / 4096 / 8;
	long rss = status_kb("RssShmem"), shared = statm_shared();
	char *other = map_guest(self->fd, SIZE, 0, RW, true), *own;

	dirty_pages(self->map, SIZE);
	touch_pages(other, SIZE);
	EXPECT_EQ(size, mapping_kb(self->map, "Rss"));
	EXPECT_EQ(size, mapping_kb(other, "Rss"));
	EXPECT_GT(few, status_kb("RssShmem") - rss);
	EXPECT_GT(few, statm_shared() - shared);
	/* One mapping, the host's, as far as a page knows. */
	EXPECT_EQ(size, mapping_kb(self->map, "Pss"));
	EXPECT_EQ(size, mapping_kb(other, "Pss"));
	EXPECT_EQ(size, mapping_kb(self->map, "Private_Dirty"));
	own = map_guest(self->fd, SIZE, 0, RW, false);
	touch_pages(own, SIZE);
	EXPECT_EQ(size / 2, mapping_kb(self->map, "Pss"));
	EXPECT_EQ(size, mapping_kb(self->map, "Shared_Dirty"));
	EXPECT_LT(few, status_kb("RssShmem") - rss);
	EXPECT_LT(few, statm_shared() - shared);
	munmap(own, SIZE);
	munmap(other, SIZE);
}

static void on_poison(int sig)
{
	(void)sig;
}

TEST_F(file, fails_for_all_where_its_memory_does)
{
	char *other = map_guest(self->fd, SIZE, 0, RW, true);
	struct sigaction action = { .sa_handler = on_poison }, old;
	int ret;

	dirty_pages(self->map, SIZE);
	touch_pages(other, SIZE);
	sigaction(SIGBUS, &action, &old);
	ret = advise(self->map + UNIT, page_size(), MADV_HWPOISON);
	sigaction(SIGBUS, &old, NULL);
	if (ret)
		SKIP(munmap(other, SIZE); return, "no MADV_HWPOISON");
	EXPECT_EQ(SIGBUS, try_load(self->map + UNIT));
	EXPECT_EQ(SIGBUS, try_store(other + UNIT, 'x'));
	EXPECT_EQ(0, try_store(other + UNIT + page_size(), 'x'));
	EXPECT_EQ(0, try_load(self->map + UNIT - 1));
	EXPECT_TRUE(is_shared(self->map, SIZE));
	munmap(other, SIZE);
}

struct user_of_page {
	int fd;
	bool shared;
};

static volatile sig_atomic_t told;

static void on_told(int sig)
{
	(void)sig;
	told = 1;
}

/* Has asked to be told as soon as memory that it maps fails: was it? */
static long op_is_told_early(struct writer *self)
{
	struct user_of_page *user = self->arg;
	struct sigaction action = { .sa_handler = on_told };
	char *map = map_guest(user->fd, SIZE, 0, RW, user->shared);

	touch_pages(map, SIZE);
	sigaction(SIGBUS, &action, NULL);
	if (prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0))
		return -errno;
	writer_checkpoint(self);
	return told;
}

TEST_F(file, fails_early_for_ordinary_mappings_only)
{
	struct user_of_page users[] = { { self->fd, true }, { self->fd, false } };
	struct sigaction action = { .sa_handler = on_poison }, old;
	struct writer *writers[2];
	int ret;

	dirty_pages(self->map, SIZE);
	for (int i = 0; i < 2; i++) {
		writers[i] = writer_fork(op_is_told_early, &users[i]);
		writer_wait_ready(writers[i]);
	}
	sigaction(SIGBUS, &action, &old);
	ret = advise(self->map + UNIT, page_size(), MADV_HWPOISON);
	sigaction(SIGBUS, &old, NULL);
	for (int i = 0; i < 2; i++)
		writer_go(writers[i]);
	if (ret)
		SKIP(return, "no MADV_HWPOISON");
	EXPECT_EQ(0, writer_join(writers[0]));
	EXPECT_EQ(1, writer_join(writers[1]));
}

TEST_F(file, stays_shared_when_its_memory_is_taken_out_of_use)
{
	char *other = map_guest(self->fd, SIZE, 0, RW, true);
	int ret;

	dirty_pages(self->map, SIZE);
	touch_pages(other, SIZE);
	/* A page that is on its way to some list cannot be moved yet. */
	WAIT_FOR((ret = advise(self->map + UNIT, page_size(), MADV_SOFT_OFFLINE)) != -EBUSY);
	if (ret == -EINVAL)
		SKIP(munmap(other, SIZE); return, "no MADV_SOFT_OFFLINE");
	EXPECT_EQ(0, ret);
	EXPECT_EQ(1, self->map[UNIT]);
	other[UNIT] = 2;
	EXPECT_EQ(2, self->map[UNIT]);
	EXPECT_EQ((long)(SIZE >> 10), mapping_kb(other, "PtShared"));
	munmap(other, SIZE);
}

TEST_F(file, stays_shared_when_no_more_is_to_be)
{
	char *other;

	sharing_set("never");
	EXPECT_TRUE(is_shared(self->map, SIZE));
	dirty_pages(self->map, SIZE);
	other = map_congruent(self->fd, SIZE, 0, RW);
	EXPECT_EQ(-EINVAL, advise(other, SIZE, MADV_PTSHARE));
	EXPECT_EQ(1, other[UNIT]);
	munmap(other, SIZE);
}

static long told_alignment(void)
{
	struct pgprotect_info info = { .size = sizeof(info) };
	int ctx = ctx_open();

	if (ctx_ioctl(ctx, PGPROTECT_IOC_INFO, &info))
		die("PGPROTECT_IOC_INFO");
	close(ctx);
	return info.ptshare_align;
}

TEST_F(file, has_an_alignment_that_is_told_if_any_is_to_be_shared)
{
	EXPECT_EQ((long)UNIT, told_alignment());
	sharing_set("always");
	EXPECT_EQ((long)UNIT, told_alignment());
	sharing_set("never");
	EXPECT_EQ(0, told_alignment());
	sharing_set("madvise");
}

/* In a file of a directory and a half; where the address differs from the offset. */
static size_t misplaced(size_t size, size_t offset, size_t align)
{
	int fd = memfd_make(3 * DIRECTORY / 2, 0);
	char *map = mmap(NULL, size, RW, MAP_SHARED, fd, offset);
	size_t by;

	if (map == MAP_FAILED)
		die("mmap");
	by = ((uintptr_t)map - offset) & (align - 1);
	munmap(map, size);
	close(fd);
	return by;
}

TEST_F(file, is_placed_where_it_can_be_shared)
{
	static const char *const modes[] = { "madvise", "always" };

	for (int i = 0; i < 2; i++) {
		sharing_set(modes[i]);
		EXPECT_EQ(0, misplaced(UNIT, 0, UNIT));
		EXPECT_EQ(0, misplaced(3 * UNIT, page_size(), UNIT));
		EXPECT_EQ(0, misplaced(DIRECTORY, 0, DIRECTORY));
		EXPECT_EQ(0, misplaced(3 * DIRECTORY / 2, 0, DIRECTORY));
		EXPECT_EQ(0, misplaced(7 * DIRECTORY / 4, DIRECTORY / 4, DIRECTORY));
		/* No directory is whole: units it is. */
		EXPECT_EQ(0, misplaced(DIRECTORY, UNIT + page_size(), UNIT));
	}
	sharing_set("madvise");
}

TEST_F(file, is_shared_unasked_with_always)
{
	char *other, *small;

	sharing_set("always");
	other = mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, other);
	EXPECT_TRUE(is_shared(other, SIZE));
	EXPECT_EQ(0, advise(other, SIZE, MADV_NOPTSHARE));
	EXPECT_TRUE(is_ordinary(other, SIZE));
	munmap(other, SIZE);
	other = mmap(NULL, SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, other);
	EXPECT_TRUE(is_shared(other, SIZE));
	dirty_pages(other, SIZE);
	munmap(other, SIZE);
	small = mmap(NULL, page_size(), RW, MAP_SHARED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, small);
	EXPECT_TRUE(is_ordinary(small, page_size()));
	munmap(small, page_size());
	sharing_set("madvise");
}

#define THP_SHMEM "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/shmem_enabled"

TEST_F(file, gets_huge_pages_rather_than_shared_tables_with_always)
{
	char *map;

	sharing_set("always");
	if (!write_text(THP_SHMEM, "always"))
		SKIP(return, "no huge pages");
	map = mmap(NULL, SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_TRUE(is_ordinary(map, SIZE));
	munmap(map, SIZE);
	/* Who advises must know. */
	map = map_congruent(self->fd, SIZE, 0, RW);
	EXPECT_EQ(0, advise(map, SIZE, MADV_PTSHARE));
	munmap(map, SIZE);
	EXPECT_TRUE(write_text(THP_SHMEM, "inherit"));
	sharing_set("madvise");
}

TEST_F(file, can_be_shared_only_where_it_suits)
{
	char *own = map_congruent(self->fd, SIZE, 0, RW);
	char *off, *private, *locked;

	EXPECT_EQ(-EINVAL, advise(own, UNIT / 2, MADV_PTSHARE));
	off = mmap(own, SIZE - UNIT, RW, MAP_SHARED | MAP_FIXED, self->fd, page_size());
	EXPECT_EQ(-EINVAL, advise(off, SIZE - UNIT, MADV_PTSHARE));
	private = mmap(own, SIZE, RW, MAP_PRIVATE | MAP_FIXED, self->fd, 0);
	EXPECT_EQ(-EINVAL, advise(private, SIZE, MADV_PTSHARE));
	locked = mmap(own, SIZE, RW, MAP_SHARED | MAP_FIXED | MAP_LOCKED, self->fd, 0);
	ASSERT_NE(MAP_FAILED, locked);
	EXPECT_EQ(-EINVAL, advise(locked, SIZE, MADV_PTSHARE));
	munmap(own, SIZE);
}

/* A segment of System V shared memory, attached twice. */
FIXTURE(segment) {
	int id;
	char *map[2];
	long hosts;
};

static unsigned long attachments(int id)
{
	struct shmid_ds ds;

	if (shmctl(id, IPC_STAT, &ds))
		die("IPC_STAT");
	return ds.shm_nattch;
}

FIXTURE_SETUP(segment)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	self->hosts = sharing_count("hosts");
	self->id = shmget(IPC_PRIVATE, SIZE, 0600);
	ASSERT_LE(0, self->id);
	for (int i = 0; i < 2; i++) {
		int fd = memfd_make(SIZE, 0);
		char *space = map_congruent(fd, SIZE, 0, RW);

		close(fd);
		self->map[i] = shmat(self->id, space, SHM_REMAP);
		ASSERT_EQ(space, self->map[i]);
		ASSERT_EQ(0, advise(space, SIZE, MADV_PTSHARE));
	}
}

FIXTURE_TEARDOWN(segment)
{
	shmdt(self->map[0]);
	shmdt(self->map[1]);
	EXPECT_EQ(0, attachments(self->id));
	EXPECT_EQ(0, shmctl(self->id, IPC_RMID, NULL));
	EXPECT_TRUE(WAIT_FOR(sharing_count("hosts") <= self->hosts));
}

/* A cut would show: a segment counts its mappings. */
TEST_F(file, segment_is_shared_unasked_as_a_whole_or_not_at_all)
{
	const size_t sizes[] = { SIZE, SIZE + page_size() };

	sharing_set("always");
	for (int i = 0; i < 2; i++) {
		int id = shmget(IPC_PRIVATE, sizes[i], 0600);
		char *map = shmat(id, NULL, 0);

		ASSERT_NE((char *)-1, map);
		EXPECT_EQ(1, attachments(id));
		EXPECT_EQ(i == 0, is_shared(map, sizes[i]));
		EXPECT_EQ(i == 1, is_ordinary(map, sizes[i]));
		dirty_pages(map, sizes[i]);
		EXPECT_EQ(0, shmdt(map));
		EXPECT_EQ(0, attachments(id));
		EXPECT_EQ(0, shmctl(id, IPC_RMID, NULL));
	}
	sharing_set("madvise");
}

TEST_F(file, is_shared_unasked_by_who_only_reads_and_may_write_later)
{
	char *map;

	sharing_set("always");
	map = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, self->fd, 0);
	sharing_set("madvise");
	ASSERT_NE(MAP_FAILED, map);
	EXPECT_TRUE(is_shared(map, SIZE));
	EXPECT_EQ(0, try_load(map));
	EXPECT_EQ(SIGSEGV, try_store(map, 1));
	EXPECT_EQ(-EFAULT, copy_to(getpid(), map, 1));
	ASSERT_EQ(0, mprotect(map, SIZE, PROT_READ | PROT_WRITE));
	EXPECT_TRUE(is_shared(map, SIZE));
	EXPECT_EQ(0, try_store(map, 1));
	munmap(map, SIZE);
}

TEST_F(segment, is_one_memory_with_one_set_of_tables)
{
	EXPECT_TRUE(is_shared(self->map[0], SIZE));
	EXPECT_TRUE(is_shared(self->map[1], SIZE));
	dirty_pages(self->map[0], SIZE);
	for (size_t at = 0; at < SIZE; at += page_size()) {
		ASSERT_EQ(1, self->map[1][at]);
	}
	EXPECT_EQ((long)(SIZE >> 10), mapping_kb(self->map[1], "PtShared"));
	EXPECT_EQ(0, advise(self->map[1], SIZE, MADV_NOPTSHARE));
	EXPECT_TRUE(is_ordinary(self->map[1], SIZE));
	EXPECT_EQ(1, self->map[1][SIZE - 1 - (SIZE - 1) % page_size()]);
}

static long op_stay_attached(struct writer *self)
{
	char *map = self->arg;

	map[1] = 'c';
	writer_checkpoint(self);
	return 0;
}

TEST_F(segment, counts_attachments_of_forked_children)
{
	struct writer *child;

	EXPECT_EQ(2, attachments(self->id));
	child = writer_fork(op_stay_attached, self->map[0]);
	writer_wait_ready(child);
	EXPECT_EQ(4, attachments(self->id));
	EXPECT_EQ('c', self->map[1][1]);
	writer_go(child);
	EXPECT_EQ(0, writer_join(child));
	EXPECT_EQ(2, attachments(self->id));
}

TEST_F(segment, is_detached_as_a_whole_and_in_parts)
{
	dirty_pages(self->map[0], SIZE);
	touch_pages(self->map[1], SIZE);
	ASSERT_EQ(0, shmdt(self->map[0]));
	EXPECT_EQ(1, attachments(self->id));
	EXPECT_EQ(SIGSEGV, try_load(self->map[0]));
	EXPECT_EQ(0, advise(self->map[1] + UNIT, page_size(), MADV_DONTFORK));
	EXPECT_TRUE(is_ordinary(self->map[1] + UNIT, UNIT));
	EXPECT_EQ(1, self->map[1][UNIT]);
	ASSERT_EQ(0, shmdt(self->map[1]));
	EXPECT_EQ(SIGSEGV, try_load(self->map[1]));
	EXPECT_EQ(SIGSEGV, try_load(self->map[1] + UNIT));
	EXPECT_EQ(SIGSEGV, try_load(self->map[1] + SIZE - 1));
	EXPECT_EQ(0, attachments(self->id));
}

TEST_HARNESS_MAIN
