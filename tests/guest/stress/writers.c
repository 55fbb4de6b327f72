// SPDX-License-Identifier: GPL-2.0
/*
 * A writer: looks whether its bytes are what it left there, writes others by a route
 * chosen at random, and judges the outcome.
 *
 * It uses a few routes for a while, then others. That brings out what two of them do
 * to each other, which all of them at once would bury.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "../routes/common/memory.h"
#include "fault.h"
#include "route.h"

#define PHASE_TURNS	60

static const struct route *const tables[] = {
	store_routes, call_routes, memory_routes, page_routes,
};

const struct route *route_number(unsigned int number)
{
	for (size_t i = 0; i < ARRAY_LEN(tables); i++)
		for (const struct route *r = tables[i]; r->name; r++)
			if (!number--)
				return r;
	return NULL;
}

int reopen_try(struct run *run, unsigned int file, int flags)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", run->file[file].fd);
	return open(path, flags | O_CLOEXEC);
}

int reopen(struct run *run, unsigned int file, int flags)
{
	int fd = reopen_try(run, file, flags);

	if (fd < 0)
		die("open file %u", file);
	return fd;
}

void seat_doing(struct seat *seat, const char *what, unsigned int file, uint64_t at)
{
	seat->doing = what;
	seat->file = file;
	seat->at = at;
}

/* --- signals that interrupt, when the writer can tell what they did --- */

static void on_alarm(int sig)
{
}

static sigset_t alarm_set;

static void alarm_prepare(void)
{
	struct sigaction action = { .sa_handler = on_alarm };

	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm_set, NULL);
	sigaction(SIGALRM, &action, NULL);
}

void signals_on(struct hand *h)
{
	if (h->interrupts)
		pthread_sigmask(SIG_UNBLOCK, &alarm_set, NULL);
}

void signals_off(struct hand *h)
{
	if (h->interrupts)
		pthread_sigmask(SIG_BLOCK, &alarm_set, NULL);
}

static void interrupts_set(struct hand *h, bool on)
{
	struct itimerval timer = { };

	if (on)
		timer.it_interval.tv_usec = timer.it_value.tv_usec =
			5000 + random_below(&h->random, 100000);
	h->interrupts = on;
	setitimer(ITIMER_REAL, &timer, NULL);
}

/* --- what to write --- */

static unsigned int kind_of(struct hand *h, const struct route *route)
{
	unsigned int kind;

	do {
		kind = 1 << random_below(&h->random, NR_KINDS);
	} while (!(kind & route->kinds));
	return kind;
}

static void target_record(struct hand *h, struct target *t)
{
	const unsigned char *old;
	uint64_t number;

	t->at = record_page(h->run, &h->random) * h->run->unit + h->number * RECORD;
	t->length = RECORD;
	old = h->run->shadow[t->file] + t->at;
	memcpy(&number, old, sizeof(number));
	pattern(t->data, RECORD, number + 1, h->number);
}

static void target_word(struct hand *h, struct target *t, unsigned int kind)
{
	t->at = record_page(h->run, &h->random) * h->run->unit;
	t->at += kind == KIND_ADD ? WORD_ADDED : WORD_FUTEX;
	t->length = kind == KIND_ADD ? 8 : 4;
}

static void target_own(struct hand *h, struct target *t, unsigned int kind)
{
	const struct layout *l = &h->run->layout;
	unsigned int first = kind == KIND_DIRECT ? l->direct : l->runs;
	unsigned int pages = kind == KIND_DIRECT ? l->direct_pages : l->run_pages;
	size_t unit = h->run->unit, size = pages * unit;
	uint64_t at = random_below(&h->random, size);
	uint64_t length = 1 + random_below(&h->random, (MAX_SPAN - 1) * unit);

	if (kind & (KIND_PAGES | KIND_HOLE | KIND_DIRECT)) {
		at -= at % unit;
		length += unit - 1;
		length -= length % unit;
	}
	if (length > size - at)
		length = size - at;
	t->at = (first + h->number * pages) * unit + at;
	t->length = length;
	if (kind & (KIND_ZEROS | KIND_HOLE))
		memset(t->data, 0, length);
	else
		pattern(t->data, length, h->seat->turns, h->number);
}

/* A huge page: there is no write() for other bytes of it. */
static void target_huge(struct hand *h, struct target *t)
{
	const struct layout *l = &h->run->layout;

	t->at = (l->runs + h->number * l->run_pages) * h->run->unit;
	t->length = h->run->unit;
	t->data = h->zeros;
}

/* Not every zero is a hole, and a hole does not last: others fill it by looking at it. */
static void target_hole(struct hand *h, struct target *t, unsigned int kind)
{
	t->file = h->hole_file;
	t->at = h->hole_at;
	t->length = h->run->unit;
	if (kind == KIND_FILL_ZERO)
		memset(t->data, 0, t->length);
	else
		pattern(t->data, t->length, h->seat->turns, h->number);
}

/* False: there is nothing of that kind. */
static bool target_choose(struct hand *h, struct target *t, unsigned int kind)
{
	t->file = random_below(&h->random, FILES);
	t->data = h->buffer;
	if (kind == KIND_RECORD)
		target_record(h, t);
	else if ((kind & (KIND_FILL | KIND_FILL_ZERO)) && h->hole)
		target_hole(h, t, kind);
	else if (kind & (KIND_FILL | KIND_FILL_ZERO))
		return false;
	else if (kind & (KIND_ADD | KIND_ADD_FUTEX))
		target_word(h, t, kind);
	else if (kind == KIND_HOLE && h->zeros)
		target_huge(h, t);
	else if (h->zeros)
		return false;
	else if (kind == KIND_DIRECT ? h->run->layout.direct_pages : h->run->layout.run_pages)
		target_own(h, t, kind);
	else
		return false;
	t->old = h->run->shadow[t->file] + t->at;
	return true;
}

/* --- what came of it --- */

static void found(struct hand *h, enum failure_kind kind, const struct route *route,
		  const struct target *t, uint64_t offset, const char *text)
{
	struct failure f = { .kind = kind, .file = t->file, .offset = offset };

	snprintf(f.who, sizeof(f.who), "writer %u", h->number);
	snprintf(f.route, sizeof(f.route), "%s", route->name);
	snprintf(f.text, sizeof(f.text), "%s", text);
	fail(h->run, &f);
}

static bool is_word(unsigned int kind)
{
	return kind & (KIND_ADD | KIND_ADD_FUTEX);
}

/* Others add to words meanwhile. */
static void look(struct hand *h, const struct target *t, unsigned int kind,
		 enum failure_kind failure, const struct route *route)
{
	const char *map = random_one_in(&h->random, 2) ? h->own[t->file] : NULL;
	int64_t offset;

	/* Reading through a mapping fills a hole. */
	if (kind != KIND_RECORD)
		map = NULL;
	offset = is_word(kind) ? -1
		: model_difference(h->run, t->file, t->at, t->length, map);
	if (offset >= 0)
		found(h, failure, route, t, offset,
		      map ? "seen through a mapping" : "seen by pread");
}

/* All of it is done: no page of it can have been protected all the time. */
static void judge_wrote(struct hand *h, const struct target *t, unsigned int kind,
			struct watch *watch, const struct route *route)
{
	int page = watch_next(h->run, watch, 0);
	unsigned char *shadow = h->run->shadow[t->file] + t->at;

	if (kind == KIND_ADD)
		atomic_fetch_add((_Atomic uint64_t *)shadow, 1);
	else if (kind == KIND_ADD_FUTEX)
		atomic_fetch_add((_Atomic uint32_t *)shadow, 1);
	else
		memcpy(shadow, t->data, t->length);
	h->hole = kind == KIND_HOLE && !h->zeros;
	h->hole_file = t->file;
	h->hole_at = t->at;
	if (page >= 0)
		found(h, ESCAPED, route, t, page == (int)(t->at / h->run->unit)
		      ? t->at : page * h->run->unit, "all of it");
}

/*
 * Each byte is the old or the new one. What is there is what there is to be from now
 * on; but in a page that was protected all the time it is what was there.
 */
static void judge_torn(struct hand *h, const struct target *t, struct watch *watch,
		       const struct route *route)
{
	unsigned char *shadow = h->run->shadow[t->file] + t->at;
	unsigned char now[MAX_SPAN * 4096];
	int page = -1;

	if (model_read(h->run, t->file, t->at, t->length, now, NULL) != t->length)
		die("file %u ends before %#lx", t->file, (unsigned long)(t->at + t->length));
	for (size_t i = 0; i < t->length; i++) {
		unsigned int here = (t->at + i) / h->run->unit;

		if (now[i] == shadow[i])
			continue;
		if (page != (int)here)
			page = watch_next(h->run, watch, here);
		if (page == (int)here) {
			found(h, ESCAPED, route, t, t->at + i, "in part");
			return;
		}
		if (now[i] != t->data[i]) {
			found(h, LOST, route, t, t->at + i, "neither the old nor the new byte");
			return;
		}
	}
	memcpy(shadow, now, t->length);
}

static void turn(struct hand *h, unsigned int number)
{
	const struct route *route = route_number(number);
	struct tally *tally = &h->run->tally[number];
	unsigned int kind = kind_of(h, route);
	uint64_t start = now_ns();
	struct target t;
	struct watch watch;

	seat_doing(h->seat, route->name, 0, 0);
	if (!target_choose(h, &t, kind)) {
		tally->skipped++;
		return;
	}
	h->hole = false;
	seat_doing(h->seat, route->name, t.file, t.at);
	look(h, &t, kind, LOST, route);
	watch_begin(h->run, &watch, t.file, t.at, t.length);
	switch (fault_outcome(h, route->op(h, &t))) {
	case WROTE:
		judge_wrote(h, &t, kind, &watch, route);
		tally->wrote++;
		tally->waited += watch_found_protected(&watch);
		break;
	case REFUSED:
		look(h, &t, kind, REFUSED_DONE, route);
		tally->refused++;
		break;
	case TORN:
		judge_torn(h, &t, &watch, route);
		tally->torn++;
		break;
	case SKIPPED:
		tally->skipped++;
		break;
	}
	tally->ns += now_ns() - start;
}

/* --- phases --- */

static bool route_wanted(const struct options *options, const char *name)
{
	const char *list = options->routes;

	while (list) {
		size_t length = strcspn(list, ",");

		if (!strncmp(list, name, length))
			return true;
		list = list[length] ? list + length + 1 : NULL;
	}
	return !options->routes;
}

static unsigned int wanted_routes(const struct options *options, unsigned int *wanted,
				  unsigned int kinds)
{
	const struct route *r;
	unsigned int nr = 0;

	for (unsigned int i = 0; (r = route_number(i)); i++)
		if ((r->kinds & kinds) && route_wanted(options, r->name))
			wanted[nr++] = i;
	return nr;
}

static unsigned int choose_routes(struct hand *h, unsigned int *chosen)
{
	unsigned int wanted[MAX_ROUTES], nr = 0;
	unsigned int nr_wanted = wanted_routes(&h->run->options, wanted, ~0U);

	if (!nr_wanted)
		return 0;
	do {
		chosen[nr++] = wanted[random_below(&h->random, nr_wanted)];
	} while (nr < 6);
	return nr;
}

/* A hole is worth a fill before others find it. */
static unsigned int next_route(struct hand *h, const unsigned int *chosen, unsigned int nr)
{
	unsigned int fills[MAX_ROUTES], nr_fills = 0;

	if (h->hole && !random_one_in(&h->random, 4))
		nr_fills = wanted_routes(&h->run->options, fills, KIND_FILL | KIND_FILL_ZERO);
	return nr_fills ? fills[random_below(&h->random, nr_fills)]
			: chosen[random_below(&h->random, nr)];
}

static void phase(struct hand *h)
{
	unsigned int chosen[6], nr = choose_routes(h, chosen);
	bool wild = false;

	if (!nr)
		die("no route is named %s", h->run->options.routes);
	for (unsigned int i = 0; i < nr; i++)
		wild |= !strcmp(route_number(chosen[i])->name, "store-wild");
	wild_set(h, wild);
	interrupts_set(h, random_one_in(&h->random, 4));
	for (int i = 0; i < PHASE_TURNS && !h->run->stop; i++) {
		turn(h, next_route(h, chosen, nr));
		h->seat->turns++;
	}
}

void writer_run(struct run *run, struct seat *seat, unsigned int number)
{
	struct hand *h = calloc(1, sizeof(*h));

	if (!h || posix_memalign((void **)&h->buffer, 4096, MAX_SPAN * 4096))
		die("memory for a writer");
	h->run = run;
	h->seat = seat;
	h->number = number;
	h->random = random_seed(run, 1000 + number);
	for (unsigned int i = 0; i < FILES; i++) {
		h->fd[i] = reopen(run, i, O_RDWR);
		h->direct[i] = run->choice->on_disk ? reopen_try(run, i, O_RDWR | O_DIRECT) : -1;
		h->own[i] = map_aligned(run->file[i].fd, run->file[i].size);
	}
	if (run->choice->unit) {
		h->zeros = mmap(NULL, run->unit, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (h->zeros == MAP_FAILED)
			die("zeros for a writer");
	}
	alarm_prepare();
	guard_install();
	wild_start(h);
	fault_of_writer(h);
	while (!run->stop)
		phase(h);
	wild_set(h, false);
	interrupts_set(h, false);
}
