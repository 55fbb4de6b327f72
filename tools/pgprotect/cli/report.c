// SPDX-License-Identifier: GPL-2.0
/*
 * What watch prints: a line for each event, and a summary.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json.h"
#include "number.h"
#include "report.h"

#define NS_PER_SEC	INT64_C(1000000000)

int report_start(struct report *report)
{
	struct timespec wall;
	size_t i, nr = report->targets->nr;

	clock_gettime(CLOCK_REALTIME, &wall);
	report->start_ns = monotonic_ns();
	report->to_wall_ns = wall.tv_sec * NS_PER_SEC + wall.tv_nsec - report->start_ns;

	report->heats = calloc(nr ? nr : 1, sizeof(*report->heats));
	if (!report->heats)
		return -ENOMEM;
	for (i = 0; i < nr; i++)
		heat_init(&report->heats[i],
			  (report->targets->list[i].size + report->page_size - 1) /
			  report->page_size);
	if (!report->json && !report->quiet)
		fprintf(report->out, "%-15s %7s %-15s %-9s %14s %10s%s\n", "TIME",
			"PID", "COMMAND", "ORIGIN", "OFFSET", "LENGTH",
			nr > 1 ? "  FILE" : "");
	return 0;
}

/* "12:34:56.123456", local; or for JSON with the date, UTC. */
static const char *clock_text(const struct report *report, uint64_t time_ns)
{
	static time_t last = -1;
	static char text[48];
	static size_t end;
	int64_t wall = time_ns + report->to_wall_ns;
	time_t second = wall / NS_PER_SEC;
	struct tm tm;

	if (second != last) {
		last = second;
		if (report->json)
			end = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S",
				       gmtime_r(&second, &tm));
		else
			end = strftime(text, sizeof(text), "%H:%M:%S",
				       localtime_r(&second, &tm));
	}
	snprintf(text + end, sizeof(text) - end, ".%06d%s",
		 (int)(wall % NS_PER_SEC / 1000), report->json ? "Z" : "");
	return text;
}

static void print_event_json(struct report *report, const struct pgprotect_event *event,
			     const char *comm, const char *file)
{
	json_object *object = json_object_new_object();

	json_add_string(object, "type", "event");
	json_add_string(object, "time", clock_text(report, event->time_ns));
	json_add_count(object, "time_ns", event->time_ns);
	json_add_count(object, "pid", event->pid);
	json_add_count(object, "tid", event->tid);
	json_add_string(object, "comm", comm);
	json_add_string(object, "origin", pgprotect_origin_name(event->origin));
	json_add_count(object, "offset", event->offset);
	json_add_count(object, "length", event->length);
	json_add_count(object, "waiters", event->waiters);
	json_add_string(object, "file", file);
	json_print(report->out, object);
}

static void print_event_text(struct report *report, const struct pgprotect_event *event,
			     const char *comm, const char *file)
{
	bool several = report->targets->nr > 1;

	fprintf(report->out, "%s %7u %-15s %-9s %#14" PRIx64 " %10" PRIu64,
		clock_text(report, event->time_ns), event->pid, comm,
		pgprotect_origin_name(event->origin),
		(uint64_t)event->offset, (uint64_t)event->length);
	if (several)
		fprintf(report->out, "  %s", file);
	if (event->waiters > 1)
		fprintf(report->out, "  (+%u waiting)", event->waiters - 1);
	fputc('\n', report->out);
}

int report_event(struct report *report, const struct pgprotect_event *event,
		 const char *comm)
{
	uint32_t file = event->cookie < report->targets->nr ? event->cookie : 0;
	const char *name = report->targets->list[file].name;

	if (!report->quiet && report->json)
		print_event_json(report, event, comm, name);
	else if (!report->quiet)
		print_event_text(report, event, comm, name);
	heat_add(&report->heats[file], event->offset / report->page_size,
		 event->length / report->page_size);
	return writers_add(&report->writers, event, comm, file, report->page_size);
}

static void print_summary_json(struct report *report, int64_t elapsed, const char *reason)
{
	json_object *object = json_object_new_object();
	json_object *list = json_object_new_array();
	size_t i, j;

	json_add_string(object, "type", "summary");
	json_add_string(object, "reason", reason);
	json_add_seconds(object, "seconds", elapsed);
	json_add_count(object, "events", report->writers.events);
	json_add_count(object, "pages", report->writers.pages.count);
	json_add_count(object, "timeouts", report->timeouts);
	json_add_count(object, "dropped", report->dropped);
	for (i = 0; i < report->writers.nr; i++) {
		const struct writer *writer = &report->writers.list[i];
		json_object *entry = json_object_new_object();
		json_object *origins = json_object_new_object();

		json_add_count(entry, "pid", writer->pid);
		json_add_string(entry, "comm", writer->comm);
		json_add_count(entry, "events", writer->events);
		json_add_count(entry, "pages", writer->pages.count);
		json_add_count(entry, "first", writer->first);
		json_add_count(entry, "end", writer->end);
		for (j = 0; j < NR_ORIGINS; j++)
			if (writer->origins[j])
				json_add_count(origins, pgprotect_origin_name(j),
					       writer->origins[j]);
		json_object_object_add(entry, "origins", origins);
		json_object_array_add(list, entry);
	}
	json_object_object_add(object, "writers", list);
	list = json_object_new_array();
	for (i = 0; i < report->targets->nr; i++) {
		json_object *entry = json_object_new_object();

		json_add_string(entry, "file", report->targets->list[i].name);
		json_add_count(entry, "size", report->targets->list[i].size);
		json_object_array_add(list, entry);
	}
	json_object_object_add(object, "files", list);
	json_print(report->out, object);
}

static void print_table(struct report *report)
{
	size_t i, j;

	fprintf(report->out, "\n%7s %-15s %9s %9s %14s %14s  %s\n", "PID", "COMMAND",
		"EVENTS", "PAGES", "FROM", "TO", "ORIGINS");
	for (i = 0; i < report->writers.nr; i++) {
		const struct writer *writer = &report->writers.list[i];

		fprintf(report->out, "%7u %-15s %9" PRIu64 " %9" PRIu64 " %#14" PRIx64
			" %#14" PRIx64 " ", writer->pid, writer->comm, writer->events,
			writer->pages.count, writer->first, writer->end);
		for (j = 0; j < NR_ORIGINS; j++)
			if (writer->origins[j])
				fprintf(report->out, " %s:%" PRIu64,
					pgprotect_origin_name(j), writer->origins[j]);
		fputc('\n', report->out);
	}
}

static void print_heat(struct report *report)
{
	size_t i;

	for (i = 0; i < report->targets->nr; i++) {
		const struct target *target = &report->targets->list[i];

		fprintf(report->out, "\n%s (%" PRIu64 " KiB)\n", target->name,
			target->size / 1024);
		heat_draw(report->out, &report->heats[i], report->width,
			  report->page_size, report->utf8);
	}
}

void report_summary(struct report *report, const char *reason)
{
	int64_t elapsed = monotonic_ns() - report->start_ns;
	struct writers *writers = &report->writers;

	writers_sort(writers);
	if (report->json) {
		print_summary_json(report, elapsed, reason);
		return;
	}
	if (report->table) {
		print_table(report);
		print_heat(report);
		fputc('\n', report->out);
	}
	fprintf(report->out, "%" PRIu64 " event%s, %zu writer%s, %" PRIu64
		" page%s in %.1f s (%s)\n", writers->events,
		writers->events == 1 ? "" : "s", writers->nr,
		writers->nr == 1 ? "" : "s", writers->pages.count,
		writers->pages.count == 1 ? "" : "s", elapsed / 1e9, reason);
	if (report->timeouts)
		fprintf(report->out, "%" PRIu64 " writers waited longer than allowed and failed\n",
			report->timeouts);
	if (report->dropped)
		fprintf(report->out, "%" PRIu64 " events were not printed: the output was too slow\n",
			report->dropped);
}

void report_free(struct report *report)
{
	writers_free(&report->writers);
	free(report->heats);
	report->heats = NULL;
}
