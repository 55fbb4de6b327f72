// SPDX-License-Identifier: GPL-2.0
/*
 * A growing list of file ranges.
 */
#include <errno.h>
#include <stdlib.h>

#include "ranges.h"

int ranges_add(struct ranges *ranges, __u32 file, __u64 offset, __u64 length)
{
	struct pgprotect_range *last = NULL, *bigger;

	if (ranges->nr)
		last = &ranges->list[ranges->nr - 1];
	/* Most writers go forward: saves the room rather than the sorting. */
	if (last && last->file == file && last->offset + last->length == offset &&
	    length != PGPROTECT_TO_EOF && last->length != PGPROTECT_TO_EOF) {
		last->length += length;
		return 0;
	}
	if (ranges->nr == ranges->room) {
		size_t room = ranges->room ? 2 * ranges->room : 256;

		bigger = reallocarray(ranges->list, room, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		ranges->list = bigger;
		ranges->room = room;
	}
	ranges->list[ranges->nr++] = (struct pgprotect_range) {
		.file = file, .offset = offset, .length = length,
	};
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct pgprotect_range *x = a, *y = b;

	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return 0;
}

/* A length may be PGPROTECT_TO_EOF: the end saturates and stays so. */
static __u64 range_end(const struct pgprotect_range *range)
{
	__u64 end = range->offset + range->length;

	return end < range->offset ? PGPROTECT_TO_EOF : end;
}

void ranges_join(struct ranges *ranges)
{
	struct pgprotect_range *list = ranges->list;
	size_t i, last = 0;

	if (!ranges->nr)
		return;
	qsort(list, ranges->nr, sizeof(*list), compare);
	for (i = 1; i < ranges->nr; i++) {
		__u64 end = range_end(&list[last]);
		__u64 next = range_end(&list[i]);

		if (list[i].file != list[last].file || list[i].offset > end) {
			list[++last] = list[i];
			continue;
		}
		if (next == PGPROTECT_TO_EOF)
			list[last].length = PGPROTECT_TO_EOF;
		else if (next > end)
			list[last].length = next - list[last].offset;
	}
	ranges->nr = last + 1;
}

void ranges_free(struct ranges *ranges)
{
	free(ranges->list);
	*ranges = (struct ranges) {};
}
