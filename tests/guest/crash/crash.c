// SPDX-License-Identifier: GPL-2.0
/*
 * What is on the disk after the machine went down under stalled writers.
 *
 *   crash write DIR	never returns: lets half of the writers go on, syncs, resets
 *   crash check DIR	after the next mount: was it right?
 *
 * Every page of a file is old, synced and protected; a writer waits for each, by
 * store, write, direct I/O, or AIO, direct or not. The first half is released, written and synced. After
 * the reset these pages must be new, the others old, and none a mixture.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgtest.h"

#define PAGE	4096UL
#define PAGES	48
#define SYNCED	(PAGES / 2)
#define OLD	'o'
#define NEW	'n'

static int file_open(const char *dir, int flags)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/crash", dir);
	fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd < 0)
		die("open %s", path);
	return fd;
}

struct change {
	struct test_file file;
	int direct;
	int page;
};

static long by_aio(int fd, char *data, off_t offset)
{
	struct iocb iocb, *list = &iocb;
	struct io_event event;
	io_context_t aio = NULL;

	io_prep_pwrite(&iocb, fd, data, PAGE, offset);
	if (io_setup(1, &aio) || io_submit(aio, 1, &list) != 1 ||
	    io_getevents(aio, 1, 1, &event, NULL) != 1)
		die("a write by AIO");
	return (long)event.res;
}

static long op_change(struct writer *self)
{
	struct change *change = self->arg;
	off_t offset = change->page * PAGE;
	char *data;
	long ret;

	if (posix_memalign((void **)&data, PAGE, PAGE))
		die("memory");
	memset(data, NEW, PAGE);
	switch (change->page % 5) {
	case 0:
		memset(change->file.map + offset, NEW, PAGE);
		return PAGE;
	case 1:
		ret = pwrite(change->file.fd, data, PAGE, offset);
		break;
	case 2:
		ret = pwrite(change->direct, data, PAGE, offset);
		break;
	case 3:
		return by_aio(change->file.fd, data, offset);
	default:
		return by_aio(change->direct, data, offset);
	}
	return ret < 0 ? -errno : ret;
}

/* What goes to standard output may be lost on its way when the machine goes. */
static void tell_log(const char *format, ...)
{
	FILE *log = fopen("/dev/kmsg", "we");
	va_list args;

	va_start(args, format);
	if (!log || fputs("<4>crash: ", log) < 0 || vfprintf(log, format, args) < 0 ||
	    fclose(log))
		die("/dev/kmsg");
	va_end(args);
}

static void reset(void)
{
	int fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "b", 1) != 1)
		die("sysrq");
	for (;;)
		pause();
}

static void go_down(const char *dir)
{
	struct change change[PAGES];
	struct writer *writers[PAGES];
	struct test_file file = { .size = PAGES * PAGE };
	int ctx = ctx_open();
	uint32_t id;

	file.fd = file_open(dir, O_RDWR | O_CREAT);
	if (ftruncate(file.fd, file.size))
		die("ftruncate");
	file.map = map_shared(file.fd, file.size);
	memset(file.map, OLD, file.size);
	if (fsync(file.fd))
		die("fsync");
	id = ctx_attach(ctx, file.fd, PGPROTECT_MODE_STALL, 0);
	if (ctx_protect_all(ctx, id))
		die("PROTECT");
	for (int i = 0; i < PAGES; i++) {
		change[i] = (struct change){
			.file = file, .page = i, .direct = file_open(dir, O_RDWR | O_DIRECT),
		};
		writers[i] = writer_fork(op_change, &change[i]);
	}
	if (!ctx_wait_stalled(ctx, PAGES))
		die("not all writers wait");
	if (ctx_unprotect_range(ctx, id, 0, SYNCED * PAGE))
		die("UNPROTECT");
	for (int i = 0; i < SYNCED; i++)
		if (writer_join(writers[i]) != (long)PAGE)
			die("writer %d", i);
	if (fsync(file.fd))
		die("fsync");
	tell_log("synced %d of %d pages, reset\n", SYNCED, PAGES);
	reset();
}

static int check(const char *dir)
{
	int fd = file_open(dir, O_RDONLY), wrong = 0;
	char data[PAGE];

	for (int i = 0; i < PAGES; i++) {
		char want = i < SYNCED ? NEW : OLD;
		size_t at = 0;

		if (pread(fd, data, PAGE, i * PAGE) != (ssize_t)PAGE)
			die("read of page %d", i);
		while (at < PAGE && data[at] == want)
			at++;
		if (at == PAGE)
			continue;
		printf("page %d: '%c' at %zu, not '%c'\n", i, data[at], at, want);
		wrong++;
	}
	printf("%d of %d pages are wrong\n", wrong, PAGES);
	return wrong ? 1 : 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "write"))
		go_down(argv[2]);
	if (argc == 3 && !strcmp(argv[1], "check"))
		return check(argv[2]);
	fprintf(stderr, "Usage: crash write|check DIR\n");
	return 2;
}
