/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A route of the oracle: one way to write to a file, asked for again and again by
 * writers (writers.c), each a process of its own. A route says truly what it did:
 * nothing else tells what the file must contain.
 */
#ifndef STRESS_ROUTE_H
#define STRESS_ROUTE_H

#include <errno.h>
#include <setjmp.h>
#include <signal.h>

#include "model.h"

enum outcome {
	WROTE,		/* all of it, by now */
	REFUSED,	/* nothing, nor later */
	TORN,		/* every byte is the old or the new one, or did not look */
	SKIPPED,	/* did not try */
};

/* What a route can be asked to write. */
enum {
	KIND_RECORD	= 1 << 0,	/* the writer's in a page that others write to, too */
	KIND_SPAN	= 1 << 1,	/* any bytes in its own pages */
	KIND_PAGES	= 1 << 2,	/* whole pages of its own */
	KIND_ZEROS	= 1 << 3,	/* a span, but zeros */
	KIND_HOLE	= 1 << 4,	/* whole pages, but zeros */
	KIND_FILL	= 1 << 5,	/* a page that is zeros now, probably a hole */
	KIND_FILL_ZERO	= 1 << 6,	/* the same, to be filled by zeros */
	KIND_ADD	= 1 << 7,	/* one to a word of 8 bytes that all add to */
	KIND_ADD_FUTEX	= 1 << 8,	/* the same, of 4 bytes */
	KIND_DIRECT	= 1 << 9,	/* whole pages of its own that nothing else dirties */
	NR_KINDS	= 10,
};

/* Bytes to be written. */
struct target {
	unsigned int file;
	uint64_t at;
	size_t length;
	unsigned char *data;		/* at hand->buffer: page-aligned */
	const unsigned char *old;	/* what is there now: the shadow */
};

/* A writer, as its own process knows it. */
struct hand {
	struct run *run;
	struct seat *seat;
	unsigned int number;
	uint64_t random;
	int fd[FILES];			/* open files of its own */
	int direct[FILES];		/* the same, O_DIRECT; -1: none */
	char *own[FILES];		/* mappings of its own, aligned to 2 MiB; may move */
	unsigned char *buffer;		/* MAX_SPAN pages, for data */
	unsigned char *zeros;		/* of a huge page; NULL: pages are small */
	bool interrupts;		/* a timer's signals may come in TRY() */
	bool hole;			/* its last write made one, there: */
	unsigned int hole_file;
	uint64_t hole_at;
};

struct route {
	const char *name;
	unsigned int kinds;
	enum outcome (*op)(struct hand *h, struct target *t);
};

/* Each ends with a nameless one. */
extern const struct route store_routes[];	/* stores.c: through mappings */
extern const struct route call_routes[];	/* calls.c: system calls on the file */
extern const struct route memory_routes[];	/* tomemory.c: ... that store to memory */
extern const struct route page_routes[];	/* pages.c: whole pages, and holes */

/* In the order of the tallies. NULL after the last. */
const struct route *route_number(unsigned int number);

void signals_on(struct hand *h);
void signals_off(struct hand *h);

/* The call that may wait at the gate: only here signals may interrupt. */
#define TRY(h, expr) ({								\
	signals_on(h);								\
	__auto_type ret_ = (expr);						\
	int errno_ = errno;							\
	signals_off(h);								\
	errno = errno_;								\
	ret_;									\
})

/* Of a call that returns the bytes it wrote, from the first on, or an error. */
static inline enum outcome outcome_of(long ret, size_t length)
{
	if (ret == (long)length)
		return WROTE;
	return ret > 0 ? TORN : REFUSED;
}

/* Stores by this thread; SIGBUS or SIGSEGV ends them. */
enum outcome guarded_store(struct hand *h, char *to, const unsigned char *data, size_t length);
/* Adds one; false if that faulted. */
bool guarded_add(struct hand *h, uint64_t *word, bool by_cas);
void guard_install(void);

/* A userfaultfd on a new mapping of @size bytes of the file; -1: not possible. */
int uffd_map(struct run *run, unsigned int file, size_t size, uint64_t features, uint64_t mode,
	     char **map);

/* wild.c: a mapping that a thread of the same process changes all the time. */
void wild_start(struct hand *h);
/* Which of its ways the thread is to go; false: it rests. */
void wild_set(struct hand *h, bool active);
char *wild_map(unsigned int file);

/* Processes of their own: they return when the run stops. */
void writer_run(struct run *run, struct seat *seat, unsigned int number);
void tail_run(struct run *run, struct seat *seat, unsigned int file);
void cut_run(struct run *run, struct seat *seat);
void background_run(struct run *run, struct seat *seat, unsigned int number);

/* A file of its own, at any path, of this run's file; _try: -1 if not possible. */
int reopen_try(struct run *run, unsigned int file, int flags);
int reopen(struct run *run, unsigned int file, int flags);
/* What a process is at, for a report about who is stuck. */
void seat_doing(struct seat *seat, const char *what, unsigned int file, uint64_t at);

#endif
