/* SPDX-License-Identifier: GPL-2.0 */
/* pgprotect range set: which page indexes of one file are protected */
#ifndef _MM_PGPROTECT_RANGES_H
#define _MM_PGPROTECT_RANGES_H

#include <linux/maple_tree.h>
#include <linux/types.h>

struct chunk_map;
struct mutex;

/**
 * struct pgprotect_ranges - a set of page indexes of one file
 * @mt: chunk index to state. Written under the lock given to
 *	pgprotect_ranges_init(), read under RCU. Opaque outside ranges.c.
 * @recent: the bitmap that was changed last, or NULL. A fault looks three times
 *	at the page that is released for it, and the tree is the dear part of
 *	it. As @mt.
 * @nr_pages: how many pages are in the set. Written under the lock; may be
 *	read without it by READ_ONCE(), and is then at most one operation old.
 * @nr_maps: bitmaps there are. As @nr_stores.
 * @nr_entries: entries of @mt when they were last counted. As @nr_stores.
 * @nr_stores: changes of @mt since. Under the lock.
 * @full: take no more memory, but for __GFP_NOFAIL: what needs it fails as if
 *	there were none. Under the lock, and its holder's to set.
 *
 * The set is embedded in its owner. Readers follow a pointer to it, so the
 * owner frees it only a grace period after pgprotect_ranges_destroy().
 *
 * Indexes go up to MAX_LFS_FILESIZE >> PAGE_SHIFT. Every span is inclusive
 * at both ends, as [0, last] of a file of the largest size has no exclusive
 * end in all types.
 */
struct pgprotect_ranges {
	struct maple_tree mt;
	struct chunk_map __rcu *recent;
	unsigned long nr_pages;
	unsigned long nr_maps;
	unsigned long nr_entries;
	unsigned long nr_stores;
	bool full;
};

/* Writers: the lock held, may sleep. */
void pgprotect_ranges_init(struct pgprotect_ranges *r, struct mutex *lock);
void pgprotect_ranges_destroy(struct pgprotect_ranges *r);
int pgprotect_ranges_add(struct pgprotect_ranges *r, pgoff_t first,
			 pgoff_t last, gfp_t gfp);
int pgprotect_ranges_remove(struct pgprotect_ranges *r, pgoff_t first,
			    pgoff_t last, gfp_t gfp);
int pgprotect_ranges_merge(struct pgprotect_ranges *dst,
			   struct pgprotect_ranges *src, gfp_t gfp);
unsigned long pgprotect_ranges_bytes(struct pgprotect_ranges *r);

/* Readers: rcu_read_lock() or the lock held, any context. */
bool pgprotect_ranges_test(struct pgprotect_ranges *r, pgoff_t pgoff);
bool pgprotect_ranges_intersects(struct pgprotect_ranges *r, pgoff_t first,
				 pgoff_t last);
bool pgprotect_ranges_next_run(struct pgprotect_ranges *r, pgoff_t *first,
			       pgoff_t *last);
unsigned long pgprotect_ranges_weight(struct pgprotect_ranges *r,
				      pgoff_t first, pgoff_t last);
unsigned long pgprotect_ranges_weight_some(struct pgprotect_ranges *r,
					   pgoff_t *first, pgoff_t last,
					   unsigned int pieces);

#endif /* _MM_PGPROTECT_RANGES_H */
