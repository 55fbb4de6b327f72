// SPDX-License-Identifier: GPL-2.0
/* One call of /dev/pgprotect per helper, and what /proc and sysctl say of it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgtest.h"

#define STALL_SYSCTL	"/proc/sys/vm/pgprotect_stall_ms"

int ctx_open_try(int flags)
{
	int fd = open("/dev/pgprotect", O_RDWR | O_CLOEXEC | flags);

	return fd < 0 ? -errno : fd;
}

int ctx_open(void)
{
	int fd = ctx_open_try(0);

	if (fd < 0)
		die("open /dev/pgprotect");
	return fd;
}

/*
 * The device is for root alone, so the user opens another node of it. It lies in
 * /dev, because /dev/shm may be mounted nodev.
 */
int ctx_open_by(uid_t uid, int cap)
{
	const char *node = "/dev/pgprotect-test";
	struct stat stat_of;
	int pair[2];
	int fd;
	pid_t pid;

	if (stat("/dev/pgprotect", &stat_of) || mknod(node, S_IFCHR | 0600, stat_of.st_rdev) ||
	    chmod(node, 0666) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("make %s", node);
	pid = fork_child();
	if (pid == 0) {
		become_user_with(uid, cap);
		fd = open(node, O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			send_fd(pair[1], fd);
		_exit(fd < 0);
	}
	close(pair[1]);
	if (wait_child(pid)) {
		unlink(node);
		die("user %u cannot open %s", uid, node);
	}
	unlink(node);
	fd = receive_fd(pair[0]);
	close(pair[0]);
	return fd;
}

int ctx_ioctl(int ctx, unsigned long cmd, void *arg)
{
	return ioctl(ctx, cmd, arg) < 0 ? -errno : 0;
}

int ctx_attach_try(int ctx, struct pgprotect_attach *args)
{
	args->size = sizeof(*args);
	return ctx_ioctl(ctx, PGPROTECT_IOC_ATTACH, args);
}

uint32_t ctx_attach_limit(int ctx, int fd, uint32_t mode, uint64_t flags, uint32_t stall_ms)
{
	struct pgprotect_attach args = {
		.fd = fd,
		.mode = mode,
		.access = PGPROTECT_ACCESS_WRITE,
		.flags = flags,
		.cookie = COOKIE(fd),
		.stall_ms = stall_ms,
	};

	if (ctx_attach_try(ctx, &args))
		die("attach fd %d in mode %u", fd, mode);
	if (!args.file)
		die("attach gave file id 0");
	return args.file;
}

uint32_t ctx_attach(int ctx, int fd, uint32_t mode, uint64_t flags)
{
	return ctx_attach_limit(ctx, fd, mode, flags, 0);
}

int ctx_detach(int ctx, uint32_t file)
{
	struct pgprotect_detach args = { .size = sizeof(args), .file = file };

	return ctx_ioctl(ctx, PGPROTECT_IOC_DETACH, &args);
}

struct pgprotect_range range_of(uint32_t file, uint64_t offset, uint64_t length)
{
	return (struct pgprotect_range){ .file = file, .offset = offset, .length = length };
}

int ctx_protect_args(int ctx, struct pgprotect_protect *args)
{
	args->size = sizeof(*args);
	args->access = PGPROTECT_ACCESS_WRITE;
	return ctx_ioctl(ctx, PGPROTECT_IOC_PROTECT, args);
}

int ctx_protect(int ctx, const struct pgprotect_range *ranges, uint32_t nr)
{
	struct pgprotect_protect args = { .ranges = (uintptr_t)ranges, .nr_ranges = nr };

	return ctx_protect_args(ctx, &args);
}

int ctx_protect_range(int ctx, uint32_t file, uint64_t offset, uint64_t length)
{
	struct pgprotect_range range = range_of(file, offset, length);

	return ctx_protect(ctx, &range, 1);
}

int ctx_protect_all(int ctx, uint32_t file)
{
	return ctx_protect_range(ctx, file, 0, PGPROTECT_TO_EOF);
}

int ctx_unprotect(int ctx, const struct pgprotect_range *ranges, uint32_t nr)
{
	struct pgprotect_unprotect args = {
		.size = sizeof(args),
		.nr_ranges = nr,
		.ranges = (uintptr_t)ranges,
	};

	return ctx_ioctl(ctx, PGPROTECT_IOC_UNPROTECT, &args);
}

int ctx_unprotect_range(int ctx, uint32_t file, uint64_t offset, uint64_t length)
{
	struct pgprotect_range range = range_of(file, offset, length);

	return ctx_unprotect(ctx, &range, 1);
}

int ctx_unprotect_all(int ctx, uint32_t file)
{
	return ctx_unprotect_range(ctx, file, 0, PGPROTECT_TO_EOF);
}

int ctx_next_args(int ctx, struct pgprotect_next *args)
{
	args->size = sizeof(*args);
	return ctx_ioctl(ctx, PGPROTECT_IOC_NEXT, args);
}

int ctx_next(int ctx, struct pgprotect_event *events, uint32_t max, uint32_t min)
{
	struct pgprotect_next args = {
		.events = (uintptr_t)events,
		.max_events = max,
		.min_events = min,
		.timeout_ns = DEADLINE_MS * 1000000LL,
	};
	int ret = ctx_next_args(ctx, &args);

	return ret ? ret : (int)args.nr_events;
}

int ctx_verdict(int ctx, uint64_t id, uint32_t action, int error)
{
	struct pgprotect_verdict verdict = { .id = id, .action = action, .error = error };
	struct pgprotect_next args = { .verdicts = (uintptr_t)&verdict, .nr_verdicts = 1 };
	int ret = ctx_next_args(ctx, &args);

	return ret ? ret : (int)args.nr_stale;
}

bool ctx_readable(int ctx, int ms)
{
	struct pollfd pfd = { .fd = ctx, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1 && (pfd.revents & POLLIN);
}

int ctx_read_event(int ctx, struct pgprotect_event *event)
{
	ssize_t got;

	if (!ctx_readable(ctx, DEADLINE_MS))
		return -EAGAIN;
	got = read(ctx, event, sizeof(*event));
	if (got < 0)
		return -errno;
	if (got != sizeof(*event))
		die("read of an event gave %zd bytes", got);
	return 0;
}

int ctx_copy(int ctx, uint32_t file, uint64_t offset, const void *source, uint64_t length,
	     uint64_t *copied)
{
	struct pgprotect_copy args = {
		.size = sizeof(args),
		.file = file,
		.offset = offset,
		.source = (uintptr_t)source,
		.length = length,
	};
	int ret = ctx_ioctl(ctx, PGPROTECT_IOC_COPY, &args);

	if (copied)
		*copied = args.copied;
	return ret;
}

int ctx_list(int ctx, struct pgprotect_list_entry *entries, uint32_t max)
{
	struct pgprotect_list args = {
		.size = sizeof(args),
		.max_entries = max,
		.entries = (uintptr_t)entries,
	};
	int ret = ctx_ioctl(ctx, PGPROTECT_IOC_LIST, &args);

	return ret ? ret : (int)args.nr_entries;
}

long ctx_fdinfo(int ctx, const char *key)
{
	char path[64], line[512];
	long value = -1;
	FILE *in;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", ctx);
	in = fopen(path, "re");
	if (!in)
		die("open %s", path);
	while (fgets(line, sizeof(line), in)) {
		size_t len = strlen(key);

		if (!strncmp(line, key, len) && line[len] == ':')
			sscanf(line + len + 1, "%ld", &value);
	}
	fclose(in);
	if (value < 0)
		die("no %s in %s", key, path);
	return value;
}

bool ctx_wait_stalled(int ctx, long nr)
{
	return WAIT_FOR(ctx_fdinfo(ctx, "stalled") == nr);
}

long stall_limit_read(void)
{
	FILE *in = fopen(STALL_SYSCTL, "re");
	long ms;

	if (!in || fscanf(in, "%ld", &ms) != 1)
		die("read %s", STALL_SYSCTL);
	fclose(in);
	return ms;
}

void stall_limit_write(long ms)
{
	FILE *out = fopen(STALL_SYSCTL, "we");

	if (!out || fprintf(out, "%ld\n", ms) < 0 || fclose(out))
		die("write %s", STALL_SYSCTL);
}
