// SPDX-License-Identifier: GPL-2.0
/* System calls that write to a file. */
#include <fcntl.h>
#include <libaio.h>
#include <liburing.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include "route.h"

static enum outcome pwrite_to(struct hand *h, struct target *t, int fd)
{
	return outcome_of(TRY(h, pwrite(fd, t->data, t->length, t->at)), t->length);
}

static enum outcome by_pwrite(struct hand *h, struct target *t)
{
	return pwrite_to(h, t, h->fd[t->file]);
}

static enum outcome by_write(struct hand *h, struct target *t)
{
	lseek(h->fd[t->file], t->at, SEEK_SET);
	return outcome_of(TRY(h, write(h->fd[t->file], t->data, t->length)), t->length);
}

static enum outcome by_pwritev(struct hand *h, struct target *t)
{
	static const int flags[] = { 0, 0, RWF_DSYNC, RWF_NOWAIT };
	size_t half = random_below(&h->random, t->length);
	struct iovec iov[] = {
		{ t->data, half }, { t->data + half, t->length - half },
	};

	return outcome_of(TRY(h, pwritev2(h->fd[t->file], iov, 2, t->at,
					  flags[random_below(&h->random, 4)])), t->length);
}

/* --- AIO and io_uring --- */

static enum outcome aio_to(struct hand *h, struct target *t, int fd)
{
	static io_context_t aio;
	struct iocb iocb, *list[] = { &iocb };
	struct io_event event;
	long ret;

	if (!aio && io_setup(4, &aio))
		die("io_setup");
	io_prep_pwrite(&iocb, fd, t->data, t->length, t->at);
	ret = TRY(h, io_submit(aio, 1, list));
	if (ret != 1)
		return REFUSED;
	do {
		ret = io_getevents(aio, 1, 1, &event, NULL);
	} while (ret == -EINTR);
	if (ret != 1)
		die("io_getevents");
	return outcome_of((long)event.res, t->length);
}

static enum outcome by_aio(struct hand *h, struct target *t)
{
	return aio_to(h, t, h->fd[t->file]);
}

static struct io_uring *ring_of(struct hand *h)
{
	static struct io_uring ring;
	static bool ready;
	struct iovec iov = { h->buffer, MAX_SPAN * 4096 };

	if (!ready && (io_uring_queue_init(8, &ring, 0) ||
		       io_uring_register_buffers(&ring, &iov, 1)))
		die("io_uring");
	ready = true;
	return &ring;
}

static long ring_run(struct hand *h, struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	long ret;

	do {
		ret = TRY(h, io_uring_submit(ring));
	} while (ret == -EINTR);
	if (ret != 1)
		die("io_uring_submit gave %ld", ret);
	do {
		ret = TRY(h, io_uring_wait_cqe(ring, &cqe));
	} while (ret == -EINTR);
	if (ret)
		die("io_uring_wait_cqe gave %ld", ret);
	ret = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

static enum outcome uring_to(struct hand *h, struct target *t, int fd)
{
	struct io_uring *ring = ring_of(h);
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (random_one_in(&h->random, 2))
		io_uring_prep_write(sqe, fd, t->data, t->length, t->at);
	else
		io_uring_prep_write_fixed(sqe, fd, t->data, t->length, t->at, 0);
	if (random_one_in(&h->random, 2))
		sqe->flags |= IOSQE_ASYNC;
	return outcome_of(ring_run(h, ring), t->length);
}

static enum outcome by_uring(struct hand *h, struct target *t)
{
	return uring_to(h, t, h->fd[t->file]);
}

/* --- past the page cache --- */

/* Pages that are stored to as well, only if nobody else can have made their folios dirty. */
static enum outcome direct_to(struct hand *h, struct target *t,
			      enum outcome (*to)(struct hand *h, struct target *t, int fd))
{
	bool alone = t->at >= h->run->layout.direct * h->run->unit;

	if (h->direct[t->file] < 0 || (!alone && !h->run->choice->single_pages))
		return SKIPPED;
	return to(h, t, h->direct[t->file]);
}

static enum outcome by_direct_pwrite(struct hand *h, struct target *t)
{
	return direct_to(h, t, pwrite_to);
}

static enum outcome by_direct_aio(struct hand *h, struct target *t)
{
	return direct_to(h, t, aio_to);
}

static enum outcome by_direct_uring(struct hand *h, struct target *t)
{
	return direct_to(h, t, uring_to);
}

/* Whole blocks of another file of this file system, from now on of both. */
static enum outcome clone_to(struct hand *h, struct target *t, int fd)
{
	static int source = -1;
	struct file_clone_range range = { .src_length = t->length, .dest_offset = t->at };

	if (strcmp(h->run->choice->name, "xfs"))
		return SKIPPED;
	if (source < 0)
		source = disk_make(FILE_XFS, MAX_SPAN * 4096, NULL);
	if (pwrite(source, t->data, t->length, 0) != (ssize_t)t->length)
		die("fill a source");
	range.src_fd = source;
	return TRY(h, ioctl(fd, FICLONERANGE, &range)) ? REFUSED : WROTE;
}

static enum outcome by_clone(struct hand *h, struct target *t)
{
	return direct_to(h, t, clone_to);
}

/* --- between files --- */

static int source_with(struct hand *h, const struct target *t)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_make(0, 0);
	if (pwrite(fd, t->data, t->length, 0) != (ssize_t)t->length)
		die("fill a source");
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static enum outcome by_sendfile(struct hand *h, struct target *t)
{
	int source = source_with(h, t);

	lseek(h->fd[t->file], t->at, SEEK_SET);
	return outcome_of(TRY(h, sendfile(h->fd[t->file], source, NULL, t->length)), t->length);
}

static enum outcome by_copy_file_range(struct hand *h, struct target *t)
{
	int source = source_with(h, t);
	loff_t from = 0, to = t->at;

	return outcome_of(TRY(h, copy_file_range(source, &from, h->fd[t->file], &to, t->length,
						 0)), t->length);
}

/* One splice may stop before the end, which is no error. */
static enum outcome drain(struct hand *h, const struct target *t, int pipe)
{
	loff_t at = t->at;
	size_t done = 0;
	ssize_t ret;

	while (done < t->length) {
		ret = TRY(h, splice(pipe, NULL, h->fd[t->file], &at, t->length - done, 0));
		if (ret <= 0)
			break;
		done += ret;
	}
	return done ? outcome_of(done, t->length) : REFUSED;
}

static enum outcome by_splice(struct hand *h, struct target *t)
{
	struct iovec iov = { t->data, t->length };
	unsigned int how = random_below(&h->random, 3);
	loff_t from = 0;
	enum outcome outcome;
	ssize_t filled;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		die("pipe");
	if (how == 0)
		filled = write(ends[1], t->data, t->length);
	else if (how == 1)
		filled = vmsplice(ends[1], &iov, 1, 0);
	else
		filled = splice(source_with(h, t), &from, ends[1], NULL, t->length, 0);
	if (filled != (ssize_t)t->length)
		die("pipe of %zu bytes took %zd", t->length, filled);
	outcome = drain(h, t, ends[0]);
	close(ends[0]);
	close(ends[1]);
	return outcome;
}

#define ANY	(KIND_RECORD | KIND_SPAN | KIND_ZEROS)

const struct route call_routes[] = {
	{ "call-pwrite", ANY, by_pwrite },
	{ "call-write", ANY, by_write },
	{ "call-pwritev2", ANY, by_pwritev },
	{ "call-aio", ANY, by_aio },
	{ "call-uring", ANY, by_uring },
	{ "call-sendfile", ANY, by_sendfile },
	{ "call-copy-file-range", ANY, by_copy_file_range },
	{ "call-splice", ANY, by_splice },
	{ "direct-pwrite", KIND_DIRECT | KIND_PAGES, by_direct_pwrite },
	{ "direct-aio", KIND_DIRECT | KIND_PAGES, by_direct_aio },
	{ "direct-uring", KIND_DIRECT | KIND_PAGES, by_direct_uring },
	{ "direct-clone", KIND_DIRECT, by_clone },
	{ }
};
