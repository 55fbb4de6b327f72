// SPDX-License-Identifier: GPL-2.0
/*
 * Page-table entries that the memory manager makes anew: after swapping, after
 * migration, after a NUMA hint, in a forked child. Each must come back protected,
 * on a page of the same content.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

static long store_after_compaction(struct attempt *attempt)
{
	route_ready(attempt);
	for (int i = 0; i < 3; i++)
		if (!write_text("/proc/sys/vm/compact_memory", "1"))
			return ROUTE_SKIP;
	check_content(attempt);
	return store_at(attempt, attempt->file.map);
}

static long vmstat(const char *name)
{
	FILE *f = fopen("/proc/vmstat", "r");
	char key[64];
	long value, found = -1;

	while (f && fscanf(f, "%63s %ld", key, &value) == 2)
		if (!strcmp(key, name))
			found = value;
	if (f)
		fclose(f);
	return found;
}

static void run_on_last_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/* The scanner looks at a task now and then only; well below DEADLINE_MS. */
#define HINTS_MS	8000

/* Entries become inaccessible, and a fault makes them what they were. */
static long store_after_numa_hint(struct attempt *attempt)
{
	long faults;

	if (!have_two_nodes() || !write_text("/proc/sys/kernel/numa_balancing", "1"))
		return ROUTE_SKIP;
	write_text("/sys/kernel/debug/sched/numa_balancing/scan_delay_ms", "1");
	write_text("/sys/kernel/debug/sched/numa_balancing/scan_period_min_ms", "1");
	run_on_last_cpu();
	route_ready(attempt);
	faults = vmstat("numa_hint_faults");
	if (HOLDS_FOR(HINTS_MS, (check_content(attempt), vmstat("numa_hint_faults") <= faults + 8)))
		return ROUTE_SKIP;
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

static int register_with_fork_event(char *map, size_t size)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_EVENT_FORK,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map, .len = size },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd with fork events");
	return uffd;
}

static void *read_fork_event(void *arg)
{
	struct uffd_msg msg;

	if (read(*(int *)arg, &msg, sizeof(msg)) != sizeof(msg) ||
	    msg.event != UFFD_EVENT_FORK)
		die("no fork event");
	return NULL;
}

/*
 * For a child that keeps userfaultfd the entries are copied, a large folio's in
 * one batch, which is made writable if any of them is.
 */
TEST(fork_copies_no_writable_entry_of_a_protected_page_in_a_large_folio)
{
	struct subject s = { .file = { .fd = memfd_make(HUGE, 0), .size = HUGE } };
	const uint64_t page = 20 * PAGE;
	pthread_t reader;
	pid_t pid;
	int uffd;

	if (!set_shmem_folios(64, "always"))
		SKIP(return, "no 64 kB folios");
	s.file.map = map_aligned(s.file.fd, HUGE);
	uffd = register_with_fork_event(s.file.map, HUGE);
	memset(s.file.map, 'a', HUGE);
	set_shmem_folios(64, "never");
	s.ctx = ctx_open();
	s.id = ctx_attach(s.ctx, s.file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_range(s.ctx, s.id, page, PAGE));
	ASSERT_EQ(0, pthread_create(&reader, NULL, read_fork_event, &uffd));
	pid = fork_child();
	if (!pid)
		_exit((store_byte(s.file.map + page, 'w') == GOT_SIGBUS ? 0 : 1) +
		      (store_byte(s.file.map + page + PAGE, 'w') ? 2 : 0));
	EXPECT_EQ(0, wait_child(pid));
	EXPECT_EQ('a', s.file.map[page]);
	pthread_join(reader, NULL);
}

TEST_HARNESS_MAIN
