// SPDX-License-Identifier: GPL-2.0
/* Asks and drives the memory manager through proc, sysfs and madvise. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
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
	char *place = mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *map = (char *)(((uintptr_t)place + HUGE - 1) & -HUGE);

	if (place == MAP_FAILED || munmap(place, size + HUGE) ||
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

bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
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
