// SPDX-License-Identifier: GPL-2.0
/*
 * PROTECT and a write() that is under way. The write's source is memory whose
 * pages the test supplies by userfaultfd, so that it stops inside the file system
 * for as long as the test wants.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	4

FIXTURE(inflight) {
	struct subject subject;
	uint32_t stall;		/* attached in this mode, too */
	int uffd;
	char *source;		/* two pages: 's', and one that is missing */
	struct writer *writer;	/* inside write(), waits for the second page */
};

static long op_write_source(struct writer *self)
{
	struct _test_data_inflight *inflight = self->arg;

	return pwrite_bytes(inflight->subject.file.fd, inflight->source, 2 * page_size(), 0);
}

static int uffd_of(void *area, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)area, .len = size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	return uffd;
}

FIXTURE_SETUP(inflight)
{
	struct pollfd fault = { .events = POLLIN };

	self->subject = subject_attached(PAGES, PGPROTECT_MODE_DENY, 0);
	self->stall = ctx_attach(self->subject.ctx, self->subject.file.fd, PGPROTECT_MODE_STALL,
				 0);
	self->source = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->source);
	memset(self->source, 's', page_size());
	self->uffd = uffd_of(self->source + page_size(), page_size());
	fault.fd = self->uffd;
	self->writer = writer_thread(op_write_source, self);
	ASSERT_EQ(1, poll(&fault, 1, DEADLINE_MS));
}

FIXTURE_TEARDOWN(inflight)
{
	close(self->uffd);
	subject_close(&self->subject);
}

static void supply_source(struct _test_data_inflight *self)
{
	struct uffdio_zeropage zero = {
		.range = {
			.start = (uintptr_t)self->source + page_size(), .len = page_size(),
		},
	};

	if (ioctl(self->uffd, UFFDIO_ZEROPAGE, &zero))
		die("UFFDIO_ZEROPAGE");
}

static long op_protect(struct writer *self)
{
	struct subject *subject = self->arg;

	return ctx_protect_all(subject->ctx, subject->id);
}

TEST_F(inflight, protect_returns_only_when_the_write_is_over)
{
	struct writer *protect = writer_thread(op_protect, &self->subject);

	EXPECT_TRUE(HOLDS_FOR(100, !writer_done(protect)));
	self->subject.file.map[page_size()] = 'x';
	supply_source(self);
	EXPECT_EQ(0, writer_join(protect));
	/* The write's second page is there by now: it cannot come later. */
	EXPECT_EQ(0, self->subject.file.map[page_size()]);
	EXPECT_EQ(2 * page_size(), writer_join(self->writer));
	EXPECT_EQ(-EPERM, write_page(self->subject.file.fd, 0, 1));
}

TEST_F(inflight, protect_that_waits_for_a_write_can_be_killed_and_protects_nothing)
{
	struct writer *protect = writer_fork(op_protect, &self->subject);

	EXPECT_TRUE(HOLDS_FOR(100, !writer_done(protect)));
	writer_kill(protect, SIGKILL);
	EXPECT_EQ(SIGKILL, WTERMSIG(writer_wait(protect)));
	supply_source(self);
	EXPECT_EQ(2 * page_size(), writer_join(self->writer));
	EXPECT_EQ(1, write_page(self->subject.file.fd, 0, 1));
	EXPECT_EQ(0, store_byte(self->subject.file.map + page_size(), 1));
}

/* A splice out of a pipe. */
struct splice {
	struct subject *subject;
	int pipe[2];
	unsigned int flags;
};

static long op_splice(struct writer *self)
{
	struct splice *splice_ = self->arg;
	ssize_t done = splice(splice_->pipe[0], NULL, splice_->subject->file.fd,
			      &(loff_t){ 0 }, page_size(), splice_->flags);

	return done < 0 ? -errno : done;
}

static long op_fill_pipe(struct writer *self)
{
	struct splice *splice = self->arg;

	return write(splice->pipe[1], "x", 1);
}

/*
 * The splice has looked, found nothing protected, and waits for the file's lock behind
 * PROTECT. Whoever uses the pipe meanwhile may be the handler, or hold up a freeze.
 */
static void splice_overtaken(struct __test_metadata *_metadata, struct _test_data_inflight *self,
			     unsigned int flags)
{
	struct subject stall = self->subject;
	struct splice splice = { .subject = &stall, .flags = flags };
	struct writer *protect, *splicer, *filler;
	struct pgprotect_event event;
	char data[4096];

	stall.id = self->stall;
	ASSERT_EQ(0, pipe(splice.pipe));
	memset(data, 'p', sizeof(data));
	ASSERT_EQ(page_size(), write(splice.pipe[1], data, page_size()));
	protect = writer_thread(op_protect, &stall);
	ASSERT_TRUE(WAIT_FOR(task_state(protect->tid) == 'D'));
	splicer = writer_thread(op_splice, &splice);
	ASSERT_TRUE(WAIT_FOR(task_state(splicer->tid) == 'D'));

	supply_source(self);
	EXPECT_EQ(2 * page_size(), writer_join(self->writer));
	EXPECT_EQ(0, writer_join(protect));
	ASSERT_TRUE(writer_stalled(splicer));
	filler = writer_thread(op_fill_pipe, &splice);
	EXPECT_TRUE(WAIT_FOR(writer_done(filler)));
	EXPECT_EQ('s', stall.file.map[0]);
	ASSERT_EQ(1, ctx_next(stall.ctx, &event, 1, 1));
	EXPECT_EQ(PGPROTECT_ORIGIN_SPLICE, event.origin);
	EXPECT_EQ(0, event.offset);
	EXPECT_EQ(0, ctx_verdict(stall.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(page_size(), writer_join(splicer));
	EXPECT_EQ(1, writer_join(filler));
	EXPECT_EQ('p', stall.file.map[page_size() - 1]);
	close(splice.pipe[0]);
	close(splice.pipe[1]);
}

TEST_F(inflight, splice_that_protect_overtakes_does_not_wait_with_its_pipe)
{
	splice_overtaken(_metadata, self, 0);
}

/* It is the pipe that is not waited for, and that has data. */
TEST_F(inflight, nonblocking_splice_that_protect_overtakes_waits_for_the_page)
{
	splice_overtaken(_metadata, self, SPLICE_F_NONBLOCK);
}

static long op_splice_two_pages(struct writer *self)
{
	struct splice *splice_ = self->arg;
	ssize_t done = splice(splice_->pipe[0], NULL, splice_->subject->file.fd,
			      &(loff_t){ 0 }, 2 * page_size(), 0);

	return done < 0 ? -errno : done;
}

/* It is past the look at O_APPEND when that is set, and goes elsewhere than its gate asked for. */
TEST(splice_whose_file_becomes_append_only_is_refused_and_ends)
{
	struct subject s = subject_attached(4, PGPROTECT_MODE_DENY, 0);
	struct splice splice = { .subject = &s };
	char data[2 * 4096] = "";
	struct writer *writer;

	ASSERT_EQ(0, pipe(splice.pipe));
	ASSERT_EQ(0, ctx_protect_range(s.ctx, s.id, s.file.size + page_size(), page_size()));
	writer = writer_thread(op_splice_two_pages, &splice);
	ASSERT_TRUE(WAIT_FOR(task_state(writer->tid) == 'S'));
	ASSERT_EQ(0, fcntl(s.file.fd, F_SETFL, O_RDWR | O_APPEND));
	ASSERT_EQ(2 * page_size(), write(splice.pipe[1], data, 2 * page_size()));
	EXPECT_TRUE(WAIT_FOR(writer_done(writer)));
	EXPECT_EQ(0, ctx_unprotect_all(s.ctx, s.id));
	EXPECT_EQ(-EPERM, writer_join(writer));
	EXPECT_EQ(s.file.size, lseek(s.file.fd, 0, SEEK_END));
	close(splice.pipe[0]);
	close(splice.pipe[1]);
	subject_close(&s);
}

TEST_HARNESS_MAIN
