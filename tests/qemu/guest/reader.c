// SPDX-License-Identifier: GPL-2.0
/*
 * In the guest: reads a disk into memory, block by block, past the page cache.
 *
 * Read number n puts block n mod DISK_BLOCKS into page n mod PAGES. Before that, the page
 * must hold what read n - PAGES put there; this program itself never writes to it. If it
 * holds anything else, memory is not that of one moment: it has what the disk's back end
 * stored after the time that n is of.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "disk.h"

#define PAGES	128

static uint64_t buffer[PAGES][WORDS] __attribute__((aligned(BLOCK)));

static void say(const char *format, ...)
{
	char line[160];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (write(STDOUT_FILENO, line, length) != length)
		_exit(1);
}

/* Says what is wrong with a page that read number @n filled. */
static int page_wrong(uint64_t n)
{
	const uint64_t *page = buffer[n % PAGES];
	uint64_t block = n % DISK_BLOCKS;

	for (size_t i = 0; i < WORDS; i++) {
		if (page[i] == disk_word(block, i))
			continue;
		say("reader: TORN page %u word %u is of block %u not %u\n",
		    (unsigned int)(n % PAGES), (unsigned int)i, (unsigned int)(page[i] >> 32),
		    (unsigned int)block);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	uint64_t n;
	int fd;

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDONLY | O_DIRECT);
	if (fd < 0) {
		say("reader: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	for (n = 0;; n++) {
		if (n >= PAGES && page_wrong(n - PAGES))
			return 1;
		if (n && n % PAGES == 0)
			say("reader: round %u whole\n", (unsigned int)(n / PAGES));
		if (pread(fd, buffer[n % PAGES], BLOCK, n % DISK_BLOCKS * BLOCK) != BLOCK) {
			say("reader: read %u: %s\n", (unsigned int)n, strerror(errno));
			return 1;
		}
	}
}
