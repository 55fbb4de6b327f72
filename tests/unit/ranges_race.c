// SPDX-License-Identifier: GPL-2.0
/*
 * range set: readers while a writer works
 *
 * The file is cut into segments, of which some are always set, some always
 * unset, and the rest is the writer's to change. The writer's spans reach into
 * the neighbours when that changes nothing there: an add into what is set, a
 * remove into what is unset. So entries are joined and split at the borders all
 * the time, and the readers must never see it.
 */
#include <pthread.h>
#include <string.h>
#include <time.h>
#include <urcu.h>
#include <urcu/uatomic.h>

#include <linux/gfp.h>
#include <linux/mutex.h>

#include "ktap.h"
#include "ranges_model.h"
#include "slab.h"

#define CHUNK		512UL
#define NR_SEGMENTS	48
#define NR_READERS	3
#define ROUND_MS	400

static DEFINE_MUTEX(lock);

enum kind { UNSET, SET, FREE };

struct segment {
	enum kind kind;
	unsigned long first;
	unsigned long last;
};

static struct race {
	struct segment seg[NR_SEGMENTS];
	struct pgprotect_ranges set;
	unsigned long max;
	int stop;
	unsigned long reads;
} race;

static u64 now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

/* What must hold for a span of pages of which all are set, or none is. */
static bool read_steady(unsigned long first, unsigned long last, bool set)
{
	struct pgprotect_ranges *r = &race.set;
	unsigned long from = first, to = last, weight;
	unsigned long page = (first + last) / 2;

	CHECK(pgprotect_ranges_test(r, page) == set, "page %#lx", page);
	CHECK(pgprotect_ranges_intersects(r, first, last) == set, "%#lx..%#lx",
	      first, last);
	CHECK(pgprotect_ranges_next_run(r, &from, &to) == set, "%#lx..%#lx",
	      first, last);
	CHECK(from == first && to == last, "%#lx..%#lx: only %#lx..%#lx",
	      first, last, from, to);
	weight = pgprotect_ranges_weight(r, first, last);
	CHECK(weight == (set ? last - first + 1 : 0), "%#lx..%#lx: %lu", first,
	      last, weight);
	return true;
}

/* Walk the runs of the whole file: no set page left out, no unset one in. */
static bool read_runs(void)
{
	unsigned long from, to, done = 0;
	unsigned int i = 0;

	for (;;) {
		from = done;
		to = race.max;
		if (!pgprotect_ranges_next_run(&race.set, &from, &to)) {
			from = race.max + 1;
			to = from;
		}
		for (; i < NR_SEGMENTS && race.seg[i].first < from; i++) {
			CHECK(race.seg[i].kind != SET ||
			      race.seg[i].last < done,
			      "%#lx..%#lx not seen, next run is %#lx..%#lx",
			      race.seg[i].first, race.seg[i].last, from, to);
			if (race.seg[i].last >= from)
				break;
		}
		if (from > race.max)
			return true;
		for (; i < NR_SEGMENTS && race.seg[i].first <= to; i++) {
			CHECK(race.seg[i].kind != UNSET,
			      "run %#lx..%#lx has pages of %#lx..%#lx", from,
			      to, race.seg[i].first, race.seg[i].last);
			if (race.seg[i].last > to) {
				CHECK(race.seg[i].kind != SET,
				      "run %#lx..%#lx ends in %#lx..%#lx",
				      from, to, race.seg[i].first,
				      race.seg[i].last);
				break;
			}
		}
		if (to == race.max)
			return true;
		done = to + 1;
	}
}

/* Spans that reach over a segment that is set from its neighbours. */
static bool read_around(unsigned int i, u64 *state)
{
	unsigned int before = rnd_below(state, i + 1);
	unsigned int after = i + rnd_below(state, NR_SEGMENTS - i);
	unsigned long weight;

	CHECK(pgprotect_ranges_intersects(&race.set, race.seg[before].first,
					  race.seg[after].last),
	      "segments %u to %u, with set %u", before, after, i);
	weight = pgprotect_ranges_weight(&race.set, race.seg[before].first,
					 race.seg[after].last);
	CHECK(weight >= race.seg[i].last - race.seg[i].first + 1,
	      "segments %u to %u, with set %u: %lu", before, after, i, weight);
	return true;
}

static bool read_once(u64 *state)
{
	unsigned int i = rnd_below(state, NR_SEGMENTS);
	const struct segment *seg = &race.seg[i];
	unsigned long first, last;

	if (rnd_below(state, 16) == 0)
		return read_runs();
	if (seg->kind == FREE) {
		/* Nothing to hold it to, but it must not stumble. */
		first = seg->first;
		last = seg->last;
		pgprotect_ranges_next_run(&race.set, &first, &last);
		CHECK(first >= seg->first && last <= seg->last && first <= last,
		      "%#lx..%#lx: %#lx..%#lx", seg->first, seg->last, first,
		      last);
		return true;
	}
	if (seg->kind == SET && rnd_below(state, 2))
		return read_around(i, state);
	first = seg->first + rnd_below(state, seg->last - seg->first + 1);
	last = first + rnd_below(state, seg->last - first + 1);
	return read_steady(first, last, seg->kind == SET);
}

static void *reader(void *arg)
{
	u64 state = unit_seed * 0x9e3779b97f4a7c15ULL + (unsigned long)arg;
	unsigned long reads = 0;
	bool ok = true;

	rcu_register_thread();
	while (ok && !uatomic_read(&race.stop)) {
		rcu_read_lock();
		ok = read_once(&state);
		rcu_read_unlock();
		reads++;
	}
	rcu_unregister_thread();
	uatomic_add(&race.reads, reads);
	if (!ok)
		uatomic_set(&race.stop, 2);
	return (void *)(unsigned long)ok;
}

static void lay_out(u64 *state)
{
	unsigned long at = 0, len;
	unsigned int i;

	for (i = 0; i < NR_SEGMENTS; i++) {
		switch (rnd_below(state, 4)) {
		case 0:	/* a few pages: neighbours share a bitmap */
			len = 1 + rnd_below(state, 40);
			break;
		case 1:	/* up to the end of the chunk: what follows is whole */
			len = (at | (CHUNK - 1)) + 1 - at;
			break;
		case 2:
			len = (at | (CHUNK - 1)) + 1 - at +
			      CHUNK * rnd_below(state, 5);
			break;
		default:
			len = 1 + rnd_below(state, 3 * CHUNK);
		}
		race.seg[i].kind = i % 2 ? FREE : rnd_below(state, 2);
		race.seg[i].first = at;
		race.seg[i].last = at + len - 1;
		at += len;
	}
	race.max = at - 1;
}

/* A span that may be set (or cleared): part of a free segment, and more. */
static void writer_span(u64 *state, bool set, unsigned long *first,
			unsigned long *last)
{
	const enum kind also = set ? SET : UNSET;
	unsigned int i = rnd_below(state, NR_SEGMENTS / 2) * 2 + 1, to = i;
	unsigned long len;

	while (i && race.seg[i - 1].kind != !also && rnd_below(state, 2))
		i--;
	while (to < NR_SEGMENTS - 1 && race.seg[to + 1].kind != !also &&
	       rnd_below(state, 2))
		to++;
	*first = race.seg[i].first;
	*last = race.seg[to].last;
	if (rnd_below(state, 2)) {
		len = *last - *first + 1;
		*first += rnd_below(state, len);
		*last = *first + rnd_below(state, *last - *first + 1);
	}
}

static bool write_until(u64 end, u64 *state, unsigned long *writes)
{
	unsigned long first, last;
	unsigned int i;
	bool set;
	int ret;

	mutex_lock(&lock);
	while (now_ms() < end && !uatomic_read(&race.stop)) {
		for (i = 0; i < 50; i++, ++*writes) {
			set = rnd_below(state, 2);
			writer_span(state, set, &first, &last);
			if (rnd_below(state, 16) == 0)
				shim_slab_fail(rnd_below(state, 6), true);
			ret = set ? pgprotect_ranges_add(&race.set, first, last,
							 GFP_KERNEL) :
				    pgprotect_ranges_remove(&race.set, first,
							    last, GFP_KERNEL);
			CHECK(!ret || shim_slab_heal(), "%d", ret);
			shim_slab_heal();
		}
	}
	mutex_unlock(&lock);
	return true;
}

static bool round_of(u64 *state, unsigned long *writes)
{
	pthread_t thread[NR_READERS];
	unsigned int i;
	void *good;
	bool ok;

	memset(&race, 0, sizeof(race));
	lay_out(state);
	pgprotect_ranges_init(&race.set, &lock);
	for (i = 0; i < NR_SEGMENTS; i++)
		if (race.seg[i].kind == SET)
			pgprotect_ranges_add(&race.set, race.seg[i].first,
					     race.seg[i].last, GFP_KERNEL);

	for (i = 0; i < NR_READERS; i++)
		pthread_create(&thread[i], NULL, reader,
			       (void *)(unsigned long)rnd(state));
	ok = write_until(now_ms() + ROUND_MS, state, writes);
	uatomic_set(&race.stop, 1);
	for (i = 0; i < NR_READERS; i++) {
		pthread_join(thread[i], &good);
		ok = ok && good;
	}
	mutex_lock(&lock);
	pgprotect_ranges_destroy(&race.set);
	mutex_unlock(&lock);
	return ok;
}

static bool no_flicker(void)
{
	u64 state = unit_seed * 0x9e3779b97f4a7c15ULL + 7;
	u64 end = now_ms() + unit_race_ms;
	unsigned long writes = 0, reads = 0;

	while (now_ms() < end) {
		CHECK(round_of(&state, &writes), "see above");
		reads += race.reads;
	}
	rcu_barrier();
	printf("# %lu reads, %lu writes\n", reads, writes);
	CHECK(reads && writes, "nobody was there");
	CHECK(!shim_slab_live(), "%ld objects leaked", shim_slab_live());
	return true;
}

/* Readers of anything at all: the sanitizer is the judge. */
static void *careless_reader(void *arg)
{
	u64 state = (unsigned long)arg | 1;
	unsigned long first, last;

	rcu_register_thread();
	while (!uatomic_read(&race.stop)) {
		first = rnd_below(&state, 40 * CHUNK);
		last = first + rnd_below(&state, 40 * CHUNK);
		rcu_read_lock();
		pgprotect_ranges_test(&race.set, first);
		pgprotect_ranges_weight(&race.set, first, last);
		pgprotect_ranges_next_run(&race.set, &first, &last);
		rcu_read_unlock();
	}
	rcu_unregister_thread();
	return NULL;
}

static bool destroy_under_readers(void)
{
	u64 state = unit_seed * 0x9e3779b97f4a7c15ULL + 9;
	u64 end = now_ms() + unit_race_ms / 4;
	pthread_t thread[NR_READERS];
	unsigned long at, rounds = 0;
	unsigned int i;

	memset(&race, 0, sizeof(race));
	pgprotect_ranges_init(&race.set, &lock);
	for (i = 0; i < NR_READERS; i++)
		pthread_create(&thread[i], NULL, careless_reader,
			       (void *)(unsigned long)rnd(&state));
	mutex_lock(&lock);
	for (; now_ms() < end; rounds++) {
		for (i = 0; i < 60; i++) {
			at = rnd_below(&state, 70 * CHUNK);
			pgprotect_ranges_add(&race.set, at,
					     at + rnd_below(&state, 3 * CHUNK),
					     GFP_KERNEL);
		}
		pgprotect_ranges_destroy(&race.set);
	}
	mutex_unlock(&lock);
	uatomic_set(&race.stop, 1);
	for (i = 0; i < NR_READERS; i++)
		pthread_join(thread[i], NULL);
	rcu_barrier();
	printf("# %lu rounds\n", rounds);
	CHECK(!shim_slab_live(), "%ld objects leaked", shim_slab_live());
	return true;
}

const struct ktap_case ranges_race_cases[] = {
	{ "ranges: no page flickers while others change", no_flicker },
	{ "ranges: destroyed under readers", destroy_under_readers },
	{ }
};
