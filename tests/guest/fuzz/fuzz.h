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
#include "../ptshare/common/sharing.h"

#define FILE_PAGES	64	/* of a small file; of each unit of a large one, those used */
#define CONTEXTS	8	/* the first half are everybody's */
#define PROCESSES	6
#define STALL_MS	60	/* nobody waits for longer */

/* What the files are: files.c. */
enum { MEMFD, TMPFS, DISK, HUGETLB, SHARED, SPARSE, FILES };

/* Of one process. */
struct fuzzer {
	uint64_t random;
	bool fetches;			/* may become a handler */
	bool restarts;			/* calls that the alarm interrupts */
	int files[FILES];
	int direct;			/* DISK again, with O_DIRECT */
	int contexts[CONTEXTS];		/* -1: closed */
	char *maps[FILES];		/* whole files, or NULL; may have holes */
	uint64_t ids[8];		/* of events seen last */
};

struct fuzz_op {
	const char *name;
	unsigned int weight;
	/* Return: 0 or a count: it worked; else it did not, no matter why. */
	long (*run)(struct fuzzer *f);
};

extern const struct fuzz_op call_ops[];		/* ends with one without a name */
extern const struct fuzz_op machine_ops[];
extern const struct fuzz_op memory_ops[];
extern const struct fuzz_op share_ops[];
extern const struct fuzz_op uring_ops[];

uint64_t fuzz_random(struct fuzzer *f, uint64_t below);
/* True once in @n times. */
bool fuzz_chance(struct fuzzer *f, unsigned int n);
int fuzz_file(struct fuzzer *f);
int fuzz_context(struct fuzzer *f);
/* For PROTECT and its kin. */
struct pgprotect_range fuzz_range(struct fuzzer *f);

/* A part of a file, whole pages, and where it is mapped; NULL: nowhere. */
struct fuzz_part {
	int file;
	char *addr;
	size_t offset, length;
};

/* Before any process. */
void files_make(struct fuzzer *f);
size_t file_size(int file);
/* Where in a file something happens. */
uint64_t fuzz_offset(struct fuzzer *f, int file);
struct fuzz_part fuzz_part(struct fuzzer *f);
/* An address in one of the mappings, or NULL. */
char *fuzz_place(struct fuzzer *f);
/* The same for the whole page that it is in. */
char *fuzz_page(struct fuzzer *f);

/* Before any process, and when all have ended: what the machine was. */
void machine_prepare(void);
void machine_restore(void);
/* Runs it with an allocation that fails, if the kernel can do that. */
long machine_starve(struct fuzzer *f, long (*run)(struct fuzzer *f));

/* Before any process; false: this kernel counts nothing. */
bool coverage_prepare(void);
/* In a process, once; after each of its operations; does nothing if nobody has prepared. */
void coverage_begin(void);
void coverage_collect(void);
/* Addresses that were reached, a line each. */
void coverage_write(const char *path);

#endif
