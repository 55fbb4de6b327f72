// SPDX-License-Identifier: GPL-2.0
/* PGPROTECT_IOC_COPY: writes through the protection, and releases. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	4

FIXTURE(copy) {
	struct subject subject;
	int ctx;
	uint32_t id;
	char *map;
	size_t page;
	char *source;	/* PAGES pages of 'a', 'b', ... */
};

FIXTURE_SETUP(copy)
{
	self->subject = subject_protected(PAGES, PGPROTECT_MODE_DENY, 0);
	self->ctx = self->subject.ctx;
	self->id = self->subject.id;
	self->map = self->subject.file.map;
	self->page = page_size();
	self->source = mmap(NULL, (PAGES + 1) * self->page, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->source);
	/* What follows the source is not there. */
	ASSERT_EQ(0, munmap(self->source + PAGES * self->page, self->page));
	for (int i = 0; i < PAGES; i++)
		memset(self->source + i * self->page, 'a' + i, self->page);
}

FIXTURE_TEARDOWN(copy)
{
	munmap(self->source, PAGES * self->page);
	subject_close(&self->subject);
}

static bool page_is(const char *page, char value)
{
	for (size_t i = 0; i < page_size(); i++) {
		if (page[i] != value)
			return false;
	}
	return true;
}

TEST_F(copy, replaces_the_content_and_releases_just_these_pages)
{
	uint64_t copied;

	EXPECT_EQ(0, ctx_copy(self->ctx, self->id, self->page, self->source, 2 * self->page,
			      &copied));
	EXPECT_EQ(2 * self->page, copied);
	EXPECT_TRUE(page_is(self->map, 0));
	EXPECT_TRUE(page_is(self->map + self->page, 'a'));
	EXPECT_TRUE(page_is(self->map + 2 * self->page, 'b'));
	EXPECT_TRUE(page_is(self->map + 3 * self->page, 0));
	EXPECT_EQ(-EPERM, write_page(self->subject.file.fd, 0, 1));
	EXPECT_EQ(1, write_page(self->subject.file.fd, 1, 1));
	EXPECT_EQ(0, store_byte(self->map + 2 * self->page, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->map + 3 * self->page, 1));
}

TEST_F(copy, wakes_the_writer_which_then_writes_over_it)
{
	struct subject stalls = subject_protected(2, PGPROTECT_MODE_STALL, 0);
	struct access access = { .map = stalls.file.map, .offset = 7, .value = 'W' };
	struct writer *writer = writer_thread(op_store, &access);

	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_copy(stalls.ctx, stalls.id, 0, self->source, self->page, NULL));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('a', stalls.file.map[6]);
	EXPECT_EQ('W', stalls.file.map[7]);
	EXPECT_EQ('a', stalls.file.map[8]);
	subject_close(&stalls);
}

TEST_F(copy, raises_no_event_of_its_own_context)
{
	struct subject stalls = subject_protected(1, PGPROTECT_MODE_STALL, 0);

	EXPECT_EQ(0, ctx_copy(stalls.ctx, stalls.id, 0, self->source, self->page, NULL));
	EXPECT_FALSE(ctx_readable(stalls.ctx, 0));
	subject_close(&stalls);
}

TEST_F(copy, fills_a_hole)
{
	struct test_file *file = &self->subject.file;

	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	ASSERT_EQ(0, fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       0, file->size));
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(0, ctx_copy(self->ctx, self->id, 0, self->source, self->page, NULL));
	EXPECT_TRUE(page_is(self->map, 'a'));
}

TEST_F(copy, stops_at_the_end_of_the_file)
{
	uint64_t copied;
	struct subject short_file = subject_attached(2, PGPROTECT_MODE_DENY, 0);
	int fd = short_file.file.fd;

	ASSERT_EQ(0, ftruncate(fd, self->page + 100));
	ASSERT_EQ(0, ctx_protect_all(short_file.ctx, short_file.id));
	EXPECT_EQ(0, ctx_copy(short_file.ctx, short_file.id, 0, self->source, 4 * self->page,
			      &copied));
	EXPECT_EQ(self->page + 100, copied);
	EXPECT_EQ(self->page + 100, lseek(fd, 0, SEEK_END));
	EXPECT_TRUE(page_is(short_file.file.map, 'a'));
	EXPECT_EQ('b', short_file.file.map[self->page + 99]);
	EXPECT_EQ(0, short_file.file.map[self->page + 100]);
	subject_close(&short_file);
}

TEST_F(copy, begin_beyond_the_end_is_invalid)
{
	uint64_t end = PAGES * self->page;

	EXPECT_EQ(-EINVAL, ctx_copy(self->ctx, self->id, end, self->source, self->page, NULL));
	EXPECT_EQ(-EINVAL, ctx_copy(self->ctx, self->id, end + self->page, self->source,
				    self->page, NULL));
}

TEST_F(copy, misformed_ranges_are_invalid)
{
	EXPECT_EQ(-EINVAL, ctx_copy(self->ctx, self->id, 1, self->source, self->page, NULL));
	EXPECT_EQ(-EINVAL, ctx_copy(self->ctx, self->id, 0, self->source, 1, NULL));
	EXPECT_EQ(-EINVAL, ctx_copy(self->ctx, self->id, 0, self->source, self->page - 1, NULL));
	EXPECT_EQ(-EINVAL, ctx_copy(self->ctx, self->id, self->page, self->source,
				    ~0ULL - self->page + 1, NULL));
	EXPECT_TRUE(page_is(self->map, 0));
	EXPECT_EQ(-EPERM, write_page(self->subject.file.fd, 0, 1));
}

TEST_F(copy, unknown_id_is_not_found)
{
	EXPECT_EQ(-ENOENT, ctx_copy(self->ctx, 0, 0, self->source, self->page, NULL));
	EXPECT_EQ(-ENOENT, ctx_copy(self->ctx, self->id + 1, 0, self->source, self->page, NULL));
}

TEST_F(copy, source_that_cannot_be_read_is_a_fault_and_releases_nothing)
{
	uint64_t copied = 99;

	EXPECT_EQ(-EFAULT, ctx_copy(self->ctx, self->id, 0, nowhere, self->page, &copied));
	EXPECT_EQ(0, copied);
	EXPECT_TRUE(page_is(self->map, 0));
	EXPECT_EQ(-EPERM, write_page(self->subject.file.fd, 0, 1));
}

TEST_F(copy, source_that_ends_early_copies_what_there_is)
{
	const char *last = self->source + (PAGES - 1) * self->page;
	uint64_t copied = 0;

	EXPECT_EQ(0, ctx_copy(self->ctx, self->id, 0, last, 2 * self->page, &copied));
	EXPECT_EQ(self->page, copied);
	EXPECT_TRUE(page_is(self->map, 'a' + PAGES - 1));
	EXPECT_EQ(1, write_page(self->subject.file.fd, 0, 1));
	EXPECT_EQ(-EPERM, write_page(self->subject.file.fd, 1, 1));
	EXPECT_TRUE(page_is(self->map + self->page, 0));
}

TEST_F(copy, unprotected_pages_are_written_as_well)
{
	ASSERT_EQ(0, ctx_unprotect_range(self->ctx, self->id, 0, self->page));
	EXPECT_EQ(0, ctx_copy(self->ctx, self->id, 0, self->source, 2 * self->page, NULL));
	EXPECT_TRUE(page_is(self->map, 'a'));
	EXPECT_TRUE(page_is(self->map + self->page, 'b'));
}

TEST_F(copy, sealed_file_is_refused)
{
	int ctx = ctx_open();
	int fd = memfd_make(self->page, MFD_ALLOW_SEALING);
	uint32_t id = ctx_attach(ctx, fd, PGPROTECT_MODE_DENY, 0);
	uint64_t copied = 99;

	ASSERT_EQ(0, ctx_protect_all(ctx, id));
	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(-EPERM, ctx_copy(ctx, id, 0, self->source, self->page, &copied));
	EXPECT_EQ(0, copied);
	EXPECT_EQ(0, read_page(fd, 0));
	close(fd);
	close(ctx);
}

TEST_F(copy, full_file_system_copies_what_fits)
{
	const char *dir = "/dev/shm/pgtest-small", *path = "/dev/shm/pgtest-small/file";
	uint64_t copied = 0;
	uint32_t id;
	int fd;

	ASSERT_EQ(0, mkdir(dir, 0700));
	ASSERT_EQ(0, mount("none", dir, "tmpfs", 0, "size=8k"));
	fd = open(path, O_RDWR | O_CREAT, 0600);
	EXPECT_EQ(0, ftruncate(fd, PAGES * self->page));
	id = ctx_attach(self->ctx, fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(0, ctx_protect_all(self->ctx, id));
	EXPECT_EQ(0, ctx_copy(self->ctx, id, 0, self->source, PAGES * self->page, &copied));
	EXPECT_EQ(2 * self->page, copied);
	EXPECT_EQ('b', read_page(fd, 1));
	EXPECT_EQ(-ENOSPC, ctx_copy(self->ctx, id, 2 * self->page, self->source, self->page,
				    &copied));
	EXPECT_EQ(0, copied);
	EXPECT_EQ(-EPERM, write_page(fd, 2, 1));
	EXPECT_EQ(0, ctx_detach(self->ctx, id));
	close(fd);
	EXPECT_EQ(0, umount2(dir, 0));
	EXPECT_EQ(0, rmdir(dir));
}

TEST_F(copy, protection_of_another_attachment_refuses)
{
	int other = ctx_open();
	uint32_t id = ctx_attach(other, self->subject.file.fd, PGPROTECT_MODE_DENY, 0);

	ASSERT_EQ(0, ctx_protect_all(other, id));
	EXPECT_EQ(-EPERM, ctx_copy(self->ctx, self->id, 0, self->source, self->page, NULL));
	EXPECT_TRUE(page_is(self->map, 0));
	close(other);
	EXPECT_EQ(-EPERM, write_page(self->subject.file.fd, 0, 1));
	EXPECT_EQ(0, ctx_copy(self->ctx, self->id, 0, self->source, self->page, NULL));
	EXPECT_TRUE(page_is(self->map, 'a'));
}

static long op_copy(struct writer *self)
{
	struct _test_data_copy *copy = self->arg;

	return ctx_copy(copy->ctx, copy->id, 0, copy->source, copy->page, NULL);
}

TEST_F(copy, stall_of_another_context_is_waited_for)
{
	int other = ctx_open();
	uint32_t id = ctx_attach(other, self->subject.file.fd, PGPROTECT_MODE_STALL, 0);
	struct writer *copier;
	struct pgprotect_event event;

	ASSERT_EQ(0, ctx_protect_all(other, id));
	copier = writer_thread(op_copy, self);
	EXPECT_EQ(0, ctx_read_event(other, &event));
	EXPECT_EQ(0, event.offset);
	EXPECT_TRUE(page_is(self->map, 0));
	EXPECT_EQ(0, ctx_unprotect_all(other, id));
	EXPECT_EQ(0, writer_join(copier));
	EXPECT_TRUE(page_is(self->map, 'a'));
	close(other);
}

TEST_HARNESS_MAIN
