/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A set of pages of several files, sparse, with a count of its members.
 */
#ifndef PGP_PAGESET_H
#define PGP_PAGESET_H

#include <stddef.h>
#include <stdint.h>

struct pageset_chunk;

/*
 * @chunks: hash table by open addressing, @room slots (a power of two), @used
 * of them taken. @count: pages in the set.
 */
struct pageset {
	struct pageset_chunk **chunks;
	size_t room;
	size_t used;
	uint64_t count;
};

/*
 * Adds @nr pages of file number @file. Returns how many were new; pages for
 * which there is no memory are not added and not counted.
 */
uint64_t pageset_add(struct pageset *set, uint32_t file, uint64_t page, uint64_t nr);

void pageset_free(struct pageset *set);

#endif /* PGP_PAGESET_H */
