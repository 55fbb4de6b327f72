// SPDX-License-Identifier: GPL-2.0
/* Asks and drives the memory manager through proc, sysfs and madvise. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory.h"
#include "pgtest.h"

#define HUGE_DIR	"/run/pgtest-huge"

int huge_tmpfs_file(size_t size)
{
	char name[] = HUGE_DIR "/file.XXXXXX";
	struct stat below, above;
	int fd;

	mkdir(HUGE_DIR, 0700);
	if (stat(HUGE_DIR, &below) || stat("/run", &above))
		return -1;
	/* Mounted by an earlier test, perhaps. */
	if (below.st_dev == above.st_dev &&
	    mount("tmpfs", HUGE_DIR, "tmpfs", 0, "huge=always"))
		return -1;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size))
		die("file on a huge tmpfs");
	unlink(name);
	return fd;
}

char *map_aligned(int fd, size_t size)
{
	const size_t unit = size < GIB ? HUGE : GIB;
	char *place = mmap(NULL, size + unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *map = (char *)(((uintptr_t)place + unit - 1) & -unit);

	if (place == MAP_FAILED || munmap(place, size + unit) ||
	    mmap(map, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != map)
		die("aligned mapping");
	return map;
}

long smaps_kb(const void *address, const char *field)
{
	unsigned long start, end, want = (uintptr_t)address;
	FILE *f = fopen("/proc/self/smaps", "r");
	size_t length = strlen(field);
	bool inside = false;
	char line[512];
	long kb = -1;

	if (!f)
		die("smaps");
	while (kb < 0 && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= want && want < end;
		else if (inside && !strncmp(line, field, length) && line[length] == ':')
			kb = atol(line + length + 1);
	}
	fclose(f);
	return kb;
}

uint64_t frame_of(const void *address)
{
	uint64_t entry;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)address / page_size() * 8) != 8)
		die("pagemap");
	close(fd);
	/* Bit 63: present; the low 55 bits: the frame. */
	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

bool set_shmem_folios(unsigned int kb, const char *value)
{
	char path[100];

	snprintf(path, sizeof(path),
		 "/sys/kernel/mm/transparent_hugepage/hugepages-%ukB/shmem_enabled", kb);
	return write_text(path, value);
}

bool have_swap(void)
{
	char line[256];
	FILE *f = fopen("/proc/swaps", "r");
	bool have = f && fgets(line, sizeof(line), f) && fgets(line, sizeof(line), f);

	if (f)
		fclose(f);
	return have;
}

bool have_two_nodes(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

bool swap_out(void *address, size_t length)
{
	unsigned char present;

	/* A page that is in some batch, or was just used, takes more than one call. */
	return WAIT_FOR(!madvise(address, length, MADV_PAGEOUT) &&
			!mincore(address, length, &present) && !(present & 1));
}

bool move_to_node(void *address, int node)
{
	int status = -1;

	if (syscall(SYS_move_pages, 0, 1, &address, &node, &status, MPOL_MF_MOVE_ALL))
		return false;
	return status == node;
}

int node_of_page(void *address)
{
	int status = -1;

	if (syscall(SYS_move_pages, 0, 1, &address, NULL, &status, 0))
		return -1;
	return status;
}

bool move_to_other_node(void *address)
{
	int node = node_of_page(address);

	return have_two_nodes() && node >= 0 && move_to_node(address, !node);
}

/* On the first CPU of this node. */
static bool run_on_node(int node)
{
	char path[60], list[64] = "";
	cpu_set_t set;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", node);
	f = fopen(path, "re");
	if (!f || !fgets(list, sizeof(list), f) || list[0] < '0' || list[0] > '9')
		return false;
	fclose(f);
	CPU_ZERO(&set);
	CPU_SET(atoi(list), &set);
	return !sched_setaffinity(0, sizeof(set), &set);
}

#define NUMA_DEBUG	"/sys/kernel/debug/sched/numa_balancing/"

/* Of all mappings only this one gets hints, as soon as the scanner looks. */
static bool start_numa_hints(char *map, size_t size)
{
	unsigned long nodes = 3;

	write_text(NUMA_DEBUG "scan_delay_ms", "1");
	write_text(NUMA_DEBUG "scan_period_min_ms", "1");
	write_text(NUMA_DEBUG "scan_period_max_ms", "100");
	return !syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 8 * sizeof(nodes)) &&
	       !syscall(SYS_mbind, map, size, MPOL_BIND | MPOL_F_NUMA_BALANCING, &nodes,
			8 * sizeof(nodes), 0) &&
	       write_text("/proc/sys/kernel/numa_balancing", "1");
}

static bool read_faults(volatile char *address)
{
	struct rusage before, after;

	getrusage(RUSAGE_THREAD, &before);
	(void)*address;
	getrusage(RUSAGE_THREAD, &after);
	return after.ru_minflt != before.ru_minflt;
}

/* Below DEADLINE_MS, with room for a slow kernel. */
#define HINTS_MS	12000

bool take_numa_hint(char *map, size_t size, volatile char *address)
{
	uint64_t end = now_ns() + HINTS_MS * 1000000ULL;
	bool hinted = false;

	(void)*address;
	if (!have_two_nodes() || !run_on_node(node_of_page((void *)address)) ||
	    !start_numa_hints(map, size))
		return false;
	/* Without a rest: the scanner looks at who runs. */
	while (!hinted && now_ns() < end)
		hinted = read_faults(address);
	write_text("/proc/sys/kernel/numa_balancing", "0");
	/* A hint may have come since. */
	(void)*address;
	return hinted;
}

/* Reads @nr words of a file of words, from this one on. */
static bool read_words(const char *path, uint64_t first, uint64_t *words, size_t nr)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool done = fd >= 0 && pread(fd, words, nr * 8, first * 8) == (ssize_t)(nr * 8);

	if (fd >= 0)
		close(fd);
	return done;
}

#define MAX_FOLIO	512		/* pages */
#define PRESENT(entry)	((entry) >> 63)
#define FRAME(entry)	((entry) & ((1ULL << 55) - 1))
#define TAIL(flags)	((flags) >> 16 & 1)

bool one_folio(char *map, size_t pages)
{
	uint64_t entries[MAX_FOLIO], flags[MAX_FOLIO];

	for (size_t i = 0; i < pages; i++)
		(void)*(volatile char *)(map + i * page_size());
	if (!read_words("/proc/self/pagemap", (uintptr_t)map / page_size(), entries, pages) ||
	    !PRESENT(entries[0]) || FRAME(entries[0]) % pages ||
	    !read_words("/proc/kpageflags", FRAME(entries[0]), flags, pages))
		return false;
	for (size_t i = 1; i < pages; i++)
		if (!PRESENT(entries[i]) || FRAME(entries[i]) != FRAME(entries[0]) + i ||
		    !TAIL(flags[i]))
			return false;
	return true;
}
