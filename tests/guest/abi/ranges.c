// SPDX-License-Identifier: GPL-2.0
/* PROTECT and UNPROTECT: ranges, vectors, pins, and nothing done on failure. */
#include <errno.h>
#include <liburing.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	16

FIXTURE(ranges) {
	struct subject subject;
	int ctx;
	uint32_t id;
	struct test_file file;
	uint64_t page;
};

FIXTURE_SETUP(ranges)
{
	self->subject = subject_attached(PAGES, PGPROTECT_MODE_DENY, 0);
	self->ctx = self->subject.ctx;
	self->id = self->subject.id;
	self->file = self->subject.file;
	self->page = page_size();
}

FIXTURE_TEARDOWN(ranges)
{
	subject_close(&self->subject);
}

/* Bit i is set if page i refuses to be written. */
static unsigned int protected_pages(int fd)
{
	unsigned int set = 0;

	for (int i = 0; i < PAGES; i++) {
		if (write_page(fd, i, 1) == -EPERM)
			set |= 1U << i;
	}
	return set;
}

#define PAGE_BITS(first, last)	((2U << (last)) - (1U << (first)))

TEST_F(ranges, exactly_the_range_is_protected)
{
	EXPECT_EQ(0, protected_pages(self->file.fd));
	EXPECT_EQ(0, ctx_protect_range(self->ctx, self->id, 3 * self->page, 4 * self->page));
	EXPECT_EQ(PAGE_BITS(3, 6), protected_pages(self->file.fd));
	EXPECT_EQ(0, ctx_unprotect_range(self->ctx, self->id, 4 * self->page, self->page));
	EXPECT_EQ(PAGE_BITS(3, 3) | PAGE_BITS(5, 6), protected_pages(self->file.fd));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_EQ(0, protected_pages(self->file.fd));
}

TEST_F(ranges, to_eof_protects_the_rest_and_what_is_appended)
{
	EXPECT_EQ(0, ctx_protect_range(self->ctx, self->id, 5 * self->page, PGPROTECT_TO_EOF));
	EXPECT_EQ(PAGE_BITS(5, PAGES - 1), protected_pages(self->file.fd));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, PAGES, 1));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 1000000, 1));
	EXPECT_EQ(0, ctx_unprotect_range(self->ctx, self->id, 9 * self->page, PGPROTECT_TO_EOF));
	EXPECT_EQ(PAGE_BITS(5, 8), protected_pages(self->file.fd));
	EXPECT_EQ(1, write_page(self->file.fd, PAGES, 1));
}

TEST_F(ranges, range_beyond_the_end_protects_what_comes_there)
{
	EXPECT_EQ(0, ctx_protect_range(self->ctx, self->id, PAGES * self->page, 2 * self->page));
	EXPECT_EQ(0, protected_pages(self->file.fd));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, PAGES, 1));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, PAGES + 1, 1));
	EXPECT_EQ(1, write_page(self->file.fd, PAGES + 2, 1));
}

struct bad_range {
	const char *what;
	uint64_t offset;
	uint64_t length;
};

TEST_F(ranges, misformed_ranges_are_invalid)
{
	const struct bad_range bad[] = {
		{ "unaligned offset", 1, self->page },
		{ "offset of half a page", self->page / 2, self->page },
		{ "unaligned length", 0, self->page + 1 },
		{ "less than a page", 0, self->page - 1 },
		{ "empty", 0, 0 },
		{ "empty, not at 0", 3 * self->page, 0 },
		{ "unaligned offset to the end", 512, PGPROTECT_TO_EOF },
		{ "wraps", ~0ULL - self->page + 1, 2 * self->page },
		{ "wraps to itself", 2 * self->page, ~0ULL - self->page + 1 },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		EXPECT_EQ(-EINVAL, ctx_protect_range(self->ctx, self->id, bad[i].offset,
						     bad[i].length))
			TH_LOG("PROTECT: %s", bad[i].what);
		EXPECT_EQ(-EINVAL, ctx_unprotect_range(self->ctx, self->id, bad[i].offset,
						       bad[i].length))
			TH_LOG("UNPROTECT: %s", bad[i].what);
	}
	EXPECT_EQ(0, protected_pages(self->file.fd));
}

TEST_F(ranges, unknown_file_id_is_not_found)
{
	static const uint32_t wrong[] = { 0, 77, UINT32_MAX };

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		EXPECT_EQ(-ENOENT, ctx_protect_all(self->ctx, wrong[i]))
			TH_LOG("PROTECT of %u", wrong[i]);
		EXPECT_EQ(-ENOENT, ctx_unprotect_all(self->ctx, wrong[i]))
			TH_LOG("UNPROTECT of %u", wrong[i]);
	}
}

TEST_F(ranges, empty_vector_is_invalid)
{
	struct pgprotect_range range = range_of(self->id, 0, self->page);

	EXPECT_EQ(-EINVAL, ctx_protect(self->ctx, &range, 0));
	EXPECT_EQ(-EINVAL, ctx_unprotect(self->ctx, &range, 0));
}

/* @nr ranges of one page each: 0, 1, 2... */
static struct pgprotect_range *page_ranges(uint32_t id, size_t nr)
{
	struct pgprotect_range *ranges = calloc(nr, sizeof(*ranges));

	if (!ranges)
		die("memory for %zu ranges", nr);
	for (size_t i = 0; i < nr; i++)
		ranges[i] = range_of(id, i * page_size(), page_size());
	return ranges;
}

TEST_F(ranges, too_long_vector_is_too_big)
{
	struct pgprotect_range *ranges = page_ranges(self->id, PGPROTECT_MAX_RANGES + 1);

	EXPECT_EQ(-E2BIG, ctx_protect(self->ctx, ranges, PGPROTECT_MAX_RANGES + 1));
	EXPECT_EQ(-E2BIG, ctx_protect(self->ctx, ranges, UINT32_MAX));
	EXPECT_EQ(-E2BIG, ctx_unprotect(self->ctx, ranges, PGPROTECT_MAX_RANGES + 1));
	EXPECT_EQ(-E2BIG, ctx_unprotect(self->ctx, ranges, UINT32_MAX));
	EXPECT_EQ(0, protected_pages(self->file.fd));
	free(ranges);
}

TEST_F(ranges, longest_vector_works)
{
	struct pgprotect_range *ranges = page_ranges(self->id, PGPROTECT_MAX_RANGES);
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = PGPROTECT_MAX_RANGES,
	};

	ASSERT_EQ(0, ftruncate(self->file.fd, PGPROTECT_MAX_RANGES * self->page));
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(PGPROTECT_MAX_RANGES, protect.nr_pages);
	EXPECT_EQ(PAGE_BITS(0, PAGES - 1), protected_pages(self->file.fd));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, PGPROTECT_MAX_RANGES - 1, 1));
	EXPECT_EQ(1, write_page(self->file.fd, PGPROTECT_MAX_RANGES, 1));
	EXPECT_EQ(0, ctx_unprotect(self->ctx, ranges, PGPROTECT_MAX_RANGES));
	EXPECT_EQ(0, protected_pages(self->file.fd));
	free(ranges);
}

TEST_F(ranges, pages_are_counted_once_though_ranges_overlap)
{
	struct pgprotect_range ranges[] = {
		range_of(self->id, 0, 4 * self->page),
		range_of(self->id, 2 * self->page, 4 * self->page),
		range_of(self->id, 0, 4 * self->page),
		range_of(self->id, 10 * self->page, self->page),
	};
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)ranges, .nr_ranges = ARRAY_LEN(ranges),
	};
	struct pgprotect_unprotect unprotect = {
		.size = sizeof(unprotect),
		.ranges = (uintptr_t)ranges, .nr_ranges = ARRAY_LEN(ranges),
	};

	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(7, protect.nr_pages);
	EXPECT_EQ(PAGE_BITS(0, 5) | PAGE_BITS(10, 10), protected_pages(self->file.fd));
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(0, protect.nr_pages);
	EXPECT_EQ(0, ctx_ioctl(self->ctx, PGPROTECT_IOC_UNPROTECT, &unprotect));
	EXPECT_EQ(7, unprotect.nr_pages);
	EXPECT_EQ(0, ctx_ioctl(self->ctx, PGPROTECT_IOC_UNPROTECT, &unprotect));
	EXPECT_EQ(0, unprotect.nr_pages);
}

TEST_F(ranges, pages_beyond_the_end_are_counted_alike_by_both_calls)
{
	struct pgprotect_range range = range_of(self->id, (PAGES - 1) * self->page,
						4 * self->page);
	struct pgprotect_protect protect = { .ranges = (uintptr_t)&range, .nr_ranges = 1 };
	struct pgprotect_unprotect unprotect = {
		.size = sizeof(unprotect), .ranges = (uintptr_t)&range, .nr_ranges = 1,
	};

	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(0, ctx_ioctl(self->ctx, PGPROTECT_IOC_UNPROTECT, &unprotect));
	EXPECT_EQ(protect.nr_pages, unprotect.nr_pages);
	EXPECT_LT(0, protect.nr_pages);
}

TEST_F(ranges, ranges_need_not_be_in_order)
{
	struct pgprotect_range ranges[] = {
		range_of(self->id, 12 * self->page, 2 * self->page),
		range_of(self->id, self->page, self->page),
		range_of(self->id, 7 * self->page, self->page),
	};

	EXPECT_EQ(0, ctx_protect(self->ctx, ranges, ARRAY_LEN(ranges)));
	EXPECT_EQ(PAGE_BITS(1, 1) | PAGE_BITS(7, 7) | PAGE_BITS(12, 13),
		  protected_pages(self->file.fd));
}

TEST_F(ranges, protect_reports_time_and_page_tables)
{
	struct pgprotect_range range = range_of(self->id, 0, self->file.size);
	struct pgprotect_protect protect = { .ranges = (uintptr_t)&range, .nr_ranges = 1 };

	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_LT(0, protect.duration_ns);
	/* One mapping of 16 pages lies in one table, or crosses into a second. */
	EXPECT_LE(1, protect.nr_tables);
	EXPECT_GE(2, protect.nr_tables);
}

TEST_F(ranges, many_ranges_visit_each_page_table_once)
{
	struct pgprotect_range range[6];
	struct pgprotect_protect protect = { .ranges = (uintptr_t)range, .nr_ranges = 6 };

	for (int i = 0; i < 6; i++)
		range[i] = range_of(self->id, (2 * i + 1) * page_size(), page_size());
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(6, protect.nr_pages);
	/* A mapping of 16 pages: see above. */
	EXPECT_LE(1, protect.nr_tables);
	EXPECT_GE(2, protect.nr_tables);
	EXPECT_EQ(PAGE_BITS(1, 1) | PAGE_BITS(3, 3) | PAGE_BITS(5, 5) | PAGE_BITS(7, 7) |
		  PAGE_BITS(9, 9) | PAGE_BITS(11, 11), protected_pages(self->file.fd));
}

TEST_F(ranges, unknown_access_is_invalid)
{
	static const uint32_t access[] = { 0, PGPROTECT_ACCESS_WRITE << 1, UINT32_MAX };
	struct pgprotect_range range = range_of(self->id, 0, self->page);

	for (size_t i = 0; i < ARRAY_LEN(access); i++) {
		struct pgprotect_protect protect = {
			.size = sizeof(protect),
			.access = access[i],
			.ranges = (uintptr_t)&range,
			.nr_ranges = 1,
		};

		EXPECT_EQ(-EINVAL, ctx_ioctl(self->ctx, PGPROTECT_IOC_PROTECT, &protect))
			TH_LOG("access %#x", access[i]);
	}
}

TEST_F(ranges, failed_protect_leaves_nothing_protected)
{
	struct pgprotect_range ranges[] = {
		range_of(self->id, 0, 4 * self->page),
		range_of(self->id, 8 * self->page, 4 * self->page),
		{ 0 },
	};
	const struct {
		struct pgprotect_range range;
		int error;
	} last[] = {
		{ range_of(self->id + 1, 0, self->page), -ENOENT },
		{ range_of(self->id, 1, self->page), -EINVAL },
		{ range_of(self->id, 0, 0), -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_LEN(last); i++) {
		ranges[2] = last[i].range;
		EXPECT_EQ(last[i].error, ctx_protect(self->ctx, ranges, ARRAY_LEN(ranges)));
		EXPECT_EQ(0, protected_pages(self->file.fd));
	}
}

TEST_F(ranges, failed_protect_keeps_what_was_protected_before)
{
	struct pgprotect_range ranges[] = {
		range_of(self->id, 0, 8 * self->page),
		range_of(self->id + 1, 0, self->page),
	};

	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, 2 * self->page, 2 * self->page));
	EXPECT_EQ(-ENOENT, ctx_protect(self->ctx, ranges, ARRAY_LEN(ranges)));
	EXPECT_EQ(PAGE_BITS(2, 3), protected_pages(self->file.fd));
}

TEST_F(ranges, failed_unprotect_releases_nothing)
{
	struct pgprotect_range ranges[] = {
		range_of(self->id, 0, self->page),
		range_of(self->id + 1, 0, self->page),
	};

	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(-ENOENT, ctx_unprotect(self->ctx, ranges, ARRAY_LEN(ranges)));
	EXPECT_EQ(PAGE_BITS(0, PAGES - 1), protected_pages(self->file.fd));
}

/* Pins pages of the mapping, as a registered buffer of an io_uring. */
static void pin_pages(struct io_uring *ring, struct test_file *file,
		      const unsigned int (*runs)[2], size_t nr)
{
	struct iovec iov[4];
	int ret = io_uring_queue_init(2, ring, 0);

	if (ret)
		die("io_uring_queue_init: %d", ret);
	for (size_t i = 0; i < nr; i++) {
		iov[i].iov_base = file->map + runs[i][0] * page_size();
		iov[i].iov_len = runs[i][1] * page_size();
	}
	ret = io_uring_register_buffers(ring, iov, nr);
	if (ret)
		die("io_uring_register_buffers: %d", ret);
}

static const unsigned int pinned_runs[][2] = { { 8, 1 }, { 3, 2 } };

TEST_F(ranges, pinned_pages_are_reported_in_order)
{
	struct pgprotect_range range = range_of(self->id, 0, self->file.size);
	struct pgprotect_range pins[4] = { 0 };
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)&range, .nr_ranges = 1,
		.pins = (uintptr_t)pins, .max_pins = ARRAY_LEN(pins),
	};
	struct io_uring ring;

	pin_pages(&ring, &self->file, pinned_runs, ARRAY_LEN(pinned_runs));
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(2, protect.nr_pins);
	EXPECT_EQ(self->id, pins[0].file);
	EXPECT_EQ(3 * self->page, pins[0].offset);
	EXPECT_EQ(2 * self->page, pins[0].length);
	EXPECT_EQ(8 * self->page, pins[1].offset);
	EXPECT_EQ(self->page, pins[1].length);
	EXPECT_EQ(0, pins[2].length);
	EXPECT_EQ(PAGE_BITS(0, PAGES - 1), protected_pages(self->file.fd));
	io_uring_queue_exit(&ring);
}

TEST_F(ranges, pins_are_sorted_and_reported_once_whatever_the_order_of_ranges)
{
	struct pgprotect_range ranges[] = {
		range_of(self->id, 7 * self->page, 4 * self->page),
		range_of(self->id, 0, 9 * self->page),
	};
	struct pgprotect_range pins[4] = { 0 };
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)ranges, .nr_ranges = ARRAY_LEN(ranges),
		.pins = (uintptr_t)pins, .max_pins = ARRAY_LEN(pins),
	};
	struct io_uring ring;

	pin_pages(&ring, &self->file, pinned_runs, ARRAY_LEN(pinned_runs));
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(2, protect.nr_pins);
	EXPECT_EQ(3 * self->page, pins[0].offset);
	EXPECT_EQ(8 * self->page, pins[1].offset);
	io_uring_queue_exit(&ring);
}

TEST_F(ranges, pins_are_counted_though_the_array_is_short)
{
	struct pgprotect_range range = range_of(self->id, 0, self->file.size);
	struct pgprotect_range pins[2] = { 0 };
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)&range, .nr_ranges = 1,
		.pins = (uintptr_t)pins, .max_pins = 1,
	};
	struct io_uring ring;

	pin_pages(&ring, &self->file, pinned_runs, ARRAY_LEN(pinned_runs));
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(2, protect.nr_pins);
	EXPECT_EQ(3 * self->page, pins[0].offset);
	EXPECT_EQ(0, pins[1].length);
	protect.max_pins = 0;
	protect.pins = 0;
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(2, protect.nr_pins);
	io_uring_queue_exit(&ring);
}

TEST_F(ranges, strict_protect_of_a_pinned_page_is_busy_and_protects_nothing)
{
	struct pgprotect_range ranges[] = {
		range_of(self->id, 10 * self->page, 4 * self->page),
		range_of(self->id, 0, 9 * self->page),
	};
	struct pgprotect_range pin = { 0 };
	struct pgprotect_protect protect = {
		.flags = PGPROTECT_PROTECT_STRICT,
		.ranges = (uintptr_t)ranges, .nr_ranges = ARRAY_LEN(ranges),
		.pins = (uintptr_t)&pin, .max_pins = 1,
	};
	struct io_uring ring;

	pin_pages(&ring, &self->file, pinned_runs, ARRAY_LEN(pinned_runs));
	EXPECT_EQ(-EBUSY, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(1, protect.nr_pins);
	EXPECT_EQ(self->id, pin.file);
	EXPECT_EQ(3 * self->page, pin.offset);
	EXPECT_EQ(2 * self->page, pin.length);
	EXPECT_EQ(0, protected_pages(self->file.fd));
	io_uring_queue_exit(&ring);
}

TEST_F(ranges, strict_protect_succeeds_beside_and_after_the_pin)
{
	struct pgprotect_range range = range_of(self->id, 9 * self->page, 4 * self->page);
	struct pgprotect_protect protect = {
		.flags = PGPROTECT_PROTECT_STRICT,
		.ranges = (uintptr_t)&range, .nr_ranges = 1,
	};
	struct io_uring ring;

	pin_pages(&ring, &self->file, pinned_runs, ARRAY_LEN(pinned_runs));
	EXPECT_EQ(0, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(0, protect.nr_pins);
	io_uring_unregister_buffers(&ring);
	io_uring_queue_exit(&ring);
	range = range_of(self->id, 0, self->file.size);
	/* The ring's buffers are dropped soon after, not at once. */
	EXPECT_TRUE(WAIT_FOR(ctx_protect_args(self->ctx, &protect) == 0));
}

TEST_F(ranges, pins_that_cannot_be_stored_are_a_fault)
{
	struct pgprotect_range range = range_of(self->id, 0, self->file.size);
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)&range, .nr_ranges = 1,
		.pins = (uintptr_t)nowhere, .max_pins = 1,
	};
	struct io_uring ring;

	pin_pages(&ring, &self->file, pinned_runs, ARRAY_LEN(pinned_runs));
	EXPECT_EQ(-EFAULT, ctx_protect_args(self->ctx, &protect));
	EXPECT_EQ(0, protected_pages(self->file.fd));
	io_uring_queue_exit(&ring);
}

TEST_HARNESS_MAIN
