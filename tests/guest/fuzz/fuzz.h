/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A structured fuzzer: processes that make calls of all kinds with arguments that are
 * valid for the most part, on the same files and contexts. What may come of a call is
 * not known; that nobody hangs, that all is gone at the end, and that the kernel says
 * nothing is.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include "pgtest.h"

#define FILES		5
#define FILE_PAGES	64
#define CONTEXTS	6	/* the first half are everybody's */
#define PROCESSES	6
#define STALL_MS	30	/* nobody waits for longer */

/* Of one process. */
struct fuzzer {
	uint64_t random;
	bool fetches;			/* may become a handler */
	int files[FILES];
	int contexts[CONTEXTS];		/* -1: closed */
	char *maps[FILES];		/* FILE_PAGES each, or NULL */
	uint64_t ids[8];		/* of events seen last */
};

struct fuzz_op {
	const char *name;
	unsigned int weight;
	/* Return: 0 or a count: it worked; else it did not, no matter why. */
	long (*run)(struct fuzzer *f);
};

extern const struct fuzz_op call_ops[];		/* ends with one without a name */
extern const struct fuzz_op memory_ops[];

uint64_t fuzz_random(struct fuzzer *f, uint64_t below);
/* True once in @n times. */
bool fuzz_chance(struct fuzzer *f, unsigned int n);
int fuzz_file(struct fuzzer *f);
int fuzz_context(struct fuzzer *f);

/* Before any process; false: this kernel counts nothing. */
bool coverage_prepare(void);
/* In a process, once; after each of its operations; does nothing if nobody has prepared. */
void coverage_begin(void);
void coverage_collect(void);
/* Addresses that were reached, a line each. */
void coverage_write(const char *path);

#endif
