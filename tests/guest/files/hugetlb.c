// SPDX-License-Identifier: GPL-2.0
/*
 * Files of hugetlbfs: a huge page is protected as a whole, and every way to change
 * it is met, as for small pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../regress/common/switches.h"
#include "../routes/common/memory.h"
#include "../routes/common/udmabuf.h"
#include "pgtest.h"

#define PAGES	4UL
#define SIZE	(PAGES * HUGE)
#define VALUE	((char)0x5a)

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

FIXTURE(hugetlb) {
	struct test_file file;
	int ctx;
	uint32_t id;
};

static bool reserve_pages(void)
{
	return write_text("/proc/sys/vm/nr_hugepages", "12");
}

/* Each huge page begins with its number. False: not possible on this system. */
static bool make_file(struct test_file *file)
{
	if (!reserve_pages())
		return false;
	file->fd = memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (file->fd < 0 || ftruncate(file->fd, SIZE))
		return false;
	file->size = SIZE;
	file->map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
	if (file->map == MAP_FAILED)
		return false;
	for (unsigned long i = 0; i < PAGES; i++)
		file->map[i * HUGE] = i + 1;
	return true;
}

FIXTURE_SETUP(hugetlb)
{
	if (!make_file(&self->file))
		SKIP(return, "too few huge pages, or no hugetlb memfd");
	self->ctx = ctx_open();
}

FIXTURE_TEARDOWN(hugetlb)
{
	if (self->ctx > 0)
		close(self->ctx);
	if (self->file.map && self->file.map != MAP_FAILED)
		file_close(&self->file);
}

static char *map_again(const struct test_file *file)
{
	return map_shared(file->fd, file->size);
}

TEST_F(hugetlb, store_waits_until_released)
{
	struct access store = { .map = self->file.map, .offset = HUGE + 12345, .value = VALUE };
	struct pgprotect_event event;
	struct writer *writer;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer = writer_fork(op_store, &store);
	ASSERT_EQ(1, ctx_next(self->ctx, &event, 1, 1));
	EXPECT_EQ(PGPROTECT_EVENT_STALL, event.type);
	EXPECT_EQ(PGPROTECT_ORIGIN_STORE, event.origin);
	EXPECT_EQ(HUGE, event.offset);
	EXPECT_EQ(HUGE, event.length);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, self->file.map[HUGE + 12345]);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(VALUE, self->file.map[HUGE + 12345]);
	/* All of the huge page is released, and no other. */
	EXPECT_EQ(0, store_byte(self->file.map + 2 * HUGE - 1, VALUE));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

TEST_F(hugetlb, store_is_refused_by_deny_through_every_mapping)
{
	char *before = map_again(&self->file), *after;

	before[HUGE + 1] = 1;
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	after = map_again(&self->file);
	EXPECT_EQ(2, after[HUGE]);
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + HUGE, VALUE));
	EXPECT_EQ(GOT_SIGBUS, store_byte(before + HUGE, VALUE));
	EXPECT_EQ(GOT_SIGBUS, store_byte(after + HUGE, VALUE));
	/* Never touched by this mapping. */
	EXPECT_EQ(GOT_SIGBUS, store_byte(after + 3 * HUGE, VALUE));
	EXPECT_EQ(2, after[HUGE]);
	EXPECT_EQ(4, after[3 * HUGE]);
}

TEST_F(hugetlb, neighbours_of_a_protected_page_are_free)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, HUGE, HUGE));
	EXPECT_EQ(0, store_byte(self->file.map + HUGE - 1, VALUE));
	EXPECT_EQ(0, store_byte(self->file.map + 2 * HUGE, VALUE));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + HUGE, VALUE));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + 2 * HUGE - 1, VALUE));
}

TEST_F(hugetlb, part_of_a_huge_page_cannot_be_protected_or_released)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(-EINVAL, ctx_protect_range(self->ctx, self->id, 0, 4096));
	EXPECT_EQ(-EINVAL, ctx_protect_range(self->ctx, self->id, 4096, HUGE));
	EXPECT_EQ(-EINVAL, ctx_protect_range(self->ctx, self->id, 4096, PGPROTECT_TO_EOF));
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(-EINVAL, ctx_unprotect_range(self->ctx, self->id, HUGE, 4096));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + HUGE, VALUE));
	EXPECT_EQ(0, ctx_unprotect_range(self->ctx, self->id, HUGE, HUGE));
	EXPECT_EQ(0, store_byte(self->file.map + HUGE, VALUE));
}

TEST_F(hugetlb, mprotect_to_and_fro_does_not_open_pages)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_EQ(0, mprotect(self->file.map, SIZE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->file.map, SIZE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + HUGE, VALUE));
	EXPECT_EQ(2, self->file.map[HUGE]);
}

TEST_F(hugetlb, migrated_page_stays_protected)
{
	uint64_t frame = frame_of(self->file.map + HUGE);

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	if (madvise(self->file.map + HUGE, 4096, MADV_SOFT_OFFLINE))
		SKIP(return, "the page was not migrated: errno %d", errno);
	EXPECT_EQ(2, self->file.map[HUGE]);
	if (frame_of(self->file.map + HUGE) == frame)
		SKIP(return, "the page was not migrated");
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + HUGE, VALUE));
}

static long op_punch(struct writer *self)
{
	struct test_file *file = self->arg;

	return fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, HUGE) ?
	       -errno : 0;
}

TEST_F(hugetlb, punch_waits_until_released)
{
	struct pgprotect_event event;
	struct writer *writer;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer = writer_fork(op_punch, &self->file);
	ASSERT_EQ(1, ctx_next(self->ctx, &event, 1, 1));
	EXPECT_EQ(PGPROTECT_ORIGIN_FALLOCATE, event.origin);
	EXPECT_EQ(HUGE, event.offset);
	EXPECT_EQ(HUGE, event.length);
	EXPECT_EQ(2, self->file.map[HUGE]);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(0, self->file.map[HUGE]);
}

static long op_punch_part(struct writer *self)
{
	struct test_file *file = self->arg;

	return fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE, 4096) ?
	       -errno : 0;
}

/* A verdict releases what was asked for: all of the huge page. */
TEST_F(hugetlb, punch_of_a_part_asks_for_the_whole_page)
{
	struct pgprotect_event event;
	struct writer *writer;
	char *map;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer = writer_fork(op_punch_part, &self->file);
	ASSERT_EQ(1, ctx_next(self->ctx, &event, 1, 1));
	EXPECT_EQ(HUGE, event.offset);
	EXPECT_EQ(HUGE, event.length);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	map = map_again(&self->file);
	EXPECT_EQ(0, map[HUGE]);
	EXPECT_EQ(0, store_byte(map + 2 * HUGE - 1, VALUE));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

TEST_F(hugetlb, punch_and_truncate_are_refused_by_deny)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(-1, fallocate(self->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				HUGE + 100, 50));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, ftruncate(self->file.fd, 2 * HUGE));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, madvise(self->file.map + HUGE, HUGE, MADV_REMOVE));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(4, self->file.map[3 * HUGE]);
}

static char first_byte(const struct test_file *file, size_t page)
{
	return read_page(file->fd, page * (HUGE / page_size()));
}

static long op_truncate(struct writer *self)
{
	struct test_file *file = self->arg;

	return ftruncate(file->fd, 2 * HUGE) ? -errno : 0;
}

TEST_F(hugetlb, truncate_waits_until_released)
{
	struct pgprotect_event event;
	struct writer *writer;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer = writer_fork(op_truncate, &self->file);
	ASSERT_EQ(1, ctx_next(self->ctx, &event, 1, 1));
	EXPECT_EQ(PGPROTECT_EVENT_STALL, event.type);
	EXPECT_EQ(PGPROTECT_ORIGIN_TRUNCATE, event.origin);
	EXPECT_EQ(2 * HUGE, event.offset);
	EXPECT_EQ(2 * HUGE, event.length);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(SIZE, lseek(self->file.fd, 0, SEEK_END));
	EXPECT_EQ(3, self->file.map[2 * HUGE]);
	EXPECT_EQ(4, self->file.map[3 * HUGE]);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(2 * HUGE, lseek(self->file.fd, 0, SEEK_END));
	EXPECT_EQ(2, self->file.map[HUGE]);
}

static long fill_hole(int fd, char *map)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map, .len = SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	static char source[HUGE];
	struct uffdio_copy copy = {
		.dst = (uintptr_t)map + HUGE, .len = HUGE, .src = (uintptr_t)source,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	long ret;

	memset(source, VALUE, HUGE);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	ret = ioctl(uffd, UFFDIO_COPY, &copy) ? -errno : 0;
	close(uffd);
	return ret;
}

TEST_F(hugetlb, fill_of_a_protected_hole_is_refused_by_deny)
{
	char *map = map_again(&self->file);

	ASSERT_EQ(0, op_punch(&(struct writer){ .arg = &self->file }));
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(-EPERM, fill_hole(self->file.fd, map));
	EXPECT_EQ(0, self->file.map[HUGE]);
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
}

static long op_fill(struct writer *self)
{
	struct test_file *file = self->arg;

	return fill_hole(file->fd, map_again(file));
}

/* The hole is looked at by read(2): a load would put a page there. */
TEST_F(hugetlb, fill_of_a_protected_hole_waits_until_released)
{
	struct pgprotect_event event;
	struct writer *writer;

	ASSERT_EQ(0, op_punch(&(struct writer){ .arg = &self->file }));
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer = writer_fork(op_fill, &self->file);
	ASSERT_EQ(1, ctx_next(self->ctx, &event, 1, 1));
	EXPECT_EQ(PGPROTECT_EVENT_STALL, event.type);
	EXPECT_EQ(PGPROTECT_ORIGIN_UFFD, event.origin);
	EXPECT_EQ(HUGE, event.offset);
	EXPECT_EQ(HUGE, event.length);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, first_byte(&self->file, 1));
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(VALUE, first_byte(&self->file, 1));
	EXPECT_EQ(3, first_byte(&self->file, 2));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

TEST_F(hugetlb, hole_that_is_read_first_stays_protected)
{
	ASSERT_EQ(0, op_punch(&(struct writer){ .arg = &self->file }));
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(0, self->file.map[HUGE]);
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + HUGE, VALUE));
	EXPECT_EQ(0, self->file.map[HUGE]);
}

/* --- pages that somebody holds for DMA --- */

static struct pgprotect_protect protect_all_reporting(struct pgprotect_range *all,
						      struct pgprotect_range pins[2])
{
	return (struct pgprotect_protect){
		.ranges = (uintptr_t)all, .nr_ranges = 1,
		.pins = (uintptr_t)pins, .max_pins = 2,
	};
}

/* Four kilobytes of the second huge page; the ring goes with the test. */
static struct io_uring *register_part(const struct test_file *file)
{
	struct iovec iov = { file->map + HUGE + 3 * page_size(), page_size() };
	static struct io_uring ring;

	if (io_uring_queue_init(4, &ring, 0) || io_uring_register_buffers(&ring, &iov, 1))
		die("register a buffer");
	return &ring;
}

TEST_F(hugetlb, registered_buffer_is_reported_as_its_huge_page)
{
	struct pgprotect_range pins[2], all;
	struct pgprotect_protect protect = protect_all_reporting(&all, pins);

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	register_part(&self->file);
	all = range_of(self->id, 0, SIZE);
	ASSERT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(1, protect.nr_pins);
	EXPECT_EQ(self->id, pins[0].file);
	EXPECT_EQ(HUGE, pins[0].offset);
	EXPECT_EQ(HUGE, pins[0].length);
	EXPECT_EQ(SIZE / page_size(), protect.nr_pages);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + i * HUGE, VALUE));
}

TEST_F(hugetlb, registered_buffer_makes_strict_fail_with_nothing_protected)
{
	struct pgprotect_range pins[2], all;
	struct pgprotect_protect protect = protect_all_reporting(&all, pins);
	struct io_uring *ring;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ring = register_part(&self->file);
	protect.flags = PGPROTECT_PROTECT_STRICT;
	all = range_of(self->id, 0, SIZE);
	ASSERT_EQ(-EBUSY, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(1, protect.nr_pins);
	EXPECT_EQ(HUGE, pins[0].offset);
	EXPECT_EQ(HUGE, pins[0].length);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(0, store_byte(self->file.map + i * HUGE, VALUE));
	all = range_of(self->id, 2 * HUGE, 2 * HUGE);
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(0, protect.nr_pins);
	ASSERT_EQ(0, io_uring_unregister_buffers(ring));
	all = range_of(self->id, 0, SIZE);
	/* What was in flight to give the page back may take a moment. */
	EXPECT_TRUE(WAIT_FOR(!ctx_protect_args(self->ctx, &protect)));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + HUGE, VALUE));
}

static long op_udmabuf(struct writer *self)
{
	struct test_file *file = self->arg;
	int buffer = udmabuf_create(file->fd, HUGE, HUGE);

	if (buffer < 0)
		return buffer;
	map_shared(buffer, HUGE)[12345] = VALUE;
	return 0;
}

static bool can_be_a_udmabuf(const struct test_file *file)
{
	return have_udmabuf() && !fcntl(file->fd, F_ADD_SEALS, F_SEAL_SHRINK);
}

TEST_F(hugetlb, udmabuf_of_a_protected_page_waits_until_released)
{
	struct pgprotect_event event;
	struct writer *writer;

	if (!can_be_a_udmabuf(&self->file))
		SKIP(return, "no /dev/udmabuf");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer = writer_fork(op_udmabuf, &self->file);
	ASSERT_EQ(1, ctx_next(self->ctx, &event, 1, 1));
	EXPECT_EQ(PGPROTECT_EVENT_STALL, event.type);
	EXPECT_EQ(PGPROTECT_ORIGIN_PIN, event.origin);
	EXPECT_EQ(HUGE, event.offset);
	EXPECT_EQ(HUGE, event.length);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, self->file.map[HUGE + 12345]);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(VALUE, self->file.map[HUGE + 12345]);
}

TEST_F(hugetlb, udmabuf_of_a_protected_page_is_refused_by_deny)
{
	if (!can_be_a_udmabuf(&self->file))
		SKIP(return, "no /dev/udmabuf");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(-EPERM, writer_join(writer_fork(op_udmabuf, &self->file)));
	EXPECT_EQ(0, self->file.map[HUGE + 12345]);
}

TEST_F(hugetlb, udmabuf_made_before_protect_is_reported)
{
	struct pgprotect_range pins[2], all;
	struct pgprotect_protect protect = protect_all_reporting(&all, pins);
	int buffer;

	if (!can_be_a_udmabuf(&self->file))
		SKIP(return, "no /dev/udmabuf");
	buffer = udmabuf_create(self->file.fd, HUGE, HUGE);
	ASSERT_LE(0, buffer);
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	all = range_of(self->id, 0, SIZE);
	ASSERT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(1, protect.nr_pins);
	EXPECT_EQ(HUGE, pins[0].offset);
	EXPECT_EQ(HUGE, pins[0].length);
	close(buffer);
}

static int remote_store(void *arg)
{
	char byte = VALUE;
	struct iovec local = { &byte, 1 }, remote = { arg, 1 };

	return process_vm_writev(getppid(), &local, 1, &remote, 1, 0) == 1 ? 0 : errno;
}

TEST_F(hugetlb, process_vm_writev_is_refused_by_deny)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(EFAULT, run_as(0, remote_store, self->file.map + HUGE));
	EXPECT_EQ(2, self->file.map[HUGE]);
}

TEST_F(hugetlb, forked_child_is_refused_by_deny)
{
	struct access store = { .map = self->file.map, .offset = HUGE, .value = VALUE };

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_fork(op_store, &store)));
	EXPECT_EQ(2, self->file.map[HUGE]);
}

TEST_F(hugetlb, copy_is_not_supported)
{
	uint64_t copied;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(-EOPNOTSUPP, ctx_copy(self->ctx, self->id, HUGE, self->file.map, 4096,
					&copied));
}

static long op_store_in_loop(struct writer *self)
{
	char *map = map_again(self->arg);

	for (self->progress = 0; self->go < 2; self->progress++) {
		map[HUGE + 1 + self->progress % 4096]++;
		if (self->progress == 1000)
			writer_checkpoint(self);
	}
	return 0;
}

TEST_F(hugetlb, protect_while_processes_store)
{
	uint64_t before, after;
	struct writer *writers[3];
	struct handler *handler;

	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	for (int i = 0; i < 3; i++) {
		writers[i] = writer_fork(op_store_in_loop, &self->file);
		writer_wait_ready(writers[i]);
		writer_go(writers[i]);
	}
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	before = checksum(self->file.map, SIZE);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 3));
	after = checksum(self->file.map, SIZE);
	EXPECT_EQ(before, after);
	handler = handler_start(self->ctx, HANDLER_ALLOW, 0);
	for (int i = 0; i < 3; i++) {
		writer_go(writers[i]);
		EXPECT_EQ(0, writer_join(writers[i]));
	}
	handler_stop(handler);
	EXPECT_NE(before, checksum(self->file.map, SIZE));
}

/* Mapped by the whole GiB at one, so that processes can share page tables. */
static char *map_gib(int fd)
{
	char *place = mmap(NULL, 2 * GIB, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (place == MAP_FAILED)
		die("address space");
	munmap(place, 2 * GIB);
	place = (char *)(((uintptr_t)place + GIB - 1) & -GIB);
	if (mmap(place, GIB, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE, fd, 0) != place)
		die("mapping of a GiB");
	return place;
}

static long op_store_to_gib(struct writer *self)
{
	struct test_file *file = self->arg;
	char *map = map_gib(file->fd);

	map[HUGE] = 7;
	writer_checkpoint(self);
	return store_byte(map + HUGE, VALUE);
}

/* Entries that map the page at @address, in page tables of whomever. */
static uint64_t entries_of(const void *address)
{
	uint64_t entries;
	int fd = open("/proc/kpagecount", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &entries, 8, frame_of(address) * 8) != 8)
		die("kpagecount");
	close(fd);
	return entries;
}

TEST_F(hugetlb, processes_that_share_a_page_table_are_refused_by_deny)
{
	struct writer *writers[3];

	/* Holes are free: only the first pages are ever there. */
	ASSERT_EQ(0, ftruncate(self->file.fd, GIB));
	for (int i = 0; i < 3; i++) {
		writers[i] = writer_fork(op_store_to_gib, &self->file);
		writer_wait_ready(writers[i]);
	}
	/* One of this process, and one of them all. */
	if (entries_of(self->file.map + HUGE) != 2)
		SKIP(return, "processes have page tables of their own");
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	for (int i = 0; i < 3; i++) {
		writer_go(writers[i]);
		EXPECT_EQ(GOT_SIGBUS, writer_join(writers[i]));
	}
	EXPECT_EQ(7, self->file.map[HUGE]);
}

/* --- races: the writer has passed the gate when PROTECT comes --- */

#define WINDOW_US	400000

FIXTURE(race) {
	struct test_file file;
	int ctx;
	uint32_t id;
};

FIXTURE_VARIANT(race) {
	long (*op)(struct writer *self);
	bool hole;		/* there is no page, else there is an entry, read-only */
	const char *delay;	/* where the writer is held */
	const char *fix;	/* what leaves the protection out: a switch, or */
	const char *functions[3];	/* functions one of which holds the filter */
};

static long op_store_to_page(struct writer *self)
{
	struct test_file *file = self->arg;

	return store_byte(file->map + HUGE, VALUE);
}

/* Which function the compiler puts a filter into is its choice. */
FIXTURE_VARIANT_ADD(race, fault_that_fills_a_hole) {
	.op = op_store_to_page, .hole = true, .delay = "fault_install",
	.functions = { "hugetlb_no_page", "hugetlb_fault" },
};

FIXTURE_VARIANT_ADD(race, fault_that_upgrades_an_entry) {
	.op = op_store_to_page, .delay = "fault_install",
	.functions = { "hugetlb_wp", "hugetlb_fault" },
};

FIXTURE_VARIANT_ADD(race, fill_by_userfaultfd) {
	.op = op_fill, .hole = true, .delay = "fill", .fix = "write_filter",
};

FIXTURE_SETUP(race)
{
	if (!switches_present())
		SKIP(return, "needs CONFIG_PGPROTECT_DEBUG_DELAY");
	switches_reset();
	if (!make_file(&self->file))
		SKIP(return, "too few huge pages, or no hugetlb memfd");
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
}

FIXTURE_TEARDOWN(race)
{
	if (switches_present())
		switches_reset();
	if (self->ctx)
		close(self->ctx);
}

static void begin_anew(struct _test_data_race *self, bool hole)
{
	if (ctx_unprotect_all(self->ctx, self->id))
		die("UNPROTECT");
	if (hole ? op_punch(&(struct writer){ .arg = &self->file })
		 : ctx_protect_all(self->ctx, self->id) ||
		   ctx_unprotect_all(self->ctx, self->id))
		die("a hole, or a read-only entry");
}

/* Has the page changed once PROTECT has returned? */
static bool escapes(struct _test_data_race *self, const struct _fixture_variant_race *variant)
{
	struct writer *writer;
	char before;

	begin_anew(self, variant->hole);
	delay_set(variant->delay, WINDOW_US);
	writer = writer_thread(variant->op, &self->file);
	if (!WAIT_FOR(writer->done || delayed_now()) || writer->done)
		die("the writer was not held");
	if (ctx_protect_all(self->ctx, self->id))
		die("PROTECT");
	before = first_byte(&self->file, 1);
	writer_join(writer);
	delay_set(variant->delay, 0);
	return first_byte(&self->file, 1) != before;
}

TEST_F(race, in_force_catches_the_write)
{
	EXPECT_FALSE(escapes(self, variant));
}

TEST_F(race, left_out_lets_the_same_write_escape)
{
	bool escaped = false;

	if (variant->fix) {
		fix_disable(variant->fix);
		escaped = escapes(self, variant);
	}
	for (size_t i = 0; !escaped && i < ARRAY_LEN(variant->functions); i++) {
		if (!variant->functions[i])
			break;
		filter_disable(variant->functions[i]);
		escaped = escapes(self, variant);
	}
	EXPECT_TRUE(escaped);
}

/*
 * A fill that has asked its filter, and has not put its page there, holds the fault
 * mutex, for which PROTECT waits. What keeps the fill there is not a lock but another
 * task on its CPU:
 *
 *   fill, CPU 1			hog, CPU 1, real time	PROTECT, CPU 0
 *   mutex, filter: not protected
 *   spins, interrupts off	woken
 *   preempted			runs
 *							publish, wait for the mutex
 *				ends
 *   page into the page cache
 *   mutex let go					go on
 */
#define HOLD_MS		300
#define HOG_MS		200	/* less than real-time tasks may run at once */

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("no CPU %d", cpu);
}

static long op_fill_on_cpu_1(struct writer *self)
{
	run_on(1);
	writer_checkpoint(self);
	return op_fill(self);
}

static long op_hog_cpu_1(struct writer *self)
{
	struct sched_param param = { .sched_priority = 1 };

	run_on(1);
	if (sched_setscheduler(0, SCHED_FIFO, &param))
		die("SCHED_FIFO");
	writer_checkpoint(self);
	self->progress = 1;
	while (self->go < 2)
		;
	return 0;
}

/* What is there at the time of its return. */
static long op_protect_and_look(struct writer *self)
{
	struct subject *s = self->arg;

	writer_checkpoint(self);
	if (ctx_protect_all(s->ctx, s->id))
		die("PROTECT");
	return first_byte(&s->file, 1);
}

TEST(fill_under_way_is_waited_for_by_protect)
{
	struct subject s = { .ctx = ctx_open() };
	struct writer *filler, *hog, *protect;

	if (!switches_present())
		SKIP(return, "needs CONFIG_PGPROTECT_DEBUG_DELAY");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	if (!make_file(&s.file) || op_punch(&(struct writer){ .arg = &s.file }))
		SKIP(return, "too few huge pages, or no hugetlb memfd");
	s.id = ctx_attach(s.ctx, s.file.fd, PGPROTECT_MODE_DENY, 0);
	run_on(0);
	protect = writer_thread(op_protect_and_look, &s);
	filler = writer_fork(op_fill_on_cpu_1, &s.file);
	hog = writer_fork(op_hog_cpu_1, NULL);
	writer_wait_ready(protect);
	writer_wait_ready(filler);
	writer_wait_ready(hog);
	if (!hold_set("hugetlb_add_to_page_cache hugetlb_mfill_atomic_pte", HOLD_MS))
		SKIP(return, "the fill cannot be held");
	writer_go(filler);
	if (!WAIT_FOR(filler->done || delayed_now()) || filler->done)
		die("the fill was not held");
	writer_go(hog);
	EXPECT_TRUE(WAIT_FOR(hog->progress));
	writer_go(protect);
	EXPECT_TRUE(HOLDS_FOR(HOG_MS, !writer_done(protect)));
	EXPECT_EQ(0, first_byte(&s.file, 1));
	EXPECT_FALSE(writer_done(filler));
	writer_go(hog);
	EXPECT_EQ(VALUE, writer_join(protect));
	EXPECT_EQ(0, writer_join(filler));
	EXPECT_EQ(0, writer_join(hog));
	EXPECT_EQ(GOT_SIGBUS, store_byte(s.file.map + HUGE, 1));
	switches_reset();
	subject_close(&s);
}

/* Faults of a private mapping, which hold its lock, with a page of the file mapped. */
static long op_fault_privately(struct writer *self)
{
	const struct test_file *file = self->arg;
	char *map = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file->fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	while (!self->go) {
		if (madvise(map, 2 * HUGE, MADV_DONTNEED))
			return -errno;
		(void)*(volatile char *)map;
		map[HUGE] = VALUE;
		self->progress++;
	}
	return 0;
}

/* Which waits for that lock. A kernel that looks for it elsewhere dies of this. */
TEST_F(hugetlb, hole_is_punched_while_a_private_mapping_faults)
{
	struct writer *writer = writer_fork(op_fault_privately, &self->file);
	long turns = 0;

	for (int i = 0; i < 100; i++) {
		self->file.map[0] = 1;
		ASSERT_TRUE(WAIT_FOR(writer->progress >= turns + 2));
		turns = writer->progress;
		ASSERT_EQ(0, fallocate(self->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       0, HUGE));
		EXPECT_EQ(0, self->file.map[0]);
	}
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(2, self->file.map[HUGE]);
}

TEST_HARNESS_MAIN
