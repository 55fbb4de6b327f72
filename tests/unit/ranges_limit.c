// SPDX-License-Identifier: GPL-2.0
/* range set: how much memory it says it takes, and when it may take no more */
#include <errno.h>
#include <urcu.h>

#include <linux/gfp.h>
#include <linux/mutex.h>

#include "ktap.h"
#include "ranges_model.h"
#include "slab.h"

#define CHUNK	512UL
#define SPAN	(2000 * CHUNK)

static DEFINE_MUTEX(lock);

static bool finish(struct pgprotect_ranges *r)
{
	mutex_lock(&lock);
	pgprotect_ranges_destroy(r);
	CHECK(!pgprotect_ranges_bytes(r), "%lu", pgprotect_ranges_bytes(r));
	mutex_unlock(&lock);
	rcu_barrier();
	CHECK(!r->nr_maps, "%lu", r->nr_maps);
	CHECK(!shim_slab_live(), "%ld objects leaked", shim_slab_live());
	return true;
}

static unsigned long bytes_of(struct pgprotect_ranges *r)
{
	unsigned long bytes;

	mutex_lock(&lock);
	bytes = pgprotect_ranges_bytes(r);
	mutex_unlock(&lock);
	return bytes;
}

static int change(struct pgprotect_ranges *r, unsigned long first,
		  unsigned long last, bool set, gfp_t gfp)
{
	return ranges_change(r, &lock, first, last, set, gfp);
}

/* A tree of @nr entries takes no less than a slot for each. */
static bool bytes_follow_the_entries(void)
{
	struct pgprotect_ranges r;
	unsigned long at, bytes;

	pgprotect_ranges_init(&r, &lock);
	CHECK(!bytes_of(&r), "empty: %lu", bytes_of(&r));
	change(&r, 0, SPAN - 1, true, GFP_KERNEL);
	bytes = bytes_of(&r);
	CHECK(bytes && bytes < 1024, "one span: %lu", bytes);
	for (at = 0; at < SPAN; at += 2 * CHUNK) {
		change(&r, at, at + CHUNK - 1, false, GFP_KERNEL);
		bytes_of(&r);
	}
	bytes = bytes_of(&r);
	CHECK(bytes >= SPAN / CHUNK / 2 * 16, "spans: %lu", bytes);
	CHECK(bytes <= SPAN / CHUNK / 2 * 256, "spans: %lu", bytes);
	for (at = 0; at < SPAN; at += CHUNK) {
		change(&r, at + 3, at + 3, true, GFP_KERNEL);
		change(&r, at + 4, at + 4, false, GFP_KERNEL);
		bytes_of(&r);
	}
	CHECK(r.nr_maps == SPAN / CHUNK, "%lu", r.nr_maps);
	bytes = bytes_of(&r);
	CHECK(bytes >= SPAN / CHUNK * (64 + 16), "bitmaps: %lu", bytes);
	CHECK(bytes <= SPAN / CHUNK * 512, "bitmaps: %lu", bytes);

	/* And come down again. */
	change(&r, 0, SPAN - 1, false, GFP_KERNEL);
	CHECK(!bytes_of(&r), "released: %lu", bytes_of(&r));
	return finish(&r);
}

/* What has come and gone is not counted. */
static bool bytes_of_few_entries_are_few(void)
{
	struct pgprotect_ranges r;
	unsigned long at;

	pgprotect_ranges_init(&r, &lock);
	for (at = 0; at < 200; at++) {
		change(&r, at * CHUNK, (at + 3) * CHUNK - 1, true, GFP_KERNEL);
		change(&r, at * CHUNK, (at + 3) * CHUNK - 1, false, GFP_KERNEL);
		CHECK(!bytes_of(&r), "%lu: %lu", at, bytes_of(&r));
	}
	/* One span, which grows. */
	for (at = 0; at < 200; at++) {
		change(&r, at * CHUNK, (at + 1) * CHUNK - 1, true, GFP_KERNEL);
		CHECK(bytes_of(&r) && bytes_of(&r) < 2048, "%lu: %lu", at,
		      bytes_of(&r));
	}
	return finish(&r);
}

/* What makes no entry and no bitmap is always possible. */
static bool full_set_can_be_changed_in_place(void)
{
	struct pgprotect_ranges r;

	pgprotect_ranges_init(&r, &lock);
	change(&r, 0, 9, true, GFP_KERNEL);			/* a bitmap */
	change(&r, 10 * CHUNK, 20 * CHUNK - 1, true, GFP_KERNEL);
	change(&r, 30 * CHUNK, 31 * CHUNK - 1, true, GFP_KERNEL);
	r.full = true;

	CHECK(!change(&r, 5, 5, false, GFP_KERNEL), "page of a bitmap");
	CHECK(!change(&r, 100, 100, true, GFP_KERNEL), "page of a bitmap");
	CHECK(!change(&r, 10 * CHUNK, 20 * CHUNK - 1, true, GFP_KERNEL),
	      "what is there");
	CHECK(!change(&r, 40 * CHUNK, 50 * CHUNK - 1, false, GFP_KERNEL),
	      "what is not there");
	CHECK(!change(&r, 30 * CHUNK, 31 * CHUNK - 1, false, GFP_KERNEL),
	      "a whole span");
	CHECK(r.nr_pages == 10 + 10 * CHUNK, "%lu", r.nr_pages);
	CHECK(!change(&r, 10 * CHUNK, 12 * CHUNK - 1, false, GFP_KERNEL),
	      "the start of a span");
	CHECK(!change(&r, 18 * CHUNK, 25 * CHUNK - 1, false, GFP_KERNEL),
	      "the end of a span");
	CHECK(!change(&r, 8 * CHUNK, 13 * CHUNK - 1, false, GFP_KERNEL),
	      "beyond the start of a span");
	CHECK(!change(&r, 15 * CHUNK, 19 * CHUNK - 1, true, GFP_KERNEL),
	      "more of a span");
	CHECK(r.nr_pages == 10 + 6 * CHUNK, "%lu", r.nr_pages);
	CHECK(!change(&r, 0, SPAN - 1, false, GFP_KERNEL), "all");
	CHECK(!r.nr_pages && !r.nr_maps, "%lu, %lu", r.nr_pages, r.nr_maps);
	return finish(&r);
}

static bool full_set_does_not_grow(void)
{
	struct pgprotect_ranges r;
	unsigned long pages;

	pgprotect_ranges_init(&r, &lock);
	change(&r, 10 * CHUNK, 20 * CHUNK - 1, true, GFP_KERNEL);
	r.full = true;
	pages = r.nr_pages;
	CHECK(change(&r, 12 * CHUNK + 7, 12 * CHUNK + 7, false, GFP_KERNEL) ==
	      -ENOMEM, "a page of a span");
	CHECK(change(&r, 12 * CHUNK, 13 * CHUNK - 1, false, GFP_KERNEL) ==
	      -ENOMEM, "a hole in a span");
	CHECK(change(&r, 50 * CHUNK, 51 * CHUNK - 1, true, GFP_KERNEL) ==
	      -ENOMEM, "another span");
	CHECK(change(&r, 3, 3, true, GFP_KERNEL) == -ENOMEM, "a page");
	CHECK(r.nr_pages == pages && !r.nr_maps, "%lu, %lu", r.nr_pages,
	      r.nr_maps);
	/* Who must not fail does not. */
	CHECK(!change(&r, 12 * CHUNK + 7, 12 * CHUNK + 7, false,
		      GFP_KERNEL | __GFP_NOFAIL), "no fail");
	CHECK(r.nr_maps == 1, "%lu", r.nr_maps);
	return finish(&r);
}

static bool weight_in_steps_is_the_weight(void)
{
	struct pgprotect_ranges r;
	unsigned long at, weight = 0, steps = 0;
	pgoff_t first = 0;

	pgprotect_ranges_init(&r, &lock);
	for (at = 0; at < SPAN; at += 3 * CHUNK)
		change(&r, at + 5, at + CHUNK + 77, true, GFP_KERNEL);
	rcu_read_lock();
	do {
		weight += pgprotect_ranges_weight_some(&r, &first, SPAN + CHUNK,
						       7);
		steps++;
	} while (first);
	rcu_read_unlock();
	CHECK(weight == r.nr_pages, "%lu, not %lu", weight, r.nr_pages);
	CHECK(steps > 100, "%lu", steps);
	return finish(&r);
}

const struct ktap_case ranges_limit_cases[] = {
	{ "ranges: bytes follow what there is", bytes_follow_the_entries },
	{ "ranges: bytes of few entries are few, whatever was there before",
	  bytes_of_few_entries_are_few },
	{ "ranges: a full set can be changed in place and released",
	  full_set_can_be_changed_in_place },
	{ "ranges: a full set does not grow", full_set_does_not_grow },
	{ "ranges: a weight in steps is the weight",
	  weight_in_steps_is_the_weight },
	{ }
};
