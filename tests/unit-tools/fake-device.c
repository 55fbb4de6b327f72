// SPDX-License-Identifier: GPL-2.0
/*
 * A stand-in for /dev/pgprotect: a pipe with events in it, and ioctl(2) for it.
 *
 * FAKE_EVENTS=N	the first PROTECT queues N events
 * FAKE_FAIL=NR:ERRNO	ioctl number NR (hexadecimal) fails; NR "open": opening
 * FAKE_LOG=FILE	a line for each PROTECT, UNPROTECT and verdict goes there
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/pgprotect.h>

#include "fake-device.h"

#define PAGE	4096

static int ends[2] = { -1, -1 };
static unsigned int nr_files;
static __u64 last_id;

static void say(const char *format, ...)
{
	const char *path = getenv("FAKE_LOG");
	va_list args;
	FILE *file;

	file = path ? fopen(path, "a") : NULL;
	if (!file)
		return;
	va_start(args, format);
	vfprintf(file, format, args);
	va_end(args);
	fclose(file);
}

static int injected(const char *what)
{
	const char *fail = getenv("FAKE_FAIL");
	size_t size = strlen(what);

	if (fail && !strncmp(fail, what, size) && fail[size] == ':')
		return atoi(fail + size + 1);
	return 0;
}

void fake_event(unsigned int type, unsigned int pid, __u64 offset, __u64 length)
{
	struct pgprotect_event event = {
		.id = type == PGPROTECT_EVENT_STALL ? ++last_id : 0,
		.offset = offset,
		.length = length,
		.cookie = 0,
		.time_ns = 1000000000ULL * last_id,
		.file = 1,
		.pid = pid,
		.tid = pid,
		.waiters = 1,
		.type = type,
		.origin = 1 + last_id % 2,
	};

	if (write(ends[1], &event, sizeof(event)) != sizeof(event))
		abort();
}

int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;
	int fail;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, mode_t);
	va_end(args);
	if (strcmp(path, "/dev/pgprotect"))
		return syscall(SYS_openat, AT_FDCWD, path, flags | O_LARGEFILE, mode);
	fail = injected("open");
	if (fail) {
		errno = fail;
		return -1;
	}
	nr_files = 0;
	if (pipe2(ends, flags & (O_CLOEXEC | O_NONBLOCK)))
		return -1;
	/* Nobody reads while it is filled. */
	fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	return ends[0];
}

static int fake_protect(struct pgprotect_protect *arg)
{
	const struct pgprotect_range *ranges = (void *)(uintptr_t)arg->ranges;
	const char *events = getenv("FAKE_EVENTS");
	static int done;
	unsigned int i;

	arg->nr_pages = 100 * arg->nr_ranges;
	arg->duration_ns = 1234567;
	for (i = 0; i < arg->nr_ranges; i++)
		say("protect %u %#llx %#llx\n", ranges[i].file, ranges[i].offset,
		    ranges[i].length);
	if (!events || done++)
		return 0;
	for (i = 0; i < (unsigned int)atoi(events); i++)
		fake_event(PGPROTECT_EVENT_STALL, i % 3 ? getpid() : getppid(),
			   (__u64)i * PAGE, PAGE);
	return 0;
}

static int fake_next(struct pgprotect_next *arg)
{
	const struct pgprotect_verdict *verdicts = (void *)(uintptr_t)arg->verdicts;
	struct pollfd ready = { .fd = ends[0], .events = POLLIN };
	unsigned int i;
	int bytes = 0;
	ssize_t got;

	for (i = 0; i < arg->nr_verdicts; i++)
		say("verdict %llu %u %d\n", verdicts[i].id, verdicts[i].action,
		    verdicts[i].error);
	arg->nr_events = 0;
	if (!arg->max_events)
		return 0;
	if (arg->min_events)
		poll(&ready, 1, arg->timeout_ns < 0 ? -1 : arg->timeout_ns / 1000000);
	syscall(SYS_ioctl, ends[0], FIONREAD, &bytes);
	if (!bytes)
		return 0;
	got = read(ends[0], (void *)(uintptr_t)arg->events,
		   arg->max_events * sizeof(struct pgprotect_event));
	if (got > 0)
		arg->nr_events = got / sizeof(struct pgprotect_event);
	return 0;
}

static int fake_info(struct pgprotect_info *info)
{
	info->version = PGPROTECT_API_VERSION;
	info->features = PGPROTECT_FEATURE_STALL | PGPROTECT_FEATURE_DENY |
			 PGPROTECT_FEATURE_SHMEM;
	info->page_size = PAGE;
	info->max_ranges = PGPROTECT_MAX_RANGES;
	info->max_batch = PGPROTECT_MAX_BATCH;
	info->stall_ms = 60000;
	info->modes = 1U << PGPROTECT_MODE_STALL | 1U << PGPROTECT_MODE_DENY;
	return 0;
}

static int fake_list(struct pgprotect_list *list)
{
	struct pgprotect_list_entry *entries = (void *)(uintptr_t)list->entries;
	unsigned int i;

	/* More than the library expects, so that it has to ask again. */
	list->nr_entries = 100;
	for (i = 0; i < list->max_entries && i < list->nr_entries; i++)
		entries[i] = (struct pgprotect_list_entry) {
			.dev = 1, .ino = 4000000000ULL + i, .pages = i ? i : ~0ULL,
			.mode = PGPROTECT_MODE_STALL, .pid = getpid(), .file = i + 1,
		};
	return 0;
}

int ioctl(int fd, unsigned long request, ...)
{
	char number[8];
	va_list args;
	void *arg;
	int fail;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (_IOC_TYPE(request) != PGPROTECT_IOC_MAGIC || fd < 0 || fd != ends[0])
		return syscall(SYS_ioctl, fd, request, arg);

	snprintf(number, sizeof(number), "%lx", _IOC_NR(request));
	fail = injected(number);
	if (fail) {
		errno = fail;
		return -1;
	}
	switch (request) {
	case PGPROTECT_IOC_INFO:
		return fake_info(arg);
	case PGPROTECT_IOC_ATTACH:
		((struct pgprotect_attach *)arg)->file = ++nr_files;
		return 0;
	case PGPROTECT_IOC_PROTECT:
		return fake_protect(arg);
	case PGPROTECT_IOC_NEXT:
		return fake_next(arg);
	case PGPROTECT_IOC_LIST:
		return fake_list(arg);
	default:
		return 0;
	}
}
