// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect watch: who is about to write where.
 */
#include <errno.h>
#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "comm.h"
#include "command.h"
#include "message.h"
#include "number.h"
#include "output.h"
#include "ranges.h"
#include "report.h"
#include "signals.h"
#include "target.h"

#define NS_PER_MS	INT64_C(1000000)
#define DEFAULT_AGAIN	1000
#define TICK_NS		(200 * NS_PER_MS)
#define OUTPUT_ROOM	(16 << 20)

enum {
	OPT_SUMMARY = OPT_FIRST_OWN,
	OPT_LIMIT,
};

static const struct option_desc options[] = {
	TARGET_OPTIONS,
	{ 'a', "again", "MS", "look at written pages again after MS milliseconds (1000); 0: never" },
	{ 'd', "duration", "SECS", "end after SECS seconds" },
	{ OPT_LIMIT, "limit", "N", "end after N events" },
	{ 'j', "json", NULL, "print JSON, one object a line" },
	{ 'q', "quiet", NULL, "do not print the events" },
	{ OPT_SUMMARY, "summary", NULL, "at the end print a table of writers and heat maps" },
	{}
};

static int run_watch(const struct command *self, int argc, char **argv);

const struct command watch_command = {
	.name = "watch",
	.synopsis = "[OPTION]... FILE...\n[OPTION]... --pid PID",
	.summary = "show who is about to write where",
	.about = "Prints a line for each write to a page of the files, before it happens: time,\n"
		 "process, its name, how the write comes, offset and length. The writer goes on\n"
		 "at once, and the page is looked at again after a while.",
	.options = options,
	.run = run_watch,
};

/*
 * @released: pages released since the last round, @due: since the one before: a page
 *	is protected again after one round at least, time for its writer to go on.
 * @reason: why it ended; NULL: not yet.
 */
struct watch {
	struct selection selection;
	struct pgprotect *ctx;
	struct pgprotect_loop *loop;
	struct targets targets;
	struct output *output;
	struct report report;
	struct ranges released;
	struct ranges due;
	uint64_t limit;
	int64_t duration_ns;
	int64_t again_ns;
	int64_t next_again;
	const char *reason;
};

static void end_watch(struct watch *watch, const char *reason)
{
	if (!watch->reason)
		watch->reason = reason;
	pgprotect_loop_stop(watch->loop);
}

static int add_released(struct watch *watch, const struct pgprotect_event *event)
{
	/* As far as files reach at all is to the end. */
	return ranges_add(&watch->released, event->file, event->offset,
			  event->length < 1ULL << 62 ? event->length : PGPROTECT_TO_EOF);
}

static int on_event(struct pgprotect_loop *loop, const struct pgprotect_event *event,
		    void *data)
{
	struct watch *watch = data;
	struct pgprotect_event clipped = *event;

	(void)loop;
	if (event->type == PGPROTECT_EVENT_TIMEOUT)
		watch->report.timeouts++;
	/* After the end: those that were fetched already still go on. */
	if (event->type != PGPROTECT_EVENT_STALL || watch->reason)
		return PGPROTECT_LOOP_ALLOW;

	targets_clip(&watch->targets, &clipped, watch->report.page_size);
	if (report_event(&watch->report, &clipped, comm_of(event->pid)) ||
	    (watch->again_ns && add_released(watch, event)))
		end_watch(watch, "out of memory");
	else if (watch->limit && watch->report.writers.events >= watch->limit)
		end_watch(watch, "limit");
	return PGPROTECT_LOOP_ALLOW;
}

/* Protects again what is due; what cannot be, without memory, is tried next round. */
static int protect_again(struct watch *watch)
{
	struct ranges *due = &watch->due;
	size_t done = 0, nr;
	int ret = 0;

	ranges_join(due);
	while (done < due->nr) {
		nr = due->nr - done;
		if (nr > PGPROTECT_MAX_RANGES)
			nr = PGPROTECT_MAX_RANGES;
		ret = pgprotect_protectv(watch->ctx, due->list + done, nr, 0, NULL);
		if (ret < 0)
			break;
		done += nr;
	}
	due->nr -= done;
	memmove(due->list, due->list + done, due->nr * sizeof(*due->list));
	return ret == -ENOMEM || ret == -EINTR ? 0 : ret;
}

/* One round: what is due is protected, what was released is due next time. */
static int round_again(struct watch *watch)
{
	int ret = watch->due.nr ? protect_again(watch) : 0;
	struct ranges empty = watch->due;

	if (ret < 0 || empty.nr)
		return ret;
	watch->due = watch->released;
	watch->released = empty;
	return 0;
}

static int on_tick(struct pgprotect_loop *loop, void *data)
{
	struct watch *watch = data;
	int64_t now = monotonic_ns();
	int err = output_error(watch->output);

	(void)loop;
	if (err)
		end_watch(watch, err == -EPIPE ? "output closed" : "output failed");
	if (targets_gone(&watch->targets))
		end_watch(watch, "process ended");
	if (watch->reason || !watch->again_ns || now < watch->next_again)
		return 0;
	watch->next_again = now + watch->again_ns;
	return round_again(watch);
}

/* 0, or a status to exit with, plus one. */
static int parse(struct watch *watch, const struct command *self, int argc, char **argv)
{
	uint64_t ms = DEFAULT_AGAIN;
	bool good = true;
	int key;

	while (good && (key = parse_options(self, argc, argv)) != OPTIONS_END) {
		switch (key) {
		case OPTIONS_HELP:
			return 1 + STATUS_OK;
		case OPTIONS_BAD:
			return 1 + STATUS_USAGE;
		case 'a':
			good = parse_count(optarg, 0, 86400000, &ms);
			break;
		case 'd':
			good = parse_seconds(optarg, &watch->duration_ns);
			break;
		case OPT_LIMIT:
			good = parse_count(optarg, 1, UINT64_MAX, &watch->limit);
			break;
		case 'j':
			watch->report.json = true;
			break;
		case 'q':
			watch->report.quiet = true;
			break;
		case OPT_SUMMARY:
			watch->report.table = true;
			break;
		default:
			if (!selection_option(&watch->selection, key, optarg))
				return 1 + STATUS_USAGE;
		}
	}
	if (!good)
		return 1 + usage_error("'%s' is no value for this option", optarg);
	watch->again_ns = ms * NS_PER_MS;
	watch->selection.files = argv + optind;
	watch->selection.nr_files = argc - optind;
	return selection_check(&watch->selection) ? 0 : 1 + STATUS_USAGE;
}

static void ask_terminal(struct report *report)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	uint64_t width;

	report->width = 80;
	report->utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		report->width = size.ws_col;
	else if (columns && parse_count(columns, 20, 1000, &width))
		report->width = width;
}

static int make_loop(struct watch *watch)
{
	/* No idle callback: answers then need no call of their own. */
	struct pgprotect_loop_options loop_options = {
		.size = sizeof(loop_options),
		.interval_ns = TICK_NS,
		.data = watch,
		.event = on_event,
		.tick = on_tick,
	};

	if (watch->again_ns && watch->again_ns < TICK_NS)
		loop_options.interval_ns = watch->again_ns;
	return pgprotect_loop_new(&watch->loop, watch->ctx, &loop_options);
}

static int start(struct watch *watch)
{
	struct pgprotect_attach_options attach = { .size = sizeof(attach) };
	struct pgprotect_info info = { .size = sizeof(info) };
	struct pgprotect_result result = { .size = sizeof(result) };
	int ret;

	ret = pgprotect_info(watch->ctx, &info);
	if (ret < 0)
		return failure_errno("asking the kernel", ret);
	ret = targets_attach(&watch->targets, watch->ctx, &watch->selection, &attach);
	if (ret)
		return ret;

	watch->report.page_size = info.page_size;
	watch->report.targets = &watch->targets;
	ret = report_start(&watch->report);
	if (!ret)
		ret = targets_protect(&watch->targets, watch->ctx, 0, &result);
	if (ret < 0)
		return failure_errno("protecting", ret);
	watch->next_again = monotonic_ns() + watch->again_ns;
	if (watch->duration_ns)
		signals_alarm(watch->duration_ns);
	note("watching %zu file%s, %llu pages; Ctrl-C ends", watch->targets.nr,
	     watch->targets.nr == 1 ? "" : "s", (unsigned long long)result.nr_pages);
	return 0;
}

/* Before anything is printed: nobody shall wait for a terminal. */
static void release_all(struct watch *watch)
{
	/* What is left can be ended by another Ctrl-C. */
	signals_detach();
	signals_restore();
	pgprotect_loop_free(watch->loop);
	pgprotect_close(watch->ctx);
	watch->loop = NULL;
	watch->ctx = NULL;
}

static int finish(struct watch *watch, int ret)
{
	if (!watch->reason)
		watch->reason = signals_end() ? "interrupted" :
				signals_alarmed() ? "duration" : "error";
	if (!strcmp(watch->reason, "out of memory"))
		ret = -ENOMEM;
	release_all(watch);
	if (ret < 0)
		failure_errno("watching", ret);
	if (!strcmp(watch->reason, "process ended"))
		note("process %d has ended", watch->selection.pid);

	output_patient(watch->output);
	watch->report.dropped = output_dropped(watch->output);
	report_summary(&watch->report, watch->reason);
	return ret < 0 ? STATUS_FAILED : STATUS_OK;
}

/* A reader who left has seen what it wanted. */
static int close_output(struct watch *watch, int status)
{
	int err = output_close(watch->output);

	if (err && err != -EPIPE)
		return failure_errno("writing the output", err);
	return status;
}

static int run_watch(const struct command *self, int argc, char **argv)
{
	struct watch watch = { .targets.pidfd = -1 };
	int ret;

	ret = parse(&watch, self, argc, argv);
	if (ret)
		return ret - 1;
	ask_terminal(&watch.report);
	ret = pgprotect_open(&watch.ctx, PGPROTECT_OPEN_CLOEXEC);
	if (ret < 0)
		return failure_open(ret);
	watch.output = output_open(STDOUT_FILENO, OUTPUT_ROOM);
	ret = watch.output ? make_loop(&watch) : -ENOMEM;
	if (ret < 0) {
		ret = failure_errno("making an event loop", ret);
	} else {
		watch.report.out = output_stream(watch.output);
		signals_start(watch.loop);
		ret = start(&watch);
		if (!ret)
			ret = finish(&watch, pgprotect_loop_run(watch.loop));
	}
	release_all(&watch);
	if (watch.output)
		ret = close_output(&watch, ret);
	report_free(&watch.report);
	ranges_free(&watch.released);
	ranges_free(&watch.due);
	targets_free(&watch.targets);
	return ret;
}
