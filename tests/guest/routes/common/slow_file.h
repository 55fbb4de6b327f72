/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file whose reads end when the test says so: what a disk does that takes its
 * time. A server of its own process answers for it, by FUSE, and dies with the test.
 */
#ifndef ROUTE_SLOW_FILE_H
#define ROUTE_SLOW_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct slow_file {
	int fd;		/* through the page cache */
	int direct;	/* O_DIRECT */
	size_t size;
	_Atomic uint32_t asked;		/* reads that have come */
	_Atomic bool answer;		/* reads may end from now on */
};

/* A file of @size bytes of ROUTE_VALUE, not answering yet; NULL: not possible. */
struct slow_file *slow_file_make(size_t size);

#endif
