/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of a run must contain, who writes what, and what went wrong.
 *
 * Two files of the same layout, so that a PROTECT can be over both. Every byte has
 * one owner, who alone changes it, and who notes in the shadow, a copy of the file in
 * memory that nobody protects, what its system calls and stores have said they did:
 *
 *	page
 *	0	cut	written in pairs over both files		cut.c
 *	4	records	one record of each writer in every page,
 *			words that all writers add to, and a
 *			rest that nobody changes			writers.c
 *	260	runs	some pages of one writer each			writers.c
 *	...	unused	never written
 *	512	direct	some pages of one writer each, on disks only:
 *			written by direct I/O, and by nothing else	writers.c
 *	576	tail	grows and shrinks; from 512 on elsewhere	tail.c
 *
 * Where page tables are shared by directories, the cut has the first unit of 2 MiB for
 * itself, and the records the next, so that PROTECT can fence them.
 *
 * Stores beside direct I/O lose data where both are in one folio: that is no promise of
 * any kernel. Folios are aligned to their size and not larger than the file has room for:
 * none reaches into the direct pages from outside.
 *
 * A write that was done twice, late, in part or not at all leaves the file and its
 * shadow different: for the owner, who looks before it writes again, and in the end.
 *
 * The keeper (keeper.c) tells by a page's generation that it is protected: it is set
 * after PROTECT has returned, and 0 from before the release. A write that finds the
 * same generation before and after has no business to have succeeded.
 */
#ifndef STRESS_MODEL_H
#define STRESS_MODEL_H

#include "pgtest.h"

#define FILES		2U
#define MAX_PAGES	1552U		/* of a file */
#define MAX_WRITERS	32U
#define MAX_SEATS	(MAX_WRITERS + 16)
#define MAX_ROUTES	80U
#define RECORD		64UL
/* In a page of records, after the records. */
#define WORD_ADDED	(MAX_WRITERS * RECORD)		/* 8 bytes, by atomic adds */
#define WORD_FUTEX	(WORD_ADDED + 8)		/* 4 bytes, by FUTEX_WAKE_OP */
#define WORD_COPIED	(WORD_ADDED + 16)		/* 8 bytes, by PGPROTECT_IOC_COPY */
#define MAX_SPAN	4UL		/* pages that one write may touch, tails excepted */

struct options {
	uint64_t seed;
	unsigned int seconds;
	unsigned int writers;
	const char *file;	/* a name of file_choices, or a path */
	const char *routes;	/* comma-separated beginnings of names; NULL: all */
	const char *without;	/* a name of leave_outs; NULL: none */
	bool background;
	bool alone;		/* writers only: no tails, no pairs */
	bool shared;		/* page tables, unasked */
	bool directories;	/* a GiB at a time: all mappings are as large */
	bool verbose;
};

/* A kind of file. What cannot be done with it is not tried. */
struct file_choice {
	const char *name;
	int (*make)(size_t size);	/* an fd, or -1: not possible on this system */
	size_t unit;			/* of protection; 0: the page size */
	bool resizes;			/* ftruncate() works */
	bool writes;			/* write() works */
	bool on_disk;
	bool single_pages;		/* no large folios */
};

extern const struct file_choice file_choices[];

/* First page of each class; a class ends where the next begins. */
struct layout {
	unsigned int records;
	unsigned int runs;
	unsigned int run_pages;		/* of one writer */
	unsigned int unused;
	unsigned int direct;
	unsigned int direct_pages;	/* of one writer */
	unsigned int tail;
	unsigned int pages;
};

enum failure_kind {
	FAILED_NOT,
	ESCAPED,	/* a write succeeded while its page was protected all along */
	CHANGED,	/* a protected page is not as it was when PROTECT returned */
	CUT_OPEN,	/* refused in one file, done in the other, in one PROTECT */
	LOST,		/* the file is not what the writers were told */
	REFUSED_DONE,	/* a write failed, and has changed something */
	STUCK,		/* a writer waits, and nothing is protected */
	BROKEN,		/* a call failed that must not; a process died */
};

/* What a run does wrong itself, so that it has something to find: fault.c. */
enum fault {
	FAULT_NONE,
	FAULT_LOST,		/* a record changes, and its writer does not know */
	FAULT_LOST_AT_END,	/* the same, between swap or disk and the last look */
	FAULT_REFUSED_DONE,	/* a write is done, and is told to have been refused */
	FAULT_STUCK,		/* a page stays protected, and nobody answers its events */
	FAULT_DIED,		/* a writer ends before the run does */
};

struct failure {
	enum failure_kind kind;
	char who[32];
	char route[32];
	unsigned int file;
	uint64_t offset;
	uint32_t round;
	char text[160];
};

struct tally {
	_Atomic uint64_t wrote;
	_Atomic uint64_t waited;	/* of these: found a page protected, and wrote after */
	_Atomic uint64_t refused;
	_Atomic uint64_t torn;		/* done in part */
	_Atomic uint64_t skipped;
	_Atomic uint64_t ns;		/* in all */
};

/* A process of the run. Written by it, read by the keeper. */
struct seat {
	pid_t pid;			/* the keeper's */
	bool ended;			/* the keeper's */
	bool writes;			/* must get on when nothing is protected */
	char role[16];
	_Atomic uint64_t turns;
	_Atomic(const char *) doing;
	_Atomic uint32_t file;
	_Atomic uint64_t at;
};

/* In shared memory, at one address in all processes. */
struct run {
	/* Constant once the first process has been started. */
	struct options options;
	const struct file_choice *choice;
	struct layout layout;
	size_t unit;
	struct test_file file[FILES];	/* mapped aligned to 2 MiB, in every process */
	unsigned char *shadow[FILES];	/* its bytes: see above */
	size_t wild_size;		/* see wild.c; 0 tables, NULL: any way */
	size_t wild_tables;
	const char *wild_way;
	bool calm, second, cuts;	/* see struct leave_out */
	enum fault fault;
	unsigned int hurry;
	unsigned int nr_seats;

	_Atomic uint64_t size[FILES];	/* as the tail's writer was told */
	_Atomic uint32_t generation[FILES][MAX_PAGES];
	_Atomic uint32_t round;		/* the keeper's, for reports */
	_Atomic uint32_t cut;		/* odd from before PROTECT of a cut to its release */
	_Atomic bool stop;
	_Atomic bool failing;		/* @failure is somebody's */
	_Atomic bool failed;		/* @failure is filled */
	struct failure failure;
	struct tally tally[MAX_ROUTES];
	struct seat seat[MAX_SEATS];
};

/* Sleeps until @word is not @seen any more; wakes who does. */
void word_wait(_Atomic uint32_t *word, uint32_t seen);
void word_wake(_Atomic uint32_t *word);

uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t limit);
bool random_one_in(uint64_t *state, unsigned int n);
/* Starts a state of its own for @who, from the run's seed. */
uint64_t random_seed(const struct run *run, uint64_t who);

/* Makes the files. NULL: that kind is not possible here. */
struct run *run_make(const struct options *options);
/* A page of records; some are asked for more often than others. */
unsigned int record_page(const struct run *run, uint64_t *random);
bool layout_is_records(const struct layout *layout, unsigned int page);

/*
 * Reads from the file: bytes, fewer at its end. By the file or by @map, if that is not
 * NULL and the pages cannot go away.
 */
size_t model_read(struct run *run, unsigned int file, uint64_t at, size_t length,
		  unsigned char *data, const char *map);
/* The first byte, of @length at @at, in which file and shadow differ; -1: none. */
int64_t model_difference(struct run *run, unsigned int file, uint64_t at, size_t length,
			 const char *map);
/* The content of a record at its number @number, or of any other bytes. */
void pattern(unsigned char *data, size_t length, uint64_t number, uint64_t whose);

/* Notes the first failure, and stops the run. */
void fail(struct run *run, const struct failure *failure);
/* Who owns the byte, for a report. */
void describe_owner(const struct run *run, uint64_t offset, char *text, size_t size);
extern const char *const failure_names[];

/* A write seen against the keeper's generations. */
struct watch {
	unsigned int file;
	unsigned int first, nr;
	uint32_t before[MAX_PAGES];
};

void watch_begin(struct run *run, struct watch *watch, unsigned int file, uint64_t at,
		 uint64_t length);
bool watch_found_protected(const struct watch *watch);
/* The next page, from @page on, that was protected all the time; -1: none. */
int watch_next(struct run *run, const struct watch *watch, unsigned int page);

#endif
