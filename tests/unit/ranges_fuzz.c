// SPDX-License-Identifier: GPL-2.0
/* range set against a model, with random operations */
#include <stdlib.h>
#include <urcu.h>

#include <linux/gfp.h>
#include <linux/mutex.h>

#include "ktap.h"
#include "ranges_model.h"
#include "slab.h"

#define CHUNK		512UL
#define NR_ANCHORS	24
#define MAX_RUNS	200

static DEFINE_MUTEX(lock);

/* Two sets, so that there is something to merge. */
struct world {
	u64 rnd;
	unsigned long max;	/* last page */
	unsigned long anchor[NR_ANCHORS];
	unsigned int percent_add;
	struct pgprotect_ranges set[2];
	struct model model[2];
};

static void world_init(struct world *w, u64 seed, unsigned long nr_bytes)
{
	unsigned int i;

	w->rnd = seed * 0x9e3779b97f4a7c15ULL + 1;
	w->max = nr_bytes ? nr_bytes - 1 : MODEL_MAX;
	w->percent_add = 50;
	/* Few places, so that operations meet. 2^39 pages are 2 PiB. */
	for (i = 0; i < NR_ANCHORS; i++)
		w->anchor[i] = rnd_below(&w->rnd, nr_bytes ?: 1UL << 39);
	w->anchor[0] = 0;
	w->anchor[1] = w->max;
	for (i = 0; i < 2; i++) {
		pgprotect_ranges_init(&w->set[i], &lock);
		model_init(&w->model[i], nr_bytes);
	}
}

static unsigned long random_place(struct world *w)
{
	unsigned long page = w->anchor[rnd_below(&w->rnd, NR_ANCHORS)];

	switch (rnd_below(&w->rnd, 4)) {
	case 0:
		return page;
	case 1:	/* at the end of a chunk or the start of the next */
		page = (page | (CHUNK - 1)) + rnd_below(&w->rnd, 2);
		break;
	case 2:
		page += rnd_below(&w->rnd, CHUNK);
		break;
	default:
		page += rnd_below(&w->rnd, 8 * CHUNK);
	}
	return page > w->max ? w->max : page;
}

static void random_span(struct world *w, unsigned long *first,
			unsigned long *last)
{
	unsigned long from = random_place(w), to;

	switch (rnd_below(&w->rnd, 8)) {
	case 0 ... 2:
		to = from + rnd_below(&w->rnd, 4);
		break;
	case 3:	/* much of one chunk */
		from &= ~(CHUNK - 1);
		to = from + CHUNK - 1 - rnd_below(&w->rnd, 16);
		from += rnd_below(&w->rnd, 16);
		break;
	case 4 ... 5:	/* whole chunks */
		from &= ~(CHUNK - 1);
		to = from + CHUNK * (1 + rnd_below(&w->rnd, 6)) - 1;
		break;
	default:
		to = random_place(w);
	}
	if (from > to) {
		*first = to;
		*last = from;
	} else {
		*first = from;
		*last = to;
	}
	if (*last > w->max)
		*last = w->max;
	if (rnd_below(&w->rnd, 2000) == 0) {
		*first = 0;
		*last = w->max;
	}
}

static int change(struct pgprotect_ranges *r, unsigned long first,
		  unsigned long last, bool set, gfp_t gfp)
{
	return ranges_change(r, &lock, first, last, set, gfp);
}

/* Fail each allocation in turn. The set must not change until it works. */
static bool change_short_of_memory(struct world *w, unsigned int which,
				   unsigned long first, unsigned long last,
				   bool set)
{
	bool stay = rnd_below(&w->rnd, 2);
	unsigned long nth;
	bool failed;
	int ret;

	for (nth = 0; nth < 100; nth++) {
		shim_slab_fail(nth, stay);
		ret = change(&w->set[which], first, last, set, GFP_KERNEL);
		failed = shim_slab_heal();
		if (!ret)
			return true;
		CHECK(ret == -ENOMEM && failed, "%d", ret);
		if (!model_check(&w->model[which], &w->set[which]))
			return false;
	}
	CHECK(0, "still failing after %lu allocations", nth);
}

static bool merge(struct world *w, unsigned int which)
{
	struct pgprotect_ranges *dst = &w->set[which];
	int ret;

	shim_slab_fail(0, true);
	mutex_lock(&lock);
	ret = pgprotect_ranges_merge(dst, &w->set[!which],
				     GFP_KERNEL | __GFP_NOFAIL);
	mutex_unlock(&lock);
	shim_slab_heal();
	CHECK(!ret, "%d", ret);
	model_merge(&w->model[which], &w->model[!which]);
	return model_check(&w->model[which], dst);
}

static void start_again(struct world *w, unsigned int which)
{
	mutex_lock(&lock);
	pgprotect_ranges_destroy(&w->set[which]);
	mutex_unlock(&lock);
	model_clear(&w->model[which]);
}

static bool step(struct world *w)
{
	unsigned int which = rnd_below(&w->rnd, 8) == 0;
	struct pgprotect_ranges *r = &w->set[which];
	struct model *m = &w->model[which];
	unsigned long first, last;
	bool set;

	if (rnd_below(&w->rnd, 500) == 0)
		w->percent_add = 10 + 40 * rnd_below(&w->rnd, 3);
	if (rnd_below(&w->rnd, 3000) == 0)
		return merge(w, which);
	if (rnd_below(&w->rnd, 20000) == 0 || m->nr_runs > MAX_RUNS)
		start_again(w, which);

	random_span(w, &first, &last);
	set = rnd_below(&w->rnd, 100) < w->percent_add;
	if (rnd_below(&w->rnd, 64) == 0) {
		if (!change_short_of_memory(w, which, first, last, set))
			return false;
	} else {
		CHECK(!change(r, first, last, set, GFP_KERNEL), "no memory");
	}
	model_change(m, first, last, set);

	CHECK(r->nr_pages == model_weight(m, 0, w->max),
	      "%s %#lx..%#lx: nr_pages %lu", set ? "add" : "remove", first,
	      last, r->nr_pages);
	if (!model_check_span(m, r, first ? first - 1 : 0,
			      last < w->max ? last + 1 : last))
		return false;
	random_span(w, &first, &last);
	return model_check_span(m, r, first, last);
}

static bool fuzz(unsigned long nr_bytes, unsigned long ops)
{
	struct world w;
	unsigned long i;
	bool ok = true;
	int which;

	world_init(&w, unit_seed + nr_bytes, nr_bytes);
	for (i = 0; i < ops && ok; i++) {
		ok = step(&w);
		if (ok && i % 512 == 511)
			ok = model_check(&w.model[0], &w.set[0]);
		if (i % 4096 == 4095)
			rcu_barrier();
	}
	if (!ok)
		printf("# at operation %lu of SEED=%llu\n", i,
		       (unsigned long long)unit_seed);

	for (which = 0; which < 2; which++) {
		start_again(&w, which);
		model_free(&w.model[which]);
	}
	rcu_barrier();
	CHECK(ok, "see above");
	CHECK(!shim_slab_live(), "%ld objects leaked", shim_slab_live());
	return true;
}

/* 20 chunks, the last one not whole. */
static bool fuzz_small_file(void)
{
	return fuzz(20 * CHUNK - 7, unit_ops / 2);
}

static bool fuzz_large_file(void)
{
	return fuzz(0, unit_ops - unit_ops / 2);
}

const struct ktap_case ranges_fuzz_cases[] = {
	{ "ranges: random operations on a small file, byte per page",
	  fuzz_small_file },
	{ "ranges: random operations on a huge file, list of runs",
	  fuzz_large_file },
	{ }
};
