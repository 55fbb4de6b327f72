// SPDX-License-Identifier: GPL-2.0
/*
 * What the fuzzer's processes reach in the kernel, by KCOV: return addresses of
 * __sanitizer_cov_trace_pc(), one in each basic block of a directory that asks for it.
 * What works and interrupts do is not counted, as no process does it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcov.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define WORDS		(64UL << 10)	/* of one operation; more are lost */
#define TEXT		0xffffffff80000000ULL	/* where the kernel's code may begin */
#define TEXT_SIZE	(256UL << 20)

static unsigned char *seen;	/* a bit each address, of all processes */
static unsigned long *trace;	/* of this process; its first word counts */

bool coverage_prepare(void)
{
	if (access("/sys/kernel/debug/kcov", R_OK | W_OK))
		return false;
	seen = mmap(NULL, TEXT_SIZE / 8, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (seen == MAP_FAILED)
		die("memory for coverage");
	return true;
}

void coverage_begin(void)
{
	int fd;

	if (!seen)
		return;
	fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, KCOV_INIT_TRACE, WORDS))
		die("kcov");
	trace = mmap(NULL, WORDS * sizeof(*trace), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (trace == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		die("kcov");
}

void coverage_collect(void)
{
	unsigned long nr, at;

	if (!trace)
		return;
	nr = __atomic_load_n(&trace[0], __ATOMIC_RELAXED);
	for (unsigned long i = 1; i <= nr; i++) {
		at = trace[i] - TEXT;
		if (at < TEXT_SIZE)
			__atomic_fetch_or(&seen[at / 8], 1 << at % 8, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&trace[0], 0, __ATOMIC_RELAXED);
}

void coverage_write(const char *path)
{
	FILE *f = fopen(path, "w");

	for (unsigned long at = 0; f && at < TEXT_SIZE; at++)
		if (seen[at / 8] & 1 << at % 8)
			fprintf(f, "%llx\n", TEXT + at);
	if (!f || fclose(f))
		die("%s", path);
}
