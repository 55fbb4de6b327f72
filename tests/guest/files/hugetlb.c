// SPDX-License-Identifier: GPL-2.0
/*
 * Files of hugetlbfs: a huge page is protected as a whole, and every way to change
 * it is met, as for small pages.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../routes/common/memory.h"
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

/* Each huge page begins with its number. */
FIXTURE_SETUP(hugetlb)
{
	if (!reserve_pages())
		SKIP(return, "no huge pages");
	self->file.fd = memfd_create("huge", MFD_HUGETLB | MFD_CLOEXEC);
	if (self->file.fd < 0 || ftruncate(self->file.fd, SIZE))
		SKIP(return, "no hugetlb memfd");
	self->file.size = SIZE;
	self->file.map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->file.fd, 0);
	if (self->file.map == MAP_FAILED)
		SKIP(return, "too few huge pages");
	for (unsigned long i = 0; i < PAGES; i++)
		self->file.map[i * HUGE] = i + 1;
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

TEST_F(hugetlb, hole_that_is_read_first_stays_protected)
{
	ASSERT_EQ(0, op_punch(&(struct writer){ .arg = &self->file }));
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(0, self->file.map[HUGE]);
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + HUGE, VALUE));
	EXPECT_EQ(0, self->file.map[HUGE]);
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

TEST_F(hugetlb, processes_that_share_a_page_table_are_refused_by_deny)
{
	struct writer *writers[3];

	/* Holes are free: only the first pages are ever there. */
	ASSERT_EQ(0, ftruncate(self->file.fd, GIB));
	for (int i = 0; i < 3; i++) {
		writers[i] = writer_fork(op_store_to_gib, &self->file);
		writer_wait_ready(writers[i]);
	}
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	for (int i = 0; i < 3; i++) {
		writer_go(writers[i]);
		EXPECT_EQ(GOT_SIGBUS, writer_join(writers[i]));
	}
	EXPECT_EQ(7, self->file.map[HUGE]);
}

TEST_HARNESS_MAIN
