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

/* Dirty only by stores: reclaim must not take the page for clean. */
TEST(content_written_by_stores_alone_survives_protect_and_reclaim)
{
	struct subject subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	uint64_t before;

	if (!have_swap())
		SKIP(return, "no swap");
	file_fill(&subject.file);
	before = checksum(subject.file.map, ROUTE_SIZE);
	ASSERT_EQ(0, ctx_protect_all(subject.ctx, subject.id));
	for (size_t i = 0; i < ROUTE_PAGES; i++)
		EXPECT_TRUE(swap_out(subject.file.map + i * PAGE, PAGE));
	EXPECT_EQ(before, checksum(subject.file.map, ROUTE_SIZE));
	EXPECT_EQ(before, checksum_fd(subject.file.fd, ROUTE_SIZE));
}

TEST_HARNESS_MAIN
