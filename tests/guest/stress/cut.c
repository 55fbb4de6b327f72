// SPDX-License-Identifier: GPL-2.0
/*
 * Who writes to one file, and when that is refused to the other. One PROTECT denies
 * both: from the first refusal on, the second file must be closed as well.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../routes/common/memory.h"
#include "route.h"

static void cut_found(struct run *run, struct seat *seat, enum failure_kind kind,
		      unsigned int file, uint64_t offset)
{
	struct failure f = { .kind = kind, .file = file, .offset = offset };

	snprintf(f.who, sizeof(f.who), "%s", seat->role);
	snprintf(f.route, sizeof(f.route), "%s", seat->doing);
	fail(run, &f);
}

/* The record of nobody else in a page of the cut. */
static bool write_record(struct hand *h, unsigned int file, uint64_t at)
{
	unsigned char *shadow = h->run->shadow[file] + at;
	struct watch watch;
	uint64_t number;
	bool stores = !h->run->choice->writes || random_one_in(&h->random, 2);
	enum outcome outcome;

	memcpy(&number, shadow, sizeof(number));
	pattern(h->buffer, RECORD, number + 1, 0);
	seat_doing(h->seat, stores ? "cut by store" : "cut by pwrite", file, at);
	watch_begin(h->run, &watch, file, at, RECORD);
	if (stores)
		outcome = guarded_store(h, h->own[file] + at, h->buffer, RECORD);
	else
		outcome = outcome_of(pwrite(h->fd[file], h->buffer, RECORD, at), RECORD);
	if (outcome == TORN) {
		/* Cut in the middle: this is repeated until it is whole. */
		model_read(h->run, file, at, RECORD, shadow, NULL);
		return false;
	}
	if (outcome == REFUSED)
		return false;
	memcpy(shadow, h->buffer, RECORD);
	if (watch_next(h->run, &watch, 0) >= 0)
		cut_found(h->run, h->seat, ESCAPED, file, at);
	return true;
}

/* Returns whether there is more to learn before the next cut, or the end of this one. */
static bool one_cut(struct hand *h)
{
	unsigned int page = random_below(&h->random, h->run->layout.records);
	unsigned int first = random_below(&h->random, FILES);
	uint64_t at = page * h->run->unit;
	uint32_t cut = h->run->cut;

	if (write_record(h, first, at))
		return (cut & 1) || random_below(&h->random, 8);
	/* Refused by this cut, or by one that has been released since. */
	if (!write_record(h, !first, at))
		return h->run->cut != cut;
	if ((cut & 1) && h->run->cut == cut)
		cut_found(h->run, h->seat, CUT_OPEN, !first, at);
	return true;
}

void cut_run(struct run *run, struct seat *seat)
{
	struct hand *h = calloc(1, sizeof(*h));

	if (!h || posix_memalign((void **)&h->buffer, 4096, 4096))
		die("memory for who writes in pairs");
	h->run = run;
	h->seat = seat;
	h->random = random_seed(run, 2500);
	for (unsigned int i = 0; i < FILES; i++) {
		h->fd[i] = reopen(run, i, O_RDWR);
		h->own[i] = map_aligned(run->file[i].fd, run->file[i].size);
	}
	guard_install();
	while (!run->stop) {
		uint32_t cut = run->cut;

		if (!one_cut(h))
			word_wait(&run->cut, cut);
		seat->turns++;
	}
}
