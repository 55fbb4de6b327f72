// SPDX-License-Identifier: GPL-2.0
/*
 * Protected pages inside of large folios: one huge entry, or a batch of small
 * ones, must not make a protected page writable for the sake of its neighbours.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/memory.h"
#include "common/route.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define SIZE		(2 * HUGE)
#define PAGES		(HUGE / PAGE)
#define PROTECTED	77UL		/* page */

FIXTURE(huge) {
	struct subject subject;
	char *map;		/* aligned */
};

FIXTURE_VARIANT(huge) { uint32_t mode; };
FIXTURE_VARIANT_ADD(huge, stall) { .mode = PGPROTECT_MODE_STALL };
FIXTURE_VARIANT_ADD(huge, deny) { .mode = PGPROTECT_MODE_DENY };

FIXTURE_SETUP(huge)
{
	struct subject *s = &self->subject;

	s->file = (struct test_file){ .fd = huge_tmpfs_file(SIZE), .size = SIZE };
	if (s->file.fd < 0)
		SKIP(return, "no tmpfs with huge pages");
	self->map = s->file.map = map_aligned(s->file.fd, SIZE);
	s->ctx = ctx_open();
	s->id = ctx_attach(s->ctx, s->file.fd, variant->mode, 0);
}

FIXTURE_TEARDOWN(huge)
{
	if (self->subject.ctx)
		close(self->subject.ctx);
}

static bool pmd_mapped(const char *map)
{
	return smaps_kb(map, "ShmemPmdMapped") >= (long)(HUGE >> 10);
}

/*
 * The page itself must be refused or wait, unchanged, and its neighbours in
 * the folio must not. In STALL the page is released in the end.
 */
static void only_the_page_is_protected(struct __test_metadata *_metadata, struct subject *s,
				       uint32_t mode, char *map)
{
	struct access store = { .map = map, .offset = PROTECTED * PAGE, .value = 'w' };
	volatile char *page = map + store.offset;
	char before = *page;
	struct writer *writer;

	EXPECT_EQ(0, store_byte(map + (PROTECTED - 1) * PAGE, 'n'));
	EXPECT_EQ(0, store_byte(map + (PROTECTED + 1) * PAGE, 'n'));
	EXPECT_EQ(0, store_byte(map, 'n'));
	EXPECT_EQ(0, store_byte(map + (PAGES - 1) * PAGE, 'n'));
	if (mode == PGPROTECT_MODE_DENY) {
		EXPECT_EQ(GOT_SIGBUS, store_byte(page, 'w'));
		EXPECT_EQ(before, *page);
		return;
	}
	writer = writer_thread(op_store, &store);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(before, *page);
	/* The neighbours stay open while a writer waits. */
	EXPECT_EQ(0, store_byte(map + (PROTECTED + 2) * PAGE, 'n'));
	EXPECT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('w', *page);
}

static int protect_page(struct subject *s)
{
	return ctx_protect_range(s->ctx, s->id, PROTECTED * PAGE, PAGE);
}

TEST_F(huge, page_of_a_mapped_huge_page_is_protected_and_its_neighbours_are_not)
{
	memset(self->map, 'a', HUGE);
	if (!pmd_mapped(self->map))
		SKIP(return, "no huge page was mapped");
	ASSERT_EQ(0, protect_page(&self->subject));
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(huge, page_of_a_huge_page_mapped_after_protect_is_protected)
{
	char *map;

	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	map = map_aligned(self->subject.file.fd, SIZE);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, map);
}

TEST_F(huge, page_of_a_huge_page_read_after_protect_is_protected)
{
	volatile char *map;

	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	map = map_aligned(self->subject.file.fd, SIZE);
	for (size_t i = 0; i < PAGES; i += 16)
		EXPECT_EQ('a', map[i * PAGE]);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, (char *)map);
}

TEST_F(huge, page_of_a_huge_page_first_written_after_protect_is_protected)
{
	ASSERT_EQ(0, protect_page(&self->subject));
	/* The first write brings a whole huge page of zeros. */
	EXPECT_EQ(0, store_byte(self->map, 'n'));
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(huge, page_is_protected_after_mprotect_to_and_fro)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	ASSERT_EQ(0, mprotect(self->map, HUGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->map, HUGE, PROT_READ | PROT_WRITE));
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

/* Made anew on another node, the entry is still huge: one write bit for all pages. */
TEST_F(huge, page_is_protected_after_its_huge_page_was_moved)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	if (!move_to_other_node(self->map) || !pmd_mapped(self->map))
		SKIP(return, "the huge page cannot be moved whole");
	EXPECT_EQ('a', self->map[PROTECTED * PAGE]);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(huge, page_is_protected_after_a_numa_hint)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	if (!pmd_mapped(self->map) || !take_numa_hint(self->map, SIZE, self->map))
		SKIP(return, "no NUMA hint for a huge page");
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(huge, page_is_protected_after_mremap)
{
	char *place;

	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	place = map_aligned(self->subject.file.fd, SIZE);
	ASSERT_EQ(place, mremap(self->map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, place));
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, place);
}

/* Splits what is mapped at @map into small pages. */
static bool split_huge_page(char *map)
{
	char text[80];

	snprintf(text, sizeof(text), "%d,%p,%p", getpid(), map, map + HUGE);
	return write_text("/sys/kernel/debug/split_huge_pages", text) && !one_folio(map, PAGES);
}

TEST_F(huge, page_is_protected_after_its_huge_page_was_split)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	if (!split_huge_page(self->map))
		SKIP(return, "the huge page cannot be split");
	EXPECT_EQ('a', self->map[PROTECTED * PAGE]);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

/* The hole is nobody's business, and what it splits is not the end of the protection. */
TEST_F(huge, page_is_protected_beside_a_hole_punched_into_its_huge_page)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	ASSERT_EQ(0, fallocate(self->subject.file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       (PROTECTED + 1) * PAGE, 20 * PAGE));
	EXPECT_EQ(0, self->map[(PROTECTED + 1) * PAGE]);
	EXPECT_EQ('a', self->map[PROTECTED * PAGE]);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(huge, page_is_protected_at_the_new_end_of_its_huge_page)
{
	struct subject *s = &self->subject;

	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(s));
	ASSERT_EQ(0, ftruncate(s->file.fd, (PROTECTED + 1) * PAGE));
	ASSERT_EQ(0, ftruncate(s->file.fd, SIZE));
	EXPECT_EQ(0, self->map[(PROTECTED + 1) * PAGE]);
	EXPECT_EQ('a', self->map[PROTECTED * PAGE]);
	only_the_page_is_protected(_metadata, s, variant->mode, self->map);
}

/* All of the huge page is protected: the entry can stay huge, but not writable. */
TEST_F(huge, whole_huge_page_is_protected_before_and_after_mprotect)
{
	struct subject *s = &self->subject;
	struct access store = { .map = self->map, .offset = 300 * PAGE, .value = 'w' };
	struct writer *writer;

	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 0, HUGE));
	ASSERT_EQ(0, mprotect(self->map, HUGE, PROT_READ));
	ASSERT_EQ(0, mprotect(self->map, HUGE, PROT_READ | PROT_WRITE));
	writer = writer_fork(op_store, &store);
	if (variant->mode == PGPROTECT_MODE_STALL) {
		EXPECT_TRUE(writer_stalled(writer));
		EXPECT_EQ('a', self->map[300 * PAGE]);
		EXPECT_EQ(0, ctx_unprotect_range(s->ctx, s->id, 300 * PAGE, PAGE));
	}
	EXPECT_EQ(variant->mode == PGPROTECT_MODE_STALL ? 0 : GOT_SIGBUS, writer_join(writer));
	/* Releasing one page has not opened the rest. */
	EXPECT_TRUE(ctx_wait_stalled(s->ctx, 0));
	store.offset = 301 * PAGE;
	writer = writer_fork(op_store, &store);
	if (variant->mode == PGPROTECT_MODE_STALL) {
		EXPECT_TRUE(writer_stalled(writer));
		EXPECT_EQ('a', self->map[301 * PAGE]);
		EXPECT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	}
	EXPECT_EQ(variant->mode == PGPROTECT_MODE_STALL ? 0 : GOT_SIGBUS, writer_join(writer));
}

/*
 * Small pages become a huge one. Of a huge page with a protected page no huge
 * entry is made, which MADV_COLLAPSE calls a failure; what counts is the folio.
 */
static bool collapse(char *map)
{
	madvise(map, HUGE, MADV_COLLAPSE);
	return one_folio(map, PAGES);
}

#define THP		"/sys/kernel/mm/transparent_hugepage/"

/* The same by the kernel's own thread, which looks for such ranges. */
static bool collapse_in_background(char *map)
{
	bool done = write_text(THP "shmem_enabled", "advise") &&
		    write_text(THP "khugepaged/scan_sleep_millisecs", "10") &&
		    !madvise(map, HUGE, MADV_HUGEPAGE) && WAIT_FOR(one_folio(map, PAGES));

	write_text(THP "khugepaged/scan_sleep_millisecs", "10000");
	write_text(THP "shmem_enabled", "never");
	return done;
}

FIXTURE(small) {
	struct subject subject;
	char *map;
};

FIXTURE_VARIANT(small) { uint32_t mode; };
FIXTURE_VARIANT_ADD(small, stall) { .mode = PGPROTECT_MODE_STALL };
FIXTURE_VARIANT_ADD(small, deny) { .mode = PGPROTECT_MODE_DENY };

FIXTURE_SETUP(small)
{
	struct subject *s = &self->subject;

	s->file = (struct test_file){ .fd = memfd_make(SIZE, 0), .size = SIZE };
	self->map = s->file.map = map_aligned(s->file.fd, SIZE);
	s->ctx = ctx_open();
	s->id = ctx_attach(s->ctx, s->file.fd, variant->mode, 0);
}

FIXTURE_TEARDOWN(small)
{
	close(self->subject.ctx);
}

TEST_F(small, page_is_protected_after_collapse)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	if (!collapse(self->map))
		SKIP(return, "MADV_COLLAPSE makes no huge page");
	EXPECT_EQ('a', self->map[PROTECTED * PAGE]);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(small, page_is_protected_after_khugepaged)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	ASSERT_FALSE(one_folio(self->map, PAGES));
	if (!collapse_in_background(self->map))
		SKIP(return, "khugepaged makes no huge page");
	EXPECT_EQ('a', self->map[PROTECTED * PAGE]);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(small, page_is_protected_after_collapse_in_another_mapping)
{
	char *other = map_aligned(self->subject.file.fd, SIZE);

	memset(self->map, 'a', HUGE);
	memset(other, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	if (!collapse(other))
		SKIP(return, "MADV_COLLAPSE makes no huge page");
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(small, page_is_protected_that_was_collapsed_before)
{
	memset(self->map, 'a', HUGE);
	if (!collapse(self->map))
		SKIP(return, "MADV_COLLAPSE makes no huge page");
	ASSERT_EQ(0, protect_page(&self->subject));
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

/* Folios of other sizes, mapped by small entries that are made in batches. */

FIXTURE(large) {
	struct subject subject;
	char *map;
	char *folio;		/* the one that has the protected page */
};

FIXTURE_VARIANT(large) {
	unsigned int kb;
	uint32_t mode;
};

#define LARGE(size, how)							\
	FIXTURE_VARIANT_ADD(large, of_##size##k_##how) { .kb = size, .mode = how };
#define stall	PGPROTECT_MODE_STALL
#define deny	PGPROTECT_MODE_DENY

LARGE(16, deny)
LARGE(32, stall)
LARGE(64, stall)
LARGE(64, deny)
LARGE(128, deny)
LARGE(256, stall)
LARGE(512, deny)
LARGE(1024, stall)

FIXTURE_SETUP(large)
{
	struct subject *s = &self->subject;
	unsigned long pages = variant->kb / 4;

	if (!set_shmem_folios(variant->kb, "always"))
		SKIP(return, "no folios of %u kB", variant->kb);
	s->file = (struct test_file){ .fd = memfd_make(SIZE, 0), .size = SIZE };
	self->map = s->file.map = map_aligned(s->file.fd, SIZE);
	self->folio = self->map + PROTECTED / pages * pages * PAGE;
	s->ctx = ctx_open();
	s->id = ctx_attach(s->ctx, s->file.fd, variant->mode, 0);
}

FIXTURE_TEARDOWN(large)
{
	set_shmem_folios(variant->kb, "never");
	if (self->subject.ctx)
		close(self->subject.ctx);
}

static bool is_large(const char *folio, unsigned int kb)
{
	return one_folio((char *)folio, kb / 4);
}

TEST_F(large, folio_written_before_keeps_its_page_protected)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	if (!is_large(self->folio, variant->kb))
		SKIP(return, "no folio of %u kB was made", variant->kb);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(large, folio_first_written_after_keeps_its_page_protected)
{
	ASSERT_EQ(0, protect_page(&self->subject));
	/* One fault maps all of the folio. */
	EXPECT_EQ(0, store_byte(self->folio, 'n'));
	if (!is_large(self->folio, variant->kb))
		SKIP(return, "no folio of %u kB was made", variant->kb);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_F(large, folio_mapped_anew_keeps_its_page_protected)
{
	char *map;

	memset(self->map, 'a', HUGE);
	if (!is_large(self->folio, variant->kb))
		SKIP(return, "no folio of %u kB was made", variant->kb);
	ASSERT_EQ(0, protect_page(&self->subject));
	map = map_aligned(self->subject.file.fd, SIZE);
	EXPECT_EQ('a', *(volatile char *)(map + (self->folio - self->map)));
	EXPECT_EQ(0, store_byte(map + (self->folio - self->map), 'n'));
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, map);
}

TEST_F(large, folio_moved_keeps_its_page_protected)
{
	memset(self->map, 'a', HUGE);
	ASSERT_EQ(0, protect_page(&self->subject));
	if (!is_large(self->folio, variant->kb) || !move_to_other_node(self->folio))
		SKIP(return, "no folio of %u kB that can be moved", variant->kb);
	EXPECT_TRUE(is_large(self->folio, variant->kb));
	EXPECT_EQ('a', self->map[PROTECTED * PAGE]);
	only_the_page_is_protected(_metadata, &self->subject, variant->mode, self->map);
}

TEST_HARNESS_MAIN
