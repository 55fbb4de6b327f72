// SPDX-License-Identifier: GPL-2.0
/*
 * Page-table entries that the memory manager makes anew: after swapping, after
 * migration, after a NUMA hint, in a forked child. Each must come back protected,
 * on a page of the same content.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/memory.h"
#include "common/route.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

static char *page_of(struct attempt *attempt)
{
	return attempt->file.map + (attempt->at & -PAGE);
}

/* The page holds what file_fill() put there, wherever it is now. */
static void check_content(struct attempt *attempt)
{
	volatile char *page = page_of(attempt);
	char want = (char)((attempt->at / PAGE + 1) & 0xff);

	for (size_t i = 0; i < PAGE; i++)
		if (page[i] != want)
			die("byte %zu of the page is %d", i, page[i]);
}

static long store_on_swapped_page(struct attempt *attempt)
{
	if (!have_swap())
		return ROUTE_SKIP;
	route_ready(attempt);
	if (!swap_out(page_of(attempt), PAGE))
		die("the page does not leave memory");
	return store_at(attempt, attempt->file.map);
}

static long store_after_swap_in(struct attempt *attempt)
{
	if (!have_swap())
		return ROUTE_SKIP;
	route_ready(attempt);
	if (!swap_out(page_of(attempt), PAGE))
		die("the page does not leave memory");
	check_content(attempt);
	return store_at(attempt, attempt->file.map);
}

static long store_on_page_swapped_before(struct attempt *attempt)
{
	if (!have_swap() || !swap_out(page_of(attempt), PAGE))
		return ROUTE_SKIP;
	route_ready(attempt);
	return store_at(attempt, attempt->file.map);
}

static long write_on_swapped_page(struct attempt *attempt)
{
	char value = ROUTE_VALUE;

	if (!have_swap())
		return ROUTE_SKIP;
	route_ready(attempt);
	if (!swap_out(page_of(attempt), PAGE))
		die("the page does not leave memory");
	return pwrite_bytes(attempt->file.fd, &value, 1, attempt->at);
}

#define CGROUP	"/sys/fs/cgroup/pgtest"

/* From now on what the process allocates can be reclaimed by name. */
static bool join_cgroup(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	return write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory") &&
	       (!mkdir(CGROUP, 0755) || errno == EEXIST) &&
	       write_text(CGROUP "/cgroup.procs", pid);
}

static bool resident(void *page)
{
	unsigned char present = 0;

	if (mincore(page, PAGE, &present))
		die("mincore");
	return present & 1;
}

/* Reclaim takes what several processes have mapped, which MADV_PAGEOUT leaves. */
static long store_after_reclaim(struct attempt *attempt)
{
	if (!have_swap() || !join_cgroup())
		return ROUTE_SKIP;
	if (fallocate(attempt->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, ROUTE_SIZE))
		die("empty the file");
	file_fill(&attempt->file);
	route_ready(attempt);
	/* It may reclaim less than asked for, and says so by an error. */
	if (!WAIT_FOR(!resident(page_of(attempt)) ||
		      (write_text(CGROUP "/memory.reclaim", "256K"), false)))
		die("the page is not reclaimed");
	check_content(attempt);
	return store_at(attempt, attempt->file.map);
}

/* The first swap device; false: none. */
static bool swap_device(char name[64])
{
	FILE *f = fopen("/proc/swaps", "re");
	bool found;

	if (!f)
		return false;
	found = fscanf(f, "%*[^\n] %63s", name) == 1;
	fclose(f);
	return found;
}

/* There is nowhere for the page to go. What was to be reclaimed lost its entry, perhaps. */
static long store_after_reclaim_without_swap(struct attempt *attempt)
{
	char device[64];
	bool have = swap_device(device);

	if (!join_cgroup())
		return ROUTE_SKIP;
	if (fallocate(attempt->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, ROUTE_SIZE))
		die("empty the file");
	file_fill(&attempt->file);
	if (have && swapoff(device))
		die("swapoff of %s", device);
	route_ready(attempt);
	for (int i = 0; i < 3; i++) {
		write_text(CGROUP "/memory.reclaim", "256K");
		madvise(attempt->file.map, ROUTE_SIZE, MADV_PAGEOUT);
	}
	if (!resident(page_of(attempt)))
		die("the page has left memory");
	if (have && swapon(device, 0))
		die("swapon of %s", device);
	check_content(attempt);
	return store_at(attempt, attempt->file.map);
}

static long store_after_move(struct attempt *attempt)
{
	if (!have_two_nodes() || !move_to_node(page_of(attempt), 0))
		return ROUTE_SKIP;
	route_ready(attempt);
	if (!move_to_node(page_of(attempt), 1))
		die("the page does not move");
	check_content(attempt);
	return store_at(attempt, attempt->file.map);
}

/* One node is enough to move a page: off a frame that is to be taken out of use. */
static long store_after_soft_offline(struct attempt *attempt)
{
	uint64_t before = frame_of(page_of(attempt));

	route_ready(attempt);
	if (!before || madvise(page_of(attempt), PAGE, MADV_SOFT_OFFLINE))
		return ROUTE_SKIP;
	if (frame_of(page_of(attempt)) == before)
		die("the page has not moved");
	check_content(attempt);
	return store_at(attempt, attempt->file.map);
}

static void punch_page(int fd, uint64_t at)
{
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, PAGE))
		die("punch");
}

#define FRAGMENTED	(4UL << 20)
#define ZONE(frame)	((frame) >> 20 != 0)	/* two of x86-64 meet at 4 GiB */
#define CPU_LISTS	"/proc/sys/vm/percpu_pagelist_high_fraction"

/*
 * Compaction moves pages from the start of a zone to gaps towards its end. This
 * leaves gaps all over some memory, at the front of which the page gets its frame:
 * one that was just freed is used next. Afterwards the CPUs keep no free pages for
 * themselves: compaction does not see these.
 */
static void leave_gaps_behind(struct attempt *attempt)
{
	int fd = memfd_make(FRAGMENTED, 0);
	char *map = map_shared(fd, FRAGMENTED);
	size_t place = FRAGMENTED / 2;
	uint64_t frame, lowest;

	memset(map, 1, FRAGMENTED);
	lowest = frame_of(map + place);
	for (size_t at = 0; at < FRAGMENTED; at += 16 * PAGE) {
		frame = frame_of(map + at);
		if (ZONE(frame) == ZONE(lowest) && frame < lowest) {
			lowest = frame;
			place = at;
		}
	}
	punch_page(attempt->file.fd, attempt->at & -PAGE);
	punch_page(fd, place);
	memset(page_of(attempt), (int)(attempt->at / PAGE + 1), PAGE);
	munmap(map, FRAGMENTED);
	write_text(CPU_LISTS, "100000");
	for (size_t at = 0; at < FRAGMENTED; at += 2 * PAGE)
		punch_page(fd, at);
	write_text(CPU_LISTS, "0");
}

static long store_after_compaction(struct attempt *attempt)
{
	uint64_t before;

	leave_gaps_behind(attempt);
	before = frame_of(page_of(attempt));
	route_ready(attempt);
	for (int i = 0; i < 3 && frame_of(page_of(attempt)) == before; i++)
		if (!write_text("/proc/sys/vm/compact_memory", "1"))
			return ROUTE_SKIP;
	check_content(attempt);
	if (frame_of(page_of(attempt)) == before)
		return ROUTE_SKIP;
	return store_at(attempt, attempt->file.map);
}

/* Entries become inaccessible, and a fault makes them what they were. */
static long store_after_numa_hint(struct attempt *attempt)
{
	if (!have_two_nodes())
		return ROUTE_SKIP;
	route_ready(attempt);
	if (!take_numa_hint(attempt->file.map, ROUTE_SIZE, page_of(attempt)))
		return ROUTE_SKIP;
	check_content(attempt);
	return store_at(attempt, attempt->file.map);
}

/* All that is in swap comes back, by nobody's fault. */
static long store_after_swapoff(struct attempt *attempt)
{
	char device[64];

	if (!swap_device(device))
		return ROUTE_SKIP;
	route_ready(attempt);
	if (!swap_out(page_of(attempt), PAGE))
		die("the page does not leave memory");
	if (swapoff(device) || swapon(device, 0))
		die("swapoff and swapon of %s", device);
	check_content(attempt);
	return store_at(attempt, attempt->file.map);
}

ROUTE_FAMILY(installer);

#define INSTALL(name, function, ...)						\
	ROUTE_ADD(installer, name, .op = function, .denied = GOT_SIGBUS, .thread = true,	\
		  ##__VA_ARGS__)

INSTALL(store_on_swapped_page, store_on_swapped_page)
INSTALL(store_after_swap_in, store_after_swap_in)
INSTALL(store_after_swap_in_of_tmpfs, store_after_swap_in, .kind = FILE_TMPFS)
INSTALL(store_after_swap_in_of_sysv_shm, store_after_swap_in, .kind = FILE_SYSV)
INSTALL(store_on_page_swapped_before_protect, store_on_page_swapped_before)
INSTALL(store_after_move_pages, store_after_move)
INSTALL(store_after_soft_offline, store_after_soft_offline)
INSTALL(store_after_soft_offline_of_tmpfs, store_after_soft_offline, .kind = FILE_TMPFS)
INSTALL(store_after_soft_offline_of_sysv_shm, store_after_soft_offline, .kind = FILE_SYSV)
INSTALL(store_after_compaction, store_after_compaction)
INSTALL(store_after_numa_hint, store_after_numa_hint)
INSTALL(store_after_swapoff, store_after_swapoff)
ROUTE_ADD(installer, write_on_swapped_page, .op = write_on_swapped_page, .success = 1,
	  .denied = -EPERM, .origin = PGPROTECT_ORIGIN_WRITE, .thread = true)
ROUTE_ADD(installer, store_after_cgroup_reclaim, .op = store_after_reclaim,
	  .denied = GOT_SIGBUS)
ROUTE_ADD(installer, store_after_reclaim_without_swap, .op = store_after_reclaim_without_swap,
	  .denied = GOT_SIGBUS)

static bool swap_all_out(const struct test_file *file)
{
	bool out = true;

	for (size_t at = 0; at < file->size; at += PAGE)
		out &= swap_out(file->map + at, PAGE);
	return out;
}

/* An entry made for a read is writable; a store by it leaves its trace nowhere else. */
TEST(content_written_by_stores_alone_survives_protect_and_reclaim)
{
	struct subject s = { .ctx = ctx_open() };
	uint64_t before;

	if (!have_swap())
		SKIP(return, "no swap");
	s.file.size = ROUTE_SIZE;
	s.file.fd = memfd_make(ROUTE_SIZE, 0);
	s.file.map = map_shared(s.file.fd, ROUTE_SIZE);
	s.id = ctx_attach(s.ctx, s.file.fd, PGPROTECT_MODE_STALL, 0);
	for (size_t at = 0; at < ROUTE_SIZE; at += PAGE)
		ASSERT_EQ(0, *(volatile char *)(s.file.map + at));
	for (size_t at = 0; at < ROUTE_SIZE; at += PAGE)
		s.file.map[at] = (char)(at / PAGE + 1);
	before = checksum(s.file.map, ROUTE_SIZE);
	ASSERT_EQ(0, ctx_protect_all(s.ctx, s.id));
	ASSERT_TRUE(swap_all_out(&s.file));
	EXPECT_EQ(before, checksum(s.file.map, ROUTE_SIZE));
	EXPECT_EQ(before, checksum_fd(s.file.fd, ROUTE_SIZE));
	subject_close(&s);
}

static long op_swapoff_and_on(struct writer *self)
{
	const char *device = self->arg;

	writer_checkpoint(self);
	return swapoff(device) || swapon(device, 0) ? -errno : 0;
}

/* Who brings a page back needs neither it nor its file from who waits for it. */
TEST(swapoff_ends_while_writers_wait_for_pages_that_are_swapped_out)
{
	struct subject s = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	struct access store = { .map = s.file.map, .offset = ROUTE_AT, .value = ROUTE_VALUE };
	struct access write = { .fd = s.file.fd, .offset = 9 * PAGE, .value = ROUTE_VALUE };
	struct writer *swapper, *writers[2];
	struct image image;
	char device[64];

	if (!swap_device(device))
		SKIP(return, "no swap");
	file_fill(&s.file);
	image_read(s.file.fd, &image);
	swapper = writer_fork(op_swapoff_and_on, device);
	writer_wait_ready(swapper);
	ASSERT_EQ(0, ctx_protect_all(s.ctx, s.id));
	ASSERT_TRUE(swap_all_out(&s.file));
	writers[0] = writer_thread(op_store, &store);
	writers[1] = writer_fork(op_pwrite, &write);
	ASSERT_TRUE(ctx_wait_stalled(s.ctx, 2));
	EXPECT_FALSE(resident(s.file.map + (ROUTE_AT & -PAGE)));
	EXPECT_FALSE(resident(s.file.map + 9 * PAGE));
	writer_go(swapper);
	EXPECT_TRUE(WAIT_FOR(writer_done(swapper)));
	EXPECT_TRUE(resident(s.file.map + (ROUTE_AT & -PAGE)));
	EXPECT_TRUE(writer_stalled(writers[0]));
	EXPECT_TRUE(writer_stalled(writers[1]));
	EXPECT_TRUE(image_is(s.file.fd, &image));
	EXPECT_EQ(0, ctx_unprotect_all(s.ctx, s.id));
	EXPECT_EQ(0, writer_join(writers[0]));
	EXPECT_EQ(1, writer_join(writers[1]));
	EXPECT_EQ(0, writer_join(swapper));
	image.data[ROUTE_AT] = image.data[9 * PAGE] = ROUTE_VALUE;
	EXPECT_TRUE(image_is(s.file.fd, &image));
	image_free(&image);
	subject_close(&s);
}

/* What the memory manager does to a page in its life, all of it to a protected one. */
TEST(page_reclaimed_read_and_collapsed_raises_one_event_when_it_is_stored_to)
{
	struct subject s = { .ctx = ctx_open(), .file = { memfd_make(HUGE, 0), .size = HUGE } };
	struct access store = { .offset = ROUTE_AT, .value = ROUTE_VALUE };
	struct pgprotect_event event;
	struct writer *writer;
	uint64_t before;

	if (!have_swap())
		SKIP(return, "no swap");
	store.map = s.file.map = map_aligned(s.file.fd, HUGE);
	file_fill(&s.file);
	before = checksum(s.file.map, HUGE);
	s.id = ctx_attach(s.ctx, s.file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(s.ctx, s.id));
	madvise(s.file.map, HUGE, MADV_PAGEOUT);
	ASSERT_TRUE(swap_all_out(&s.file));
	EXPECT_EQ(before, checksum(s.file.map, HUGE));
	/* Fails in the end: no huge entry for pages that are protected. */
	madvise(s.file.map, HUGE, MADV_COLLAPSE);
	if (!one_folio(s.file.map, HUGE / PAGE))
		SKIP(return, "MADV_COLLAPSE makes no huge page");
	EXPECT_EQ(before, checksum(s.file.map, HUGE));
	EXPECT_FALSE(ctx_readable(s.ctx, 0));

	writer = writer_fork(op_store, &store);
	ASSERT_EQ(1, ctx_next(s.ctx, &event, 1, 1));
	EXPECT_EQ(ROUTE_AT & -PAGE, event.offset);
	EXPECT_EQ(PAGE, event.length);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(before, checksum(s.file.map, HUGE));
	EXPECT_EQ(0, ctx_verdict(s.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_FALSE(ctx_readable(s.ctx, 0));
	EXPECT_EQ(ROUTE_VALUE, s.file.map[ROUTE_AT]);
	/* That byte, and no other. */
	s.file.map[ROUTE_AT] = (char)(ROUTE_AT / PAGE + 1);
	EXPECT_EQ(before, checksum(s.file.map, HUGE));
	subject_close(&s);
}

TEST_HARNESS_MAIN
