// SPDX-License-Identifier: GPL-2.0
/*
 * Pages that somebody holds for DMA when PROTECT comes: reported, or the reason
 * for EBUSY, never passed over. Pages taken by file, which no page table guards,
 * meet a gate of their own.
 */
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/memory.h"
#include "common/route.h"
#include "common/udmabuf.h"

#define PINNED		(5 * PAGE)
#define PINNED_LENGTH	(3 * PAGE)

FIXTURE(registered) {
	struct subject subject;
	struct io_uring ring;
	struct pgprotect_range pins[4];
	struct pgprotect_range all;
	struct pgprotect_protect protect;
};

FIXTURE_SETUP(registered)
{
	struct iovec iov;

	self->subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_DENY, 0);
	file_fill(&self->subject.file);
	iov = (struct iovec){ self->subject.file.map + PINNED, PINNED_LENGTH };
	ASSERT_EQ(0, io_uring_queue_init(4, &self->ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers(&self->ring, &iov, 1));
	self->all = range_of(self->subject.id, 0, ROUTE_SIZE);
	self->protect = (struct pgprotect_protect){
		.ranges = (uintptr_t)&self->all,
		.nr_ranges = 1,
		.pins = (uintptr_t)self->pins,
		.max_pins = ARRAY_LEN(self->pins),
	};
}

FIXTURE_TEARDOWN(registered)
{
	io_uring_queue_exit(&self->ring);
	subject_close(&self->subject);
}

/* What lands in the file is the pin's doing, and what PROTECT warned of. */
static long read_fixed(struct io_uring *ring, int pipe, char *to)
{
	struct io_uring_cqe *cqe;
	long res;

	io_uring_prep_read_fixed(io_uring_get_sqe(ring), pipe, to, 100, -1, 0);
	if (io_uring_submit(ring) != 1 || io_uring_wait_cqe(ring, &cqe))
		die("io_uring");
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

TEST_F(registered, buffer_is_reported_as_one_run_and_all_else_is_protected)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_args(s->ctx, &self->protect));
	ASSERT_EQ(1, self->protect.nr_pins);
	EXPECT_EQ(s->id, self->pins[0].file);
	EXPECT_EQ(PINNED, self->pins[0].offset);
	EXPECT_EQ(PINNED_LENGTH, self->pins[0].length);
	EXPECT_EQ(ROUTE_PAGES, self->protect.nr_pages);
	EXPECT_EQ(-EPERM, write_page(s->file.fd, 4, 1));
	EXPECT_EQ(-EPERM, write_page(s->file.fd, 6, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(s->file.map + PINNED, 1));
}

TEST_F(registered, buffer_can_still_be_filled_as_the_report_says)
{
	struct subject *s = &self->subject;
	struct image image;

	ASSERT_EQ(0, ctx_protect_args(s->ctx, &self->protect));
	ASSERT_EQ(1, self->protect.nr_pins);
	image_read(s->file.fd, &image);
	EXPECT_EQ(100, read_fixed(&self->ring, pipe_with(100), s->file.map + PINNED));
	memset(image.data + PINNED, ROUTE_VALUE, 100);
	EXPECT_TRUE(image_is(s->file.fd, &image));
	image_free(&image);
}

TEST_F(registered, buffer_makes_strict_fail_with_its_run_and_nothing_protected)
{
	struct subject *s = &self->subject;

	self->protect.flags = PGPROTECT_PROTECT_STRICT;
	ASSERT_EQ(-EBUSY, ctx_protect_args(s->ctx, &self->protect));
	EXPECT_EQ(1, self->protect.nr_pins);
	EXPECT_EQ(PINNED, self->pins[0].offset);
	EXPECT_EQ(PINNED_LENGTH, self->pins[0].length);
	for (size_t i = 0; i < ROUTE_PAGES; i++) {
		EXPECT_EQ(1, write_page(s->file.fd, i, 1));
		EXPECT_EQ(0, store_byte(s->file.map + i * PAGE, 1));
	}
}

TEST_F(registered, buffer_elsewhere_does_not_disturb_strict)
{
	struct subject *s = &self->subject;

	self->all = range_of(s->id, PINNED + PINNED_LENGTH, 4 * PAGE);
	self->protect.flags = PGPROTECT_PROTECT_STRICT;
	EXPECT_EQ(0, ctx_protect_args(s->ctx, &self->protect));
	EXPECT_EQ(0, self->protect.nr_pins);
}

TEST_F(registered, buffer_given_back_is_reported_no_more)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, io_uring_unregister_buffers(&self->ring));
	self->protect.flags = PGPROTECT_PROTECT_STRICT;
	/* What was in flight to give the pages back may take a moment. */
	EXPECT_TRUE(WAIT_FOR(!ctx_protect_args(s->ctx, &self->protect)));
	EXPECT_EQ(0, self->protect.nr_pins);
	EXPECT_EQ(GOT_SIGBUS, store_byte(s->file.map + PINNED, 1));
}

TEST_F(registered, buffer_is_found_when_its_mapping_has_gone)
{
	struct subject *s = &self->subject;

	munmap(s->file.map, s->file.size);
	s->file.map = NULL;
	self->protect.flags = PGPROTECT_PROTECT_STRICT;
	ASSERT_EQ(-EBUSY, ctx_protect_args(s->ctx, &self->protect));
	EXPECT_EQ(PINNED, self->pins[0].offset);
	EXPECT_EQ(PINNED_LENGTH, self->pins[0].length);
}

struct lender {
	struct subject *subject;
	struct io_uring ring;
};

static long op_register(struct writer *self)
{
	struct lender *lender = self->arg;
	struct iovec iov = { lender->subject->file.map, PAGE };

	return io_uring_register_buffers(&lender->ring, &iov, 1);
}

TEST(buffer_of_a_process_that_has_gone_is_found)
{
	struct subject subject = subject_attached(1, PGPROTECT_MODE_DENY, 0);
	struct lender lender = { .subject = &subject };
	struct pgprotect_range pin, all = range_of(subject.id, 0, PAGE);
	struct pgprotect_protect protect = {
		.flags = PGPROTECT_PROTECT_STRICT,
		.ranges = (uintptr_t)&all, .nr_ranges = 1,
		.pins = (uintptr_t)&pin, .max_pins = 1,
	};

	ASSERT_EQ(0, io_uring_queue_init(4, &lender.ring, 0));
	ASSERT_EQ(0, writer_join(writer_fork(op_register, &lender)));
	ASSERT_EQ(-EBUSY, ctx_protect_args(subject.ctx, &protect));
	EXPECT_EQ(0, pin.offset);
	EXPECT_EQ(PAGE, pin.length);
	io_uring_queue_exit(&lender.ring);
	/* The buffers may be given back a moment later. */
	EXPECT_TRUE(WAIT_FOR(!ctx_protect_args(subject.ctx, &protect)));
	subject_close(&subject);
}

/* Each mapping of a page holds a reference, as a pin holds many. */

#define MAPPINGS	1100	/* more than a pin counts as */

FIXTURE(mapped_often) {
	struct subject subject;
	char *maps[MAPPINGS];
	struct pgprotect_range pin, all;
	struct pgprotect_protect protect;
};

FIXTURE_SETUP(mapped_often)
{
	struct subject *s = &self->subject;

	*s = subject_attached(1, PGPROTECT_MODE_DENY, 0);
	for (int i = 0; i < MAPPINGS; i++) {
		self->maps[i] = map_shared(s->file.fd, PAGE);
		self->maps[i][0] = 1;
	}
	self->all = range_of(s->id, 0, PAGE);
	self->protect = (struct pgprotect_protect){
		.flags = PGPROTECT_PROTECT_STRICT,
		.ranges = (uintptr_t)&self->all,
		.nr_ranges = 1,
		.pins = (uintptr_t)&self->pin,
		.max_pins = 1,
	};
}

FIXTURE_TEARDOWN(mapped_often)
{
	subject_close(&self->subject);
}

TEST_F(mapped_often, page_is_not_taken_for_a_pinned_one)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_args(s->ctx, &self->protect));
	EXPECT_EQ(0, self->protect.nr_pins);
	EXPECT_EQ(1, self->protect.nr_pages);
	for (int i = 0; i < MAPPINGS; i++) {
		ASSERT_EQ(GOT_SIGBUS, store_byte(self->maps[i], 2)) {
			TH_LOG("mapping %d", i);
		}
	}
	EXPECT_EQ(1, read_page(s->file.fd, 0));
}

TEST_F(mapped_often, page_that_is_pinned_besides_makes_strict_fail)
{
	struct subject *s = &self->subject;
	struct iovec iov = { s->file.map, PAGE };
	struct io_uring ring;

	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers(&ring, &iov, 1));
	ASSERT_EQ(-EBUSY, ctx_protect_args(s->ctx, &self->protect));
	EXPECT_EQ(1, self->protect.nr_pins);
	EXPECT_EQ(s->id, self->pin.file);
	EXPECT_EQ(0, self->pin.offset);
	EXPECT_EQ(PAGE, self->pin.length);
	EXPECT_EQ(1, write_page(s->file.fd, 0, 2));
	io_uring_queue_exit(&ring);
}

/* udmabuf takes pages of a memfd by offset: no fault, no page table. */

static long by_udmabuf(struct attempt *attempt)
{
	int buffer;

	if (!have_udmabuf())
		return ROUTE_SKIP;
	route_ready(attempt);
	buffer = udmabuf_create(attempt->file.fd, attempt->at, attempt->length);
	if (buffer < 0)
		return buffer;
	memset(map_shared(buffer, attempt->length), ROUTE_VALUE, attempt->length);
	return 0;
}

ROUTE_FAMILY(udmabuf);

#define UDMABUF(name, ...)							\
	ROUTE_ADD(udmabuf, name, .op = by_udmabuf, .at = 5 * PAGE, .length = 2 * PAGE,	\
		  .sealed = true, .denied = -EPERM, .origin = PGPROTECT_ORIGIN_PIN,	\
		  ##__VA_ARGS__)

UDMABUF(of_protected_pages)
UDMABUF(of_a_protected_hole, .hole_offset = 4 * PAGE, .hole_length = 4 * PAGE)
UDMABUF(of_pages_of_which_the_last_is_protected,
	.protect_offset = 6 * PAGE, .protect_length = PAGE,
	.event_offset = 6 * PAGE, .event_length = PAGE)

TEST(udmabuf_made_before_protect_is_reported_or_the_reason_for_ebusy)
{
	struct route route = { .sealed = true };
	struct attempt attempt = { };
	struct pgprotect_range pins[2], all;
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)&all, .nr_ranges = 1,
		.pins = (uintptr_t)pins, .max_pins = 2,
	};
	int buffer;

	if (!have_udmabuf())
		SKIP(return, "no /dev/udmabuf");
	attempt_make(&attempt, &route, PGPROTECT_MODE_DENY);
	buffer = udmabuf_create(attempt.file.fd, PINNED, PINNED_LENGTH);
	ASSERT_LE(0, buffer);
	all = range_of(attempt.id, 0, ROUTE_SIZE);
	ASSERT_EQ(0, ctx_protect_args(attempt.ctx, &protect));
	ASSERT_EQ(1, protect.nr_pins);
	EXPECT_EQ(PINNED, pins[0].offset);
	EXPECT_EQ(PINNED_LENGTH, pins[0].length);
	ASSERT_EQ(0, ctx_unprotect_all(attempt.ctx, attempt.id));
	protect.flags = PGPROTECT_PROTECT_STRICT;
	EXPECT_EQ(-EBUSY, ctx_protect_args(attempt.ctx, &protect));
	close(buffer);
	attempt_close(&attempt);
}

/* Its entries are in a VMA of the buffer's, which no walk of the file meets. */
TEST(udmabuf_mapped_before_protect_changes_what_was_reported_and_nothing_else)
{
	struct route route = { .sealed = true };
	struct attempt attempt = { };
	struct pgprotect_range pins[2], all;
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)&all, .nr_ranges = 1,
		.pins = (uintptr_t)pins, .max_pins = 2,
	};
	struct image image;
	char *map;
	int buffer;

	if (!have_udmabuf())
		SKIP(return, "no /dev/udmabuf");
	attempt_make(&attempt, &route, PGPROTECT_MODE_DENY);
	buffer = udmabuf_create(attempt.file.fd, PINNED, PINNED_LENGTH);
	ASSERT_LE(0, buffer);
	map = map_shared(buffer, PINNED_LENGTH);
	memset(map, 1, PINNED_LENGTH);
	all = range_of(attempt.id, 0, ROUTE_SIZE);
	ASSERT_EQ(0, ctx_protect_args(attempt.ctx, &protect));
	ASSERT_EQ(1, protect.nr_pins);
	image_read(attempt.file.fd, &image);
	memset(map, ROUTE_VALUE, PINNED_LENGTH);
	for (size_t i = 0; i < ROUTE_PAGES; i++)
		EXPECT_EQ(GOT_SIGBUS, store_byte(attempt.file.map + i * PAGE, 1));
	memset(image.data + pins[0].offset, ROUTE_VALUE, pins[0].length);
	EXPECT_TRUE(image_is(attempt.file.fd, &image));
	image_free(&image);
	close(buffer);
	attempt_close(&attempt);
}

/* A huge page is pinned as one. */

FIXTURE(huge) {
	struct subject subject;
	struct io_uring ring;
	struct pgprotect_range pins[2], range;
	struct pgprotect_protect protect;
};

FIXTURE_SETUP(huge)
{
	struct subject *s = &self->subject;
	struct iovec iov;

	s->file = (struct test_file){ .fd = huge_tmpfs_file(2 * HUGE), .size = 2 * HUGE };
	if (s->file.fd < 0)
		SKIP(return, "no tmpfs with huge pages");
	s->file.map = map_aligned(s->file.fd, s->file.size);
	memset(s->file.map, 1, s->file.size);
	if (smaps_kb(s->file.map, "ShmemPmdMapped") < (long)(s->file.size >> 10))
		SKIP(return, "no huge pages were mapped");
	s->ctx = ctx_open();
	s->id = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	iov = (struct iovec){ s->file.map + HUGE + PINNED, PAGE };
	ASSERT_EQ(0, io_uring_queue_init(4, &self->ring, 0));
	ASSERT_EQ(0, io_uring_register_buffers(&self->ring, &iov, 1));
	self->range = range_of(s->id, 0, s->file.size);
	self->protect = (struct pgprotect_protect){
		.ranges = (uintptr_t)&self->range,
		.nr_ranges = 1,
		.pins = (uintptr_t)self->pins,
		.max_pins = ARRAY_LEN(self->pins),
	};
}

FIXTURE_TEARDOWN(huge)
{
	if (self->subject.ctx)
		subject_close(&self->subject);
}

TEST_F(huge, page_with_a_buffer_is_reported_whole_and_protected)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_args(s->ctx, &self->protect));
	ASSERT_EQ(1, self->protect.nr_pins);
	EXPECT_EQ(s->id, self->pins[0].file);
	EXPECT_EQ(HUGE, self->pins[0].offset);
	EXPECT_EQ(HUGE, self->pins[0].length);
	EXPECT_EQ(100, read_fixed(&self->ring, pipe_with(100), s->file.map + HUGE + PINNED));
	EXPECT_EQ(ROUTE_VALUE, s->file.map[HUGE + PINNED]);
	EXPECT_EQ(GOT_SIGBUS, store_byte(s->file.map + HUGE + PINNED, 2));
	EXPECT_EQ(GOT_SIGBUS, store_byte(s->file.map, 2));
}

TEST_F(huge, page_with_a_buffer_is_reported_as_far_as_it_is_to_be_protected)
{
	struct subject *s = &self->subject;

	self->range = range_of(s->id, HUGE + 100 * PAGE, 3 * PAGE);
	ASSERT_EQ(0, ctx_protect_args(s->ctx, &self->protect));
	ASSERT_EQ(1, self->protect.nr_pins);
	EXPECT_EQ(HUGE + 100 * PAGE, self->pins[0].offset);
	EXPECT_EQ(3 * PAGE, self->pins[0].length);
}

TEST_F(huge, page_with_a_buffer_makes_strict_fail_and_its_neighbour_does_not)
{
	struct subject *s = &self->subject;

	self->protect.flags = PGPROTECT_PROTECT_STRICT;
	ASSERT_EQ(-EBUSY, ctx_protect_args(s->ctx, &self->protect));
	EXPECT_EQ(HUGE, self->pins[0].offset);
	EXPECT_EQ(0, store_byte(s->file.map, 2));
	EXPECT_EQ(0, store_byte(s->file.map + HUGE, 2));
	self->range.length = HUGE;
	EXPECT_EQ(0, ctx_protect_args(s->ctx, &self->protect));
	EXPECT_EQ(0, self->protect.nr_pins);
	ASSERT_EQ(0, io_uring_unregister_buffers(&self->ring));
	self->range.length = 2 * HUGE;
	/* What was in flight to give the page back may take a moment. */
	EXPECT_TRUE(WAIT_FOR(!ctx_protect_args(s->ctx, &self->protect)));
	EXPECT_EQ(GOT_SIGBUS, store_byte(s->file.map + HUGE + PINNED, 3));
}

TEST_HARNESS_MAIN
