// SPDX-License-Identifier: GPL-2.0
/*
 * The keeper protects pages at random, and keeps a copy of each from the moment PROTECT
 * has returned. The page must equal its copy until just before its release: by verdict,
 * by UNPROTECT, by COPY, by DETACH, or by the end of the context.
 *
 *	keeper					writer
 *						generation is 0
 *	PROTECT returns
 *	generation = round
 *	copy of the page
 *						generation is round
 *						writes: must not be done before
 *	page equals the copy?
 *	generation = 0
 *	release
 *						done; generation is not round
 *
 * Three attachments of each file: one stalls, one denies, and one denies the pages that
 * are protected in both files at once (cut.c). A page is protected from the first of
 * them to the last.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../regress/common/switches.h"
#include "../routes/common/memory.h"
#include "fault.h"
#include "keeper.h"

enum { STALL, DENY, CUT, NR_ATTACHMENTS };

#define MAX_STRETCHES	8
#define MAX_PINS	64
#define BATCH		64
#define MAX_HELD	256
#define STUCK_MS	90000
#define NR_STEPS	10

/* What the keeper knows of a page. */
struct kept {
	uint8_t by;		/* bits of attachments */
	bool fresh;		/* since the PROTECT under way */
	bool watched;		/* there is a copy; not so while it was pinned */
};

/* Pages of one attachment. */
struct stretch {
	unsigned int file, attachment;
	unsigned int first, nr;
	bool to_eof;
};

struct keeper {
	struct run *run;
	uint64_t random;
	int ctx;
	uint32_t id[FILES][NR_ATTACHMENTS];
	const char *view[FILES];		/* for reading */
	struct kept kept[FILES][MAX_PAGES];
	unsigned char *copy[FILES];
	unsigned char *now;			/* one page */
	struct pgprotect_event held[MAX_HELD];	/* STALL events without an answer */
	unsigned int nr_held;
	/* For the report. */
	uint64_t taken[NR_STEPS], ns[NR_STEPS];
	uint64_t protects, pages, pinned, busy, looks, events, allowed, refused, copied, renewed;
};

/* --- the context --- */

static void open_context(struct keeper *k)
{
	k->ctx = ctx_open();
	for (unsigned int f = 0; f < FILES; f++)
		for (unsigned int a = 0; a < NR_ATTACHMENTS; a++)
			k->id[f][a] = ctx_attach(k->ctx, k->run->file[f].fd,
						 a == STALL ? PGPROTECT_MODE_STALL
							    : PGPROTECT_MODE_DENY, 0);
}

/* For reading. Of a directory as a whole, if that is shared. */
static const char *view_of(const struct test_file *file)
{
	char *view = file->size < GIB ?
		mmap(NULL, file->size, PROT_READ, MAP_SHARED, file->fd, 0) :
		map_aligned(file->fd, file->size);

	if (view == MAP_FAILED || mprotect(view, file->size, PROT_READ))
		die("view of a file");
	return view;
}

struct keeper *keeper_make(struct run *run)
{
	struct keeper *k = calloc(1, sizeof(*k));
	size_t size = run->layout.pages * run->unit;

	if (!k)
		die("memory for the keeper");
	k->run = run;
	k->random = random_seed(run, 1);
	k->now = malloc(run->unit);
	for (unsigned int f = 0; f < FILES; f++) {
		k->copy[f] = malloc(size);
		k->view[f] = view_of(&run->file[f]);
		if (!k->copy[f] || !k->now)
			die("memory for the keeper");
	}
	/* Who is forgotten shall wait, not go on by itself. */
	stall_limit_write(0);
	open_context(k);
	fault_of_keeper(run);
	return k;
}

static void broken(struct keeper *k, const char *call, int ret)
{
	struct failure f = { .kind = BROKEN, .who = "keeper" };

	snprintf(f.route, sizeof(f.route), "%s", call);
	snprintf(f.text, sizeof(f.text), "returned %d", ret);
	fail(k->run, &f);
}

/* --- copies --- */

/* Zeros after the end of the file: that is what growth adds. */
static void read_kept(struct keeper *k, unsigned int file, unsigned int page,
		      unsigned char *data)
{
	bool stays = layout_is_records(&k->run->layout, page);
	size_t got = model_read(k->run, file, page * k->run->unit, k->run->unit, data,
				stays && (k->run->calm || random_one_in(&k->random, 2)) ?
					k->view[file] : NULL);

	memset(data + got, 0, k->run->unit - got);
}

static void look(struct keeper *k, unsigned int file, unsigned int page)
{
	struct failure f = { .kind = CHANGED, .file = file, .who = "keeper", .route = "look" };
	const unsigned char *copy = k->copy[file] + page * k->run->unit;
	size_t at = 0;

	if (!k->kept[file][page].watched)
		return;
	k->looks++;
	read_kept(k, file, page, k->now);
	if (!memcmp(copy, k->now, k->run->unit))
		return;
	while (copy[at] == k->now[at])
		at++;
	f.offset = page * k->run->unit + at;
	snprintf(f.text, sizeof(f.text), "protected in round %u; byte was %#x, is %#x",
		 k->run->generation[file][page], copy[at], k->now[at]);
	fail(k->run, &f);
}

static void look_anywhere(struct keeper *k)
{
	unsigned int file = random_below(&k->random, FILES);
	unsigned int page = random_below(&k->random, k->run->layout.pages);

	/* The next that is watched, if any. */
	for (unsigned int i = 0; i < k->run->layout.pages; i++, page++) {
		page %= k->run->layout.pages;
		if (k->kept[file][page].watched) {
			look(k, file, page);
			return;
		}
	}
}

/* --- what to protect --- */

static unsigned int stretch_end(const struct keeper *k, const struct stretch *s)
{
	unsigned int end = s->first + s->nr;

	return s->to_eof || end > k->run->layout.pages ? k->run->layout.pages : end;
}

static struct stretch choose_stretch(struct keeper *k)
{
	const struct layout *l = &k->run->layout;
	struct stretch s = { .file = random_below(&k->random, FILES), .nr = 1 };

	s.attachment = random_one_in(&k->random, 6) ? DENY : STALL;
	switch (random_below(&k->random, 10)) {
	case 0:
		s.first = l->records + random_below(&k->random, l->pages - l->records);
		s.nr = 1 + random_below(&k->random, 32);
		break;
	case 1:
	case 2:
		s.first = l->records;
		s.nr = l->runs - l->records;
		break;
	case 3:
		s.first = l->records;
		s.to_eof = true;
		break;
	case 4:
		s.first = l->tail < l->pages ? l->tail : l->records;
		s.to_eof = true;
		break;
	case 5:
		s.first = l->runs;
		s.nr = l->unused - l->runs + 1;
		if (l->direct < l->tail && random_one_in(&k->random, 2)) {
			s.first = l->direct;
			s.nr = 1 + random_below(&k->random, l->tail - l->direct);
		}
		break;
	default:
		s.first = record_page(k->run, &k->random);
	}
	return s;
}

static struct pgprotect_range range_of_stretch(const struct keeper *k, const struct stretch *s)
{
	size_t unit = k->run->unit;
	uint64_t length = stretch_end(k, s) * unit - s->first * unit;

	return range_of(k->id[s->file][s->attachment], s->first * unit,
			s->to_eof ? PGPROTECT_TO_EOF : length);
}

static bool is_pinned(const struct keeper *k, const struct pgprotect_protect *args,
		      const struct stretch *s, unsigned int page)
{
	const struct pgprotect_range *pins = (void *)(uintptr_t)args->pins;
	uint64_t at = page * k->run->unit;

	if (args->nr_pins > args->max_pins)
		return true;
	for (uint32_t i = 0; i < args->nr_pins; i++)
		if (pins[i].file == k->id[s->file][s->attachment] &&
		    pins[i].offset < at + k->run->unit && at < pins[i].offset + pins[i].length)
			return true;
	return false;
}

static void note_protected(struct keeper *k, const struct stretch *s)
{
	for (unsigned int p = s->first; p < stretch_end(k, s); p++) {
		struct kept *kept = &k->kept[s->file][p];

		if (!kept->by) {
			kept->fresh = true;
			k->run->generation[s->file][p] = k->run->round;
		}
		kept->by |= 1 << s->attachment;
	}
}

static void keep_copies(struct keeper *k, const struct stretch *s,
			const struct pgprotect_protect *args)
{
	for (unsigned int p = s->first; p < stretch_end(k, s); p++) {
		struct kept *kept = &k->kept[s->file][p];

		if (!kept->fresh)
			continue;
		kept->fresh = false;
		kept->watched = !is_pinned(k, args, s, p);
		k->pages++;
		k->pinned += !kept->watched;
		if (kept->watched)
			read_kept(k, s->file, p, k->copy[s->file] + p * k->run->unit);
	}
}

static void protect(struct keeper *k, const struct stretch *s, unsigned int nr, bool strict)
{
	struct pgprotect_range ranges[MAX_STRETCHES], pins[MAX_PINS];
	struct pgprotect_protect args = {
		.ranges = (uintptr_t)ranges, .nr_ranges = nr,
		.pins = (uintptr_t)pins, .max_pins = MAX_PINS,
		.flags = strict ? PGPROTECT_PROTECT_STRICT : 0,
	};
	int ret;

	for (unsigned int i = 0; i < nr; i++)
		ranges[i] = range_of_stretch(k, &s[i]);
	ret = ctx_protect_args(k->ctx, &args);
	k->protects++;
	if (ret == -EBUSY && strict) {
		k->busy++;
		return;
	}
	if (ret) {
		broken(k, "PROTECT", ret);
		return;
	}
	for (unsigned int i = 0; i < nr; i++)
		note_protected(k, &s[i]);
	for (unsigned int i = 0; i < nr; i++)
		keep_copies(k, &s[i], &args);
}

static void protect_some(struct keeper *k)
{
	struct stretch s[MAX_STRETCHES];
	unsigned int nr = 1;

	while (nr < MAX_STRETCHES && random_one_in(&k->random, 2))
		nr++;
	for (unsigned int i = 0; i < nr; i++)
		s[i] = choose_stretch(k);
	protect(k, s, nr, random_one_in(&k->random, 10));
}

/* --- release --- */

/* To be called before the call that releases. */
static void note_released(struct keeper *k, const struct stretch *s)
{
	for (unsigned int p = s->first; p < stretch_end(k, s); p++) {
		struct kept *kept = &k->kept[s->file][p];
		bool last = kept->by == 1 << s->attachment;

		if (last) {
			look(k, s->file, p);
			kept->watched = false;
			k->run->generation[s->file][p] = 0;
		}
		kept->by &= ~(1 << s->attachment);
	}
}

static void unprotect(struct keeper *k, const struct stretch *s, unsigned int nr)
{
	struct pgprotect_range ranges[MAX_STRETCHES];
	int ret;

	for (unsigned int i = 0; i < nr; i++) {
		note_released(k, &s[i]);
		ranges[i] = range_of_stretch(k, &s[i]);
	}
	ret = ctx_unprotect(k->ctx, ranges, nr);
	if (ret)
		broken(k, "UNPROTECT", ret);
}

static void unprotect_some(struct keeper *k)
{
	struct stretch s[MAX_STRETCHES];
	unsigned int nr = 1 + random_below(&k->random, MAX_STRETCHES);

	for (unsigned int i = 0; i < nr; i++)
		s[i] = choose_stretch(k);
	unprotect(k, s, nr);
}

static struct stretch all_of(unsigned int file, unsigned int attachment)
{
	return (struct stretch){ .file = file, .attachment = attachment, .to_eof = true };
}

static void unprotect_all(struct keeper *k)
{
	for (unsigned int f = 0; f < FILES; f++) {
		struct stretch s[] = { all_of(f, STALL), all_of(f, DENY) };

		unprotect(k, s, 2);
	}
}

/* --- events --- */

static bool stretch_of_event(const struct keeper *k, const struct pgprotect_event *event,
			     struct stretch *s)
{
	for (unsigned int f = 0; f < FILES; f++)
		if (event->file == k->id[f][STALL]) {
			*s = (struct stretch){
				.file = f, .attachment = STALL,
				.first = event->offset / k->run->unit,
				.nr = event->length / k->run->unit,
			};
			return true;
		}
	return false;
}

static void hold(struct keeper *k, const struct pgprotect_event *events, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		if (events[i].type != PGPROTECT_EVENT_STALL)
			continue;
		k->held[k->nr_held++] = events[i];
		k->events++;
	}
}

/* Answers, and fetches; waits no longer than @ns for the first. */
static void next(struct keeper *k, struct pgprotect_verdict *verdicts, unsigned int nr, int64_t ns)
{
	struct pgprotect_event events[BATCH];
	struct pgprotect_next args = {
		.verdicts = (uintptr_t)verdicts, .nr_verdicts = nr,
		.events = (uintptr_t)events,
		.max_events = MAX_HELD - k->nr_held < BATCH ? MAX_HELD - k->nr_held : BATCH,
		.timeout_ns = ns,
	};
	int ret;

	args.min_events = args.max_events ? 1 : 0;
	ret = ctx_next_args(k->ctx, &args);
	if (ret)
		broken(k, "NEXT", ret);
	else
		hold(k, events, args.nr_events);
}

static void listen(struct keeper *k, int64_t ns)
{
	next(k, NULL, 0, ns);
}

/* Writes the page as it is, but for a word of the keeper's own, and releases it. */
static bool copy_through(struct keeper *k, const struct pgprotect_event *event)
{
	struct stretch s;
	unsigned char *copy;
	uint64_t word, copied = 0;
	int ret;

	if (!stretch_of_event(k, event, &s) || !k->run->choice->writes ||
	    !layout_is_records(&k->run->layout, s.first) || s.first < k->run->layout.records ||
	    !k->kept[s.file][s.first].watched || k->kept[s.file][s.first].by != 1 << STALL)
		return false;
	s.nr = 1;
	note_released(k, &s);
	copy = k->copy[s.file] + s.first * k->run->unit;
	memcpy(&word, copy + WORD_COPIED, sizeof(word));
	word++;
	memcpy(copy + WORD_COPIED, &word, sizeof(word));
	ret = ctx_copy(k->ctx, k->id[s.file][STALL], s.first * k->run->unit, copy, k->run->unit,
		       &copied);
	if (ret || copied != k->run->unit)
		broken(k, "COPY", ret);
	memcpy(k->run->shadow[s.file] + s.first * k->run->unit + WORD_COPIED, &word, sizeof(word));
	k->copied++;
	return true;
}

static struct pgprotect_verdict allow(struct keeper *k, const struct pgprotect_event *event)
{
	struct stretch s;

	if (stretch_of_event(k, event, &s))
		note_released(k, &s);
	k->allowed++;
	return (struct pgprotect_verdict){ .id = event->id, .action = PGPROTECT_ALLOW };
}

static struct pgprotect_verdict refuse(struct keeper *k, const struct pgprotect_event *event)
{
	static const int errors[] = { 0, EIO, EACCES, ENOSPC, EROFS };

	k->refused++;
	return (struct pgprotect_verdict){
		.id = event->id, .action = PGPROTECT_REFUSE,
		.error = errors[random_below(&k->random, ARRAY_LEN(errors))],
	};
}

/* @all: let everybody go. */
static void answer(struct keeper *k, bool all)
{
	struct pgprotect_verdict verdicts[BATCH];
	unsigned int nr = 0, kept = 0;

	for (unsigned int i = 0; i < k->nr_held; i++) {
		const struct pgprotect_event event = k->held[i];
		uint64_t choice = all ? 9 : random_below(&k->random, 10);

		if (nr == BATCH || choice == 0)
			k->held[kept++] = event;
		else if (choice == 1 && copy_through(k, &event))
			continue;
		else if (choice == 2)
			verdicts[nr++] = refuse(k, &event);
		else
			verdicts[nr++] = allow(k, &event);
	}
	k->nr_held = kept;
	next(k, verdicts, nr, 0);
}

void keeper_release_all(struct keeper *k)
{
	unprotect_all(k);
	for (unsigned int f = 0; f < FILES; f++) {
		struct stretch s = all_of(f, CUT);

		unprotect(k, &s, 1);
	}
	listen(k, 1000000);
	answer(k, true);
}

/* --- steps --- */

static uint64_t turns_of_all(const struct run *run)
{
	uint64_t turns = 0;

	for (unsigned int i = 0; i < run->nr_seats; i++)
		if (run->seat[i].writes)
			turns += run->seat[i].turns;
	return turns;
}

/* So many of all writers, but no longer than @ms. */
static void await_turns(struct keeper *k, unsigned int turns, unsigned int ms)
{
	uint64_t wanted = turns_of_all(k->run) + turns, end = now_ns() + ms * 1000000ULL;

	while (!k->run->stop && turns_of_all(k->run) < wanted && now_ns() < end)
		listen(k, 1000000);
}

/* Nothing is protected: the writers get on, and huge entries can be made. */
static void calm(struct keeper *k)
{
	unprotect_all(k);
	answer(k, true);
	await_turns(k, 5 + random_below(&k->random, 100), 200);
}

/* Until somebody is held at a delay point, but no longer than @ms. */
static void await_held(unsigned int ms)
{
	uint64_t end = now_ns() + ms * 1000000ULL;

	while (!delayed_now() && now_ns() < end)
		usleep(1000);
}

/*
 * Upon somebody who is held up, with its page's lock perhaps. A copy must not wait
 * for that: it is taken from entries that are there already.
 */
static void protect_calm(struct keeper *k)
{
	const struct layout *l = &k->run->layout;
	size_t unit = k->run->unit;
	struct stretch s[FILES];

	calm(k);
	for (unsigned int f = 0; f < FILES; f++) {
		s[f] = (struct stretch){
			.file = f, .attachment = DENY,
			.first = l->records, .nr = l->runs - l->records,
		};
		if (madvise((void *)k->view[f], l->runs * unit, MADV_POPULATE_READ))
			die("MADV_POPULATE_READ");
	}
	await_held(2000);
	protect(k, s, FILES, false);
}

/* Every second record: each of them has a neighbour that is not protected. */
static void protect_second(struct keeper *k)
{
	const struct layout *l = &k->run->layout;
	struct stretch s[FILES];

	for (unsigned int f = 0; f < FILES; f++)
		s[f] = (struct stretch){
			.file = f, .attachment = DENY,
			.first = l->records, .nr = l->runs - l->records,
		};
	protect(k, s, FILES, false);
	for (unsigned int f = 0; f < FILES; f++)
		for (unsigned int p = l->records | 1; p < l->runs; p += 2) {
			s[f].first = p;
			s[f].nr = 1;
			unprotect(k, &s[f], 1);
		}
	await_turns(k, 4 * k->run->options.writers, 2000);
}

static const struct seat *who_stands_still(const struct run *run, const uint64_t *turns)
{
	for (unsigned int i = 0; i < run->nr_seats; i++)
		if (run->seat[i].writes && run->seat[i].turns == turns[i])
			return &run->seat[i];
	return NULL;
}

/* Nothing is protected for so long that every writer must have got on. */
static void await_everybody(struct keeper *k)
{
	uint64_t turns[MAX_SEATS], end = now_ns() + STUCK_MS / k->run->hurry * 1000000ULL;
	const struct seat *still;
	struct failure f = { .kind = STUCK };

	for (unsigned int i = 0; i < k->run->nr_seats; i++)
		turns[i] = k->run->seat[i].turns;
	do {
		keeper_release_all(k);
		still = who_stands_still(k->run, turns);
	} while (!k->run->stop && still && now_ns() < end);
	if (!still || k->run->stop)
		return;
	snprintf(f.who, sizeof(f.who), "%s, process %d", still->role, still->pid);
	snprintf(f.route, sizeof(f.route), "%s", still->doing);
	f.file = still->file;
	f.offset = still->at;
	fail(k->run, &f);
}

static void cut_both(struct keeper *k)
{
	struct run *run = k->run;
	struct stretch s[FILES];

	for (unsigned int f = 0; f < FILES; f++)
		s[f] = (struct stretch){
			.file = f, .attachment = CUT, .nr = run->layout.records,
		};
	run->cut++;
	word_wake(&run->cut);
	protect(k, s, FILES, false);
	await_turns(k, 10, 50);
	run->cut++;
	unprotect(k, s, FILES);
	word_wake(&run->cut);
}

static void attach_again(struct keeper *k)
{
	unsigned int file = random_below(&k->random, FILES);
	unsigned int attachment = random_below(&k->random, 2) ? STALL : DENY;
	struct stretch s = all_of(file, attachment);
	int ret;

	note_released(k, &s);
	ret = ctx_detach(k->ctx, k->id[file][attachment]);
	if (ret)
		broken(k, "DETACH", ret);
	k->id[file][attachment] = ctx_attach(k->ctx, k->run->file[file].fd,
					     attachment == STALL ? PGPROTECT_MODE_STALL
								 : PGPROTECT_MODE_DENY, 0);
	k->renewed++;
}

static void open_again(struct keeper *k)
{
	for (unsigned int f = 0; f < FILES; f++)
		for (unsigned int a = 0; a < NR_ATTACHMENTS; a++) {
			struct stretch s = all_of(f, a);

			note_released(k, &s);
		}
	close(k->ctx);
	k->nr_held = 0;
	open_context(k);
	k->renewed++;
}

static void answer_some(struct keeper *k)
{
	answer(k, false);
}

static void listen_awhile(struct keeper *k)
{
	listen(k, random_below(&k->random, 3000000));
}

static const struct {
	const char *name;
	void (*step)(struct keeper *k);
	unsigned int weight;
} steps[NR_STEPS] = {
	{ "protect", protect_some, 300 },
	{ "unprotect", unprotect_some, 70 },
	{ "answer", answer_some, 250 },
	{ "look", look_anywhere, 100 },
	{ "listen", listen_awhile, 100 },
	{ "cut", cut_both, 70 },
	{ "calm", calm, 80 },
	{ "await", await_everybody, 2 },
	{ "attach", attach_again, 5 },
	{ "open", open_again, 5 },
};

void keeper_step(struct keeper *k)
{
	uint64_t choice, sum = 0, start = now_ns();
	unsigned int i = 0;

	/* 0 is no generation. */
	if (!++k->run->round)
		k->run->round++;
	for (i = 0; i < NR_STEPS; i++)
		sum += steps[i].weight;
	choice = random_below(&k->random, sum);
	for (i = 0; choice >= steps[i].weight; i++)
		choice -= steps[i].weight;
	/* As long as nobody has cut a mapping in two, it has something to fence. */
	if (k->run->options.directories && k->run->round == 1)
		cut_both(k);
	else if (k->run->calm && steps[i].step == protect_some)
		protect_calm(k);
	else if (k->run->second && steps[i].step == protect_some)
		protect_second(k);
	else if (k->run->cuts && steps[i].step == protect_some)
		cut_both(k);
	else if (k->run->fault == FAULT_STUCK)
		await_everybody(k);
	else
		steps[i].step(k);
	k->taken[i]++;
	k->ns[i] += now_ns() - start;
	if (k->nr_held > MAX_HELD / 2)
		answer(k, true);
}

void keeper_unmap(struct keeper *k, unsigned int file)
{
	munmap((void *)k->view[file], k->run->file[file].size);
}

void keeper_report(struct keeper *k)
{
	printf("# keeper: %u rounds, %lu PROTECTs of %lu pages (%lu pinned, %lu calls refused for"
	       " pins), %lu looks\n"
	       "# keeper: %lu events: %lu allowed, %lu refused, %lu by COPY; %lu attached again\n",
	       k->run->round, k->protects, k->pages, k->pinned, k->busy, k->looks, k->events,
	       k->allowed, k->refused, k->copied, k->renewed);
	for (unsigned int i = 0; i < NR_STEPS && k->run->options.verbose; i++)
		printf("# keeper: %-10s %6lu times, %6lu ms\n", steps[i].name, k->taken[i],
		       k->ns[i] / 1000000);
}
