// SPDX-License-Identifier: GPL-2.0
/* What the tests of every route do: files, images, and the steps of an attempt. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "route.h"

void route_ready(struct attempt *attempt)
{
	writer_checkpoint(attempt->writer);
}

static size_t size_of(int fd)
{
	struct stat stat;

	if (fstat(fd, &stat))
		die("fstat");
	return stat.st_size;
}

static void read_all(int fd, char *data, size_t size)
{
	if (size && pread(fd, data, size, 0) != (ssize_t)size)
		die("read of the file");
}

void image_read(int fd, struct image *image)
{
	image->size = size_of(fd);
	if (image->size > 2 * ROUTE_SIZE)
		die("a file of %zu bytes", image->size);
	image->data = calloc(2, ROUTE_SIZE);
	if (!image->data)
		die("memory for an image");
	read_all(fd, image->data, image->size);
}

bool image_is(int fd, const struct image *image)
{
	size_t size = size_of(fd);
	char *data = calloc(1, size + 1);
	bool same;

	if (!data)
		die("memory for an image");
	read_all(fd, data, size);
	same = size == image->size && !memcmp(data, image->data, size);
	free(data);
	return same;
}

void image_free(struct image *image)
{
	free(image->data);
}

static void make_file_with_path(struct attempt *attempt, enum file_kind kind)
{
	attempt->file = (struct test_file){
		.fd = kind == FILE_TMPFS ? tmpfs_make(ROUTE_SIZE, attempt->path)
					 : disk_make(kind, ROUTE_SIZE, attempt->path),
		.size = ROUTE_SIZE,
	};
	attempt->file.map = map_shared(attempt->file.fd, ROUTE_SIZE);
}

static void make_sealed_file(struct attempt *attempt)
{
	attempt->file = (struct test_file){
		.fd = memfd_make(ROUTE_SIZE, MFD_ALLOW_SEALING),
		.size = ROUTE_SIZE,
	};
	attempt->file.map = map_shared(attempt->file.fd, ROUTE_SIZE);
	if (fcntl(attempt->file.fd, F_ADD_SEALS, F_SEAL_SHRINK))
		die("F_SEAL_SHRINK");
}

void attempt_make(struct attempt *attempt, const struct route *route, uint32_t mode)
{
	attempt->route = route;
	attempt->mode = mode;
	attempt->at = route->at ? route->at : ROUTE_AT;
	attempt->length = route->length ? route->length : 1;
	if (route->kind == FILE_TMPFS || route->kind >= NR_FILE_KINDS)
		make_file_with_path(attempt, file_kind_wanted(route->kind));
	else if (route->sealed)
		make_sealed_file(attempt);
	else
		attempt->file = file_make(file_kind_wanted(route->kind), ROUTE_PAGES);
	file_fill(&attempt->file);
	if (route->hole_length &&
	    fallocate(attempt->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      route->hole_offset, route->hole_length))
		die("make a hole");
	attempt->ctx = ctx_open();
	attempt->id = ctx_attach(attempt->ctx, attempt->file.fd, mode, 0);
}

static long op_of_attempt(struct writer *self)
{
	struct attempt *attempt = self->arg;

	/* A process gets its copy of the attempt before the test knows the writer. */
	attempt->writer = self;
	return attempt->route->op(attempt);
}

static int attempt_protect(const struct attempt *attempt)
{
	const struct route *route = attempt->route;

	if (!route->protect_length)
		return ctx_protect_all(attempt->ctx, attempt->id);
	return ctx_protect_range(attempt->ctx, attempt->id, route->protect_offset,
				 route->protect_length);
}

int attempt_begin(struct attempt *attempt)
{
	const struct route *route = attempt->route;

	attempt->writer = route->thread ? writer_thread(op_of_attempt, attempt)
					: writer_fork(op_of_attempt, attempt);
	if (!WAIT_FOR(attempt->writer->ready || writer_done(attempt->writer)))
		die("the op gets nowhere");
	if (writer_done(attempt->writer))
		return attempt->writer->result == ROUTE_SKIP ? 0 : -ECHILD;
	return attempt_protect(attempt);
}

static int change_mode(int fd)
{
	struct stat stat;

	return fstat(fd, &stat) || fchmod(fd, stat.st_mode & 07777) ? -errno : 0;
}

/* Nobody may be left with a frozen file system. tmpfs cannot be frozen. */
static int freeze_and_thaw(int fd)
{
	if (ioctl(fd, FIFREEZE, 0))
		return errno == EOPNOTSUPP ? 0 : -errno;
	return ioctl(fd, FITHAW, 0) ? -errno : 0;
}

static long op_of_bystander(struct writer *self)
{
	struct attempt *attempt = self->arg;
	int ret;

	/* Some routes need the page in the page tables of one process. */
	munmap(attempt->file.map, attempt->file.size);
	writer_checkpoint(self);
	ret = attempt_protect(attempt);
	self->progress = 1;
	ret = ret ? ret : change_mode(attempt->file.fd);
	self->progress = 2;
	return ret ? ret : freeze_and_thaw(attempt->file.fd);
}

struct writer *bystander_start(struct attempt *attempt)
{
	struct writer *bystander = writer_fork(op_of_bystander, attempt);

	writer_wait_ready(bystander);
	return bystander;
}

const char *bystander_step(const struct writer *bystander)
{
	static const char *const steps[] = { "PROTECT", "fchmod", "freezing" };

	return steps[bystander->progress];
}

void attempt_close(struct attempt *attempt)
{
	if (attempt->ctx > 0)
		close(attempt->ctx);
	if (attempt->path[0])
		unlink(attempt->path);
}

void attempt_expect(struct attempt *attempt, struct image *image)
{
	if (attempt->route->expect)
		attempt->route->expect(attempt, image);
	else
		memset(image->data + attempt->at, ROUTE_VALUE, attempt->length);
}

struct pgprotect_event attempt_event(struct attempt *attempt)
{
	const struct route *route = attempt->route;
	uint64_t first = attempt->at & -PAGE;
	uint64_t end = (attempt->at + attempt->length + PAGE - 1) & -PAGE;
	struct pgprotect_event event = {
		.origin = route->origin ? route->origin : PGPROTECT_ORIGIN_STORE,
		.offset = first,
		.length = route->origin > PGPROTECT_ORIGIN_STORE ? end - first : PAGE,
	};

	if (route->event_length) {
		event.offset = route->event_offset;
		event.length = route->event_length;
	}
	return event;
}

long store_at(struct attempt *attempt, char *map)
{
	return store_byte(map + attempt->at, ROUTE_VALUE);
}

char *map_file(struct attempt *attempt, int flags)
{
	char *map = mmap(NULL, ROUTE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | flags,
			 attempt->file.fd, 0);

	if (map == MAP_FAILED)
		die("map the file");
	return map;
}

void *value_buffer(size_t length)
{
	void *buffer;

	if (posix_memalign(&buffer, PAGE, length))
		die("memory for a buffer");
	memset(buffer, ROUTE_VALUE, length);
	return buffer;
}

int pipe_with(size_t length)
{
	void *data = value_buffer(length);
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) || write(ends[1], data, length) != (ssize_t)length)
		die("pipe of %zu bytes", length);
	close(ends[1]);
	free(data);
	return ends[0];
}

int direct_file(void)
{
	char name[32];
	void *data;
	int fd;

	if (!disk_mount(FILE_EXT4))
		return -1;
	data = value_buffer(2 * PAGE);
	fd = disk_make(FILE_EXT4, 0, name);
	if (write(fd, data, 2 * PAGE) != 2 * PAGE || fsync(fd))
		die("file on ext4");
	close(fd);
	fd = open(name, O_RDONLY | O_DIRECT | O_CLOEXEC);
	unlink(name);
	if (fd < 0)
		die("open for direct I/O");
	free(data);
	return fd;
}
