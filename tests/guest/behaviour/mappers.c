// SPDX-License-Identifier: GPL-2.0
/* Protection belongs to the file: it holds however and whenever it is mapped. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "../routes/common/memory.h"

#define PAGES		32
#define MAPPERS		64	/* two for each page: one early, one late */

static void touch_all(const volatile char *map, size_t size)
{
	for (size_t at = 0; at < size; at += page_size())
		(void)map[at];
}

struct mapper {
	int fd;
	size_t size;
	size_t page;
	size_t at;	/* within the page */
	bool early;	/* maps before the test lets it go on, else after */
};

static long op_map_and_store(struct writer *self)
{
	struct mapper *mapper = self->arg;
	char *map = NULL;

	if (mapper->early) {
		map = map_shared(mapper->fd, mapper->size);
		touch_all(map, mapper->size);
	}
	writer_checkpoint(self);
	if (!mapper->early) {
		map = map_shared(mapper->fd, mapper->size);
		touch_all(map, mapper->size);
	}
	return store_byte(map + mapper->page * page_size() + mapper->at, 'w');
}

static void start_mappers(struct subject *subject, struct writer **writers)
{
	struct mapper mapper = { .fd = subject->file.fd, .size = subject->file.size };

	for (int i = 0; i < MAPPERS; i++) {
		mapper.page = i % PAGES;
		mapper.early = i < PAGES;
		mapper.at = i / PAGES;
		writers[i] = writer_fork(op_map_and_store, &mapper);
		writer_wait_ready(writers[i]);
	}
}

FIXTURE(many) {
	struct subject subject;
	struct writer *writers[MAPPERS];
};

FIXTURE_SETUP(many)
{
	self->subject = subject_attached(PAGES, PGPROTECT_MODE_STALL, 0);
	file_fill(&self->subject.file);
	start_mappers(&self->subject, self->writers);
}

FIXTURE_TEARDOWN(many)
{
	subject_close(&self->subject);
}

TEST_F_TIMEOUT(many, processes_raise_one_event_per_page_and_change_nothing, 120)
{
	struct subject *subject = &self->subject;
	struct pgprotect_event events[MAPPERS];
	uint64_t before = checksum_fd(subject->file.fd, subject->file.size);
	unsigned int seen = 0;

	ASSERT_EQ(0, ctx_protect_all(subject->ctx, subject->id));
	for (int i = 0; i < MAPPERS; i++)
		writer_go(self->writers[i]);
	ASSERT_TRUE(ctx_wait_stalled(subject->ctx, MAPPERS));
	EXPECT_EQ(PAGES, ctx_next(subject->ctx, events, MAPPERS, 0));
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ(2, events[i].waiters);
		seen |= 1U << events[i].offset / page_size();
	}
	EXPECT_EQ(UINT32_MAX, seen);
	EXPECT_EQ(before, checksum_fd(subject->file.fd, subject->file.size));
	EXPECT_EQ(before, checksum(subject->file.map, subject->file.size));
	EXPECT_EQ(0, ctx_unprotect_all(subject->ctx, subject->id));
	for (int i = 0; i < MAPPERS; i++) {
		EXPECT_EQ(0, writer_join(self->writers[i]));
	}
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ('w', subject->file.map[i * page_size()]);
		EXPECT_EQ('w', subject->file.map[i * page_size() + 1]);
		EXPECT_EQ(i + 1, subject->file.map[i * page_size() + 2]);
	}
}

TEST_F_TIMEOUT(many, processes_are_refused_by_deny, 120)
{
	struct subject *subject = &self->subject;
	uint64_t before = checksum(subject->file.map, subject->file.size);
	uint32_t deny = ctx_attach(subject->ctx, subject->file.fd, PGPROTECT_MODE_DENY, 0);

	ASSERT_EQ(0, ctx_protect_all(subject->ctx, deny));
	for (int i = 0; i < MAPPERS; i++)
		writer_go(self->writers[i]);
	for (int i = 0; i < MAPPERS; i++) {
		EXPECT_EQ(GOT_SIGBUS, writer_join(self->writers[i]));
	}
	EXPECT_EQ(before, checksum(subject->file.map, subject->file.size));
}

/* Whether a store to page @page of @map meets a DENY. */
static bool refused(char *map, size_t page)
{
	return store_byte(map + page * page_size(), 'x') == GOT_SIGBUS;
}

FIXTURE(mapping) {
	struct subject subject;
	struct test_file file;
	int ctx;
	uint32_t id;
};

FIXTURE_SETUP(mapping)
{
	self->subject = subject_attached(PAGES, PGPROTECT_MODE_DENY, 0);
	self->file = self->subject.file;
	self->ctx = self->subject.ctx;
	self->id = self->subject.id;
	file_fill(&self->file);
}

FIXTURE_TEARDOWN(mapping)
{
	subject_close(&self->subject);
}

TEST_F(mapping, made_before_and_after_is_refused_alike)
{
	char *late;

	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	late = map_shared(self->file.fd, self->file.size);
	EXPECT_TRUE(refused(self->file.map, 3));
	EXPECT_TRUE(refused(late, 4));
	touch_all(late, self->file.size);
	for (int i = 0; i < PAGES; i++) {
		EXPECT_TRUE(refused(late, i));
	}
	EXPECT_EQ(4, late[3 * page_size()]);
}

TEST_F(mapping, that_was_never_touched_is_refused)
{
	char *untouched = map_shared(self->file.fd, self->file.size);

	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	for (int i = 0; i < PAGES; i++) {
		EXPECT_TRUE(refused(untouched, i));
	}
}

TEST_F(mapping, read_only_and_later_made_writable_is_refused)
{
	char *map = mmap(NULL, self->file.size, PROT_READ, MAP_SHARED, self->file.fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	touch_all(map, self->file.size);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_EQ(0, mprotect(map, self->file.size, PROT_READ | PROT_WRITE));
	for (int i = 0; i < PAGES; i++) {
		EXPECT_TRUE(refused(map, i));
	}
}

TEST_F(mapping, toggled_by_mprotect_stays_refused)
{
	char *map = self->file.map;

	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	for (int i = 0; i < 3; i++) {
		ASSERT_EQ(0, mprotect(map, self->file.size, i % 2 ? PROT_NONE : PROT_READ));
		ASSERT_EQ(0, mprotect(map, self->file.size, PROT_READ | PROT_WRITE));
		EXPECT_TRUE(refused(map, i));
	}
}

TEST_F(mapping, moved_by_mremap_stays_refused)
{
	char *map = map_shared(self->file.fd, self->file.size);
	char *moved;

	touch_all(map, self->file.size);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	moved = mremap(map, self->file.size, 2 * self->file.size, MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, moved);
	for (int i = 0; i < PAGES; i++) {
		EXPECT_TRUE(refused(moved, i));
	}
}

TEST_F(mapping, emptied_by_madvise_stays_refused)
{
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_EQ(0, madvise(self->file.map, self->file.size, MADV_DONTNEED));
	touch_all(self->file.map, self->file.size);
	for (int i = 0; i < PAGES; i++) {
		EXPECT_TRUE(refused(self->file.map, i));
	}
}

static int child_is_refused(void *arg)
{
	char *map = arg;

	return refused(map, 1) && refused(map, PAGES - 1);
}

TEST_F(mapping, inherited_over_fork_is_refused)
{
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(1, run_as(0, child_is_refused, self->file.map));
}

static long op_store_when_told(struct writer *self)
{
	writer_checkpoint(self);
	return op_store(self);
}

TEST_F(mapping, inherited_before_protect_is_refused)
{
	struct access access = { .map = self->file.map, .offset = page_size() };
	struct writer *child = writer_fork(op_store_when_told, &access);

	writer_wait_ready(child);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer_go(child);
	EXPECT_EQ(GOT_SIGBUS, writer_join(child));
}

TEST_F(mapping, private_is_neither_refused_nor_seen)
{
	char *map = mmap(NULL, self->file.size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			 self->file.fd, 0);
	uint32_t stall = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);

	ASSERT_NE(MAP_FAILED, map);
	map[0] = 'p';
	touch_all(map, self->file.size);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_EQ(0, ctx_protect_all(self->ctx, stall));
	for (int i = 0; i < PAGES; i++) {
		EXPECT_FALSE(refused(map, i));
	}
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ(i + 1, read_page(self->file.fd, i));
	}
}

/* The reverse map must go on past a private mapping. */
TEST_F(mapping, shared_after_a_private_one_is_refused)
{
	char *private = mmap(NULL, self->file.size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
			     self->file.fd, 0);
	char *readonly = mmap(NULL, self->file.size, PROT_READ, MAP_SHARED, self->file.fd, 0);
	char *shared[3];

	ASSERT_NE(MAP_FAILED, private);
	ASSERT_NE(MAP_FAILED, readonly);
	touch_all(private, self->file.size);
	for (int i = 0; i < 3; i++) {
		shared[i] = map_shared(self->file.fd, self->file.size);
		memset(shared[i], i + 1, self->file.size);
	}
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	for (int i = 0; i < 3; i++) {
		EXPECT_TRUE(refused(shared[i], 5));
	}
	EXPECT_TRUE(refused(self->file.map, 5));
	EXPECT_EQ(3, read_page(self->file.fd, 5));
}

TEST_F(mapping, of_part_of_the_file_is_refused)
{
	char *part = mmap(NULL, 4 * page_size(), PROT_READ | PROT_WRITE, MAP_SHARED,
			  self->file.fd, 8 * page_size());

	ASSERT_NE(MAP_FAILED, part);
	memset(part, 1, 4 * page_size());
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, 9 * page_size(), 2 * page_size()));
	EXPECT_FALSE(refused(part, 0));
	EXPECT_TRUE(refused(part, 1));
	EXPECT_TRUE(refused(part, 2));
	EXPECT_FALSE(refused(part, 3));
}

TEST_F(mapping, reads_are_never_refused)
{
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_EQ(0, madvise(self->file.map, self->file.size, MADV_DONTNEED));
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ(i + 1, self->file.map[i * page_size()]);
		EXPECT_EQ(i + 1, read_page(self->file.fd, i));
	}
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

TEST(holes_are_protected_before_they_have_a_page)
{
	int ctx = ctx_open();
	int fd = memfd_make(PAGES * page_size(), 0);
	uint32_t id = ctx_attach(ctx, fd, PGPROTECT_MODE_DENY, 0);
	char *map = map_shared(fd, PAGES * page_size());

	ASSERT_EQ(0, ctx_protect_range(ctx, id, 4 * page_size(), 4 * page_size()));
	EXPECT_TRUE(refused(map, 4));
	EXPECT_EQ(0, map[5 * page_size()]);
	EXPECT_TRUE(refused(map, 5));
	EXPECT_EQ(-EPERM, write_page(fd, 6, 1));
	EXPECT_FALSE(refused(map, 8));
	EXPECT_EQ(0, read_page(fd, 4));
	close(ctx);
	EXPECT_FALSE(refused(map, 4));
	close(fd);
}

TEST(write_beyond_the_end_waits_and_then_extends)
{
	struct subject subject = subject_attached(2, PGPROTECT_MODE_STALL, 0);
	struct access access = {
		.fd = subject.file.fd, .offset = 3 * page_size(), .length = 10, .value = 'e',
	};
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_all(subject.ctx, subject.id));
	writer = writer_thread(op_pwrite, &access);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(2 * page_size(), lseek(subject.file.fd, 0, SEEK_END));
	EXPECT_EQ(0, ctx_unprotect_all(subject.ctx, subject.id));
	EXPECT_EQ(10, writer_join(writer));
	EXPECT_EQ(3 * page_size() + 10, lseek(subject.file.fd, 0, SEEK_END));
	subject_close(&subject);
}

TEST(growing_a_protected_file_is_not_gated_and_the_new_part_is_protected)
{
	struct subject subject = subject_attached(2, PGPROTECT_MODE_DENY, 0);
	char *map = map_shared(subject.file.fd, 4 * page_size());

	ASSERT_EQ(0, ctx_protect_all(subject.ctx, subject.id));
	EXPECT_EQ(0, ftruncate(subject.file.fd, 4 * page_size()));
	EXPECT_EQ(0, map[3 * page_size()]);
	EXPECT_TRUE(refused(map, 3));
	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 3, 1));
	subject_close(&subject);
}

TEST(store_beyond_the_end_is_sigbus_without_an_event)
{
	struct subject subject = subject_attached(1, PGPROTECT_MODE_STALL, 0);
	struct access access = {
		.map = map_shared(subject.file.fd, 2 * page_size()), .offset = page_size(),
	};
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_all(subject.ctx, subject.id));
	writer = writer_thread(op_store, &access);
	EXPECT_FALSE(writer_stalled(writer));
	EXPECT_FALSE(ctx_readable(subject.ctx, 0));
	close(subject.ctx);
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer));
	file_close(&subject.file);
}

TEST(one_page_of_a_huge_page_is_protected_alone)
{
	int ctx = ctx_open(), fd = huge_tmpfs_file(2 * HUGE);
	uint32_t id;
	char *map;

	if (fd < 0)
		SKIP(return, "no huge pages for shmem");
	map = map_aligned(fd, 2 * HUGE);
	memset(map, 1, 2 * HUGE);
	if (smaps_kb(map, "ShmemPmdMapped") <= 0)
		SKIP(return, "got no huge page");
	id = ctx_attach(ctx, fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_range(ctx, id, 100 * page_size(), page_size()));
	/* Writing the neighbours must not map the whole writable again. */
	EXPECT_FALSE(refused(map, 99));
	EXPECT_TRUE(refused(map, 100));
	EXPECT_FALSE(refused(map, 101));
	EXPECT_TRUE(refused(map, 100));
	EXPECT_EQ(-EPERM, write_page(fd, 100, 2));
	EXPECT_EQ(1, read_page(fd, 100));
	EXPECT_FALSE(refused(map, 600));
	close(ctx);
	EXPECT_FALSE(refused(map, 100));
	close(fd);
}

TEST(protected_huge_page_stays_refused_when_mapped_anew)
{
	int ctx = ctx_open(), fd = huge_tmpfs_file(HUGE);
	uint32_t id;
	char *map, *again;

	if (fd < 0)
		SKIP(return, "no huge pages for shmem");
	map = map_aligned(fd, HUGE);
	memset(map, 1, HUGE);
	id = ctx_attach(ctx, fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(0, ctx_protect_all(ctx, id));
	again = map_aligned(fd, HUGE);
	touch_all(again, HUGE);
	for (size_t i = 0; i < HUGE / page_size(); i += 37) {
		EXPECT_TRUE(refused(again, i));
		EXPECT_TRUE(refused(map, i));
	}
	close(ctx);
	close(fd);
}

static bool swap_all_out(const struct test_file *file)
{
	bool swapped = true;

	for (int i = 0; i < PAGES; i++)
		swapped &= swap_out(file->map + i * page_size(), page_size());
	return swapped;
}

TEST_F(mapping, swapped_out_before_protect_is_refused_and_keeps_its_content)
{
	if (!have_swap())
		SKIP(return, "no swap");
	ASSERT_TRUE(swap_all_out(&self->file));
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	for (int i = 0; i < PAGES; i++) {
		EXPECT_TRUE(refused(self->file.map, i));
		EXPECT_EQ(i + 1, self->file.map[i * page_size() + 1]);
	}
}

TEST_F(mapping, swapped_out_while_protected_is_refused_and_keeps_its_content)
{
	if (!have_swap())
		SKIP(return, "no swap");
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_TRUE(swap_all_out(&self->file));
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ(i + 1, self->file.map[i * page_size()]);
		EXPECT_TRUE(refused(self->file.map, i));
	}
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_FALSE(refused(self->file.map, 0));
	EXPECT_EQ(1, self->file.map[1]);
}

TEST_HARNESS_MAIN
