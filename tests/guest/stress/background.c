// SPDX-License-Identifier: GPL-2.0
/*
 * What goes on besides: the memory manager moves, swaps, merges and splits the pages,
 * mappings come and go, dirty pages are written back. None of it changes a byte.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/ptshare.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../routes/common/memory.h"
#include "background.h"
#include "route.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MPOL_F_NUMA_BALANCING
#define MPOL_F_NUMA_BALANCING (1 << 13)
#endif

#define CGROUP		"/sys/fs/cgroup/pgtest-oracle"
#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define SPLIT		"/sys/kernel/debug/split_huge_pages"
#define NUMA_DEBUG	"/sys/kernel/debug/sched/numa_balancing/"
/* Each frame taken out of use is lost until the next boot. */
#define MAX_OFFLINED	200

struct ground {
	struct run *run;
	struct seat *seat;
	unsigned int number;
	uint64_t random;
	unsigned int file;	/* of the turn */
	char *map[FILES];
	unsigned int offlined;
};

bool background_prepare(void)
{
	bool cgroup = write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory") &&
		      (!mkdir(CGROUP, 0755) || errno == EEXIST) &&
		      write_text(CGROUP "/cgroup.procs", "0");

	write_text(THP "khugepaged/scan_sleep_millisecs", "500");
	write_text(THP "khugepaged/alloc_sleep_millisecs", "500");
	write_text(NUMA_DEBUG "scan_delay_ms", "1");
	write_text(NUMA_DEBUG "scan_period_min_ms", "200");
	if (have_two_nodes())
		write_text("/proc/sys/kernel/numa_balancing", "1");
	return cgroup;
}

void background_hints(void)
{
	write_text(NUMA_DEBUG "scan_delay_ms", "1");
	write_text(NUMA_DEBUG "scan_period_min_ms", "1");
	write_text(NUMA_DEBUG "scan_period_max_ms", "20");
	write_text("/proc/sys/kernel/numa_balancing", "1");
}

void background_undo(void)
{
	if (have_two_nodes())
		write_text("/proc/sys/kernel/numa_balancing", "0");
	write_text("/sys/fs/cgroup/cgroup.procs", "0");
}

/* A page of records: reading one of the others would fill a hole. */
static char *some_page(struct ground *g)
{
	const struct layout *l = &g->run->layout;

	return g->map[g->file] + random_below(&g->random, l->runs) * g->run->unit;
}

static size_t some_size(struct ground *g, const char *from)
{
	size_t left = g->run->layout.tail * g->run->unit - (from - g->map[g->file]);
	size_t size = g->run->unit << random_below(&g->random, 7);

	return size < left ? size : left;
}

static void advise(struct ground *g, int advice)
{
	char *page = some_page(g);

	madvise(page, some_size(g, page), advice);
}

static void page_out(struct ground *g)
{
	advise(g, MADV_PAGEOUT);
}

static void discard(struct ground *g)
{
	advise(g, MADV_DONTNEED);
}

static void cool(struct ground *g)
{
	advise(g, MADV_COLD);
}

static void populate(struct ground *g)
{
	madvise(some_page(g), 16 * g->run->unit, MADV_POPULATE_READ);
}

static void reclaim(struct ground *g)
{
	char text[20];

	snprintf(text, sizeof(text), "%luK", 64UL << random_below(&g->random, 6));
	write_text(CGROUP "/memory.reclaim", text);
}

static void collapse(struct ground *g)
{
	madvise(g->map[g->file], HUGE, MADV_HUGEPAGE);
	madvise(g->map[g->file], HUGE, MADV_COLLAPSE);
}

static void split(struct ground *g)
{
	char text[80];

	snprintf(text, sizeof(text), "%d,%#lx,%#lx,0", getpid(), (long)g->map[g->file],
		 (long)g->map[g->file] + HUGE);
	write_text(SPLIT, text);
}

static void read_through(struct ground *g)
{
	volatile const char *page = some_page(g);
	size_t size = some_size(g, (const char *)page);

	for (size_t i = 0; i < size && i < g->run->layout.records * g->run->unit; i += 4096)
		(void)page[i];
}

static void read_all(struct ground *g)
{
	static unsigned char data[64 * 1024];

	for (uint64_t at = 0; at < g->run->layout.tail * g->run->unit; at += sizeof(data))
		model_read(g->run, g->file, at, sizeof(data), data, NULL);
}

static void migrate(struct ground *g)
{
	void *pages[16];
	int nodes[16], status[16];
	int node = random_below(&g->random, 2);

	if (!have_two_nodes())
		return;
	for (int i = 0; i < 16; i++) {
		pages[i] = some_page(g);
		nodes[i] = node;
		(void)*(volatile char *)pages[i];
	}
	syscall(SYS_move_pages, 0, 16, pages, nodes, status, MPOL_MF_MOVE_ALL);
}

static void soft_offline(struct ground *g)
{
	char *page = some_page(g);

	if (g->offlined++ >= MAX_OFFLINED || g->run->unit > 4096)
		return;
	(void)*(volatile char *)page;
	madvise(page, 4096, MADV_SOFT_OFFLINE);
}

static void compact(struct ground *g)
{
	write_text(random_one_in(&g->random, 2) ? "/sys/devices/system/node/node0/compact"
						: "/proc/sys/vm/compact_memory", "1");
}

static void protect_and_back(struct ground *g)
{
	mprotect(g->map[g->file], g->run->file[g->file].size, PROT_NONE);
	mprotect(g->map[g->file], g->run->file[g->file].size, PROT_READ);
	mprotect(g->map[g->file], g->run->file[g->file].size, PROT_READ | PROT_WRITE);
}

static void map_anew(struct ground *g)
{
	munmap(g->map[g->file], g->run->file[g->file].size);
	g->map[g->file] = map_aligned(g->run->file[g->file].fd, g->run->file[g->file].size);
}

/* Fails unless /sys/kernel/mm/ptshare/enabled allows it. */
static void share_tables(struct ground *g)
{
	madvise(g->map[g->file], g->run->file[g->file].size, MADV_PTSHARE);
	read_through(g);
}

static void fork_and_read(struct ground *g)
{
	pid_t pid = fork_child();

	if (!pid) {
		for (int i = 0; i < 16; i++)
			read_through(g);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void clear_dirty(struct ground *g)
{
	write_text("/proc/self/clear_refs", random_one_in(&g->random, 2) ? "4" : "1");
}

/* The scanner takes the entries of this mapping away, and a fault gives them back. */
static void hint(struct ground *g)
{
	unsigned long nodes = 3;

	syscall(SYS_mbind, g->map[g->file], g->run->file[g->file].size,
		MPOL_BIND | MPOL_F_NUMA_BALANCING, &nodes, 8 * sizeof(nodes), 0);
	for (int i = 0; i < 16; i++)
		read_through(g);
}

static void write_back(struct ground *g)
{
	int fd = g->run->file[g->file].fd;

	if (random_one_in(&g->random, 2))
		fsync(fd);
	else
		msync(g->map[g->file], g->run->layout.tail * g->run->unit, MS_SYNC);
}

static void drop_caches(struct ground *g)
{
	if (!g->run->choice->on_disk)
		return;
	fsync(g->run->file[g->file].fd);
	write_text("/proc/sys/vm/drop_caches", random_one_in(&g->random, 2) ? "1" : "3");
}

/* All that is in swap comes back. One process does this. */
static void swap_off_and_on(struct ground *g)
{
	char device[64];
	FILE *f = fopen("/proc/swaps", "re");
	bool found;

	if (!f)
		return;
	found = fscanf(f, "%*[^\n] %63s", device) == 1;
	fclose(f);
	if (found && !g->number && !swapoff(device) && swapon(device, 0))
		die("swapon %s", device);
}

static const struct {
	void (*way)(struct ground *g);
	unsigned int weight;
} ways[] = {
	{ page_out, 200 }, { discard, 100 }, { cool, 40 }, { populate, 100 },
	{ reclaim, 200 }, { collapse, 30 }, { split, 20 }, { read_through, 200 },
	{ read_all, 20 }, { migrate, 50 }, { soft_offline, 10 }, { compact, 2 },
	{ protect_and_back, 60 }, { map_anew, 60 }, { fork_and_read, 20 },
	{ clear_dirty, 20 }, { hint, 60 }, { write_back, 40 }, { drop_caches, 10 },
	{ share_tables, 60 }, { swap_off_and_on, 1 },
};

static void one_way(struct ground *g)
{
	uint64_t sum = 0, choice;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++)
		sum += ways[i].weight;
	choice = random_below(&g->random, sum);
	g->file = random_below(&g->random, FILES);
	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		if (choice < ways[i].weight) {
			ways[i].way(g);
			return;
		}
		choice -= ways[i].weight;
	}
}

void background_run(struct run *run, struct seat *seat, unsigned int number)
{
	struct ground *g = calloc(1, sizeof(*g));

	if (!g)
		die("memory for the background");
	g->run = run;
	g->seat = seat;
	g->number = number;
	g->random = random_seed(run, 4000 + number);
	for (unsigned int i = 0; i < FILES; i++)
		g->map[i] = map_aligned(run->file[i].fd, run->file[i].size);
	while (!run->stop) {
		one_way(g);
		seat->turns++;
	}
}
