// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect fence: nobody writes until it ends.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "child.h"
#include "comm.h"
#include "command.h"
#include "json.h"
#include "message.h"
#include "number.h"
#include "signals.h"
#include "target.h"
#include "writers.h"

#define MAX_PINS	16

enum {
	OPT_DENY = OPT_FIRST_OWN,
	OPT_STRICT,
};

static const struct option_desc options[] = {
	TARGET_OPTIONS,
	{ OPT_DENY, "deny", NULL, "refuse writes instead of making the writers wait" },
	{ 'd', "duration", "SECS", "end after SECS seconds" },
	{ 'j', "json", NULL, "report as JSON, one object a line" },
	{ OPT_STRICT, "strict", NULL, "fail if a page is pinned, so that a device may write to it" },
	{}
};

static int run_fence(const struct command *self, int argc, char **argv);

const struct command fence_command = {
	.name = "fence",
	.synopsis = "[OPTION]... FILE... [-- COMMAND [ARG]...]\n"
		    "[OPTION]... --pid PID [-- COMMAND [ARG]...]",
	.summary = "let nobody write until it ends",
	.about = "Stops all writes to the files at one point in time, until COMMAND ends, the\n"
		 "duration is over, or Ctrl-C. Writers wait, and then go on as if nothing had\n"
		 "been. Reads are free. An ARG that is {} stands for the paths of the files,\n"
		 "which are in PGPROTECT_FILES too, one a line. The exit status is COMMAND's.",
	.options = options,
	.run = run_fence,
};

/*
 * @command: what to run; NULL: nothing. @child: its process; 0: none, or ended.
 * @writers: who met the fence first at a page. @waiting: writers at the end.
 * @page_size, @stall_ms: the kernel's.
 * @up_ns: when it stood. @stood_ns: how long it did.
 */
struct fence {
	struct selection selection;
	bool deny;
	bool strict;
	bool json;
	int64_t duration_ns;
	char **command;

	struct pgprotect *ctx;
	struct pgprotect_loop *loop;
	struct targets targets;
	struct writers writers;
	uint32_t page_size;
	uint32_t stall_ms;
	uint64_t waiting;
	uint64_t timeouts;
	uint64_t lost;
	pid_t child;
	int child_status;
	int64_t up_ns;
	int64_t stood_ns;
	const char *reason;
};

static int on_event(struct pgprotect_loop *loop, const struct pgprotect_event *event,
		    void *data)
{
	struct fence *fence = data;
	struct pgprotect_event clipped = *event;

	(void)loop;
	switch (event->type) {
	case PGPROTECT_EVENT_STALL:
	case PGPROTECT_EVENT_DENIED:
		targets_clip(&fence->targets, &clipped, fence->page_size);
		if (event->pid == (uint32_t)fence->child && fence->child &&
		    event->type == PGPROTECT_EVENT_STALL)
			warning("the command itself writes to a fenced file, and waits for the fence to end");
		/* Out of memory costs the count, never the fence. */
		writers_add(&fence->writers, &clipped, comm_of(event->pid),
			    event->cookie, fence->page_size);
		return PGPROTECT_LOOP_PENDING;
	case PGPROTECT_EVENT_TIMEOUT:
		if (!fence->timeouts++)
			warning("writers that wait for %g s are failing now (vm.pgprotect_stall_ms)",
				fence->stall_ms / 1e3);
		return PGPROTECT_LOOP_PENDING;
	case PGPROTECT_EVENT_OVERFLOW:
		fence->lost += event->waiters;
		return PGPROTECT_LOOP_PENDING;
	default:
		return PGPROTECT_LOOP_PENDING;
	}
}

/* Cuts COMMAND off the arguments. False: the word after "--" is missing. */
static bool cut_command(struct fence *fence, int *argc, char **argv)
{
	int i;

	for (i = 1; i < *argc; i++) {
		if (strcmp(argv[i], "--"))
			continue;
		if (i + 1 == *argc)
			return false;
		fence->command = argv + i + 1;
		argv[i] = NULL;
		*argc = i;
		break;
	}
	return true;
}

/* 0, or a status to exit with, plus one. */
static int parse(struct fence *fence, const struct command *self, int argc, char **argv)
{
	int key;

	if (!cut_command(fence, &argc, argv))
		return 1 + usage_error("which command after '--'?");
	while ((key = parse_options(self, argc, argv)) != OPTIONS_END) {
		switch (key) {
		case OPTIONS_HELP:
			return 1 + STATUS_OK;
		case OPTIONS_BAD:
			return 1 + STATUS_USAGE;
		case OPT_DENY:
			fence->deny = true;
			break;
		case OPT_STRICT:
			fence->strict = true;
			break;
		case 'j':
			fence->json = true;
			break;
		case 'd':
			if (!parse_seconds(optarg, &fence->duration_ns))
				return 1 + usage_error("'%s' is no number of seconds", optarg);
			break;
		default:
			if (!selection_option(&fence->selection, key, optarg))
				return 1 + STATUS_USAGE;
		}
	}
	fence->selection.files = argv + optind;
	fence->selection.nr_files = argc - optind;
	return selection_check(&fence->selection) ? 0 : 1 + STATUS_USAGE;
}

static void print_pins(const struct fence *fence, const struct pgprotect_result *result)
{
	uint32_t i;

	for (i = 0; i < result->nr_pins && i < result->max_pins; i++) {
		const struct target *target = targets_find(&fence->targets,
							   result->pins[i].file);

		note("  pinned: %s, offset %#llx, %llu KiB", target ? target->name : "?",
		     result->pins[i].offset, result->pins[i].length / 1024);
	}
}

static json_object *pins_json(const struct fence *fence,
			      const struct pgprotect_result *result)
{
	json_object *list = json_object_new_array();
	uint32_t i;

	for (i = 0; i < result->nr_pins && i < result->max_pins; i++) {
		const struct target *target = targets_find(&fence->targets,
							   result->pins[i].file);
		json_object *entry = json_object_new_object();

		json_add_string(entry, "file", target ? target->name : "?");
		json_add_count(entry, "offset", result->pins[i].offset);
		json_add_count(entry, "length", result->pins[i].length);
		json_object_array_add(list, entry);
	}
	return list;
}

static void report_up_json(const struct fence *fence,
			   const struct pgprotect_result *result, int64_t wall_ns)
{
	json_object *object = json_object_new_object();
	json_object *files = json_object_new_array();
	size_t i;

	json_add_string(object, "type", "fenced");
	json_add_string(object, "mode", fence->deny ? "deny" : "stall");
	for (i = 0; i < fence->targets.nr; i++)
		json_object_array_add(files,
				      json_object_new_string(fence->targets.list[i].name));
	json_object_object_add(object, "files", files);
	json_add_count(object, "pages", result->nr_pages);
	json_add_count(object, "tables", result->nr_tables);
	json_add_count(object, "duration_ns", result->duration_ns);
	json_add_count(object, "wall_ns", wall_ns);
	json_add_count(object, "stall_limit_ms", fence->deny ? 0 : fence->stall_ms);
	json_add_count(object, "nr_pins", result->nr_pins);
	json_object_object_add(object, "pins", pins_json(fence, result));
	json_print(stderr, object);
}

static void report_up(const struct fence *fence, const struct pgprotect_result *result,
		      int64_t wall_ns)
{
	char what[64] = "writers are refused";

	if (fence->json) {
		report_up_json(fence, result, wall_ns);
		return;
	}
	if (!fence->deny && fence->stall_ms)
		snprintf(what, sizeof(what), "writers wait, for at most %g s",
			 fence->stall_ms / 1e3);
	else if (!fence->deny)
		snprintf(what, sizeof(what), "writers wait");
	note("fenced %zu file%s, %llu pages in %.3f ms (%.3f ms in the kernel, %u page tables); %s",
	     fence->targets.nr, fence->targets.nr == 1 ? "" : "s",
	     (unsigned long long)result->nr_pages, wall_ns / 1e6,
	     result->duration_ns / 1e6, result->nr_tables, what);
	if (result->nr_pins) {
		warning("%u runs of pages are pinned; a device may still write to them",
			result->nr_pins);
		print_pins(fence, result);
	}
}

static uint64_t count_writers(const struct fence *fence)
{
	/* An event names only the first of those who wait for a page. */
	return fence->writers.nr > fence->waiting ? fence->writers.nr : fence->waiting;
}

static void report_down_json(const struct fence *fence)
{
	json_object *object = json_object_new_object();

	json_add_string(object, "type", "released");
	json_add_string(object, "reason", fence->reason);
	json_add_seconds(object, "stood_seconds", fence->stood_ns);
	json_add_count(object, "writers", count_writers(fence));
	json_add_count(object, "waiting", fence->waiting);
	json_add_count(object, "events", fence->writers.events);
	json_add_count(object, "pages", fence->writers.pages.count);
	json_add_count(object, "timeouts", fence->timeouts);
	json_add_count(object, "lost_events", fence->lost);
	if (fence->command)
		json_add_count(object, "status", fence->child_status);
	json_print(stderr, object);
}

static void report_down(const struct fence *fence)
{
	unsigned long long refused = fence->writers.events + fence->lost;
	uint64_t writers = count_writers(fence);

	if (fence->json) {
		report_down_json(fence);
		return;
	}
	if (fence->deny)
		note("stood %.3f s (%s); %llu writer%s met it and failed, %llu time%s",
		     fence->stood_ns / 1e9, fence->reason, (unsigned long long)writers,
		     writers == 1 ? "" : "s",
		     refused, refused == 1 ? "" : "s");
	else
		note("stood %.3f s (%s); %llu writer%s met it, %llu waiting at the end",
		     fence->stood_ns / 1e9, fence->reason, (unsigned long long)writers,
		     writers == 1 ? "" : "s", (unsigned long long)fence->waiting);
	if (fence->timeouts)
		warning("%llu writers waited too long and failed",
			(unsigned long long)fence->timeouts);
}

static int fence_up(struct fence *fence)
{
	struct pgprotect_range pins[MAX_PINS];
	struct pgprotect_result result = {
		.size = sizeof(result), .pins = pins, .max_pins = MAX_PINS,
	};
	int64_t start = monotonic_ns();
	int ret;

	ret = targets_protect(&fence->targets, fence->ctx,
			      fence->strict ? PGPROTECT_PROTECT_STRICT : 0, &result);
	fence->up_ns = monotonic_ns();
	if (ret == -EBUSY) {
		failure("a page is pinned, so that a device may write to it");
		print_pins(fence, &result);
		remedy("end the I/O that pins it, or leave out --strict");
		return STATUS_FAILED;
	}
	if (ret < 0)
		return failure_errno("protecting", ret);
	report_up(fence, &result, fence->up_ns - start);
	return 0;
}

/* Writers that wait, as the kernel shows them in fdinfo. */
static uint64_t count_waiting(int fd)
{
	unsigned long long waiting = 0;
	char path[48], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "stalled: %llu", &waiting) == 1)
			break;
	fclose(file);
	return waiting;
}

static void fence_down(struct fence *fence)
{
	if (!fence->ctx)
		return;
	signals_detach();
	if (!fence->deny)
		fence->waiting = count_waiting(pgprotect_fd(fence->ctx));
	pgprotect_loop_free(fence->loop);
	pgprotect_close(fence->ctx);
	fence->stood_ns = monotonic_ns() - fence->up_ns;
	fence->loop = NULL;
	fence->ctx = NULL;
}

/* Until COMMAND ends, a signal, or the duration. -errno. */
static int hold(struct fence *fence)
{
	int ret = 0;

	while (!fence->reason && !ret) {
		ret = pgprotect_loop_run(fence->loop);
		if (fence->child && child_ended(fence->child, &fence->child_status)) {
			fence->child = 0;
			fence->reason = "command ended";
		} else if (signals_end()) {
			fence->reason = "interrupted";
		} else if (signals_alarmed()) {
			fence->reason = "duration";
		}
	}
	return ret;
}

/* The fence is down; COMMAND may still be running. */
static int wait_for_child(struct fence *fence)
{
	bool outlived = fence->child != 0;
	int sig;

	if (outlived && !signals_end())
		kill(fence->child, SIGTERM);
	signals_hold();
	while (fence->child) {
		sig = signals_take_forward();
		if (sig)
			kill(fence->child, sig);
		if (child_ended(fence->child, &fence->child_status))
			fence->child = 0;
		else
			signals_sleep();
	}
	if (!outlived)
		return fence->child_status;
	/* It did not run inside the fence to its end: that is no success. */
	if (!signals_end())
		return signals_alarmed() ? STATUS_TIMEOUT : STATUS_FENCE;
	return fence->child_status ? fence->child_status : STATUS_SIGNAL + signals_end();
}

static int stand(struct fence *fence)
{
	int ret, status = STATUS_OK;

	if (fence->command) {
		ret = child_start(&fence->child, fence->command, &fence->targets);
		if (ret < 0) {
			fence_down(fence);
			failure_errno("starting a process", ret);
			return STATUS_FENCE;
		}
	}
	if (fence->duration_ns)
		signals_alarm(fence->duration_ns);
	ret = hold(fence);
	if (!fence->reason)
		fence->reason = "error";
	fence_down(fence);
	if (ret < 0)
		failure_errno("fencing", ret);
	if (fence->command)
		status = wait_for_child(fence);
	else if (ret < 0)
		status = STATUS_FAILED;
	report_down(fence);
	return status;
}

static int prepare(struct fence *fence)
{
	struct pgprotect_attach_options attach = { .size = sizeof(attach) };
	struct pgprotect_info info = { .size = sizeof(info) };
	struct pgprotect_loop_options loop_options = {
		.size = sizeof(loop_options), .data = fence, .event = on_event,
	};
	int ret;

	ret = pgprotect_open(&fence->ctx, PGPROTECT_OPEN_CLOEXEC);
	if (ret < 0)
		return failure_open(ret);
	ret = pgprotect_info(fence->ctx, &info);
	if (ret < 0)
		return failure_errno("asking the kernel", ret);
	fence->page_size = info.page_size;
	fence->stall_ms = info.stall_ms;
	ret = pgprotect_loop_new(&fence->loop, fence->ctx, &loop_options);
	if (ret < 0)
		return failure_errno("making an event loop", ret);
	signals_start(fence->loop);
	if (fence->deny) {
		attach.mode = PGPROTECT_MODE_DENY;
		attach.flags = PGPROTECT_ATTACH_NOTIFY;
	}
	return targets_attach(&fence->targets, fence->ctx, &fence->selection, &attach);
}

static int run_fence(const struct command *self, int argc, char **argv)
{
	struct fence fence = { .targets.pidfd = -1 };
	int ret;

	ret = parse(&fence, self, argc, argv);
	if (ret)
		return ret - 1;
	ret = prepare(&fence);
	if (!ret)
		ret = fence_up(&fence);
	if (!ret)
		ret = stand(&fence);
	else if (fence.command)
		ret = STATUS_FENCE;
	fence_down(&fence);
	writers_free(&fence.writers);
	targets_free(&fence.targets);
	return ret;
}
