// SPDX-License-Identifier: GPL-2.0
/* Holes punched into protected pages; other fallocate modes, which change nothing. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

static long by_punch(struct attempt *attempt)
{
	route_ready(attempt);
	return fallocate(attempt->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 attempt->at, attempt->length) ? -errno : 0;
}

static long by_madvise_remove(struct attempt *attempt)
{
	route_ready(attempt);
	return madvise(attempt->file.map + attempt->at, attempt->length, MADV_REMOVE) ? -errno : 0;
}

/* The place in the file comes from the mapping, which starts in its middle. */
static long by_madvise_remove_elsewhere(struct attempt *attempt)
{
	char *map = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 attempt->file.fd, 3 * PAGE);

	if (map == MAP_FAILED)
		die("mmap");
	route_ready(attempt);
	return madvise(map + attempt->at - 3 * PAGE, attempt->length, MADV_REMOVE) ? -errno : 0;
}

static void expect_zeros(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, 0, attempt->length);
}

ROUTE_FAMILY(fallocate);

#define PUNCH(name, function, start, bytes, ...)				\
	ROUTE_ADD(fallocate, name, .op = function, .at = start, .length = bytes,	\
		  .denied = -EPERM, .origin = PGPROTECT_ORIGIN_FALLOCATE,		\
		  .expect = expect_zeros, ##__VA_ARGS__)

PUNCH(punch_aligned, by_punch, 5 * PAGE, 2 * PAGE)
PUNCH(punch_within_a_page, by_punch, 5 * PAGE + 100, 50)
PUNCH(punch_end_of_a_page, by_punch, 5 * PAGE + 100, PAGE - 100)
PUNCH(punch_unaligned_over_pages, by_punch, 5 * PAGE + 100, 3 * PAGE)
PUNCH(punch_tmpfs, by_punch, 5 * PAGE, 2 * PAGE, .kind = FILE_TMPFS)
PUNCH(punch_all, by_punch, PAGE, ROUTE_SIZE - PAGE)
PUNCH(punch_protected_page_in_the_middle, by_punch, 4 * PAGE, 3 * PAGE,
      .protect_offset = 5 * PAGE, .protect_length = PAGE,
      .event_offset = 5 * PAGE, .event_length = PAGE)
PUNCH(punch_of_which_only_the_end_is_protected, by_punch, 4 * PAGE, 2 * PAGE + 1,
      .protect_offset = 6 * PAGE, .protect_length = PAGE,
      .event_offset = 6 * PAGE, .event_length = PAGE)
PUNCH(madv_remove, by_madvise_remove, 5 * PAGE, 2 * PAGE)
PUNCH(madv_remove_of_inner_mapping, by_madvise_remove_elsewhere, 5 * PAGE, 2 * PAGE)
PUNCH(madv_remove_shared_anonymous, by_madvise_remove, 5 * PAGE, PAGE,
      .kind = FILE_SHARED_ANON)
PUNCH(madv_remove_sysv_shm, by_madvise_remove, 5 * PAGE, PAGE, .kind = FILE_SYSV)

FIXTURE(modes) {
	struct subject subject;
	struct image before;
};

FIXTURE_SETUP(modes)
{
	self->subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	file_fill(&self->subject.file);
	ASSERT_EQ(0, fallocate(self->subject.file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       8 * PAGE, 4 * PAGE));
	ASSERT_EQ(0, ctx_protect_all(self->subject.ctx, self->subject.id));
	image_read(self->subject.file.fd, &self->before);
}

FIXTURE_TEARDOWN(modes)
{
	subject_close(&self->subject);
	image_free(&self->before);
}

static bool nothing_happened(struct _test_data_modes *self)
{
	return !ctx_readable(self->subject.ctx, 0) &&
	       image_is(self->subject.file.fd, &self->before);
}

TEST_F(modes, plain_allocation_raises_nothing)
{
	EXPECT_EQ(0, fallocate(self->subject.file.fd, 0, 6 * PAGE, 8 * PAGE));
	EXPECT_TRUE(nothing_happened(self));
}

/* What was allocated into a protected hole is as protected as the hole. */
TEST_F(modes, pages_allocated_in_protected_holes_are_protected)
{
	struct access store = { .map = self->subject.file.map, .offset = 9 * PAGE, .value = 1 };
	struct pgprotect_event event;
	struct writer *writer;

	ASSERT_EQ(0, fallocate(self->subject.file.fd, 0, 8 * PAGE, 4 * PAGE));
	writer = writer_fork(op_store, &store);
	ASSERT_EQ(1, ctx_next(self->subject.ctx, &event, 1, 1));
	EXPECT_EQ(9 * PAGE, event.offset);
	EXPECT_TRUE(image_is(self->subject.file.fd, &self->before));
	EXPECT_EQ(0, ctx_verdict(self->subject.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(modes, allocation_behind_the_end_raises_nothing)
{
	EXPECT_EQ(0, fallocate(self->subject.file.fd, FALLOC_FL_KEEP_SIZE, ROUTE_SIZE, PAGE));
	EXPECT_TRUE(nothing_happened(self));
}

TEST_F(modes, of_which_the_file_system_knows_nothing_raise_nothing)
{
	static const int modes[] = {
		FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE,
	};

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		EXPECT_EQ(-1, fallocate(self->subject.file.fd, modes[i], 4 * PAGE, PAGE));
		EXPECT_EQ(EOPNOTSUPP, errno);
	}
	EXPECT_TRUE(nothing_happened(self));
}

TEST_F(modes, punching_beside_the_protected_pages_raises_nothing)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_unprotect_range(s->ctx, s->id, 4 * PAGE, PAGE));
	EXPECT_EQ(0, fallocate(s->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       4 * PAGE, PAGE));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
	EXPECT_EQ(0, read_page(s->file.fd, 4));
}

TEST_HARNESS_MAIN
