/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Who wrote: events added up by process.
 */
#ifndef PGP_WRITERS_H
#define PGP_WRITERS_H

#include <linux/pgprotect.h>

#include "pageset.h"

#define NR_ORIGINS	10	/* one more than the last of enum pgprotect_origin */
#define COMM_SIZE	16

/*
 * @pages: the pages it asked for.
 * @first, @end: the bytes that its events span, over all files.
 * @origins: events by enum pgprotect_origin; [0] counts those newer than this.
 */
struct writer {
	uint32_t pid;
	char comm[COMM_SIZE];
	uint64_t events;
	struct pageset pages;
	uint64_t first;
	uint64_t end;
	uint64_t origins[NR_ORIGINS];
};

/* @pages: those of all writers. @last: where the search found one last. */
struct writers {
	struct writer *list;
	size_t nr;
	size_t room;
	size_t last;
	uint64_t events;
	struct pageset pages;
};

/* 0 or -ENOMEM. @file numbers the files, @page_size is that of offsets. */
int writers_add(struct writers *writers, const struct pgprotect_event *event,
		const char *comm, uint32_t file, uint32_t page_size);

/* Those with the most events first. */
void writers_sort(struct writers *writers);

void writers_free(struct writers *writers);

#endif /* PGP_WRITERS_H */
