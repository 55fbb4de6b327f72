// SPDX-License-Identifier: GPL-2.0
/*
 * range set: a reader at each step of a writer, and a writer within a reader
 *
 * Threads meet in a given window once in a million times or never. Here one
 * thread plays both sides: whole reads run after each store that a change
 * makes, or a whole change runs at a random load of a read. A page that the
 * change leaves alone must be reported as it is, each other page either way.
 */
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <linux/gfp.h>
#include <linux/mutex.h>

#include "ktap.h"
#include "ranges_model.h"
#include "shim/step.h"
#include "slab.h"

#define CHUNK	512UL
#define PAGES	(40 * CHUNK)

static DEFINE_MUTEX(lock);

static struct {
	u64 rnd;
	struct pgprotect_ranges set;
	/* The change at hand. */
	unsigned long first;
	unsigned long last;
	bool add;
	bool done;
	unsigned int countdown;
	/* Pages that are set both before and after it, and before or after. */
	struct model always;
	struct model ever;
	bool ok;
} w;

static unsigned long near(unsigned long page)
{
	switch (rnd_below(&w.rnd, 4)) {
	case 0:
		page += rnd_below(&w.rnd, 3) - 1;
		break;
	case 1:
		page = (page & ~(CHUNK - 1)) + CHUNK * rnd_below(&w.rnd, 3);
		page -= rnd_below(&w.rnd, 2);
		break;
	case 2:
		page += rnd_below(&w.rnd, 4 * CHUNK) - 2 * CHUNK;
		break;
	default:
		page = rnd_below(&w.rnd, PAGES);
	}
	return page < PAGES ? page : rnd_below(&w.rnd, PAGES);
}

static void order(unsigned long *first, unsigned long *last)
{
	unsigned long swap = *first;

	if (*first > *last) {
		*first = *last;
		*last = swap;
	}
}

static void next_change(void)
{
	w.first = near(w.last);
	w.last = near(w.first);
	if (rnd_below(&w.rnd, 2)) {
		w.first &= ~(CHUNK - 1);
		w.last |= CHUNK - 1;
	}
	order(&w.first, &w.last);
	w.add = rnd_below(&w.rnd, 2);
	w.done = false;
	if (w.add)
		model_change(&w.ever, w.first, w.last, true);
	else
		model_change(&w.always, w.first, w.last, false);
}

static void make_change(void)
{
	int ret;

	if (w.done)
		return;
	w.done = true;
	ret = w.add ? pgprotect_ranges_add(&w.set, w.first, w.last, GFP_KERNEL) :
		      pgprotect_ranges_remove(&w.set, w.first, w.last,
					      GFP_KERNEL);
	if (ret)
		abort();
}

static void settle(void)
{
	struct model *from = w.add ? &w.ever : &w.always;
	struct model *to = w.add ? &w.always : &w.ever;

	memcpy(to->bytes, from->bytes, PAGES);
}

static bool check_run(unsigned long first, unsigned long last, bool got,
		      unsigned long got_first, unsigned long got_last)
{
	unsigned long gap_end = got ? got_first - 1 : last;
	unsigned long weight;

	if (!got || got_first > first) {
		weight = model_weight(&w.always, first, gap_end);
		CHECK(!weight, "%#lx..%#lx: no run before %#lx, has %lu pages",
		      first, last, gap_end + 1, weight);
	}
	if (!got)
		return true;
	CHECK(first <= got_first && got_first <= got_last && got_last <= last,
	      "%#lx..%#lx: run %#lx..%#lx", first, last, got_first, got_last);
	CHECK(model_weight(&w.ever, got_first, got_last) ==
	      got_last - got_first + 1,
	      "%#lx..%#lx: run %#lx..%#lx has pages that are never set", first,
	      last, got_first, got_last);
	CHECK(got_last == last || !model_test(&w.always, got_last + 1),
	      "%#lx..%#lx: run %#lx..%#lx stops short", first, last, got_first,
	      got_last);
	return true;
}

/* One read. The answer must fit a state of each page during the change. */
static bool read_any(void)
{
	unsigned long first = near(rnd_below(&w.rnd, 2) ? w.first : w.last);
	unsigned long last = near(rnd_below(&w.rnd, 2) ? w.last : first);
	unsigned long from, to, weight;
	bool got;

	order(&first, &last);
	from = first;
	to = last;

	switch (rnd_below(&w.rnd, 4)) {
	case 0:
		got = pgprotect_ranges_test(&w.set, first);
		CHECK(got || !model_test(&w.always, first), "page %#lx", first);
		CHECK(!got || model_test(&w.ever, first), "page %#lx", first);
		return true;
	case 1:
		got = pgprotect_ranges_intersects(&w.set, first, last);
		CHECK(got || !model_weight(&w.always, first, last),
		      "%#lx..%#lx", first, last);
		CHECK(!got || model_weight(&w.ever, first, last),
		      "%#lx..%#lx", first, last);
		return true;
	case 2:
		weight = pgprotect_ranges_weight(&w.set, first, last);
		CHECK(weight >= model_weight(&w.always, first, last) &&
		      weight <= model_weight(&w.ever, first, last),
		      "%#lx..%#lx: %lu", first, last, weight);
		return true;
	default:
		got = pgprotect_ranges_next_run(&w.set, &from, &to);
		return check_run(first, last, got, from, to);
	}
}

static void explain(const char *what)
{
	printf("# %s %s of %#lx..%#lx, SEED=%llu\n", what,
	       w.add ? "add" : "remove", w.first, w.last,
	       (unsigned long long)unit_seed);
}

static void reads_within(void)
{
	unsigned int i;

	for (i = 0; i < 3 && w.ok; i++)
		w.ok = read_any();
}

static void change_within(void)
{
	if (w.countdown-- == 0)
		make_change();
}

static bool play(void (*round)(void), const char *what, unsigned long rounds)
{
	unsigned long i;

	memset(&w, 0, sizeof(w));
	w.rnd = unit_seed * 0x9e3779b97f4a7c15ULL + 3;
	w.ok = true;
	pgprotect_ranges_init(&w.set, &lock);
	model_init(&w.always, PAGES);
	model_init(&w.ever, PAGES);

	mutex_lock(&lock);
	for (i = 0; i < rounds && w.ok; i++) {
		next_change();
		rcu_read_lock();
		round();
		rcu_read_unlock();
		if (!w.ok)
			explain(what);
		settle();
		if (i % 4096 == 4095)
			rcu_barrier();
	}
	if (w.ok)
		w.ok = model_check(&w.always, &w.set);
	pgprotect_ranges_destroy(&w.set);
	mutex_unlock(&lock);
	model_free(&w.always);
	model_free(&w.ever);
	rcu_barrier();
	CHECK(w.ok, "see above");
	CHECK(!shim_slab_live(), "%ld objects leaked", shim_slab_live());
	return true;
}

static void reads_in_change(void)
{
	shim_step_fn = reads_within;
	make_change();
	shim_step_fn = NULL;
}

static void change_in_read(void)
{
	w.countdown = rnd_below(&w.rnd, 16);
	shim_step_fn = change_within;
	w.ok = read_any();
	shim_step_fn = NULL;
	make_change();
}

static bool at_each_step(void)
{
	return play(reads_in_change, "read within", unit_ops / 40);
}

static bool within_a_read(void)
{
	return play(change_in_read, "read around", unit_ops / 2);
}

const struct ktap_case ranges_step_cases[] = {
	{ "ranges: reads at each step of a change", at_each_step },
	{ "ranges: a change within a read", within_a_read },
	{ }
};
