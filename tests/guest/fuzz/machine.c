// SPDX-License-Identifier: GPL-2.0
/* What the fuzzer changes about the machine: before the first process, and while they run. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define SHARING	"/sys/kernel/mm/ptshare/enabled"
#define DEBUGFS	"/sys/kernel/debug/"

/* All are put back. What is written at the start: NULL: nothing. */
static struct knob {
	const char *path, *text;
	char before[32];
} knobs[] = {
	/* LIMITS of what a user may take. */
	{ .path = "/proc/sys/vm/pgprotect_max_contexts" },
	{ .path = "/proc/sys/vm/pgprotect_max_attachments" },
	{ .path = "/proc/sys/vm/pgprotect_max_events" },
	{ .path = "/proc/sys/vm/pgprotect_max_state_kb" },
	/* DELAYS at points where others may come between, in the debug kernel. */
	{ .path = DEBUGFS "pgprotect/delay_fault_install_us" },
	{ .path = DEBUGFS "pgprotect/delay_write_locked_us" },
	{ .path = DEBUGFS "pgprotect/delay_fill_us" },
	{ .path = DEBUGFS "pgprotect/delay_cut_us" },
	{ .path = "/proc/sys/vm/nr_hugepages", .text = "12" },
	{ .path = SHARING, .text = "madvise" },
	/* So that what they record is fuzzed, too. */
	{ .path = "/sys/kernel/tracing/events/pgprotect/enable", .text = "1" },
	{ .path = DEBUGFS "failslab/ignore-gfp-wait", .text = "N" },
	{ .path = DEBUGFS "failslab/verbose", .text = "0" },
	{ .path = DEBUGFS "fail_page_alloc/ignore-gfp-wait", .text = "N" },
	{ .path = DEBUGFS "fail_page_alloc/min-order", .text = "0" },
	{ .path = DEBUGFS "fail_page_alloc/verbose", .text = "0" },
};

#define LIMITS	4
#define DELAYS	4

/* Of several words, the one in brackets. */
static void knob_read(struct knob *knob)
{
	FILE *f = fopen(knob->path, "re");
	char text[64] = "";
	char *word = text;

	if (!f)
		return;
	if (fgets(text, sizeof(text), f) && strchr(text, '['))
		word = strchr(text, '[') + 1;
	snprintf(knob->before, sizeof(knob->before), "%.*s", (int)strcspn(word, "]\n"), word);
	fclose(f);
}

void machine_prepare(void)
{
	for (size_t i = 0; i < ARRAY_LEN(knobs); i++) {
		knob_read(&knobs[i]);
		if (knobs[i].text)
			write_text(knobs[i].path, knobs[i].text);
	}
}

void machine_restore(void)
{
	for (size_t i = 0; i < ARRAY_LEN(knobs); i++)
		write_text(knobs[i].path, knobs[i].before);
}

static void fail_nth(unsigned int nth)
{
	static int fd = -1;
	char text[16];

	/* Not by main(): it is that of who opens it. */
	if (fd < 0)
		fd = open("/proc/thread-self/fail-nth", O_WRONLY | O_CLOEXEC);
	pwrite(fd, text, snprintf(text, sizeof(text), "%u", nth), 0);
}

long machine_starve(struct fuzzer *f, long (*run)(struct fuzzer *f))
{
	long ret;

	fail_nth(1 + fuzz_random(f, 16));
	ret = run(f);
	fail_nth(0);
	return ret;
}

/* A limit that is soon reached, or what it was. */
static long op_limit(struct fuzzer *f)
{
	struct knob *limit = &knobs[fuzz_random(f, LIMITS)];
	char few[16];

	snprintf(few, sizeof(few), "%u", (unsigned int)fuzz_random(f, 20));
	return write_text(limit->path, fuzz_chance(f, 12) ? few : limit->before) ? 0 : -1;
}

static long op_delay(struct fuzzer *f)
{
	struct knob *delay = &knobs[LIMITS + fuzz_random(f, DELAYS)];
	char us[16];

	snprintf(us, sizeof(us), "%u", fuzz_chance(f, 3) ? (unsigned int)fuzz_random(f, 3000) : 0);
	write_text(delay->path, us);
	return 0;
}

static long op_sharing(struct fuzzer *f)
{
	static const char *const modes[] = {
		"never", "madvise", "madvise", "madvise", "always", "always", "at times",
	};

	return write_text(SHARING, modes[fuzz_random(f, ARRAY_LEN(modes))]) ? 0 : -1;
}

/* What it tells of itself. */
static long op_show(struct fuzzer *f)
{
	static const char *const paths[] = {
		"/proc/self/smaps", "/proc/self/status", "/proc/meminfo",
		SHARING, "/sys/kernel/mm/ptshare/hosts",
		"/sys/kernel/mm/ptshare/guests", "/sys/kernel/mm/ptshare/links",
	};
	int fd = open(paths[fuzz_random(f, ARRAY_LEN(paths))], O_RDONLY | O_CLOEXEC);
	char text[4096];

	if (fd < 0)
		return -1;
	while (read(fd, text, sizeof(text)) > 0)
		;
	return close(fd);
}

const struct fuzz_op machine_ops[] = {
	{ "limit", 4, op_limit },
	{ "delay", 4, op_delay },
	{ "sharing", 1, op_sharing },
	{ "show", 1, op_show },
	{ }
};
