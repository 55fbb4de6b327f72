// SPDX-License-Identifier: GPL-2.0
/* Those who go through the page tables of others unasked leave shared ones as they are. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE	(8 * UNIT)
#define PAGES	(SIZE / 4096)
#define RW	(PROT_READ | PROT_WRITE)
#define MSECS	1000
#define LIMIT	((long)PAGES / 8)

#ifndef MPOL_F_NUMA_BALANCING
#define MPOL_F_NUMA_BALANCING	(1 << 13)
#endif

#ifndef PAGEMAP_SCAN
/* Of linux/fs.h, since 6.7. */
#define PAGE_IS_FILE		(1 << 2)
#define PAGE_IS_PRESENT		(1 << 3)
#define PM_SCAN_WP_MATCHING	(1 << 0)
#define PM_SCAN_CHECK_WPASYNC	(1 << 1)

struct page_region {
	uint64_t start, end, categories;
};

struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define PAGEMAP_SCAN		_IOWR('f', 16, struct pm_scan_arg)
#endif

FIXTURE(walk) {
	int fd;
	char *map;
	char *witness;
};

FIXTURE_SETUP(walk)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	self->fd = memfd_make(SIZE, 0);
	self->map = map_guest(self->fd, SIZE, 0, RW, true);
	self->witness = map_guest(self->fd, SIZE, 0, RW, true);
	dirty_pages(self->witness, SIZE);
	touch_pages(self->map, SIZE);
}

static bool intact(const char *map)
{
	for (size_t at = 0; at < SIZE; at += page_size())
		if (map[at] != 1)
			return false;
	return true;
}

FIXTURE_TEARDOWN(walk)
{
	EXPECT_TRUE(is_shared(self->map, SIZE));
	EXPECT_EQ((long)(SIZE >> 10), mapping_kb(self->map, "PtShared"));
	EXPECT_EQ((long)(SIZE >> 10), mapping_kb(self->witness, "PtShared"));
	EXPECT_TRUE(intact(self->map));
	EXPECT_TRUE(intact(self->witness));
	munmap(self->map, SIZE);
	munmap(self->witness, SIZE);
	close(self->fd);
}

/* Uses the mapping for a while. Return: faults on the way. */
static long use(char *map)
{
	uint64_t end = now_ns() + MSECS * 1000000ULL;
	long faults = fault_count();

	do {
		for (size_t at = 0; at < SIZE; at += page_size())
			((volatile char *)map)[at] = 1;
	} while (now_ns() < end);
	return fault_count() - faults;
}

#define NUMA_DEBUG	"/sys/kernel/debug/sched/numa_balancing/"
#define NUMA_ENABLED	"/proc/sys/kernel/numa_balancing"

static bool bind_with_hints(char *map)
{
	unsigned long nodes = 3;

	return !syscall(SYS_mbind, map, SIZE, MPOL_BIND | MPOL_F_NUMA_BALANCING, &nodes,
			8 * sizeof(nodes), 0);
}

/* Each hint that was given would be a fault: until an ordinary mapping has had some. */
TEST_F(walk, of_numa_balancing_gives_no_hints)
{
	int fd = memfd_make(SIZE, 0);
	char *ordinary = map_guest(fd, SIZE, 0, RW, false);
	long faults = 0, hints = 0;

	use(ordinary);
	if (!write_text(NUMA_DEBUG "scan_delay_ms", "1") ||
	    !write_text(NUMA_DEBUG "scan_period_min_ms", "10") ||
	    !bind_with_hints(self->map) || !bind_with_hints(ordinary) ||
	    !write_text(NUMA_ENABLED, "1"))
		SKIP(return, "one node, or no NUMA balancing");
	EXPECT_TRUE(WAIT_FOR((faults = use(self->map), hints = use(ordinary)) > LIMIT));
	write_text(NUMA_ENABLED, "0");
	write_text(NUMA_DEBUG "scan_delay_ms", "1000");
	write_text(NUMA_DEBUG "scan_period_min_ms", "1000");
	EXPECT_GT(LIMIT, faults);
	TH_LOG("%ld faults, %ld of an ordinary mapping", faults, hints);
	munmap(ordinary, SIZE);
	close(fd);
}

#define LRU_GEN		"/sys/kernel/debug/lru_gen"
#define LRU_GEN_ENABLED	"/sys/kernel/mm/lru_gen/enabled"

/* Makes a new generation of each node of each cgroup. Return: how many. */
static int age_all(void)
{
	FILE *list = fopen(LRU_GEN, "r");
	unsigned int memcg = 0, node = 0;
	unsigned long seq = 0;
	char line[256], order[80];
	int made = 0;

	while (list) {
		bool more = fgets(line, sizeof(line), list);

		/* The last generation before another node is the youngest. */
		if (seq && (!more || strstr(line, "memcg") || strstr(line, "node"))) {
			snprintf(order, sizeof(order), "+%u %u %lu 1 1", memcg, node, seq);
			made += write_text(LRU_GEN, order);
			seq = 0;
		}
		if (!more)
			break;
		if (sscanf(line, " memcg %u", &memcg) != 1 && sscanf(line, " node %u", &node) != 1)
			sscanf(line, " %lu", &seq);
	}
	if (list)
		fclose(list);
	return made;
}

TEST_F(walk, of_generations_leaves_links)
{
	if (!write_text(LRU_GEN_ENABLED, "0x7"))
		SKIP(return, "no generations");
	for (int i = 0; i < 4; i++) {
		EXPECT_LT(0, age_all());
		use(self->map);
	}
	write_text(LRU_GEN_ENABLED, "0");
}

#define DAMON	"/sys/kernel/mm/damon/admin/kdamonds/"

#define CONTEXT	DAMON "0/contexts/0/"
#define SCHEME	CONTEXT "schemes/0/"

static bool write_number(const char *path, unsigned long number)
{
	char text[24];

	snprintf(text, sizeof(text), "%lu", number);
	return write_text(path, text);
}

/* To watch the mapping, and to count what was accessed in it. False: there is no DAMON. */
static bool damon_begin(const char *map)
{
	return write_text(DAMON "nr_kdamonds", "1") &&
	       write_text(DAMON "0/contexts/nr_contexts", "1") &&
	       write_text(CONTEXT "operations", "fvaddr") &&
	       write_text(CONTEXT "targets/nr_targets", "1") &&
	       write_number(CONTEXT "targets/0/pid_target", getpid()) &&
	       write_text(CONTEXT "targets/0/regions/nr_regions", "1") &&
	       write_number(CONTEXT "targets/0/regions/0/start", (uintptr_t)map) &&
	       write_number(CONTEXT "targets/0/regions/0/end", (uintptr_t)map + SIZE) &&
	       write_text(CONTEXT "schemes/nr_schemes", "1") &&
	       write_text(SCHEME "action", "stat") &&
	       write_number(SCHEME "access_pattern/sz/max", SIZE) &&
	       write_text(SCHEME "access_pattern/nr_accesses/min", "1") &&
	       write_text(SCHEME "access_pattern/nr_accesses/max", "1000") &&
	       write_number(SCHEME "access_pattern/age/max", UINT32_MAX) &&
	       write_text(DAMON "0/state", "on");
}

/* Bytes that were found accessed so far. */
static unsigned long damon_found(void)
{
	unsigned long bytes = 0;
	FILE *f;

	if (!write_text(DAMON "0/state", "update_schemes_stats"))
		return 0;
	f = fopen(SCHEME "stats/sz_tried", "r");
	if (f && fscanf(f, "%lu", &bytes) != 1)
		bytes = 0;
	if (f)
		fclose(f);
	return bytes;
}

TEST_F(walk, of_damon_finds_accesses_and_leaves_links)
{
	if (!damon_begin(self->map))
		SKIP(return, "no DAMON");
	EXPECT_TRUE(WAIT_FOR((use(self->map), damon_found()) > 0));
	EXPECT_TRUE(write_text(DAMON "0/state", "off"));
	EXPECT_TRUE(write_text(DAMON "nr_kdamonds", "0"));
}

#define KSM	"/sys/kernel/mm/ksm/"

static long ksm_number(const char *path)
{
	FILE *f = fopen(path, "r");
	long number = 0;

	if (!f || fscanf(f, "%ld", &number) != 1)
		die("%s", path);
	fclose(f);
	return number;
}

#define OWN	(64 * page_size())

/* Until private pages, of the same content, have been merged. */
TEST_F(walk, of_ksm_merges_nothing)
{
	char *own = mmap(NULL, OWN, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!write_text(KSM "run", "1"))
		SKIP(return, "no KSM");
	write_text(KSM "sleep_millisecs", "1");
	ASSERT_NE(MAP_FAILED, own);
	memset(own, 'k', OWN);
	EXPECT_EQ(0, advise(own, OWN, MADV_MERGEABLE));
	EXPECT_EQ(0, advise(self->map, SIZE, MADV_MERGEABLE));
	EXPECT_TRUE(WAIT_FOR(ksm_number(KSM "pages_sharing") > 0));
	EXPECT_GT(LIMIT, use(self->map));
	EXPECT_GE(64, ksm_number(KSM "pages_sharing") + ksm_number(KSM "pages_shared"));
	write_text(KSM "sleep_millisecs", "20");
	EXPECT_TRUE(write_text(KSM "run", "2"));
	EXPECT_TRUE(write_text(KSM "run", "0"));
	munmap(own, OWN);
}

TEST_F(walk, of_pagemap_scan_tells_and_protects_nothing)
{
	struct page_region regions[4];
	struct pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = (uintptr_t)self->map,
		.end = (uintptr_t)self->map + SIZE,
		.vec = (uintptr_t)regions,
		.vec_len = ARRAY_LEN(regions),
		.category_mask = PAGE_IS_PRESENT,
		.return_mask = PAGE_IS_PRESENT | PAGE_IS_FILE,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY);

	ASSERT_LE(0, fd);
	EXPECT_EQ(1, ioctl(fd, PAGEMAP_SCAN, &scan));
	EXPECT_EQ(scan.start, regions[0].start);
	EXPECT_EQ(scan.end, regions[0].end);
	EXPECT_EQ(PAGE_IS_PRESENT | PAGE_IS_FILE, regions[0].categories);
	scan.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
	EXPECT_EQ(-1, ioctl(fd, PAGEMAP_SCAN, &scan));
	EXPECT_EQ(EPERM, errno);
	/* As on any mapping that is not registered: skipped. */
	scan.flags = PM_SCAN_WP_MATCHING;
	EXPECT_EQ(0, ioctl(fd, PAGEMAP_SCAN, &scan));
	EXPECT_EQ(0, try_store(self->map, 1));
	close(fd);
}

static long op_touch_and_wait(struct writer *self)
{
	char *map = self->arg;

	touch_pages(map, SIZE);
	writer_checkpoint(self);
	return 0;
}

/* What the OOM reaper does to a victim, which a debugger keeps from ending meanwhile. */
TEST_F(walk, of_the_reaper_leaves_what_is_shared)
{
	struct writer *victim = writer_fork(op_touch_and_wait, self->map);
	const int at_exit = SIGTRAP | PTRACE_EVENT_EXIT << 8;
	int pidfd, status;

	writer_wait_ready(victim);
	pidfd = syscall(SYS_pidfd_open, victim->pid, 0);
	ASSERT_LE(0, pidfd);
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, victim->pid, NULL, (void *)PTRACE_O_TRACEEXIT));
	ASSERT_EQ(0, syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0));
	ASSERT_EQ(victim->pid, waitpid(victim->pid, &status, 0));
	ASSERT_EQ(at_exit, status >> 8);
	EXPECT_EQ(0, syscall(SYS_process_mrelease, pidfd, 0));
	EXPECT_TRUE(intact(self->map));
	ASSERT_EQ(0, ptrace(PTRACE_CONT, victim->pid, NULL, NULL));
	writer_wait(victim);
	close(pidfd);
	EXPECT_GT(LIMIT, use(self->map));
}

TEST_HARNESS_MAIN
