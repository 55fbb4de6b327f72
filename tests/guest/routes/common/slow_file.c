// SPDX-License-Identifier: GPL-2.0
/* A FUSE file system that is one regular file. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "route.h"
#include "slow_file.h"

#define REQUEST_SIZE	(FUSE_MIN_READ_BUFFER + PAGE)
#define MAX_READ	(32 * PAGE)	/* what the kernel asks for at once, at most */

static void reply(int dev, const struct fuse_in_header *in, int error, void *data, size_t size)
{
	struct fuse_out_header out = {
		.len = sizeof(out) + size, .error = -error, .unique = in->unique,
	};
	struct iovec iov[] = { { &out, sizeof(out) }, { data, size } };

	/* Who asked may have been killed meanwhile. */
	if (writev(dev, iov, size ? 2 : 1) < 0 && errno != ENOENT)
		_exit(1);
}

static void reply_init(int dev, const struct fuse_in_header *in)
{
	struct fuse_init_out init = {
		.major = FUSE_KERNEL_VERSION, .minor = 31, .max_write = PAGE,
		.max_background = 16, .congestion_threshold = 12,
	};

	reply(dev, in, 0, &init, sizeof(init));
}

static void reply_attr(int dev, const struct fuse_in_header *in, const struct slow_file *file)
{
	struct fuse_attr_out attr = {
		.attr_valid = 3600,
		.attr = {
			.ino = FUSE_ROOT_ID, .mode = S_IFREG | 0644, .nlink = 1,
			.size = file->size, .blocks = file->size / 512, .blksize = PAGE,
		},
	};

	reply(dev, in, 0, &attr, sizeof(attr));
}

static void reply_read(int dev, const struct fuse_in_header *in, struct slow_file *file)
{
	const struct fuse_read_in *read = (const void *)(in + 1);
	static char data[MAX_READ];
	size_t size = 0;

	file->asked++;
	while (!file->answer)
		pause_briefly();
	if (read->offset < file->size)
		size = file->size - read->offset;
	if (size > read->size)
		size = read->size;
	memset(data, ROUTE_VALUE, sizeof(data));
	reply(dev, in, size > sizeof(data) ? EIO : 0, data, size > sizeof(data) ? 0 : size);
}

static void answer(int dev, const struct fuse_in_header *in, struct slow_file *file)
{
	struct fuse_open_out open = { .fh = 1 };

	switch (in->opcode) {
	case FUSE_INIT:
		reply_init(dev, in);
		break;
	case FUSE_GETATTR:
		reply_attr(dev, in, file);
		break;
	case FUSE_OPEN:
		reply(dev, in, 0, &open, sizeof(open));
		break;
	case FUSE_READ:
		reply_read(dev, in, file);
		break;
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_RELEASE:
		reply(dev, in, 0, NULL, 0);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		break;
	default:
		reply(dev, in, ENOSYS, NULL, 0);
	}
}

static void serve(int dev, struct slow_file *file)
{
	char *request = malloc(REQUEST_SIZE);

	/* A context that it kept open would outlive the test's close. */
	if (!request || dup2(dev, 3) != 3 || syscall(SYS_close_range, 4, ~0U, 0))
		_exit(1);
	for (;;) {
		if (read(3, request, REQUEST_SIZE) > 0)
			answer(3, (const void *)request, file);
		else if (errno == ENODEV)
			_exit(0);
	}
}

/* Open files keep the file system when it is no longer anywhere. */
static bool open_and_unmount(struct slow_file *file, const char *path)
{
	struct stat stat;

	file->fd = open(path, O_RDONLY | O_CLOEXEC);
	file->direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	umount2(path, MNT_DETACH);
	/* The kernel has not asked for the size yet. */
	return file->fd >= 0 && file->direct >= 0 && !fstat(file->fd, &stat) &&
	       stat.st_size == (off_t)file->size;
}

struct slow_file *slow_file_make(size_t size)
{
	struct slow_file *file = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char path[] = "/run/pgtest-slow.XXXXXX", options[80];
	int dev = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	int below = mkostemp(path, O_CLOEXEC);
	bool made;

	if (file == MAP_FAILED || below < 0)
		die("a slow file");
	file->size = size;
	close(below);
	snprintf(options, sizeof(options), "fd=%d,rootmode=100644,user_id=0,group_id=0", dev);
	made = dev >= 0 && !mount("pgtest", path, "fuse", MS_NOSUID | MS_NODEV, options);
	if (made) {
		if (!fork_child())
			serve(dev, file);
		made = open_and_unmount(file, path);
	}
	unlink(path);
	if (dev >= 0)
		close(dev);
	return made ? file : NULL;
}
