// SPDX-License-Identifier: GPL-2.0
/* what a range set should contain, kept in the plainest way */
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

#include <linux/xarray.h>

#include "ktap.h"
#include "ranges_model.h"

void model_init(struct model *m, unsigned long nr_bytes)
{
	memset(m, 0, sizeof(*m));
	m->nr_bytes = nr_bytes;
	if (nr_bytes)
		m->bytes = calloc(1, nr_bytes);
}

void model_free(struct model *m)
{
	free(m->bytes);
	free(m->runs);
	memset(m, 0, sizeof(*m));
}

void model_clear(struct model *m)
{
	if (m->nr_bytes)
		memset(m->bytes, 0, m->nr_bytes);
	m->nr_runs = 0;
}

static void runs_append(struct model *m, unsigned long first,
			unsigned long last)
{
	struct model_run *prev = m->nr_runs ? &m->runs[m->nr_runs - 1] : NULL;

	if (prev && prev->last + 1 == first) {
		prev->last = last;
		return;
	}
	if (m->nr_runs == m->max_runs) {
		m->max_runs = m->max_runs ? 2 * m->max_runs : 16;
		m->runs = realloc(m->runs, m->max_runs * sizeof(*m->runs));
	}
	m->runs[m->nr_runs++] = (struct model_run){ first, last };
}

/* Copy the runs that are left of the span, the span, and those to its right. */
static void runs_change(struct model *m, unsigned long first,
			unsigned long last, bool set)
{
	struct model new = { 0 };
	unsigned int i;

	for (i = 0; i < m->nr_runs && m->runs[i].first < first; i++)
		runs_append(&new, m->runs[i].first,
			    m->runs[i].last < first ? m->runs[i].last :
						      first - 1);
	if (set)
		runs_append(&new, first, last);
	for (i = 0; i < m->nr_runs; i++)
		if (m->runs[i].last > last)
			runs_append(&new,
				    m->runs[i].first > last ? m->runs[i].first :
							      last + 1,
				    m->runs[i].last);
	free(m->runs);
	*m = new;
}

void model_change(struct model *m, unsigned long first, unsigned long last,
		  bool set)
{
	if (m->nr_bytes)
		memset(m->bytes + first, set, last - first + 1);
	else
		runs_change(m, first, last, set);
}

void model_merge(struct model *dst, const struct model *src)
{
	unsigned long i;

	for (i = 0; i < src->nr_bytes; i++)
		dst->bytes[i] |= src->bytes[i];
	for (i = 0; i < src->nr_runs; i++)
		runs_change(dst, src->runs[i].first, src->runs[i].last, true);
}

bool model_next_run(const struct model *m, unsigned long *first,
		    unsigned long *last)
{
	unsigned char *found, *end;
	unsigned int i;

	if (m->nr_bytes) {
		found = memchr(m->bytes + *first, 1, *last - *first + 1);
		if (!found)
			return false;
		*first = found - m->bytes;
		end = memchr(found, 0, *last - *first + 1);
		if (end)
			*last = end - m->bytes - 1;
		return true;
	}
	for (i = 0; i < m->nr_runs; i++) {
		if (m->runs[i].last < *first || m->runs[i].first > *last)
			continue;
		if (m->runs[i].first > *first)
			*first = m->runs[i].first;
		if (m->runs[i].last < *last)
			*last = m->runs[i].last;
		return true;
	}
	return false;
}

bool model_test(const struct model *m, unsigned long page)
{
	unsigned long last = page;

	return model_next_run(m, &page, &last);
}

unsigned long model_weight(const struct model *m, unsigned long first,
			   unsigned long last)
{
	unsigned long weight = 0, from = first, to = last;

	while (from <= last && model_next_run(m, &from, &to)) {
		weight += to - from + 1;
		from = to + 1;
		to = last;
	}
	return weight;
}

bool model_check_span(const struct model *m, struct pgprotect_ranges *r,
		      unsigned long first, unsigned long last)
{
	unsigned long want_first = first, want_last = last;
	unsigned long got_first = first, got_last = last;
	unsigned long want, weight;
	bool run, hit, got;

	want = model_weight(m, first, last);
	run = model_next_run(m, &want_first, &want_last);

	rcu_read_lock();
	weight = pgprotect_ranges_weight(r, first, last);
	hit = pgprotect_ranges_intersects(r, first, last);
	got = pgprotect_ranges_next_run(r, &got_first, &got_last);
	rcu_read_unlock();

	CHECK(weight == want, "%#lx..%#lx: %lu, not %lu", first, last, weight,
	      want);
	CHECK(hit == !!want, "%#lx..%#lx: %d", first, last, hit);
	CHECK(got == run, "%#lx..%#lx: %d", first, last, got);
	CHECK(got_first == want_first && got_last == want_last,
	      "%#lx..%#lx: run %#lx..%#lx, not %#lx..%#lx", first, last,
	      got_first, got_last, want_first, want_last);
	return true;
}

static bool check_page(const struct model *m, struct pgprotect_ranges *r,
		       unsigned long page)
{
	bool got;

	if (page > (m->nr_bytes ? m->nr_bytes - 1 : MODEL_MAX))
		return true;
	rcu_read_lock();
	got = pgprotect_ranges_test(r, page);
	rcu_read_unlock();
	CHECK(got == model_test(m, page), "page %#lx: %d", page, got);
	return true;
}

bool model_check_tree(struct pgprotect_ranges *r)
{
	MA_STATE(mas, &r->mt, 0, 0);
	unsigned long all_last = 0, maps = 0;
	bool all = false;
	void *entry;

	mt_validate(&r->mt);

	rcu_read_lock();
	mas_for_each(&mas, entry, ULONG_MAX) {
		if (entry != xa_mk_value(1)) {
			CHECK(mas.index == mas.last, "bitmap at %#lx..%#lx",
			      mas.index, mas.last);
			maps++;
			continue;
		}
		CHECK(!all || mas.index > all_last + 1,
		      "two entries for one span, at %#lx", mas.index);
		all = true;
		all_last = mas.last;
	}
	rcu_read_unlock();
	CHECK(maps == r->nr_maps, "%lu bitmaps, %lu counted", maps, r->nr_maps);
	return true;
}

bool model_check(const struct model *m, struct pgprotect_ranges *r)
{
	const unsigned long max = m->nr_bytes ? m->nr_bytes - 1 : MODEL_MAX;
	unsigned long first = 0, last = max;
	unsigned long want;

	want = model_weight(m, 0, max);
	CHECK(r->nr_pages == want, "nr_pages %lu, not %lu", r->nr_pages, want);

	/* Each run, and the pages at its ends from both sides. */
	while (model_next_run(m, &first, &last)) {
		if (!check_page(m, r, first) || !check_page(m, r, last) ||
		    !check_page(m, r, first - 1) ||
		    !check_page(m, r, last + 1) ||
		    !model_check_span(m, r, first, last) ||
		    !model_check_span(m, r, first, max))
			return false;
		if (last == max)
			break;
		first = last + 1;
		last = max;
	}
	return model_check_span(m, r, 0, max) && model_check_tree(r);
}

int ranges_change(struct pgprotect_ranges *r, struct mutex *lock,
		  unsigned long first, unsigned long last, bool set, gfp_t gfp)
{
	int ret;

	mutex_lock(lock);
	if (set)
		ret = pgprotect_ranges_add(r, first, last, gfp);
	else
		ret = pgprotect_ranges_remove(r, first, last, gfp);
	mutex_unlock(lock);
	return ret;
}
