/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What watch prints: a line for each event, and a summary.
 */
#ifndef PGP_REPORT_H
#define PGP_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "heat.h"
#include "target.h"
#include "writers.h"

/*
 * Set by the caller: @out; @json; @quiet: no lines for events; @table: table
 * and heat maps in the summary; @width, @utf8: of the terminal; @page_size;
 * @targets: the files, by an event's cookie. @timeouts, @dropped: writers that
 * waited too long, lines that were not printed.
 */
struct report {
	FILE *out;
	bool json;
	bool quiet;
	bool table;
	bool utf8;
	unsigned int width;
	uint32_t page_size;
	const struct targets *targets;

	struct writers writers;
	struct heat *heats;
	int64_t start_ns;
	int64_t to_wall_ns;
	uint64_t timeouts;
	uint64_t dropped;
};

/* 0 or -ENOMEM. */
int report_start(struct report *report);

/* @comm: the writer's name. 0 or -ENOMEM. */
int report_event(struct report *report, const struct pgprotect_event *event,
		 const char *comm);

/* @reason: why it ended, in a word or two. */
void report_summary(struct report *report, const char *reason);

void report_free(struct report *report);

#endif /* PGP_REPORT_H */
