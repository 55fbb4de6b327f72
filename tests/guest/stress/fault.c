// SPDX-License-Identifier: GPL-2.0
/*
 * Faults that a run makes itself. The checks that they meet are those of every run, and
 * do not know of them.
 */
#include <unistd.h>

#include "fault.h"

/* One byte is another, as if its page had been lost. A protection is not in the way for long. */
static void lose_byte(struct run *run, unsigned int file, uint64_t at)
{
	unsigned char other = ~run->shadow[file][at];

	while (pwrite(run->file[file].fd, &other, 1, at) != 1)
		pause_briefly();
}

void fault_of_writer(struct hand *h)
{
	uint64_t page = h->run->layout.records * h->run->unit;

	if (h->number)
		return;
	if (h->run->fault == FAULT_LOST)
		lose_byte(h->run, 0, page + h->number * RECORD);
	else if (h->run->fault == FAULT_DIED)
		_exit(1);
}

enum outcome fault_outcome(const struct hand *h, enum outcome outcome)
{
	bool wrong = h->run->fault == FAULT_REFUSED_DONE && outcome == WROTE;

	return wrong ? REFUSED : outcome;
}

/* By a context of its own: the keeper's releases what it knows of. */
void fault_of_keeper(struct run *run)
{
	int ctx;

	if (run->fault != FAULT_STUCK)
		return;
	ctx = ctx_open();
	if (ctx_protect_range(ctx, ctx_attach(ctx, run->file[0].fd, PGPROTECT_MODE_STALL, 0),
			      run->layout.records * run->unit, run->unit))
		die("PROTECT of a page to be forgotten");
}

void fault_at_end(struct run *run, unsigned int file)
{
	if (run->fault == FAULT_LOST_AT_END)
		lose_byte(run, file, run->layout.records * run->unit);
}
