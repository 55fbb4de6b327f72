// SPDX-License-Identifier: GPL-2.0
/*
 * Ways to change a file that only file systems on a disk have. The others are tried
 * on them by the programs of routes/, see "files/" in the Makefile.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <liburing.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../routes/common/route.h"

static int fallocate_with(struct attempt *attempt, int mode)
{
	route_ready(attempt);
	return fallocate(attempt->file.fd, mode, attempt->at, attempt->length) ? -errno : 0;
}

static long by_zero_range(struct attempt *attempt)
{
	return fallocate_with(attempt, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
}

static long by_collapse(struct attempt *attempt)
{
	return fallocate_with(attempt, FALLOC_FL_COLLAPSE_RANGE);
}

static long by_insert(struct attempt *attempt)
{
	return fallocate_with(attempt, FALLOC_FL_INSERT_RANGE);
}

static void expect_zeros(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, 0, attempt->length);
}

static void expect_shorter(struct attempt *attempt, struct image *image)
{
	uint64_t from = attempt->at + attempt->length;

	memmove(image->data + attempt->at, image->data + from, image->size - from);
	image->size -= attempt->length;
}

static void expect_gap(struct attempt *attempt, struct image *image)
{
	memmove(image->data + attempt->at + attempt->length, image->data + attempt->at,
		image->size - attempt->at);
	memset(image->data + attempt->at, 0, attempt->length);
	image->size += attempt->length;
}

static int other_file(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = disk_make(attempt->route->kind, 0, NULL);

	if (write(fd, data, attempt->length) != (ssize_t)attempt->length || fsync(fd))
		die("write of the other file");
	return fd;
}

static long by_clone_range(struct attempt *attempt)
{
	struct file_clone_range range = {
		.src_fd = other_file(attempt),
		.src_length = attempt->length,
		.dest_offset = attempt->at,
	};

	route_ready(attempt);
	return ioctl(attempt->file.fd, FICLONERANGE, &range) ? -errno : 0;
}

static long by_copy_file_range(struct attempt *attempt)
{
	int from = other_file(attempt);
	off64_t in = 0, out = attempt->at;
	long ret;

	route_ready(attempt);
	ret = copy_file_range(from, &in, attempt->file.fd, &out, attempt->length, 0);
	return ret < 0 ? -errno : ret;
}

static int open_direct(struct attempt *attempt)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", attempt->file.fd);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		die("open for direct I/O");
	return fd;
}

/* Reads of the image find what the device has. */
static void settle(struct attempt *attempt)
{
	if (fsync(attempt->file.fd))
		die("fsync");
}

static long by_direct_write(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = open_direct(attempt);
	long ret;

	settle(attempt);
	route_ready(attempt);
	ret = pwrite(fd, data, attempt->length, attempt->at);
	return ret < 0 ? -errno : ret;
}

static long by_direct_aio(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	struct iocb iocb, *list = &iocb;
	struct io_event event;
	io_context_t aio = NULL;
	long ret;

	if (io_setup(1, &aio))
		die("io_setup");
	io_prep_pwrite(&iocb, open_direct(attempt), data, attempt->length, attempt->at);
	settle(attempt);
	route_ready(attempt);
	ret = io_submit(aio, 1, &list);
	if (ret != 1)
		return ret;
	if (io_getevents(aio, 1, 1, &event, NULL) != 1)
		die("io_getevents");
	return event.res;
}

static long by_direct_uring(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = open_direct(attempt);
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	if (io_uring_queue_init(4, &ring, 0))
		return ROUTE_SKIP;
	io_uring_prep_write(io_uring_get_sqe(&ring), fd, data, attempt->length, attempt->at);
	settle(attempt);
	route_ready(attempt);
	if (io_uring_submit_and_wait(&ring, 1) != 1 || io_uring_peek_cqe(&ring, &cqe))
		die("io_uring");
	return cqe->res;
}

ROUTE_FAMILY(disk);

#define FALLOCATE(name, function, expected, to_the_end)				\
	DISK_FALLOCATE(ext4_##name, FILE_EXT4, function, expected, to_the_end)	\
	DISK_FALLOCATE(xfs_##name, FILE_XFS, function, expected, to_the_end)
#define DISK_FALLOCATE(name, file_kind, function, expected, to_the_end)			\
	ROUTE_ADD(disk, name, .op = function, .kind = file_kind, .at = 4 * PAGE,		\
		  .length = 4 * PAGE, .denied = -EPERM,					\
		  .origin = PGPROTECT_ORIGIN_FALLOCATE, .expect = expected,		\
		  .event_offset = 4 * PAGE,						\
		  .event_length = (to_the_end) ? ROUTE_SIZE - 4 * PAGE : 4 * PAGE)

FALLOCATE(zero_range, by_zero_range, expect_zeros, false)
FALLOCATE(collapse_range, by_collapse, expect_shorter, true)
FALLOCATE(insert_range, by_insert, expect_gap, true)

/* It begins before the only page that is protected, which would move. */
#define SHIFT(name, function, expected)				\
	DISK_SHIFT(ext4_##name, FILE_EXT4, function, expected)	\
	DISK_SHIFT(xfs_##name, FILE_XFS, function, expected)
#define DISK_SHIFT(name, file_kind, function, expected)					\
	ROUTE_ADD(disk, name, .op = function, .kind = file_kind, .at = 4 * PAGE,		\
		  .length = 4 * PAGE, .denied = -EPERM,					\
		  .origin = PGPROTECT_ORIGIN_FALLOCATE, .expect = expected,		\
		  .protect_offset = 20 * PAGE, .protect_length = PAGE,			\
		  .event_offset = 20 * PAGE, .event_length = PAGE)

SHIFT(collapse_before, by_collapse, expect_shorter)
SHIFT(insert_before, by_insert, expect_gap)

#define WRITE(name, function, bytes)						\
	DISK_WRITE(ext4_##name, FILE_EXT4, function, bytes)			\
	DISK_WRITE(xfs_##name, FILE_XFS, function, bytes)
#define DISK_WRITE(name, file_kind, function, bytes)						\
	ROUTE_ADD(disk, name, .op = function, .kind = file_kind, .at = 4 * PAGE,		\
		  .length = bytes, .success = bytes, .denied = -EPERM,			\
		  .origin = PGPROTECT_ORIGIN_WRITE)

WRITE(direct_write, by_direct_write, 2 * PAGE)
WRITE(direct_aio, by_direct_aio, 2 * PAGE)

#define URING(name, file_kind)								\
	ROUTE_ADD(disk, name, .op = by_direct_uring, .kind = file_kind, .at = 4 * PAGE,	\
		  .length = PAGE, .success = PAGE, .denied = -EPERM,			\
		  .origin = PGPROTECT_ORIGIN_WRITE, .other_task = true)
URING(ext4_direct_uring, FILE_EXT4)
URING(xfs_direct_uring, FILE_XFS)

ROUTE_ADD(disk, xfs_clone_range, .op = by_clone_range, .kind = FILE_XFS, .at = 4 * PAGE,
	  .length = 2 * PAGE, .denied = -EPERM, .origin = PGPROTECT_ORIGIN_REFLINK)
ROUTE_ADD(disk, xfs_copy_file_range, .op = by_copy_file_range, .kind = FILE_XFS,
	  .at = 4 * PAGE, .length = 2 * PAGE, .success = 2 * PAGE, .denied = -EPERM,
	  .origin = PGPROTECT_ORIGIN_SPLICE)
ROUTE_ADD(disk, ext4_copy_file_range, .op = by_copy_file_range, .kind = FILE_EXT4,
	  .at = 4 * PAGE, .length = 2 * PAGE, .success = 2 * PAGE, .denied = -EPERM,
	  .origin = PGPROTECT_ORIGIN_SPLICE)

TEST_HARNESS_MAIN
