// SPDX-License-Identifier: GPL-2.0
/* Routes to whole pages: direct I/O into a mapping, holes, and what fills them. */
#include <fcntl.h>
#include <libaio.h>
#include <liburing.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "route.h"

/* --- a device writes into the mapping --- */

/* A file on a disk that holds the target's bytes, for direct I/O; -1: none here. */
static int direct_source(const struct target *t)
{
	static int fd = -2;
	char path[40];
	int made;

	if (fd == -2) {
		made = disk_mount(FILE_EXT4) ? disk_make(FILE_EXT4, MAX_SPAN * 4096, NULL) : -1;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", made);
		fd = made < 0 ? -1 : open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		if (made >= 0)
			close(made);
	}
	if (fd >= 0 && pwrite(fd, t->data, t->length, 0) != (ssize_t)t->length)
		die("direct write to a source");
	return fd;
}

static enum outcome by_direct_read(struct hand *h, struct target *t)
{
	int fd = direct_source(t);
	long ret;

	if (fd < 0)
		return SKIPPED;
	ret = TRY(h, pread(fd, h->own[t->file] + t->at, t->length, 0));
	return ret == (long)t->length ? WROTE : TORN;
}

static enum outcome by_direct_aio(struct hand *h, struct target *t)
{
	static io_context_t aio;
	int fd = direct_source(t);
	struct iocb iocb, *list[] = { &iocb };
	struct io_event event;
	int ret;

	if (fd < 0)
		return SKIPPED;
	if (!aio && io_setup(4, &aio))
		die("io_setup");
	io_prep_pread(&iocb, fd, h->own[t->file] + t->at, t->length, 0);
	if (TRY(h, io_submit(aio, 1, list)) != 1)
		return TORN;
	do {
		ret = io_getevents(aio, 1, 1, &event, NULL);
	} while (ret == -EINTR);
	if (ret != 1)
		die("io_getevents");
	return event.res == t->length ? WROTE : TORN;
}

/*
 * What a ring has read into registered pages it does not mark dirty: a page that had only
 * been looked at before is empty when it comes back from swap, on a stock kernel, too. So
 * they are dirty before.
 */
static bool make_dirty(struct hand *h, const struct iovec *iov)
{
	if (TRY(h, madvise(iov->iov_base, iov->iov_len, MADV_POPULATE_WRITE)))
		return false;
	/* The page remembers it, not only the entry, which is there or is not. */
	if (random_one_in(&h->random, 2))
		madvise(iov->iov_base, iov->iov_len, MADV_DONTNEED);
	return true;
}

/* Registering takes the pages for writing, for as long as they are registered. */
static enum outcome by_registered_buffer(struct hand *h, struct target *t)
{
	struct iovec iov = { h->own[t->file] + t->at, t->length };
	struct io_uring_cqe *cqe;
	enum outcome outcome = TORN;
	struct io_uring ring;
	int ends[2], ret;

	if (!make_dirty(h, &iov))
		return REFUSED;
	if (io_uring_queue_init(4, &ring, 0) || pipe2(ends, O_CLOEXEC) ||
	    write(ends[1], t->data, t->length) != (ssize_t)t->length)
		die("io_uring and a pipe");
	ret = TRY(h, io_uring_register_buffers(&ring, &iov, 1));
	if (!ret) {
		io_uring_prep_read_fixed(io_uring_get_sqe(&ring), ends[0], iov.iov_base,
					 iov.iov_len, -1, 0);
		if (io_uring_submit(&ring) != 1 || io_uring_wait_cqe(&ring, &cqe))
			die("io_uring");
		if (cqe->res == (int)t->length)
			outcome = WROTE;
	} else {
		outcome = REFUSED;
	}
	io_uring_queue_exit(&ring);
	close(ends[0]);
	close(ends[1]);
	return outcome;
}

/* --- holes --- */

static enum outcome by_punch(struct hand *h, struct target *t)
{
	return TRY(h, fallocate(h->fd[t->file], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				t->at, t->length)) ? REFUSED : WROTE;
}

static enum outcome by_zero_range(struct hand *h, struct target *t)
{
	if (!h->run->choice->on_disk)
		return SKIPPED;
	return TRY(h, fallocate(h->fd[t->file], FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				t->at, t->length)) ? REFUSED : WROTE;
}

static enum outcome by_madv_remove(struct hand *h, struct target *t)
{
	return TRY(h, madvise(h->own[t->file] + t->at, t->length, MADV_REMOVE)) ? REFUSED : WROTE;
}

/* --- fills; the mapping is never touched, so that nobody waits for this --- */

static int fill_uffd(struct hand *h, unsigned int file, char **map)
{
	static char *maps[FILES];
	static int uffd[FILES];

	if (!uffd[file])
		uffd[file] = uffd_map(h->run, file, h->run->file[file].size, 0,
				      UFFDIO_REGISTER_MODE_MISSING, &maps[file]);
	*map = maps[file];
	return uffd[file];
}

/* Somebody may have filled the hole by looking at it: then this fails. */
static enum outcome by_fill(struct hand *h, struct target *t)
{
	struct uffdio_copy copy;
	char *map;
	int uffd = fill_uffd(h, t->file, &map), ret;

	if (uffd < 0)
		return SKIPPED;
	do {
		copy = (struct uffdio_copy){
			.dst = (uintptr_t)map + t->at, .src = (uintptr_t)t->data,
			.len = t->length,
		};
		ret = TRY(h, ioctl(uffd, UFFDIO_COPY, &copy));
	} while (ret && errno == EAGAIN && copy.copy <= 0);
	return outcome_of(copy.copy, t->length);
}

static enum outcome by_zero_fill(struct hand *h, struct target *t)
{
	struct uffdio_zeropage zero;
	char *map;
	int uffd = fill_uffd(h, t->file, &map), ret;

	if (uffd < 0)
		return SKIPPED;
	do {
		zero = (struct uffdio_zeropage){
			.range = { .start = (uintptr_t)map + t->at, .len = t->length },
		};
		ret = TRY(h, ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
	} while (ret && errno == EAGAIN && zero.zeropage <= 0);
	return outcome_of(zero.zeropage, t->length);
}

const struct route page_routes[] = {
	{ "pages-direct", KIND_PAGES, by_direct_read },
	{ "pages-direct-aio", KIND_PAGES, by_direct_aio },
	{ "pages-registered", KIND_PAGES, by_registered_buffer },
	{ "pages-punched", KIND_ZEROS | KIND_HOLE, by_punch },
	{ "pages-zeroed", KIND_ZEROS | KIND_HOLE, by_zero_range },
	{ "pages-removed", KIND_HOLE, by_madv_remove },
	{ "pages-filled", KIND_FILL, by_fill },
	{ "pages-filled-zero", KIND_FILL_ZERO, by_zero_fill },
	{ }
};
