/* SPDX-License-Identifier: GPL-2.0 */
/* what a range set should contain, kept in the plainest way */
#ifndef _UNIT_RANGES_MODEL_H
#define _UNIT_RANGES_MODEL_H

#include <stdbool.h>

#include <linux/gfp.h>
#include <linux/mutex.h>

#include "ranges.h"

/* The largest page index of a file: LLONG_MAX >> PAGE_SHIFT. */
#define MODEL_MAX	((1UL << 51) - 1)

struct model_run {
	unsigned long first;
	unsigned long last;
};

/*
 * Two models: one byte a page for a small file, or a sorted list of runs for
 * one of any size. @nr_bytes is 0 for the latter.
 */
struct model {
	unsigned char *bytes;
	unsigned long nr_bytes;
	struct model_run *runs;
	unsigned int nr_runs;
	unsigned int max_runs;
};

void model_init(struct model *m, unsigned long nr_bytes);
void model_free(struct model *m);
void model_clear(struct model *m);
void model_change(struct model *m, unsigned long first, unsigned long last,
		  bool set);
void model_merge(struct model *dst, const struct model *src);
bool model_test(const struct model *m, unsigned long page);
unsigned long model_weight(const struct model *m, unsigned long first,
			   unsigned long last);
bool model_next_run(const struct model *m, unsigned long *first,
		    unsigned long *last);

/* Is @r what @m says, by each way of asking, and in a sound tree? */
bool model_check(const struct model *m, struct pgprotect_ranges *r);
/* The same for pages @first to @last only. */
bool model_check_span(const struct model *m, struct pgprotect_ranges *r,
		      unsigned long first, unsigned long last);
/* Is the shape of the tree what ranges.c promises? */
bool model_check_tree(struct pgprotect_ranges *r);

/* Add pages to @r, or remove them, under its @lock. */
int ranges_change(struct pgprotect_ranges *r, struct mutex *lock,
		  unsigned long first, unsigned long last, bool set, gfp_t gfp);

#endif
