// SPDX-License-Identifier: GPL-2.0
/*
 * Who makes a file longer and shorter, and alone writes to its last pages. Growth is
 * let through while the pages are protected; all else waits, and an append that is done
 * twice shows by the size.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "route.h"

#define APPEND_MAX	6000UL

struct tail {
	struct run *run;
	struct seat *seat;
	unsigned int file;
	uint64_t random;
	int fd;			/* O_APPEND */
	int plain;
	uint64_t start, limit;	/* where the tail begins, and may end */
	uint64_t size;		/* of the file */
	int uffd;		/* for holes; -1: not possible */
	char *map;		/* registered there, and never touched */
	unsigned char *data;	/* APPEND_MAX bytes */
};

static void tail_found(struct tail *l, enum failure_kind kind, uint64_t offset, const char *text)
{
	struct failure f = { .kind = kind, .file = l->file, .offset = offset };

	snprintf(f.who, sizeof(f.who), "%s", l->seat->role);
	snprintf(f.route, sizeof(f.route), "%s", l->seat->doing);
	snprintf(f.text, sizeof(f.text), "%s", text);
	fail(l->run, &f);
}

static void begin(struct tail *l, struct watch *watch, const char *what, uint64_t at,
		  uint64_t length)
{
	seat_doing(l->seat, what, l->file, at);
	watch_begin(l->run, watch, l->file, at, length);
}

static void done(struct tail *l, const struct watch *watch)
{
	int page = watch_next(l->run, watch, 0);

	if (page >= 0)
		tail_found(l, ESCAPED, page * l->run->unit, "");
}

static void set_size(struct tail *l, uint64_t size)
{
	l->size = size;
	l->run->size[l->file] = size;
}

static void grow(struct tail *l)
{
	uint64_t size = l->size + random_below(&l->random, l->limit - l->size + 1);

	seat_doing(l->seat, "grow", l->file, l->size);
	if (ftruncate(l->plain, size))
		tail_found(l, BROKEN, l->size, "growth failed");
	else
		set_size(l, size);
}

static void shrink(struct tail *l)
{
	uint64_t size = l->start + random_below(&l->random, l->size - l->start + 1);
	unsigned char *shadow = l->run->shadow[l->file];
	struct watch watch;
	char path[40];
	int ret;

	if (random_one_in(&l->random, 2))
		size &= -4096UL;
	if (size >= l->size)
		return;
	begin(l, &watch, "truncate", size, l->size - size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", l->plain);
	ret = random_one_in(&l->random, 2) ? ftruncate(l->plain, size) : truncate(path, size);
	if (ret)
		return;
	done(l, &watch);
	memset(shadow + size, 0, l->size - size);
	set_size(l, size);
}

static void append(struct tail *l)
{
	uint64_t length = 1 + random_below(&l->random, APPEND_MAX);
	struct iovec iov = { l->data, length };
	struct watch watch;
	ssize_t ret;

	if (length > l->limit - l->size)
		return;
	pattern(l->data, length, l->seat->turns, l->size);
	begin(l, &watch, "append", l->size, length);
	if (random_one_in(&l->random, 2))
		ret = write(l->fd, l->data, length);
	else
		ret = pwritev2(l->plain, &iov, 1, -1, RWF_APPEND);
	if (ret <= 0)
		return;
	done(l, &watch);
	memcpy(l->run->shadow[l->file] + l->size, l->data, ret);
	set_size(l, l->size + ret);
}

static void overwrite(struct tail *l)
{
	uint64_t at = l->start + random_below(&l->random, l->size - l->start + 1);
	uint64_t length = 1 + random_below(&l->random, APPEND_MAX);
	struct watch watch;
	ssize_t ret;

	if (length > l->size - at)
		length = l->size - at;
	if (!length)
		return;
	pattern(l->data, length, l->seat->turns, at);
	begin(l, &watch, "overwrite", at, length);
	ret = pwrite(l->plain, l->data, length, at);
	if (ret <= 0)
		return;
	done(l, &watch);
	memcpy(l->run->shadow[l->file] + at, l->data, ret);
}

static bool is_zeros(const unsigned char *data, size_t length)
{
	return !data[0] && !memcmp(data, data + 1, length - 1);
}

/* A hole is what growth leaves, for as long as nobody looks through a mapping. */
static void fill(struct tail *l)
{
	uint64_t pages = (l->size - l->start) / 4096, at;
	struct uffdio_copy copy;
	struct watch watch;

	if (l->uffd < 0 || !pages)
		return;
	at = l->start + random_below(&l->random, pages) * 4096;
	if (!is_zeros(l->run->shadow[l->file] + at, 4096))
		return;
	pattern(l->data, 4096, l->seat->turns, at);
	begin(l, &watch, "fill", at, 4096);
	do {
		copy = (struct uffdio_copy){
			.dst = (uintptr_t)l->map + at, .src = (uintptr_t)l->data, .len = 4096,
		};
	} while (ioctl(l->uffd, UFFDIO_COPY, &copy) && errno == EAGAIN && copy.copy <= 0);
	if (copy.copy != 4096)
		return;
	done(l, &watch);
	memcpy(l->run->shadow[l->file] + at, l->data, 4096);
}

static void check(struct tail *l)
{
	struct stat stat_of;
	int64_t offset;

	if (fstat(l->plain, &stat_of))
		die("fstat");
	offset = model_difference(l->run, l->file, l->start, l->size - l->start, NULL);
	if ((uint64_t)stat_of.st_size != l->size)
		tail_found(l, LOST, stat_of.st_size, "the size is another");
	else if (offset >= 0)
		tail_found(l, LOST, offset, "");
}

void tail_run(struct run *run, struct seat *seat, unsigned int file)
{
	static void (*const ways[])(struct tail *l) = {
		grow, shrink, append, append, append, overwrite, overwrite, fill, fill,
	};
	struct tail *l = calloc(1, sizeof(*l));

	if (!l || posix_memalign((void **)&l->data, 4096, 2 * 4096))
		die("memory for a tail");
	l->run = run;
	l->seat = seat;
	l->file = file;
	l->random = random_seed(run, 2000 + file);
	l->fd = reopen(run, file, O_RDWR | O_APPEND);
	l->plain = reopen(run, file, O_RDWR);
	l->start = run->layout.tail * run->unit;
	l->limit = run->layout.pages * run->unit;
	l->size = run->size[file];
	l->uffd = uffd_map(run, file, run->file[file].size, 0, UFFDIO_REGISTER_MODE_MISSING,
			   &l->map);
	while (!run->stop) {
		ways[random_below(&l->random, ARRAY_LEN(ways))](l);
		check(l);
		seat->turns++;
	}
}
