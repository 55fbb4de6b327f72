// SPDX-License-Identifier: GPL-2.0
/*
 * Who wrote: events added up by process.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "writers.h"

static struct writer *find(struct writers *writers, uint32_t pid, const char *comm)
{
	size_t i, at = writers->last;

	/* Writers come in runs: the one of last time is looked at first. */
	for (i = 0; i < writers->nr; i++, at++) {
		if (at >= writers->nr)
			at = 0;
		if (writers->list[at].pid == pid &&
		    !strncmp(writers->list[at].comm, comm, COMM_SIZE - 1)) {
			writers->last = at;
			return &writers->list[at];
		}
	}
	return NULL;
}

static struct writer *add(struct writers *writers, uint32_t pid, const char *comm)
{
	struct writer *new;

	if (writers->nr == writers->room) {
		size_t room = writers->room ? 2 * writers->room : 32;

		new = reallocarray(writers->list, room, sizeof(*new));
		if (!new)
			return NULL;
		writers->list = new;
		writers->room = room;
	}
	writers->last = writers->nr;
	new = &writers->list[writers->nr++];
	memset(new, 0, sizeof(*new));
	new->pid = pid;
	strncpy(new->comm, comm, COMM_SIZE - 1);
	new->first = UINT64_MAX;
	return new;
}

int writers_add(struct writers *writers, const struct pgprotect_event *event,
		const char *comm, uint32_t file, uint32_t page_size)
{
	uint64_t page = event->offset / page_size;
	uint64_t nr = event->length / page_size;
	struct writer *writer;

	writer = find(writers, event->pid, comm);
	if (!writer)
		writer = add(writers, event->pid, comm);
	if (!writer)
		return -ENOMEM;

	writers->events++;
	writer->events++;
	writer->origins[event->origin < NR_ORIGINS ? event->origin : 0]++;
	if (event->offset < writer->first)
		writer->first = event->offset;
	if (event->offset + event->length > writer->end)
		writer->end = event->offset + event->length;
	pageset_add(&writer->pages, file, page, nr);
	pageset_add(&writers->pages, file, page, nr);
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct writer *x = a, *y = b;

	if (x->events != y->events)
		return x->events > y->events ? -1 : 1;
	if (x->pid != y->pid)
		return x->pid < y->pid ? -1 : 1;
	return 0;
}

void writers_sort(struct writers *writers)
{
	if (writers->nr)
		qsort(writers->list, writers->nr, sizeof(*writers->list), compare);
	writers->last = 0;
}

void writers_free(struct writers *writers)
{
	size_t i;

	for (i = 0; i < writers->nr; i++)
		pageset_free(&writers->list[i].pages);
	free(writers->list);
	pageset_free(&writers->pages);
	*writers = (struct writers) {};
}
