// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that fails: the content is lost, and whoever looks is told so. No other
 * content may take its place, and what is around it stays protected.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/memory.h"
#include "common/route.h"

#define POISONED	5UL	/* page */

static void on_poison(int sig)
{
	(void)sig;
}

/* The kernel tells who has the page mapped, by a SIGBUS that must not be fatal. */
static bool poison(char *page)
{
	struct sigaction action = { .sa_handler = on_poison }, old;
	bool done;

	if (sigaction(SIGBUS, &action, &old))
		die("sigaction");
	done = !madvise(page, PAGE, MADV_HWPOISON);
	sigaction(SIGBUS, &old, NULL);
	return done;
}

/* A copy by the kernel, so that it is an error and no signal. */
static long load(const char *address)
{
	static int sink[2];

	if (!sink[1] && pipe(sink))
		die("pipe");
	return write(sink[1], address, 1) < 0 ? -errno : 0;
}

static long read_of(int fd, uint64_t page)
{
	char data[PAGE];
	ssize_t done = pread(fd, data, PAGE, page * PAGE);

	return done < 0 ? -errno : data[0];
}

FIXTURE(poisoned) {
	struct subject subject;
	char *page;
};

FIXTURE_VARIANT(poisoned) { uint32_t mode; };
FIXTURE_VARIANT_ADD(poisoned, stall) { .mode = PGPROTECT_MODE_STALL };
FIXTURE_VARIANT_ADD(poisoned, deny) { .mode = PGPROTECT_MODE_DENY };

FIXTURE_SETUP(poisoned)
{
	struct subject *s = &self->subject;

	*s = subject_attached(ROUTE_PAGES, variant->mode, 0);
	file_fill(&s->file);
	self->page = s->file.map + POISONED * PAGE;
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	if (!poison(self->page))
		SKIP(return, "no MADV_HWPOISON");
}

FIXTURE_TEARDOWN(poisoned)
{
	subject_close(&self->subject);
}

TEST_F(poisoned, page_shows_an_error_and_no_other_content)
{
	struct subject *s = &self->subject;
	char *fresh = map_shared(s->file.fd, ROUTE_SIZE);

	EXPECT_EQ(-EFAULT, load(self->page));
	EXPECT_EQ(-EFAULT, load(fresh + POISONED * PAGE));
	EXPECT_EQ(-EIO, read_of(s->file.fd, POISONED));
	for (uint64_t i = 0; i < ROUTE_PAGES; i++)
		if (i != POISONED)
			EXPECT_EQ(i + 1, read_of(s->file.fd, i));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
}

/* The page is as protected as before: its loss does not open it to be filled anew. */
TEST_F(poisoned, page_and_its_neighbours_stay_protected)
{
	struct subject *s = &self->subject;

	for (uint64_t i = POISONED - 1; i <= POISONED + 1; i++) {
		struct access store = { .map = s->file.map, .offset = i * PAGE, .value = 'w' };
		struct writer *writer = writer_fork(op_store, &store);

		if (variant->mode == PGPROTECT_MODE_STALL) {
			EXPECT_TRUE(writer_stalled(writer));
			writer_kill(writer, SIGKILL);
			writer_wait(writer);
		} else {
			EXPECT_EQ(GOT_SIGBUS, writer_join(writer));
			EXPECT_EQ(-EPERM, write_page(s->file.fd, i, 'w'));
		}
	}
	EXPECT_EQ(POISONED, read_of(s->file.fd, POISONED - 1));
	EXPECT_EQ(-EIO, read_of(s->file.fd, POISONED));
	EXPECT_EQ(POISONED + 2, read_of(s->file.fd, POISONED + 1));
}

static long op_punch(struct writer *self)
{
	struct subject *s = self->arg;

	return fallocate(s->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 POISONED * PAGE, PAGE) ? -errno : 0;
}

/* A hole is content, zeros, where there was an error. */
TEST_F(poisoned, page_can_be_punched_out_after_release_only)
{
	struct subject *s = &self->subject;
	struct writer *writer = writer_fork(op_punch, s);

	if (variant->mode == PGPROTECT_MODE_STALL) {
		EXPECT_TRUE(writer_stalled(writer));
		EXPECT_EQ(-EIO, read_of(s->file.fd, POISONED));
		ASSERT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	} else {
		EXPECT_EQ(-EPERM, writer_join(writer));
		EXPECT_EQ(-EIO, read_of(s->file.fd, POISONED));
		ASSERT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
		writer = writer_fork(op_punch, s);
	}
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(0, read_of(s->file.fd, POISONED));
	EXPECT_EQ(1, write_page(s->file.fd, POISONED, 'w'));
	EXPECT_EQ('w', read_of(s->file.fd, POISONED));
}

/* The huge page is split to get rid of one of its pages. */
TEST(poisoned_huge_page_keeps_its_protected_page)
{
	struct subject s = { .file = { .fd = huge_tmpfs_file(HUGE), .size = HUGE } };
	const uint64_t page = 77;

	if (s.file.fd < 0)
		SKIP(return, "no tmpfs with huge pages");
	s.file.map = map_aligned(s.file.fd, HUGE);
	memset(s.file.map, 'a', HUGE);
	s.ctx = ctx_open();
	s.id = ctx_attach(s.ctx, s.file.fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, ctx_protect_range(s.ctx, s.id, page * PAGE, PAGE));
	if (!poison(s.file.map + (page + 1) * PAGE))
		SKIP(return, "no MADV_HWPOISON");
	EXPECT_EQ(GOT_SIGBUS, store_byte(s.file.map + page * PAGE, 'w'));
	EXPECT_EQ(-EPERM, write_page(s.file.fd, page, 'w'));
	EXPECT_EQ('a', read_of(s.file.fd, page));
	EXPECT_EQ(0, store_byte(s.file.map + (page - 1) * PAGE, 'w'));
	subject_close(&s);
}

TEST_HARNESS_MAIN
