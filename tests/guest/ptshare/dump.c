// SPDX-License-Identifier: GPL-2.0
/* A core dump has what a mapping with shared page tables would show, touched or not. */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE	(4 * UNIT)
#define RW	(PROT_READ | PROT_WRITE)
#define PATTERN	"/proc/sys/kernel/core_pattern"
#define CORE	"/dev/shm/pgtest.core"

static void set_pattern(const char *text, char *before, size_t size)
{
	int fd = open(PATTERN, O_RDWR | O_CLOEXEC);
	ssize_t got = before ? read(fd, before, size - 1) : 0;

	if (fd < 0 || got < 0 || lseek(fd, 0, SEEK_SET) ||
	    write(fd, text, strlen(text)) < 0)
		die(PATTERN);
	if (before)
		before[got] = 0;
	close(fd);
}

/* A byte of memory as the dump has it; -1: it does not. */
static int dumped(int core, const void *addr)
{
	uint64_t at = (uintptr_t)addr;
	unsigned char byte;
	Elf64_Ehdr head;
	Elf64_Phdr part;

	if (pread(core, &head, sizeof(head), 0) != sizeof(head))
		return -1;
	for (int i = 0; i < head.e_phnum; i++) {
		if (pread(core, &part, sizeof(part), head.e_phoff + i * sizeof(part)) !=
		    sizeof(part))
			return -1;
		if (part.p_type == PT_LOAD && at >= part.p_vaddr &&
		    at < part.p_vaddr + part.p_filesz)
			return pread(core, &byte, 1, part.p_offset + at - part.p_vaddr) == 1 ?
			       byte : -1;
	}
	return -1;
}

static void crash(const volatile char *map)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &limit);
	(void)map[0];
	abort();
}

TEST(core_dump_has_pages_that_only_others_have_touched)
{
	char before[256], *map, *other;
	int fd, core;
	pid_t pid;

	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	fd = memfd_make(SIZE, 0);
	other = map_guest(fd, SIZE, 0, RW, true);
	dirty_pages(other, SIZE);
	map = map_guest(fd, SIZE, 0, RW, true);
	set_pattern(CORE, before, sizeof(before));
	pid = fork_child();
	if (pid == 0)
		crash(map);
	EXPECT_TRUE(WCOREDUMP(wait_child(pid)));
	set_pattern(before, NULL, 0);
	core = open(CORE, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, core);
	EXPECT_EQ(1, dumped(core, map));
	EXPECT_EQ(1, dumped(core, map + page_size()));
	EXPECT_EQ(1, dumped(core, map + SIZE - page_size()));
	close(core);
	unlink(CORE);
	munmap(map, SIZE);
	munmap(other, SIZE);
	close(fd);
}

TEST_HARNESS_MAIN
