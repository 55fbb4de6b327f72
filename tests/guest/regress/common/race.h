/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A race: agitators that change a file as fast as they can, and a checker that
 * protects it, reads it, and finds it unchanged for as long as it is protected.
 */
#ifndef RACE_H
#define RACE_H

#include "pgtest.h"

#define PAGE	4096UL

struct race {
	struct subject subject;		/* attached, STALL */
	size_t size;
	_Atomic bool stop;
	_Atomic unsigned long turns;	/* changes made, or tried, by all agitators */
};

/* An agitator: runs until race->stop, counts its turns. */
typedef long agitator_fn(struct writer *self);

/* In shared memory. Takes over @file. */
struct race *race_make(struct test_file file);
/* A cheap pseudo-random number; @state is the agitator's own. */
uint32_t race_random(uint32_t *state);
/* A random page of the file, as offset. */
uint64_t race_page(struct race *race, uint32_t *state);

struct race_result {
	unsigned int rounds;
	unsigned int escapes;	/* rounds in which something changed */
	uint64_t offset;	/* of the first change of the last of them */
};

/* Runs the agitators, as processes, and at most @rounds rounds in @ms. */
struct race_result race_run(struct race *race, agitator_fn *const *agitators, size_t nr,
			    unsigned int rounds, unsigned int ms);

#endif
