// SPDX-License-Identifier: GPL-2.0
/* The fuzzer's calls of /dev/pgprotect, and of prctl. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuzz.h"

#ifndef PR_SET_PGPROTECT
#define PR_SET_PGPROTECT	0x50475053
#define PR_GET_PGPROTECT	0x50475047
#endif

#define RANGES	6
#define BATCH	24	/* more than the kernel has room for on its stack */

/* As large as the kernel may find them, should a bit of their length have turned. */
static struct pgprotect_range pins[PGPROTECT_MAX_RANGES];
static struct pgprotect_event events[PGPROTECT_MAX_BATCH];
static struct pgprotect_list_entry entries[4096];

/*
 * The call with @args of @size bytes, which begin with their size: at times with some
 * bits turned, another size, or where nothing is.
 */
static long call(struct fuzzer *f, int ctx, unsigned long cmd, void *args, uint32_t size)
{
	uint8_t bytes[512] = { 0 };
	uint32_t *said = (uint32_t *)bytes;
	int ret;

	memcpy(bytes, args, size);
	*said = size;
	if (fuzz_chance(f, 20))
		bytes[fuzz_random(f, size)] ^= 1 << fuzz_random(f, 8);
	if (fuzz_chance(f, 40))
		*said = fuzz_chance(f, 2) ? size + 8 * fuzz_random(f, 8) : fuzz_random(f, 5000);
	ret = ioctl(ctx, cmd, fuzz_chance(f, 60) ? nowhere : bytes);
	memcpy(args, bytes, size);
	return ret < 0 ? -errno : ret;
}

static uint64_t flags_of(struct fuzzer *f, uint64_t valid)
{
	if (fuzz_chance(f, 30))
		return 1ULL << fuzz_random(f, 64);
	return fuzz_random(f, 16) & valid;
}

struct pgprotect_range fuzz_range(struct fuzzer *f)
{
	const uint64_t page = page_size();
	struct pgprotect_range range = {
		.file = 1 + fuzz_random(f, fuzz_chance(f, 2) ? 3 : 6),
		.offset = fuzz_random(f, FILE_PAGES) * page,
		.length = (1 + fuzz_random(f, 16)) * page,
	};

	/* What huge pages need, and fences. */
	if (fuzz_chance(f, 3)) {
		range.offset = fuzz_random(f, 4) * UNIT;
		range.length = (1 + fuzz_random(f, 2)) * UNIT;
	}
	switch (fuzz_random(f, 30)) {
	case 0:
		range.length = PGPROTECT_TO_EOF;
		break;
	case 1:
		range.offset = 0;
		range.length = DIRECTORY;
		break;
	case 2:
		range.offset = fuzz_random(f, 1ULL << 51) * page;
		break;
	case 3:
		range.length = fuzz_random(f, ~0ULL);
		break;
	case 4:
		range.offset++;
		break;
	}
	return range;
}

/* Mostly an array of the process; at times in a file that may be protected. */
static struct pgprotect_range *some_ranges(struct fuzzer *f, struct pgprotect_range *own)
{
	for (int i = 0; i < RANGES; i++) {
		own[i] = fuzz_range(f);
		if (!fuzz_chance(f, 3))
			own[i].file = own[0].file;
	}
	if (fuzz_chance(f, 80))
		return nowhere;
	return own;
}

static long op_open(struct fuzzer *f)
{
	int *slot = &f->contexts[CONTEXTS / 2 + fuzz_random(f, CONTEXTS / 2)];

	if (*slot >= 0)
		close(*slot);
	*slot = ctx_open_try(fuzz_chance(f, 2) ? O_NONBLOCK : 0);
	return *slot;
}

static long op_close(struct fuzzer *f)
{
	int *slot = &f->contexts[CONTEXTS / 2 + fuzz_random(f, CONTEXTS / 2)];
	int ret = *slot < 0 ? -1 : close(*slot);

	*slot = -1;
	return ret;
}

static long op_info(struct fuzzer *f)
{
	struct pgprotect_info args = { 0 };

	return call(f, fuzz_context(f), PGPROTECT_IOC_INFO, &args, sizeof(args));
}

static long op_attach(struct fuzzer *f)
{
	struct pgprotect_attach args = {
		/* Any at times, but its own output: a file that would stay attached. */
		.fd = fuzz_chance(f, 30) ? 3 + (int)fuzz_random(f, 20) : fuzz_file(f),
		.mode = 1 + fuzz_random(f, fuzz_chance(f, 10) ? 6 : 2),
		.access = PGPROTECT_ACCESS_WRITE,
		.cookie = fuzz_random(f, ~0ULL),
		.stall_ms = fuzz_random(f, 2 * STALL_MS),
	};
	uint64_t valid = args.mode == PGPROTECT_MODE_STALL ? PGPROTECT_ATTACH_TIMEOUT_RELEASE :
							     PGPROTECT_ATTACH_NOTIFY;

	if (fuzz_chance(f, 6))
		valid = ~0ULL;
	args.flags = flags_of(f, valid);
	return call(f, fuzz_context(f), PGPROTECT_IOC_ATTACH, &args, sizeof(args));
}

static long op_detach(struct fuzzer *f)
{
	struct pgprotect_detach args = { .file = 1 + fuzz_random(f, 8) };

	return call(f, fuzz_context(f), PGPROTECT_IOC_DETACH, &args, sizeof(args));
}

static long op_protect(struct fuzzer *f)
{
	struct pgprotect_range ranges[RANGES];
	struct pgprotect_protect args = {
		.access = PGPROTECT_ACCESS_WRITE,
		.flags = flags_of(f, PGPROTECT_PROTECT_STRICT),
		.ranges = (uintptr_t)some_ranges(f, ranges),
		.nr_ranges = 1 + fuzz_random(f, fuzz_chance(f, 3) ? RANGES : 1),
		.pins = (uintptr_t)pins,
		.max_pins = fuzz_random(f, 5),
	};

	return call(f, fuzz_context(f), PGPROTECT_IOC_PROTECT, &args, sizeof(args));
}

static long op_unprotect(struct fuzzer *f)
{
	struct pgprotect_range ranges[RANGES];
	struct pgprotect_unprotect args = {
		.ranges = (uintptr_t)some_ranges(f, ranges),
		.nr_ranges = 1 + fuzz_random(f, RANGES),
	};

	return call(f, fuzz_context(f), PGPROTECT_IOC_UNPROTECT, &args, sizeof(args));
}

static void remember_events(struct fuzzer *f, unsigned int nr)
{
	for (unsigned int i = 0; i < nr && i < BATCH; i++)
		f->ids[fuzz_random(f, ARRAY_LEN(f->ids))] = events[i].id;
}

static long op_next(struct fuzzer *f)
{
	struct pgprotect_verdict verdicts[BATCH];
	struct pgprotect_next args = {
		.nr_verdicts = fuzz_random(f, BATCH + 1),
		.verdicts = (uintptr_t)verdicts,
		.events = (uintptr_t)events,
		.max_events = fuzz_random(f, BATCH + 1),
		/* The alarm ends what has no end. */
		.timeout_ns = fuzz_chance(f, 4) ? -1 : (int64_t)fuzz_random(f, 20000000),
	};
	long ret;

	if (!f->fetches)
		return -EPERM;
	args.min_events = fuzz_random(f, args.max_events + 1);
	for (int i = 0; i < BATCH; i++)
		verdicts[i] = (struct pgprotect_verdict){
			.id = f->ids[i % ARRAY_LEN(f->ids)],
			.action = fuzz_chance(f, 60) ? fuzz_random(f, 9) : PGPROTECT_ALLOW,
		};
	if (fuzz_chance(f, 3))
		verdicts[0] = (struct pgprotect_verdict){
			.id = f->ids[0], .action = PGPROTECT_REFUSE,
			.error = fuzz_random(f, 140),
		};
	ret = call(f, fuzz_context(f), PGPROTECT_IOC_NEXT, &args, sizeof(args));
	if (!ret && args.events == (uintptr_t)events)
		remember_events(f, args.nr_events);
	return ret;
}

/* A handler's turn: it answers what it fetches. */
static long op_handle(struct fuzzer *f)
{
	struct pgprotect_verdict verdicts[BATCH] = { 0 };
	struct pgprotect_next fetch = { .events = (uintptr_t)events, .max_events = BATCH };
	struct pgprotect_next answer = { .verdicts = (uintptr_t)verdicts };
	int ctx = fuzz_context(f);

	if (!f->fetches || ctx_next_args(ctx, &fetch) || !fetch.nr_events)
		return -EPERM;
	for (uint32_t i = 0; i < fetch.nr_events; i++) {
		verdicts[i].id = events[i].id;
		verdicts[i].action = fuzz_chance(f, 3) ? PGPROTECT_REFUSE : PGPROTECT_ALLOW;
	}
	answer.nr_verdicts = fetch.nr_events;
	return ctx_next_args(ctx, &answer);
}

static long op_read(struct fuzzer *f)
{
	struct iovec to = {
		fuzz_chance(f, 10) ? nowhere : events,
		fuzz_random(f, BATCH * sizeof(events[0]) + 1),
	};
	ssize_t got;

	if (!f->fetches)
		return -EPERM;
	/* Who is interrupted only to begin again must not wait for ever. */
	got = preadv2(fuzz_context(f), &to, 1, -1, f->restarts ? RWF_NOWAIT : 0);
	if (got <= 0)
		return -1;
	remember_events(f, got / sizeof(events[0]));
	return got;
}

static long op_copy(struct fuzzer *f)
{
	static char bytes[16 * 4096];
	struct pgprotect_range range = fuzz_range(f);
	struct pgprotect_copy args = {
		.file = range.file,
		.offset = range.offset,
		.length = range.length,
		.source = (uintptr_t)bytes,
	};
	char *map = f->maps[fuzz_random(f, FILES)];

	/* From a mapping, that may be of the file itself; not a GiB of holes. */
	if (map && fuzz_chance(f, 3))
		args.source = (uintptr_t)map;
	if (args.length > 2 * UNIT)
		args.source = (uintptr_t)nowhere;
	return call(f, fuzz_context(f), PGPROTECT_IOC_COPY, &args, sizeof(args));
}

static long op_list(struct fuzzer *f)
{
	struct pgprotect_list args = {
		.max_entries = fuzz_random(f, 5), .entries = (uintptr_t)entries,
	};

	return call(f, fuzz_context(f), PGPROTECT_IOC_LIST, &args, sizeof(args));
}

static long op_unknown(struct fuzzer *f)
{
	uint8_t bytes[256] = { 0 };

	bytes[fuzz_random(f, sizeof(bytes))] = fuzz_random(f, 256);
	/* That there is no such call is what is expected of it. */
	return ioctl(fuzz_context(f), _IOWR(PGPROTECT_IOC_MAGIC, 10 + fuzz_random(f, 246),
					    bytes), bytes) < 0 ? 0 : -1;
}

static long op_look(struct fuzzer *f)
{
	int ctx = fuzz_context(f), bytes = 0;
	struct pollfd pfd = { .fd = ctx, .events = POLLIN };
	char path[40], text[2000];
	int fd;

	if (ctx < 0)
		return -1;
	poll(&pfd, 1, 0);
	ioctl(ctx, FIONREAD, &bytes);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", ctx);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	while (read(fd, text, sizeof(text)) > 0)
		;
	return close(fd);
}

static long op_prctl(struct fuzzer *f)
{
	unsigned long how = fuzz_chance(f, 10) ? fuzz_random(f, ~0UL) : fuzz_random(f, 3);

	if (prctl(PR_GET_PGPROTECT, 0, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_PGPROTECT, how, 0, 0, fuzz_chance(f, 20));
}

/* A context on its way through a socket, for a moment the only one to hold it. */
static long op_pass(struct fuzzer *f)
{
	int *slot = &f->contexts[CONTEXTS / 2 + fuzz_random(f, CONTEXTS / 2)];
	int pair[2];

	if (*slot < 0 || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
		return -1;
	send_fd(pair[0], *slot);
	close(*slot);
	*slot = -1;
	if (!fuzz_chance(f, 3))
		*slot = receive_fd(pair[1]);
	close(pair[0]);
	close(pair[1]);
	return 0;
}

/* A file of its own: its inode goes while it is protected, or somebody takes that over. */
static long op_orphan(struct fuzzer *f)
{
	int fd = memfd_create("orphan", MFD_CLOEXEC), ctx = ctx_open_try(0);
	struct pgprotect_attach args = {
		.fd = fd, .mode = 1 + fuzz_random(f, 2), .access = PGPROTECT_ACCESS_WRITE,
		.flags = PGPROTECT_ATTACH_PERSIST,
	};
	long ret = ctx_attach_try(ctx, &args);

	ctx_protect_all(ctx, args.file);
	close(ctx);
	args.flags = PGPROTECT_ATTACH_ADOPT;
	if (fuzz_chance(f, 2))
		ctx_attach_try(fuzz_context(f), &args);
	close(fd);
	return ret;
}

static long op_starved(struct fuzzer *f)
{
	static long (*const runs[])(struct fuzzer *f) = {
		op_open, op_attach, op_protect, op_protect, op_unprotect, op_next, op_copy,
		op_list, op_orphan,
	};

	return machine_starve(f, runs[fuzz_random(f, ARRAY_LEN(runs))]);
}

const struct fuzz_op call_ops[] = {
	{ "open", 6, op_open },
	{ "close", 3, op_close },
	{ "info", 1, op_info },
	{ "attach", 24, op_attach },
	{ "detach", 5, op_detach },
	{ "protect", 40, op_protect },
	{ "unprotect", 15, op_unprotect },
	{ "next", 30, op_next },
	{ "handle", 12, op_handle },
	{ "read", 8, op_read },
	{ "copy", 12, op_copy },
	{ "list", 3, op_list },
	{ "unknown", 1, op_unknown },
	{ "look", 1, op_look },
	{ "prctl", 3, op_prctl },
	{ "pass", 2, op_pass },
	{ "orphan", 1, op_orphan },
	{ "starved", 12, op_starved },
	{ }
};
