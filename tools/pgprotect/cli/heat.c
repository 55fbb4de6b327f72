// SPDX-License-Identifier: GPL-2.0
/*
 * A heat map: counting writes by place, and drawing the counts.
 */
#include <inttypes.h>
#include <string.h>

#include "heat.h"

#define MIN_CELLS	16
#define MAX_ROWS	8
#define LEVELS		8

static const char *const blocks[LEVELS + 1] = {
	"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█",
};

static const char *const letters[LEVELS + 1] = {
	".", ":", "-", "=", "+", "*", "o", "%", "#",
};

void heat_init(struct heat *heat, uint64_t pages)
{
	memset(heat, 0, sizeof(*heat));
	heat->pages = pages ? pages : 1;
	heat->nr = heat->pages < HEAT_BUCKETS ? heat->pages : HEAT_BUCKETS;
}

static unsigned int bucket_of(const struct heat *heat, uint64_t page)
{
	if (page >= heat->pages)
		page = heat->pages - 1;
	return (unsigned __int128)page * heat->nr / heat->pages;
}

void heat_add(struct heat *heat, uint64_t page, uint64_t nr)
{
	unsigned int i, last;

	if (!nr)
		return;
	last = bucket_of(heat, page + nr - 1 < page ? UINT64_MAX : page + nr - 1);
	for (i = bucket_of(heat, page); i <= last; i++)
		heat->buckets[i]++;
}

/* Every count gets a level above 0, the largest the highest; by powers of two. */
static unsigned int level_of(uint64_t count, uint64_t max)
{
	unsigned int bits, max_bits;

	if (!count)
		return 0;
	bits = 63 - __builtin_clzll(count);
	max_bits = 63 - __builtin_clzll(max);
	if (!max_bits)
		return LEVELS;
	return 1 + bits * (LEVELS - 1) / max_bits;
}

/* The first bucket of a cell, when @cells share all buckets. */
static unsigned int cell_start(const struct heat *heat, unsigned int cell,
			       unsigned int cells)
{
	return (uint64_t)cell * heat->nr / cells;
}

static uint64_t cell_count(const struct heat *heat, unsigned int cell,
			   unsigned int cells)
{
	unsigned int i, end = cell_start(heat, cell + 1, cells);
	uint64_t count = 0;

	for (i = cell_start(heat, cell, cells); i < end; i++)
		count += heat->buckets[i];
	return count;
}

/* As wide as the offset of the last byte needs, so that rows line up. */
static unsigned int label_width(const struct heat *heat, unsigned int page_size)
{
	return snprintf(NULL, 0, "%#" PRIx64, heat->pages * page_size - 1);
}

static uint64_t largest_cell(const struct heat *heat, unsigned int cells)
{
	uint64_t count, max = 0;
	unsigned int cell;

	for (cell = 0; cell < cells; cell++) {
		count = cell_count(heat, cell, cells);
		max = count > max ? count : max;
	}
	return max;
}

void heat_draw(FILE *out, const struct heat *heat, unsigned int width,
	       unsigned int page_size, bool utf8)
{
	const char *const *marks = utf8 ? blocks : letters;
	unsigned int cell, cells, row = MIN_CELLS;
	unsigned int label = label_width(heat, page_size);
	uint64_t max;

	if (width > label + 2 + MIN_CELLS)
		row = width - label - 2;
	cells = heat->nr < row * MAX_ROWS ? heat->nr : row * MAX_ROWS;
	max = largest_cell(heat, cells);
	for (cell = 0; cell < cells; cell++) {
		uint64_t page = (unsigned __int128)cell_start(heat, cell, cells) *
				heat->pages / heat->nr;

		if (cell % row == 0)
			fprintf(out, "%s%#*" PRIx64 "  ", cell ? "\n" : "", label,
				page * page_size);
		fputs(marks[level_of(cell_count(heat, cell, cells), max)], out);
	}
	fprintf(out, "\n%*s%" PRIu64 " KiB a mark; %s none, %s up to %" PRIu64 " writes\n",
		label + 2, "", (heat->pages + cells - 1) / cells * page_size / 1024,
		marks[0], marks[LEVELS], max);
}
