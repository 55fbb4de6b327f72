// SPDX-License-Identifier: GPL-2.0
/* Files on ext4 and xfs: what the file system goes on doing, and what it must not do. */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <liburing.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../regress/common/switches.h"
#include "../routes/common/loop.h"
#include "pgtest.h"

#define PAGE	4096UL
#define PAGES	16UL
#define VALUE	((char)0x5a)

/* ext4's, which no header of user space has. */
struct move_extent {
	uint32_t reserved;
	uint32_t donor_fd;
	uint64_t orig_start, donor_start, len, moved_len;
};
#define EXT4_IOC_MOVE_EXT	_IOWR('f', 15, struct move_extent)
#define EXT4_IOC_SWAP_BOOT	_IO('f', 17)

/* And those of xfs; of the stat it compares two times. */
struct xfs_time {
	long sec;
	int32_t nsec;
};
struct swap_extents {
	int64_t version, target, other, offset, length;
	char pad[16];
	struct {
		char before[40];
		struct xfs_time atime, mtime, ctime;
		char after[48];
	} stat;
};
#define XFS_IOC_SWAPEXT		_IOWR('X', 109, struct swap_extents)

FIXTURE(disk) {
	const char *dir;
	char path[32];
	struct test_file file;
	int ctx;
	uint32_t id;
	uint64_t before;
};

FIXTURE_VARIANT(disk) { enum file_kind kind; };

FIXTURE_VARIANT_ADD(disk, ext4) { .kind = FILE_EXT4 };
FIXTURE_VARIANT_ADD(disk, xfs) { .kind = FILE_XFS };

FIXTURE_SETUP(disk)
{
	self->dir = disk_mount(variant->kind);
	if (!self->dir)
		SKIP(return, "no %s", file_kind_names[variant->kind]);
	self->file = (struct test_file){
		.fd = disk_make(variant->kind, PAGES * PAGE, self->path),
		.size = PAGES * PAGE,
	};
	self->file.map = map_shared(self->file.fd, self->file.size);
	file_fill(&self->file);
	self->before = checksum_fd(self->file.fd, self->file.size);
	self->ctx = ctx_open();
}

FIXTURE_TEARDOWN(disk)
{
	if (self->ctx > 0)
		close(self->ctx);
	if (self->path[0])
		unlink(self->path);
}

static void drop_caches(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "3", 1) != 1)
		die("drop_caches");
	close(fd);
}

/* Not the pages: the attachment holds the file, and the mapping is dropped here. */
static void forget_pages(struct test_file *file)
{
	if (fdatasync(file->fd) || madvise(file->map, file->size, MADV_DONTNEED))
		die("forget the pages of a file");
	drop_caches();
}

TEST_F(disk, dirty_pages_are_written_and_content_stays)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	forget_pages(&self->file);
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
}

TEST_F(disk, pages_read_anew_are_protected)
{
	char *map;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	forget_pages(&self->file);
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + 3 * PAGE, VALUE));
	EXPECT_EQ(4, self->file.map[3 * PAGE]);
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + 3 * PAGE, VALUE));
	map = map_shared(self->file.fd, self->file.size);
	EXPECT_EQ(5, map[4 * PAGE]);
	EXPECT_EQ(GOT_SIGBUS, store_byte(map + 4 * PAGE, VALUE));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 5, VALUE));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
}

/* A dirty entry that is made read-only must not become writable by mprotect. */
TEST_F(disk, mprotect_to_and_fro_does_not_open_dirty_pages)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_EQ(0, mprotect(self->file.map, self->file.size, PROT_READ));
	ASSERT_EQ(0, mprotect(self->file.map, self->file.size, PROT_READ | PROT_WRITE));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + 3 * PAGE, VALUE));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
}

static int mount_again(const char *dir)
{
	char command[80];

	snprintf(command, sizeof(command), "mount -o loop %s.img %s", dir, dir);
	return system(command);
}

static long op_freeze(struct writer *self)
{
	int *fd = self->arg;
	long ret = ioctl(*fd, FIFREEZE, 0) ? -errno : 0;

	/* Nobody may be left with a frozen file system. */
	return ret ? ret : ioctl(*fd, FITHAW, 0) ? -errno : 0;
}

static long op_punch(struct writer *self)
{
	struct access *access = self->arg;

	return fallocate(access->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, access->offset,
			 access->length) ? -errno : 0;
}

static char direct_data[PAGE] __attribute__((aligned(4096)));

/* A worker of the ring writes; fd is open for direct I/O. */
static long op_uring_write(struct writer *self)
{
	struct access *access = self->arg;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	long result;

	memset(direct_data, access->value, PAGE);
	if (io_uring_queue_init(4, &ring, 0))
		die("io_uring");
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_write(sqe, access->fd, direct_data, PAGE, access->offset);
	io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
	if (io_uring_submit_and_wait(&ring, 1) != 1 || io_uring_peek_cqe(&ring, &cqe))
		die("a write by io_uring");
	result = cqe->res;
	io_uring_queue_exit(&ring);
	return result;
}

static long op_aio_write(struct writer *self)
{
	struct access *access = self->arg;
	struct iocb iocb, *list = &iocb;
	struct io_event event;
	io_context_t aio = NULL;

	memset(direct_data, access->value, PAGE);
	io_prep_pwrite(&iocb, access->fd, direct_data, PAGE, access->offset);
	if (io_setup(1, &aio) || io_submit(aio, 1, &list) != 1 ||
	    io_getevents(aio, 1, 1, &event, NULL) != 1)
		die("a write by AIO");
	io_destroy(aio);
	return (long)event.res;
}

/*
 * Five that write pages of their own: by a mapping, by a call, by a hole, and by direct
 * I/O of a ring's worker and of AIO.
 */
#define WRITERS 5

struct writing {
	struct access access[WRITERS];
	struct writer *writers[WRITERS];
};

static void writing_begin(struct writing *writing, struct test_file *file, const char *path)
{
	static long (*const ops[])(struct writer *) = {
		op_store, op_pwrite, op_punch, op_uring_write, op_aio_write,
	};
	int direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);

	if (direct < 0)
		die("open for direct I/O");
	for (size_t i = 0; i < WRITERS; i++) {
		writing->access[i] = (struct access){
			.fd = ops[i] == op_uring_write || ops[i] == op_aio_write ? direct : file->fd,
			.map = file->map, .offset = (2 + 3 * i) * PAGE, .length = PAGE,
			.value = VALUE,
		};
		writing->writers[i] = writer_fork(ops[i], &writing->access[i]);
	}
	close(direct);
}

/* Whether each says that it did what it was to do. */
static bool writing_done(struct writing *writing)
{
	static const long results[] = { 0, PAGE, 0, PAGE, PAGE };
	bool done = true;

	for (size_t i = 0; i < WRITERS; i++)
		done &= writer_join(writing->writers[i]) == results[i];
	return done;
}

/* Whether the first byte of its page says so, and that of the page behind is old. */
static bool writing_there(int fd)
{
	static const char bytes[] = { VALUE, VALUE, 0, VALUE, VALUE };
	bool there = true;

	for (size_t i = 0; i < WRITERS; i++)
		there &= read_page(fd, 2 + 3 * i) == bytes[i] &&
			 read_page(fd, 3 + 3 * i) == (char)(4 + 3 * i);
	return there;
}

static bool writing_landed(struct writing *writing, int fd)
{
	return writing_done(writing) & writing_there(fd);
}

/* What was allowed is on the disk after the file system was mounted anew. */
TEST_F(disk, writes_that_waited_reach_the_disk)
{
	struct writing writing;
	struct handler *handler;
	int fd;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writing_begin(&writing, &self->file, self->path);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, WRITERS));
	handler = handler_start(self->ctx, HANDLER_ALLOW, 0);
	EXPECT_TRUE(writing_done(&writing));
	handler_stop(handler);

	close(self->ctx);
	self->ctx = 0;
	file_close(&self->file);
	ASSERT_EQ(0, umount2(self->dir, 0));
	ASSERT_EQ(0, mount_again(self->dir));
	fd = open(self->path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(writing_there(fd));
	close(fd);
}

TEST_F(disk, file_system_freezes_and_syncs_while_writers_wait)
{
	int dir = open(self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct writing writing;
	struct writer *freezer;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writing_begin(&writing, &self->file, self->path);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, WRITERS));
	EXPECT_EQ(0, syncfs(dir));
	EXPECT_EQ(0, fsync(self->file.fd));
	freezer = writer_thread(op_freeze, &dir);
	EXPECT_EQ(0, writer_join(freezer));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_TRUE(writing_landed(&writing, self->file.fd));
}

/*
 * What the filter of the file system sends back waits without its freeze protection. The
 * hole has no gate to be held behind, and is there before.
 */
TEST_F(disk, file_system_freezes_while_writers_wait_that_protect_has_overtaken)
{
	int dir = open(self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct writing writing;
	struct writer *freezer;

	if (!switches_present())
		SKIP(return, "needs CONFIG_PGPROTECT_DEBUG_DELAY");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	delay_set("write_locked", 1000000);
	delay_set("fault_install", 1000000);
	writing_begin(&writing, &self->file, self->path);
	EXPECT_TRUE(WAIT_FOR(delayed_now() == WRITERS - 1));
	EXPECT_EQ(0, ctx_protect_all(self->ctx, self->id));
	switches_reset();
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, WRITERS - 1));
	freezer = writer_thread(op_freeze, &dir);
	EXPECT_EQ(0, writer_join(freezer));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_TRUE(writing_landed(&writing, self->file.fd));
}

static long op_direct_pwrite(struct writer *self)
{
	struct access *access = self->arg;

	memset(direct_data, access->value, PAGE);
	return pwrite(access->fd, direct_data, PAGE, access->offset) < 0 ? -errno : (long)PAGE;
}

/* Who waits then is a worker of the kernel. */
TEST_F(disk, file_system_freezes_while_a_loop_device_over_the_file_waits)
{
	int dir = open(self->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct access access = { .offset = 2 * PAGE, .length = PAGE, .value = VALUE };
	struct writer *writer, *freezer;

	access.fd = loop_open(self->file.fd, 0, O_DIRECT);
	if (access.fd < 0)
		SKIP(return, "no loop device");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer = writer_fork(op_direct_pwrite, &access);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 1));
	freezer = writer_thread(op_freeze, &dir);
	EXPECT_EQ(0, writer_join(freezer));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_EQ((long)PAGE, writer_join(writer));
	EXPECT_EQ(VALUE, read_page(self->file.fd, 2));
	close(access.fd);
}

TEST_F(disk, truncation_elsewhere_goes_on_while_writers_wait)
{
	struct access store = { .map = self->file.map, .offset = 2 * PAGE, .value = VALUE };
	struct writer *writer;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, 0, 4 * PAGE));
	writer = writer_fork(op_store, &store);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 1));
	EXPECT_EQ(0, ftruncate(self->file.fd, 5 * PAGE));
	EXPECT_EQ(0, ftruncate(self->file.fd, PAGES * PAGE));
	EXPECT_EQ(1, write_page(self->file.fd, 6, VALUE));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(disk, copy_writes_through_the_protection)
{
	char page[PAGE];
	uint64_t copied;

	memset(page, VALUE, PAGE);
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(0, ctx_copy(self->ctx, self->id, 3 * PAGE, page, PAGE, &copied));
	EXPECT_EQ(PAGE, copied);
	EXPECT_EQ(VALUE, read_page(self->file.fd, 3));
	EXPECT_EQ(1, write_page(self->file.fd, 3, 1));
}

TEST_F(disk, growing_beyond_the_protected_end_raises_nothing)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, 0, PAGES * PAGE));
	EXPECT_EQ(0, ftruncate(self->file.fd, 2 * PAGES * PAGE));
	EXPECT_EQ(0, fallocate(self->file.fd, 0, 0, 2 * PAGES * PAGE));
	EXPECT_EQ(1, write_page(self->file.fd, PAGES + 3, VALUE));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
}

/* A swap file: no holes, a signature that mkswap writes. */
/* Two pages: one that the test supplies when it likes, and one of another file. */
struct buffer {
	char *pages;
	int uffd;
	int from;
};

static struct buffer buffer_make(int from, int to)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .len = PAGE }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct buffer buffer = {
		.pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0),
		.uffd = syscall(SYS_userfaultfd, O_CLOEXEC),
		.from = from,
	};

	reg.range.start = (uintptr_t)buffer.pages;
	if (buffer.uffd < 0 || ioctl(buffer.uffd, UFFDIO_API, &api) ||
	    ioctl(buffer.uffd, UFFDIO_REGISTER, &reg) ||
	    mmap(buffer.pages + PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, to,
		 0) != buffer.pages + PAGE)
		die("a buffer of two kinds");
	return buffer;
}

static void buffer_supply(struct buffer *buffer)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (uintptr_t)buffer->pages, .len = PAGE },
	};

	if (ioctl(buffer->uffd, UFFDIO_ZEROPAGE, &zero))
		die("UFFDIO_ZEROPAGE");
}

static long op_read_into(struct writer *self)
{
	struct buffer *buffer = self->arg;
	ssize_t got = pread(buffer->from, buffer->pages, 2 * PAGE, 0);

	return got < 0 ? -errno : got;
}

struct both {
	int ctx;
	struct pgprotect_range ranges[2];
};

static long op_protect_both(struct writer *self)
{
	struct both *both = self->arg;

	return ctx_protect(both->ctx, both->ranges, 2);
}

/* Where the file system holds its lock for a read, PROTECT waits for it, not it for PROTECT. */
TEST_F(disk, read_into_another_file_ends_while_both_are_being_protected)
{
	struct test_file other = file_memfd(1);
	struct buffer buffer = buffer_make(self->file.fd, other.fd);
	struct pollfd fault = { .fd = buffer.uffd, .events = POLLIN };
	struct both both = { .ctx = self->ctx };
	struct writer *reader, *protect;

	both.ranges[0] = range_of(ctx_attach(self->ctx, other.fd, PGPROTECT_MODE_DENY, 0), 0, PAGE);
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	both.ranges[1] = range_of(self->id, 0, PAGE);
	reader = writer_thread(op_read_into, &buffer);
	ASSERT_EQ(1, poll(&fault, 1, DEADLINE_MS));
	protect = writer_thread(op_protect_both, &both);
	/* It waits on xfs, and is through, soon, on ext4. */
	EXPECT_TRUE(WAIT_FOR(writer_done(protect) || task_state(protect->tid) == 'D'));
	buffer_supply(&buffer);
	EXPECT_TRUE(WAIT_FOR(writer_done(reader) && writer_done(protect)));
	EXPECT_EQ(0, writer_join(protect));
	EXPECT_LE((long)PAGE, writer_join(reader));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 0, VALUE));
	EXPECT_EQ(-EPERM, write_page(other.fd, 0, VALUE));
}

struct direct {
	int fd;
	_Atomic bool stop;
};

/* Eight at a time, whose bios are under way without the file's lock. */
static long op_overwrite_directly(struct writer *self)
{
	struct direct *direct = self->arg;
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int i;

	if (io_uring_queue_init(8, &ring, 0))
		die("io_uring");
	while (!direct->stop) {
		for (i = 0; i < 8; i++)
			io_uring_prep_write(io_uring_get_sqe(&ring), direct->fd,
					    direct_data, PAGE, i * PAGE);
		if (io_uring_submit_and_wait(&ring, 8) != 8)
			die("direct writes");
		for (i = 0; i < 8 && !io_uring_peek_cqe(&ring, &cqe); i++)
			io_uring_cqe_seen(&ring, cqe);
		self->progress++;
	}
	io_uring_queue_exit(&ring);
	return 0;
}

/* Waits for the device with the file's lock. */
static long op_extend_directly(struct writer *self)
{
	struct direct *direct = self->arg;

	while (!direct->stop) {
		if (pwrite(direct->fd, direct_data, PAGE, PAGES * PAGE) != PAGE ||
		    ftruncate(direct->fd, PAGES * PAGE))
			die("a direct write at the end");
		self->progress++;
	}
	return 0;
}

/* What a loop device does to its image waits for the lock of the image. */
TEST_F(disk, image_and_a_file_on_it_are_protected_together)
{
	long (*const ops[])(struct writer *) = { op_overwrite_directly, op_extend_directly };
	struct direct direct = { .fd = open(self->path, O_RDWR | O_DIRECT | O_CLOEXEC) };
	struct writer *writers[ARRAY_LEN(ops)], *protect;
	struct both both = { .ctx = self->ctx };
	uint32_t image_id;
	char path[40];
	long seen;
	int image;

	snprintf(path, sizeof(path), "%s.img", self->dir);
	image = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, image);
	ASSERT_LE(0, direct.fd);
	image_id = ctx_attach(self->ctx, image, PGPROTECT_MODE_DENY, 0);
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	/* Of both, what nobody here writes to. */
	both.ranges[0] = range_of(self->id, (PAGES - 1) * PAGE, PAGE);
	both.ranges[1] = range_of(image_id, lseek(image, 0, SEEK_END) - PAGE, PAGE);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		writers[i] = writer_thread(ops[i], &direct);
	for (int round = 0; round < 20; round++) {
		seen = writers[0]->progress;
		protect = writer_thread(op_protect_both, &both);
		ASSERT_TRUE(WAIT_FOR(writer_done(protect)));
		EXPECT_EQ(0, writer_join(protect));
		EXPECT_EQ(-EPERM, write_page(self->file.fd, PAGES - 1, VALUE));
		EXPECT_EQ(0, ctx_unprotect(self->ctx, both.ranges, 2));
		EXPECT_TRUE(WAIT_FOR(writers[0]->progress > seen));
	}
	direct.stop = true;
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		EXPECT_EQ(0, writer_join(writers[i]));
	close(direct.fd);
	close(image);
}

static long op_protect_one(struct writer *self)
{
	struct both *both = self->arg;

	return ctx_protect(both->ctx, both->ranges, 1);
}

/* The disk is slow because its image is protected, from the thread that writes to it. */
TEST_F(disk, protect_waits_for_direct_io_under_way)
{
	struct both both = { .ctx = self->ctx };
	struct iocb iocb, *list = &iocb;
	struct timespec no_time = { 0 };
	struct io_event event;
	struct writer *protect;
	io_context_t aio = NULL;
	int slow, image, direct;
	char path[40];
	uint64_t after;

	snprintf(path, sizeof(path), "%s.img", self->dir);
	image = open(path, O_RDWR | O_CLOEXEC);
	direct = open(self->path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (image < 0 || direct < 0 || syncfs(direct) || io_setup(1, &aio))
		die("direct I/O to a file on an image");
	memset(direct_data, VALUE, PAGE);
	io_prep_pwrite(&iocb, direct, direct_data, PAGE, 3 * PAGE);
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	both.ranges[0] = range_of(self->id, 0, self->file.size);
	slow = ctx_open();
	ASSERT_EQ(0, ctx_protect_all(slow, ctx_attach(slow, image, PGPROTECT_MODE_STALL, 0)));

	ASSERT_EQ(1, io_submit(aio, 1, &list));
	EXPECT_TRUE(ctx_wait_stalled(slow, 1));
	protect = writer_thread(op_protect_one, &both);
	EXPECT_TRUE(WAIT_FOR(writer_done(protect) || task_state(protect->tid) == 'D'));
	EXPECT_TRUE(HOLDS_FOR(50, !writer_done(protect)));
	EXPECT_EQ(0, io_getevents(aio, 0, 1, &event, &no_time));
	close(slow);
	EXPECT_EQ(0, writer_join(protect));
	EXPECT_EQ(VALUE, read_page(self->file.fd, 3));
	after = checksum_fd(self->file.fd, self->file.size);
	EXPECT_EQ(1, io_getevents(aio, 1, 1, &event, NULL));
	EXPECT_EQ(PAGE, (long)event.res);
	forget_pages(&self->file);
	EXPECT_EQ(after, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(-EPERM, pwrite_bytes(direct, direct_data, PAGE, 3 * PAGE));
	io_destroy(aio);
	close(direct);
	close(image);
}

static long op_write_all_the_time(struct writer *self)
{
	struct direct *direct = self->arg;

	while (!direct->stop)
		pwrite(direct->fd, direct_data, PAGE, self->progress++ % PAGES * PAGE);
	return 0;
}

/* Some writer holds, or queues for, the lock of each file at any time. */
TEST_F(disk, files_that_are_written_all_the_time_are_protected_together)
{
	struct direct direct[2] = {
		{ .fd = self->file.fd }, { .fd = disk_make(variant->kind, PAGES * PAGE, NULL) },
	};
	struct writer *writers[8], *protect;
	struct both both = { .ctx = self->ctx };

	for (int i = 0; i < 2; i++) {
		self->id = ctx_attach(self->ctx, direct[i].fd, PGPROTECT_MODE_DENY, 0);
		both.ranges[i] = range_of(self->id, 0, PAGE);
	}
	for (int i = 0; i < 8; i++) {
		writers[i] = writer_thread(op_write_all_the_time, &direct[i % 2]);
		EXPECT_TRUE(WAIT_FOR(writers[i]->progress > 10));
	}
	protect = writer_thread(op_protect_both, &both);
	EXPECT_TRUE(WAIT_FOR(writer_done(protect)));
	EXPECT_EQ(0, writer_join(protect));
	direct[0].stop = direct[1].stop = true;
	for (int i = 0; i < 8; i++)
		EXPECT_EQ(0, writer_join(writers[i]));
	EXPECT_EQ(-EPERM, write_page(direct[0].fd, 0, VALUE));
	EXPECT_EQ(-EPERM, write_page(direct[1].fd, 0, VALUE));
	close(direct[1].fd);
}

static bool make_swap(struct test_file *file, const char *path)
{
	char command[200];

	munmap(file->map, file->size);
	snprintf(command, sizeof(command), "chmod 600 %s; /sbin/mkswap -q %s >/dev/null 2>&1",
		 path, path);
	return !ftruncate(file->fd, 0) && !fallocate(file->fd, 0, 0, 1UL << 20) &&
	       !system(command);
}

TEST_F(disk, attached_file_does_not_become_swap)
{
	if (!make_swap(&self->file, self->path))
		SKIP(return, "no mkswap");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(-1, swapon(self->path, 0));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(0, ctx_detach(self->ctx, self->id));
	EXPECT_EQ(0, swapon(self->path, 0));
	EXPECT_EQ(0, swapoff(self->path));
}

TEST_F(disk, swap_file_cannot_be_attached)
{
	struct pgprotect_attach args = {
		.fd = self->file.fd, .mode = PGPROTECT_MODE_DENY,
		.access = PGPROTECT_ACCESS_WRITE,
	};

	if (!make_swap(&self->file, self->path))
		SKIP(return, "no mkswap");
	ASSERT_EQ(0, swapon(self->path, 0));
	EXPECT_EQ(-EOPNOTSUPP, ctx_attach_try(self->ctx, &args));
	EXPECT_EQ(0, swapoff(self->path));
}

struct clone {
	int fd;
	struct file_clone_range range;
};

static int clone_or_errno(void *arg)
{
	struct clone *clone = arg;

	return ioctl(clone->fd, FICLONERANGE, &clone->range) ? errno : 0;
}

TEST_F(disk, exchange_of_blocks_with_a_protected_donor_is_refused)
{
	struct test_file other = { .size = self->file.size };
	struct move_extent move = { .len = PAGES };

	if (variant->kind != FILE_EXT4)
		SKIP(return, "ext4 only");
	other.fd = disk_make(FILE_EXT4, other.size, NULL);
	other.map = map_shared(other.fd, other.size);
	memset(other.map, VALUE, other.size);
	if (fsync(other.fd) || fsync(self->file.fd))
		die("fsync");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	move.donor_fd = self->file.fd;
	EXPECT_EQ(-1, ioctl(other.fd, EXT4_IOC_MOVE_EXT, &move));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	/* The other way round the content stays, so that nothing speaks against it. */
	move = (struct move_extent){ .donor_fd = other.fd, .len = PAGES };
	EXPECT_EQ(0, ioctl(self->file.fd, EXT4_IOC_MOVE_EXT, &move));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + 3 * PAGE, VALUE));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	move = (struct move_extent){ .donor_fd = self->file.fd, .len = PAGES };
	EXPECT_EQ(0, ioctl(other.fd, EXT4_IOC_MOVE_EXT, &move));
}

/* What was the file's is the boot loader's then, which no path names. */
TEST_F(disk, exchange_with_the_boot_loader_is_refused)
{
	struct stat stat;

	if (variant->kind != FILE_EXT4)
		SKIP(return, "ext4 only");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, (PAGES - 1) * PAGE, PAGE));
	EXPECT_EQ(-1, ioctl(self->file.fd, EXT4_IOC_SWAP_BOOT));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	/* And back. */
	EXPECT_EQ(0, ioctl(self->file.fd, EXT4_IOC_SWAP_BOOT));
	EXPECT_EQ(0, fstat(self->file.fd, &stat));
	EXPECT_EQ(0, stat.st_size);
	EXPECT_EQ(0, ioctl(self->file.fd, EXT4_IOC_SWAP_BOOT));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
}

/* As xfs_fsr does when it has copied @fd to @other. 0 or -errno. */
static int swap_extents(int fd, int other)
{
	struct swap_extents swap = { .target = fd, .other = other };
	struct stat stat;

	if (fstat(fd, &stat))
		die("fstat");
	swap.length = stat.st_size;
	swap.stat.mtime = (struct xfs_time){ stat.st_mtim.tv_sec, stat.st_mtim.tv_nsec };
	swap.stat.ctime = (struct xfs_time){ stat.st_ctim.tv_sec, stat.st_ctim.tv_nsec };
	return ioctl(fd, XFS_IOC_SWAPEXT, &swap) ? -errno : 0;
}

TEST_F(disk, exchange_of_extents_with_a_protected_file_is_refused)
{
	struct test_file other = { .size = self->file.size };
	uint64_t others;

	if (variant->kind != FILE_XFS)
		SKIP(return, "xfs only");
	other.fd = disk_make(FILE_XFS, other.size, NULL);
	other.map = map_shared(other.fd, other.size);
	memset(other.map, VALUE, other.size);
	if (fsync(other.fd) || fsync(self->file.fd))
		die("fsync");
	others = checksum_fd(other.fd, other.size);
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, (PAGES - 1) * PAGE, PAGE));
	EXPECT_EQ(-EBUSY, swap_extents(self->file.fd, other.fd));
	EXPECT_EQ(-EBUSY, swap_extents(other.fd, self->file.fd));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(others, checksum_fd(other.fd, other.size));
	/* Nothing else spoke against it. */
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_EQ(0, swap_extents(self->file.fd, other.fd));
	EXPECT_EQ(others, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(self->before, checksum_fd(other.fd, other.size));
}

/* To the end of the source: beyond the end of the file, here. */
TEST_F(disk, clone_to_the_end_of_the_source_is_refused_by_deny)
{
	struct file_clone_range range = { .dest_offset = PAGES * PAGE };

	if (variant->kind != FILE_XFS)
		SKIP(return, "xfs only");
	range.src_fd = disk_make(FILE_XFS, 4 * PAGE, NULL);
	if (pwrite(range.src_fd, "x", 1, 0) != 1 || fsync(range.src_fd))
		die("source of the clone");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(EPERM, run_as(0, clone_or_errno, &(struct clone){ self->file.fd, range }));
	range.dest_offset = 0;
	EXPECT_EQ(EPERM, run_as(0, clone_or_errno, &(struct clone){ self->file.fd, range }));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, PAGES * PAGE));
}

struct dedupe {
	struct file_dedupe_range range;
	struct file_dedupe_range_info info;
};

TEST_F(disk, dedupe_of_equal_content_needs_no_permission_to_change)
{
	struct dedupe dedupe = {
		.range = { .src_length = self->file.size, .dest_count = 1 },
		.info = { .dest_fd = self->file.fd },
	};
	struct test_file other = { .size = self->file.size };

	if (variant->kind != FILE_XFS)
		SKIP(return, "xfs only");
	other.fd = disk_make(FILE_XFS, other.size, NULL);
	other.map = map_shared(other.fd, other.size);
	file_fill(&other);
	if (fsync(other.fd) || fsync(self->file.fd))
		die("fsync");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(0, ioctl(other.fd, FIDEDUPERANGE, &dedupe));
	EXPECT_EQ(FILE_DEDUPE_RANGE_SAME, dedupe.info.status);
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + 3 * PAGE, VALUE));
}

TEST_F(disk, dedupe_of_other_content_differs_and_raises_nothing)
{
	struct dedupe dedupe = {
		.range = { .src_length = self->file.size, .dest_count = 1 },
		.info = { .dest_fd = self->file.fd },
	};
	struct test_file other = { .size = self->file.size };

	if (variant->kind != FILE_XFS)
		SKIP(return, "xfs only");
	other.fd = disk_make(FILE_XFS, other.size, NULL);
	other.map = map_shared(other.fd, other.size);
	file_fill(&other);
	other.map[other.size - 1]++;
	if (fsync(other.fd) || fsync(self->file.fd))
		die("fsync");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY,
			      PGPROTECT_ATTACH_NOTIFY);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(0, ioctl(other.fd, FIDEDUPERANGE, &dedupe));
	EXPECT_EQ(FILE_DEDUPE_RANGE_DIFFERS, dedupe.info.status);
	EXPECT_EQ(0, dedupe.info.bytes_deduped);
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	forget_pages(&self->file);
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
}

/* Extents of the file that it has in common with another. */
static unsigned int shared_extents(int fd)
{
	struct {
		struct fiemap map;
		struct fiemap_extent extents[2 * PAGES];
	} all = {
		.map = {
			.fm_length = FIEMAP_MAX_OFFSET, .fm_flags = FIEMAP_FLAG_SYNC,
			.fm_extent_count = 2 * PAGES,
		},
	};
	unsigned int shared = 0;

	if (ioctl(fd, FS_IOC_FIEMAP, &all))
		die("FIEMAP");
	for (unsigned int i = 0; i < all.map.fm_mapped_extents; i++)
		shared += !!(all.extents[i].fe_flags & FIEMAP_EXTENT_SHARED);
	return shared;
}

TEST_F(disk, protected_clone_is_unshared_with_its_content)
{
	int other;

	if (variant->kind != FILE_XFS)
		SKIP(return, "xfs only");
	other = disk_make(FILE_XFS, 0, NULL);
	if (fsync(self->file.fd) || ioctl(other, FICLONE, self->file.fd))
		die("clone");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY,
			      PGPROTECT_ATTACH_NOTIFY);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	/* What the other becomes is the other's. */
	EXPECT_EQ(1, write_page(other, 3, VALUE));
	EXPECT_LT(0, shared_extents(self->file.fd));
	EXPECT_EQ(0, fallocate(self->file.fd, FALLOC_FL_UNSHARE_RANGE, 0, self->file.size));
	EXPECT_EQ(0, shared_extents(self->file.fd));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	forget_pages(&self->file);
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + 3 * PAGE, VALUE));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 4, VALUE));
	close(other);
}

static bool has_flag(int fd, int flag)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		die("FS_IOC_GETFLAGS");
	return flags & flag;
}

/* What is written goes to the journal first, and direct I/O is none. */
TEST_F(disk, journalled_data_is_protected_and_reaches_the_disk)
{
	struct writing writing;
	int flags;

	if (variant->kind != FILE_EXT4)
		SKIP(return, "ext4 only");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	/* Protected pages that are dirty are written before. */
	ASSERT_EQ(0, ioctl(self->file.fd, FS_IOC_GETFLAGS, &flags));
	flags |= FS_JOURNAL_DATA_FL;
	ASSERT_EQ(0, ioctl(self->file.fd, FS_IOC_SETFLAGS, &flags));
	ASSERT_TRUE(has_flag(self->file.fd, FS_JOURNAL_DATA_FL));
	writing_begin(&writing, &self->file, self->path);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, WRITERS));
	forget_pages(&self->file);
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_TRUE(writing_landed(&writing, self->file.fd));
	EXPECT_EQ(0, ctx_protect_all(self->ctx, self->id));
	self->before = checksum_fd(self->file.fd, self->file.size);
	forget_pages(&self->file);
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, self->file.size));
}

/* Of an ext4 on which a file can be sealed by a tree of hashes. */
FIXTURE(verity) {
	struct test_file file;
	char path[32];
	uint64_t before;
	int ctx;
	uint32_t id;
};

/* It stays mounted. -1: not possible. */
static int verity_file(char path[32])
{
	static const char script[] =
		"PATH=$PATH:/sbin:/usr/sbin; dir=/run/pgtest-verity; mkdir -p $dir && "
		"truncate -s 8M $dir.img && "
		"mkfs.ext4 -q -b 4096 -O verity $dir.img >/dev/null 2>&1 && "
		"mount -o loop $dir.img $dir 2>/dev/null && rm $dir.img";

	strcpy(path, "/run/pgtest-verity/file");
	if (access("/sys/fs/ext4/features/verity", F_OK))
		return -1;
	return system(script) ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

FIXTURE_SETUP(verity)
{
	struct test_file *file = &self->file;

	*file = (struct test_file){ .fd = verity_file(self->path), .size = PAGES * PAGE };
	if (file->fd < 0)
		SKIP(return, "no ext4 with fs-verity");
	ASSERT_EQ(0, ftruncate(file->fd, file->size));
	file->map = map_shared(file->fd, file->size);
	file_fill(file);
	self->before = checksum_fd(file->fd, file->size);
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, file->fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	file_close(file);
}

FIXTURE_TEARDOWN(verity)
{
	if (self->ctx > 0)
		close(self->ctx);
	umount2("/run/pgtest-verity", MNT_DETACH);
}

/* An attachment holds the file open for writing. */
TEST_F(verity, is_refused_until_the_file_is_detached)
{
	struct fsverity_enable_arg enable = {
		.version = 1, .hash_algorithm = FS_VERITY_HASH_ALG_SHA256, .block_size = 4096,
	};
	int fd = open(self->path, O_RDONLY | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, ioctl(fd, FS_IOC_ENABLE_VERITY, &enable));
	EXPECT_EQ(ETXTBSY, errno);
	EXPECT_FALSE(has_flag(fd, FS_VERITY_FL));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(self->before, checksum_fd(fd, PAGES * PAGE));
	EXPECT_EQ(0, ctx_detach(self->ctx, self->id));
	EXPECT_TRUE(WAIT_FOR(!ioctl(fd, FS_IOC_ENABLE_VERITY, &enable) || errno != ETXTBSY));
	EXPECT_TRUE(has_flag(fd, FS_VERITY_FL));
	EXPECT_EQ(self->before, checksum_fd(fd, PAGES * PAGE));
	/* What nobody may write nobody may attach. */
	EXPECT_EQ(-1, open(self->path, O_RDWR));
	EXPECT_EQ(EPERM, errno);
	close(fd);
}

/* Of an ext4 whose inodes have room for the data of small files. */
FIXTURE(small) {
	struct test_file file;
	char content[100];
	int ctx;
	uint32_t id;
};

/* On a file system of its own, which goes with it. -1: not possible. */
static int small_file(void)
{
	static const char script[] =
		"PATH=$PATH:/sbin:/usr/sbin; dir=/run/pgtest-small; mkdir -p $dir && "
		"truncate -s 8M $dir.img && "
		"mkfs.ext4 -q -I 256 -O inline_data $dir.img >/dev/null 2>&1 && "
		"mount -o loop $dir.img $dir && rm $dir.img";
	int fd;

	if (system(script))
		return -1;
	fd = open("/run/pgtest-small/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	umount2("/run/pgtest-small", MNT_DETACH);
	return fd;
}

FIXTURE_SETUP(small)
{
	size_t size = sizeof(self->content);

	self->file = (struct test_file){ .fd = small_file(), .size = size };
	if (self->file.fd < 0)
		SKIP(return, "no ext4 with data in its inodes");
	memset(self->content, 1, size);
	ASSERT_EQ(size, pwrite(self->file.fd, self->content, size, 0));
	ASSERT_EQ(0, fsync(self->file.fd));
	ASSERT_TRUE(has_flag(self->file.fd, FS_INLINE_DATA_FL));
	self->file.map = map_shared(self->file.fd, size);
	self->ctx = ctx_open();
}

FIXTURE_TEARDOWN(small)
{
	if (self->ctx > 0)
		close(self->ctx);
	if (self->file.map)
		file_close(&self->file);
}

/* Also when it is read anew. */
static bool small_reads_right(struct _test_data_small *self)
{
	char seen[sizeof(self->content)];

	return pread(self->file.fd, seen, sizeof(seen), 0) == sizeof(seen) &&
	       !memcmp(seen, self->content, sizeof(seen));
}

static bool small_unchanged(struct _test_data_small *self)
{
	for (int i = 0; i < 2; i++) {
		if (!small_reads_right(self))
			return false;
		forget_pages(&self->file);
	}
	return true;
}

/*
 * One after the other: ext4 by itself dies, at times, of a store that moves the content
 * while a write has begun in the inode. It loses such a store, too, once its journal is
 * written back: what it stored is not looked for on the disk.
 */
TEST_F(small, content_in_the_inode_waits_for_its_release)
{
	struct access write = { .fd = self->file.fd, .offset = 20, .length = 1, .value = VALUE };
	struct access store = { .map = self->file.map, .offset = 7, .value = VALUE };
	struct writer *writer;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
		writer = i ? writer_fork(op_store, &store) : writer_fork(op_pwrite, &write);
		EXPECT_TRUE(ctx_wait_stalled(self->ctx, 1));
		EXPECT_TRUE(small_unchanged(self));
		EXPECT_TRUE(has_flag(self->file.fd, FS_INLINE_DATA_FL));
		EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
		EXPECT_EQ(i ? 0 : 1, writer_join(writer));
		self->content[i ? 7 : 20] = VALUE;
		EXPECT_TRUE(i ? small_reads_right(self) : small_unchanged(self));
	}
	EXPECT_FALSE(has_flag(self->file.fd, FS_INLINE_DATA_FL));
}

TEST_F(small, content_that_growth_moves_to_blocks_stays_protected)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY,
			      PGPROTECT_ATTACH_NOTIFY);
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, 0, PAGE));
	EXPECT_EQ(1, write_page(self->file.fd, 1, VALUE));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_TRUE(small_unchanged(self));
	EXPECT_FALSE(has_flag(self->file.fd, FS_INLINE_DATA_FL));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map, VALUE));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 0, VALUE));
	EXPECT_EQ(-1, ftruncate(self->file.fd, 50));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, fallocate(self->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 50,
				10));
	EXPECT_EQ(EPERM, errno);
	EXPECT_TRUE(small_unchanged(self));
}

TEST_HARNESS_MAIN
