// SPDX-License-Identifier: GPL-2.0
/* range set: what it costs, and corners that random operations rarely meet */
#include <urcu.h>

#include <linux/gfp.h>
#include <linux/mutex.h>
#include <linux/xarray.h>

#include "ktap.h"
#include "ranges_model.h"
#include "slab.h"

#define CHUNK	512UL
#define TIB	BIT(28)		/* in pages */

static DEFINE_MUTEX(lock);

/* Entries in the tree: [0] ALL, [1] bitmaps. */
static void count_entries(struct pgprotect_ranges *r, unsigned int nr[2])
{
	MA_STATE(mas, &r->mt, 0, 0);
	void *entry;

	nr[0] = 0;
	nr[1] = 0;
	rcu_read_lock();
	mas_for_each(&mas, entry, ULONG_MAX)
		nr[entry != xa_mk_value(1)]++;
	rcu_read_unlock();
}

static bool check_entries(struct pgprotect_ranges *r, unsigned int all,
			  unsigned int maps)
{
	unsigned int nr[2];

	count_entries(r, nr);
	CHECK(nr[0] == all && nr[1] == maps, "%u spans and %u bitmaps", nr[0],
	      nr[1]);
	return model_check_tree(r);
}

static bool finish(struct pgprotect_ranges *r)
{
	mutex_lock(&lock);
	pgprotect_ranges_destroy(r);
	mutex_unlock(&lock);
	rcu_barrier();
	CHECK(!r->nr_pages, "%lu", r->nr_pages);
	CHECK(!shim_slab_live(), "%ld objects leaked", shim_slab_live());
	return true;
}

static bool whole_tib_is_one_entry(void)
{
	struct pgprotect_ranges r;

	pgprotect_ranges_init(&r, &lock);
	CHECK(!pgprotect_ranges_add(&r, 0, TIB - 1, GFP_KERNEL), "add");
	if (!check_entries(&r, 1, 0))
		return false;
	CHECK(shim_slab_live() <= 2, "%ld objects", shim_slab_live());

	CHECK(!pgprotect_ranges_remove(&r, TIB / 2 + 5, TIB / 2 + 5,
				       GFP_KERNEL), "remove");
	CHECK(r.nr_pages == TIB - 1, "%lu", r.nr_pages);
	if (!check_entries(&r, 2, 1))
		return false;
	rcu_barrier();
	CHECK(shim_slab_live() <= 3, "%ld objects", shim_slab_live());

	CHECK(!pgprotect_ranges_add(&r, TIB / 2 + 5, TIB / 2 + 5, GFP_KERNEL),
	      "add");
	return check_entries(&r, 1, 0) && finish(&r);
}

static bool touching_spans_are_joined(void)
{
	struct pgprotect_ranges r;

	pgprotect_ranges_init(&r, &lock);
	pgprotect_ranges_add(&r, 4 * CHUNK, 6 * CHUNK - 1, GFP_KERNEL);
	pgprotect_ranges_add(&r, 8 * CHUNK, 9 * CHUNK - 1, GFP_KERNEL);
	if (!check_entries(&r, 2, 0))
		return false;
	pgprotect_ranges_add(&r, 6 * CHUNK, 8 * CHUNK - 1, GFP_KERNEL);
	if (!check_entries(&r, 1, 0))
		return false;
	/* Also where only the last page of a chunk was missing. */
	pgprotect_ranges_add(&r, 3 * CHUNK, 4 * CHUNK - 2, GFP_KERNEL);
	if (!check_entries(&r, 1, 1))
		return false;
	pgprotect_ranges_add(&r, 4 * CHUNK - 1, 4 * CHUNK - 1, GFP_KERNEL);
	return check_entries(&r, 1, 0) && finish(&r);
}

static bool released_page_by_page(void)
{
	struct pgprotect_ranges r;
	unsigned long page;

	pgprotect_ranges_init(&r, &lock);
	pgprotect_ranges_add(&r, 0, 3 * CHUNK - 1, GFP_KERNEL);
	for (page = CHUNK; page < 2 * CHUNK; page++) {
		CHECK(!pgprotect_ranges_remove(&r, page, page, GFP_KERNEL),
		      "page %lu", page);
		CHECK(r.nr_pages == 3 * CHUNK - 1 - (page - CHUNK), "%lu",
		      r.nr_pages);
		if (page < 2 * CHUNK - 1 && !check_entries(&r, 2, 1))
			return false;
	}
	return check_entries(&r, 2, 0) && finish(&r);
}

static bool largest_file(void)
{
	struct pgprotect_ranges r;
	unsigned long first = 0, last = MODEL_MAX;

	pgprotect_ranges_init(&r, &lock);
	CHECK(!pgprotect_ranges_add(&r, 0, MODEL_MAX, GFP_KERNEL), "add");
	CHECK(r.nr_pages == MODEL_MAX + 1, "%lu", r.nr_pages);
	CHECK(!pgprotect_ranges_remove(&r, MODEL_MAX, MODEL_MAX, GFP_KERNEL),
	      "remove");
	rcu_read_lock();
	CHECK(!pgprotect_ranges_test(&r, MODEL_MAX), "set");
	CHECK(pgprotect_ranges_test(&r, MODEL_MAX - 1), "unset");
	CHECK(pgprotect_ranges_next_run(&r, &first, &last), "none");
	rcu_read_unlock();
	CHECK(first == 0 && last == MODEL_MAX - 1, "%#lx..%#lx", first, last);
	CHECK(r.nr_pages == MODEL_MAX, "%lu", r.nr_pages);
	return finish(&r);
}

static bool last_index_of_all(void)
{
	struct pgprotect_ranges r;
	unsigned long last = ULONG_MAX, first = 0;

	/* No file is this large; the loops must end all the same. */
	pgprotect_ranges_init(&r, &lock);
	CHECK(!pgprotect_ranges_add(&r, ULONG_MAX - 1, ULONG_MAX, GFP_KERNEL),
	      "add");
	rcu_read_lock();
	CHECK(pgprotect_ranges_next_run(&r, &first, &last), "none");
	CHECK(first == ULONG_MAX - 1 && last == ULONG_MAX, "%#lx..%#lx", first,
	      last);
	CHECK(pgprotect_ranges_weight(&r, 0, ULONG_MAX) == 2, "weight");
	CHECK(!pgprotect_ranges_intersects(&r, 0, ULONG_MAX - 2), "hit");
	rcu_read_unlock();
	return finish(&r);
}

static bool nothing_to_do_needs_no_memory(void)
{
	struct pgprotect_ranges r;
	int ret;

	pgprotect_ranges_init(&r, &lock);
	shim_slab_fail(0, true);
	ret = pgprotect_ranges_remove(&r, 3, 5 * CHUNK + 3, GFP_KERNEL);
	shim_slab_heal();
	CHECK(!ret, "remove from none: %d", ret);

	pgprotect_ranges_add(&r, 0, 9 * CHUNK - 1, GFP_KERNEL);
	pgprotect_ranges_add(&r, 20 * CHUNK + 3, 20 * CHUNK + 9, GFP_KERNEL);
	shim_slab_fail(0, true);
	ret = pgprotect_ranges_add(&r, 3, 5 * CHUNK + 3, GFP_KERNEL);
	ret = ret ?: pgprotect_ranges_add(&r, CHUNK, 3 * CHUNK - 1, GFP_KERNEL);
	ret = ret ?: pgprotect_ranges_add(&r, 20 * CHUNK + 1, 20 * CHUNK + 4,
					  GFP_KERNEL);
	ret = ret ?: pgprotect_ranges_remove(&r, 20 * CHUNK, 20 * CHUNK + 99,
					     GFP_KERNEL);
	shim_slab_heal();
	CHECK(!ret, "add: %d", ret);
	CHECK(r.nr_pages == 9 * CHUNK, "%lu", r.nr_pages);
	return model_check_tree(&r) && finish(&r);
}

static bool merge_of_a_set_with_itself(void)
{
	struct pgprotect_ranges r;

	pgprotect_ranges_init(&r, &lock);
	pgprotect_ranges_add(&r, 7, 3 * CHUNK + 7, GFP_KERNEL);
	CHECK(!pgprotect_ranges_merge(&r, &r, GFP_KERNEL), "merge");
	CHECK(r.nr_pages == 3 * CHUNK + 1, "%lu", r.nr_pages);
	return finish(&r);
}

static bool used_again_after_destroy(void)
{
	struct pgprotect_ranges r;

	pgprotect_ranges_init(&r, &lock);
	pgprotect_ranges_add(&r, 7, 3 * CHUNK + 7, GFP_KERNEL);
	if (!finish(&r))
		return false;
	CHECK(!pgprotect_ranges_add(&r, 9, 9, GFP_KERNEL), "add");
	CHECK(r.nr_pages == 1, "%lu", r.nr_pages);
	return finish(&r);
}

/* Deep enough that what is freed has nodes, below its own, that have children. */
static bool many_spans_are_freed(void)
{
	static const unsigned long steps[] = { 2 * CHUNK, 3 * CHUNK + 1 };
	struct pgprotect_ranges r;
	unsigned long i, at;

	for (i = 0; i < 4; i++) {
		const unsigned long step = steps[i % 2];

		pgprotect_ranges_init(&r, &lock);
		for (at = 0; at < 30000; at++)
			CHECK(!pgprotect_ranges_add(&r, at * step, at * step,
						    GFP_KERNEL), "add");
		if (i >= 2)
			CHECK(!pgprotect_ranges_remove(&r, 1, 30000 * step,
						       GFP_KERNEL), "remove");
		if (!finish(&r))
			return false;
	}
	return true;
}

const struct ktap_case ranges_basic_cases[] = {
	{ "ranges: 1 TiB is one entry, a page out of it one bitmap",
	  whole_tib_is_one_entry },
	{ "ranges: spans that touch are one entry", touching_spans_are_joined },
	{ "ranges: a chunk released page by page ends without a bitmap",
	  released_page_by_page },
	{ "ranges: the largest file, whole and without its last page",
	  largest_file },
	{ "ranges: spans up to the last index that there is",
	  last_index_of_all },
	{ "ranges: a change that changes nothing needs no memory",
	  nothing_to_do_needs_no_memory },
	{ "ranges: merge of a set with itself", merge_of_a_set_with_itself },
	{ "ranges: many spans are freed, at once and with the set",
	  many_spans_are_freed },
	{ "ranges: a destroyed set can be used again",
	  used_again_after_destroy },
	{ }
};
