// SPDX-License-Identifier: GPL-2.0
/*
 * A set of pages of several files: a hash table of bitmaps.
 */
#include <stdbool.h>
#include <stdlib.h>

#include "pageset.h"

#define CHUNK_PAGES	4096
#define WORD_PAGES	64

struct pageset_chunk {
	uint64_t index;
	uint32_t file;
	uint32_t count;
	uint64_t words[CHUNK_PAGES / WORD_PAGES];
};

static size_t slot_of(const struct pageset *set, uint32_t file, uint64_t index)
{
	uint64_t hash = (index + 1) * 0x9e3779b97f4a7c15ULL;

	hash ^= (file + 1) * 0xff51afd7ed558ccdULL;
	hash ^= hash >> 32;
	return hash & (set->room - 1);
}

/* The chunk's slot, or the empty one where it would go. */
static struct pageset_chunk **find(const struct pageset *set, uint32_t file,
				   uint64_t index)
{
	size_t slot = slot_of(set, file, index);

	while (set->chunks[slot] && (set->chunks[slot]->file != file ||
				     set->chunks[slot]->index != index))
		slot = (slot + 1) & (set->room - 1);
	return &set->chunks[slot];
}

static bool grow(struct pageset *set)
{
	struct pageset bigger = { .room = set->room ? 2 * set->room : 16 };
	size_t i;

	bigger.chunks = calloc(bigger.room, sizeof(bigger.chunks[0]));
	if (!bigger.chunks)
		return false;
	for (i = 0; i < set->room; i++) {
		struct pageset_chunk *chunk = set->chunks[i];

		if (chunk)
			*find(&bigger, chunk->file, chunk->index) = chunk;
	}
	free(set->chunks);
	set->chunks = bigger.chunks;
	set->room = bigger.room;
	return true;
}

static struct pageset_chunk *get(struct pageset *set, uint32_t file, uint64_t index)
{
	struct pageset_chunk **slot;

	if (2 * (set->used + 1) > set->room && !grow(set))
		return NULL;
	slot = find(set, file, index);
	if (!*slot) {
		*slot = calloc(1, sizeof(**slot));
		if (*slot) {
			(*slot)->file = file;
			(*slot)->index = index;
			set->used++;
		}
	}
	return *slot;
}

/* By words: a truncation can be of all pages of a large file. */
static uint32_t chunk_add(struct pageset_chunk *chunk, unsigned int first,
			  unsigned int end)
{
	uint32_t before = chunk->count;

	while (first < end) {
		uint64_t *word = &chunk->words[first / WORD_PAGES];
		unsigned int bit = first % WORD_PAGES;
		unsigned int nr = WORD_PAGES - bit < end - first ?
				  WORD_PAGES - bit : end - first;
		uint64_t mask = (~UINT64_C(0) >> (WORD_PAGES - nr)) << bit;

		chunk->count += __builtin_popcountll(mask & ~*word);
		*word |= mask;
		first += nr;
	}
	return chunk->count - before;
}

uint64_t pageset_add(struct pageset *set, uint32_t file, uint64_t page, uint64_t nr)
{
	uint64_t before = set->count;

	while (nr) {
		uint64_t first = page % CHUNK_PAGES;
		uint64_t here = CHUNK_PAGES - first < nr ? CHUNK_PAGES - first : nr;
		struct pageset_chunk *chunk = get(set, file, page / CHUNK_PAGES);

		if (!chunk)
			break;
		set->count += chunk_add(chunk, first, first + here);
		page += here;
		nr -= here;
	}
	return set->count - before;
}

void pageset_free(struct pageset *set)
{
	size_t i;

	for (i = 0; i < set->room; i++)
		free(set->chunks[i]);
	free(set->chunks);
	*set = (struct pageset) {};
}
