/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Protections that can be left out on a debug kernel, and faults that any kernel can be
 * given, to see that it shows.
 */
#ifndef STRESS_LEAVEOUT_H
#define STRESS_LEAVEOUT_H

#include "model.h"

struct leave_out {
	const char *name;
	/* What is left out: a switch, or the filter in the first function there is. */
	const char *fix;
	const char *functions[5];
	const char *and;	/* with it, that in another function */
	/* A delay point that makes the race longer, microseconds. */
	const char *delay;
	unsigned int delay_us;
	enum fault fault;	/* nothing is left out, but the run does this */
	unsigned int finds;	/* bits of enum failure_kind; 0: any escape */
	/* What a run needs to find it soon; NULL and 0: nothing in particular. */
	const char *routes;
	const char *file;
	unsigned int writers;
	unsigned int seconds;
	unsigned int hurry;	/* limits of time are so many times shorter */
	unsigned int folio_kb;	/* of these folios the files are made; 0: of any */
	size_t wild_size;	/* see wild.c */
	size_t wild_tables;
	const char *wild_way;
	bool calm;		/* nothing is protected when a PROTECT of all records begins */
	bool second;		/* every second record is protected */
	bool cuts;		/* both files are protected at once; somebody writes in pairs */
	bool quiet;		/* no background */
	bool hints;		/* but those of NUMA balancing, all the time */
	bool alone;		/* writers only, and with cuts who writes in pairs */
	bool nodes;		/* two of them */
	bool directories;	/* are shared, as with --directories */
	bool by_name_only;	/* takes too long to be tried with the others */
};

extern const struct leave_out leave_outs[];	/* ends with a nameless one */

/* By name, or as "function NAME", whose filter it is. NULL: no such. */
const struct leave_out *leave_out_named(const char *name);
/* Why it cannot be left out on this system; NULL: it can. */
const char *leave_out_impossible(const struct leave_out *leave_out);
void leave_out_begin(const struct leave_out *leave_out);
void leave_out_end(void);
/* It is what this was to show. */
bool leave_out_finds(const struct leave_out *leave_out, enum failure_kind kind);

#endif
