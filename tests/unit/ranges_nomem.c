// SPDX-License-Identifier: GPL-2.0
/* range set: out of memory at every single allocation of an operation */
#include <errno.h>
#include <urcu.h>

#include <linux/gfp.h>
#include <linux/mutex.h>

#include "ktap.h"
#include "ranges_model.h"
#include "slab.h"

#define CHUNK	512UL
#define SPAN	(64 * CHUNK)

static DEFINE_MUTEX(lock);

static int change(struct pgprotect_ranges *r, struct model *m,
		  unsigned long first, unsigned long last, bool set, gfp_t gfp)
{
	int ret = ranges_change(r, &lock, first, last, set, gfp);

	if (!ret)
		model_change(m, first, last, set);
	return ret;
}

static void fill_nothing(struct pgprotect_ranges *r, struct model *m)
{
}

static void fill_all(struct pgprotect_ranges *r, struct model *m)
{
	change(r, m, 0, SPAN - 1, true, GFP_KERNEL);
}

/* Whole chunks with gaps: each store in the middle splits a leaf that is full. */
static void fill_every_other_chunk(struct pgprotect_ranges *r, struct model *m)
{
	unsigned long at;

	for (at = 0; at < SPAN; at += 2 * CHUNK)
		change(r, m, at, at + CHUNK - 1, true, GFP_KERNEL);
}

/* One page short of full, then one page, and so on. */
static void fill_bitmaps(struct pgprotect_ranges *r, struct model *m)
{
	unsigned long at;

	for (at = 0; at < SPAN; at += 2 * CHUNK) {
		change(r, m, at, at + CHUNK - 2, true, GFP_KERNEL);
		change(r, m, at + CHUNK + 9, at + CHUNK + 9, true, GFP_KERNEL);
	}
}

static void (*const fills[])(struct pgprotect_ranges *r, struct model *m) = {
	fill_nothing, fill_all, fill_every_other_chunk, fill_bitmaps,
};

static const struct model_run spans[] = {
	{ 20 * CHUNK + 5, 20 * CHUNK + 5 },
	{ 20 * CHUNK + 5, 21 * CHUNK + 5 },
	{ 20 * CHUNK + 5, 44 * CHUNK + 5 },
	{ 20 * CHUNK + 500, 45 * CHUNK + 1 },
	{ 20 * CHUNK, 21 * CHUNK - 1 },
	{ 20 * CHUNK, 44 * CHUNK - 1 },
	{ 21 * CHUNK - 1, 21 * CHUNK - 1 },
	{ 19 * CHUNK + 9, 19 * CHUNK + 9 },
	{ 20 * CHUNK, 44 * CHUNK + 5 },
	{ 0, 0 },
	{ SPAN - 3, SPAN + 2 * CHUNK },
	{ 0, SPAN - 1 },
};

/* One try from a fresh set. *@more: the failure was met, so go on to the next. */
static bool try_failing(unsigned int fill, const struct model_run *span,
			bool set, unsigned long nth, bool stay, gfp_t gfp,
			bool *more)
{
	struct pgprotect_ranges r;
	struct model m;
	bool ok;
	int ret;

	pgprotect_ranges_init(&r, &lock);
	model_init(&m, 0);
	fills[fill](&r, &m);

	shim_slab_fail(nth, stay);
	ret = change(&r, &m, span->first, span->last, set, gfp);
	*more = shim_slab_count() > nth;
	shim_slab_heal();

	ok = model_check(&m, &r);
	/* And the set must be as good as new for what comes later. */
	if (ok && ret)
		ok = !change(&r, &m, span->first, span->last, set,
			     GFP_KERNEL) && model_check(&m, &r);

	mutex_lock(&lock);
	pgprotect_ranges_destroy(&r);
	mutex_unlock(&lock);
	model_free(&m);
	rcu_barrier();

	CHECK(ok, "fill %u, %s %#lx..%#lx, allocation %lu%s: %d", fill,
	      set ? "add" : "remove", span->first, span->last, nth,
	      stay ? " and on" : "", ret);
	CHECK(!ret || ret == -ENOMEM, "%d", ret);
	CHECK(!ret || !(gfp & __GFP_NOFAIL), "%d with __GFP_NOFAIL", ret);
	CHECK(!shim_slab_live(), "%ld objects leaked", shim_slab_live());
	return true;
}

static bool fail_everywhere(bool stay, gfp_t gfp)
{
	unsigned int fill, span, set, points = 0;
	unsigned long nth;
	bool more;

	for (fill = 0; fill < ARRAY_SIZE(fills); fill++) {
		for (span = 0; span < ARRAY_SIZE(spans); span++) {
			for (set = 0; set < 2; set++) {
				more = true;
				for (nth = 0; more; nth++)
					if (!try_failing(fill, &spans[span],
							 set, nth, stay, gfp,
							 &more))
						return false;
				points += nth - 1;
			}
		}
	}
	printf("# %u allocations\n", points);
	CHECK(points, "nothing was tried");
	return true;
}

static bool fail_once(void)
{
	return fail_everywhere(false, GFP_KERNEL);
}

static bool fail_from_there_on(void)
{
	return fail_everywhere(true, GFP_KERNEL);
}

static bool nofail(void)
{
	return fail_everywhere(true, GFP_KERNEL | __GFP_NOFAIL);
}

/* A merge that fails has put in a part of the source, and nothing else. */
static bool try_merge(unsigned int fill, unsigned long nth, bool *more)
{
	struct pgprotect_ranges dst, src;
	struct model before, both, from;
	unsigned long page;
	bool ok, got;
	int ret;

	pgprotect_ranges_init(&dst, &lock);
	pgprotect_ranges_init(&src, &lock);
	model_init(&before, SPAN);
	model_init(&both, SPAN);
	model_init(&from, SPAN);
	fill_every_other_chunk(&dst, &before);
	fills[fill](&src, &from);
	change(&src, &from, 3 * CHUNK + 3, 3 * CHUNK + 5, false, GFP_KERNEL);
	model_merge(&both, &before);
	model_merge(&both, &from);

	shim_slab_fail(nth, true);
	mutex_lock(&lock);
	ret = pgprotect_ranges_merge(&dst, &src, GFP_KERNEL);
	mutex_unlock(&lock);
	*more = shim_slab_count() > nth;
	shim_slab_heal();

	ok = ret || model_check(&both, &dst);
	rcu_read_lock();
	for (page = 0; ok && page < SPAN; page++) {
		got = pgprotect_ranges_test(&dst, page);
		ok = got == model_test(&before, page) ||
		     got == model_test(&both, page);
	}
	ok = ok && dst.nr_pages == pgprotect_ranges_weight(&dst, 0, SPAN - 1);
	rcu_read_unlock();
	ok = ok && model_check(&from, &src) && model_check_tree(&dst);

	mutex_lock(&lock);
	pgprotect_ranges_destroy(&dst);
	pgprotect_ranges_destroy(&src);
	mutex_unlock(&lock);
	model_free(&before);
	model_free(&both);
	model_free(&from);
	rcu_barrier();
	CHECK(ok, "fill %u, allocation %lu: %d", fill, nth, ret);
	CHECK(!shim_slab_live(), "%ld objects leaked", shim_slab_live());
	return true;
}

static bool merge(void)
{
	unsigned int fill;
	unsigned long nth;
	bool more;

	for (fill = 0; fill < ARRAY_SIZE(fills); fill++) {
		more = true;
		for (nth = 0; more; nth++)
			if (!try_merge(fill, nth, &more))
				return false;
	}
	return true;
}

const struct ktap_case ranges_nomem_cases[] = {
	{ "ranges: one allocation fails, each in turn", fail_once },
	{ "ranges: all allocations fail from each on", fail_from_there_on },
	{ "ranges: __GFP_NOFAIL never fails", nofail },
	{ "ranges: a merge that fails has lost and invented nothing", merge },
	{ }
};
