// SPDX-License-Identifier: GPL-2.0
/* read, poll, epoll, select and FIONREAD of a context. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	8
#define RECORD	sizeof(struct pgprotect_event)

FIXTURE(read) {
	struct subject subject;
	int ctx;
};

FIXTURE_SETUP(read)
{
	self->subject = subject_protected(PAGES, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);
	self->ctx = self->subject.ctx;
}

FIXTURE_TEARDOWN(read)
{
	subject_close(&self->subject);
}

/* An event that nobody waits for. */
static void raise_event(struct subject *subject, uint64_t page)
{
	if (write_page(subject->file.fd, page, 1) != -EPERM)
		die("write of page %llu was not refused", (unsigned long long)page);
}

static void set_nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static long read_bytes(int ctx, void *buffer, size_t size)
{
	ssize_t got = read(ctx, buffer, size);

	return got < 0 ? -errno : got;
}

TEST(record_has_the_documented_layout)
{
	EXPECT_EQ(64, sizeof(struct pgprotect_event));
	EXPECT_EQ(0, offsetof(struct pgprotect_event, id));
	EXPECT_EQ(8, offsetof(struct pgprotect_event, offset));
	EXPECT_EQ(16, offsetof(struct pgprotect_event, length));
	EXPECT_EQ(24, offsetof(struct pgprotect_event, cookie));
	EXPECT_EQ(32, offsetof(struct pgprotect_event, time_ns));
	EXPECT_EQ(40, offsetof(struct pgprotect_event, file));
	EXPECT_EQ(44, offsetof(struct pgprotect_event, pid));
	EXPECT_EQ(48, offsetof(struct pgprotect_event, tid));
	EXPECT_EQ(52, offsetof(struct pgprotect_event, waiters));
	EXPECT_EQ(56, offsetof(struct pgprotect_event, type));
	EXPECT_EQ(58, offsetof(struct pgprotect_event, origin));
	EXPECT_EQ(60, offsetof(struct pgprotect_event, reserved));
}

TEST_F(read, denied_event_says_who_wrote_where_and_when)
{
	struct pgprotect_event event;
	uint64_t before = now_ns(), after;

	raise_event(&self->subject, 3);
	after = now_ns();
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(0, event.id);
	EXPECT_EQ(PGPROTECT_EVENT_DENIED, event.type);
	EXPECT_EQ(PGPROTECT_ORIGIN_WRITE, event.origin);
	EXPECT_EQ(3 * page_size(), event.offset);
	EXPECT_EQ(page_size(), event.length);
	EXPECT_EQ(COOKIE(self->subject.file.fd), event.cookie);
	EXPECT_EQ(self->subject.id, event.file);
	EXPECT_EQ(getpid(), event.pid);
	EXPECT_EQ(gettid(), event.tid);
	EXPECT_EQ(0, event.reserved);
	EXPECT_LE(before, event.time_ns);
	EXPECT_GE(after, event.time_ns);
}

TEST_F(read, event_of_a_system_call_covers_the_run_of_protected_pages)
{
	char data[4 * 4096] = { 0 };
	struct pgprotect_event event;

	ASSERT_EQ(0, ctx_unprotect_range(self->ctx, self->subject.id, 0, page_size()));
	ASSERT_EQ(0, ctx_unprotect_range(self->ctx, self->subject.id, 3 * page_size(),
					 page_size()));
	EXPECT_EQ(-EPERM, pwrite_bytes(self->subject.file.fd, data, 4 * page_size() + 1 - 512,
				       512));
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(page_size(), event.offset);
	EXPECT_EQ(2 * page_size(), event.length);
}

TEST_F(read, stall_event_of_a_store_names_the_thread)
{
	struct subject subject = subject_protected(PAGES, PGPROTECT_MODE_STALL, 0);
	struct access access = { .map = subject.file.map, .offset = 2 * page_size() + 100 };
	struct writer *writer = writer_thread(op_store, &access);
	struct pgprotect_event event;

	ASSERT_EQ(0, ctx_read_event(subject.ctx, &event));
	EXPECT_NE(0, event.id);
	EXPECT_EQ(PGPROTECT_EVENT_STALL, event.type);
	EXPECT_EQ(PGPROTECT_ORIGIN_STORE, event.origin);
	EXPECT_EQ(2 * page_size(), event.offset);
	EXPECT_EQ(page_size(), event.length);
	EXPECT_EQ(getpid(), event.pid);
	EXPECT_EQ(writer->tid, event.tid);
	EXPECT_EQ(1, event.waiters);
	EXPECT_EQ(0, ctx_unprotect_all(subject.ctx, subject.id));
	EXPECT_EQ(0, writer_join(writer));
	subject_close(&subject);
}

TEST_F(read, short_buffer_is_invalid_and_loses_nothing)
{
	struct pgprotect_event event;

	raise_event(&self->subject, 5);
	EXPECT_EQ(-EINVAL, read_bytes(self->ctx, &event, RECORD - 1));
	EXPECT_EQ(-EINVAL, read_bytes(self->ctx, &event, 1));
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(5 * page_size(), event.offset);
}

TEST_F(read, short_buffer_is_invalid_though_there_is_no_event)
{
	struct pgprotect_event event;

	EXPECT_EQ(-EINVAL, read_bytes(self->ctx, &event, RECORD - 1));
}

TEST_F(read, nonblocking_read_of_nothing_would_block)
{
	struct pgprotect_event event;

	set_nonblocking(self->ctx);
	EXPECT_EQ(-EAGAIN, read_bytes(self->ctx, &event, RECORD));
	raise_event(&self->subject, 0);
	EXPECT_EQ(RECORD, read_bytes(self->ctx, &event, RECORD));
	EXPECT_EQ(-EAGAIN, read_bytes(self->ctx, &event, RECORD));
}

TEST_F(read, several_records_come_whole_and_in_order)
{
	struct pgprotect_event events[4];

	for (int i = 0; i < 5; i++)
		raise_event(&self->subject, i);
	/* Room for three and a half. */
	EXPECT_EQ(3 * RECORD, read_bytes(self->ctx, events, 3 * RECORD + RECORD / 2));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(i * page_size(), events[i].offset);
	}
	EXPECT_EQ(2 * RECORD, read_bytes(self->ctx, events, sizeof(events)));
	EXPECT_EQ(3 * page_size(), events[0].offset);
	EXPECT_EQ(4 * page_size(), events[1].offset);
}

TEST_F(read, readv_fills_its_segments)
{
	struct pgprotect_event event;
	char head[RECORD / 2], tail[RECORD / 2];
	struct iovec split[] = {
		{ head, sizeof(head) }, { tail, sizeof(tail) }, { &event, sizeof(event) },
	};

	raise_event(&self->subject, 1);
	raise_event(&self->subject, 2);
	EXPECT_EQ(2 * RECORD, readv(self->ctx, split, 3));
	EXPECT_EQ(2 * page_size(), event.offset);
	memcpy(&event, head, sizeof(head));
	memcpy((char *)&event + sizeof(head), tail, sizeof(tail));
	EXPECT_EQ(page_size(), event.offset);
	EXPECT_EQ(PGPROTECT_EVENT_DENIED, event.type);
}

TEST_F(read, buffer_that_cannot_be_written_is_a_fault_and_loses_no_stall)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_STALL, 0);
	struct access access = { .map = subject.file.map };
	struct writer *writer = writer_thread(op_store, &access);
	struct pgprotect_event event;

	ASSERT_TRUE(ctx_readable(subject.ctx, DEADLINE_MS));
	EXPECT_EQ(-EFAULT, read_bytes(subject.ctx, nowhere, RECORD));
	EXPECT_EQ(0, ctx_read_event(subject.ctx, &event));
	EXPECT_EQ(PGPROTECT_EVENT_STALL, event.type);
	EXPECT_EQ(0, ctx_unprotect_all(subject.ctx, subject.id));
	EXPECT_EQ(0, writer_join(writer));
	subject_close(&subject);
}

struct reader {
	int ctx;
	struct pgprotect_event event;
};

static long op_read(struct writer *self)
{
	struct reader *reader = self->arg;

	return read_bytes(reader->ctx, &reader->event, RECORD);
}

TEST_F(read, blocking_read_waits_for_an_event)
{
	struct reader reader = { .ctx = self->ctx };
	struct writer *thread = writer_thread(op_read, &reader);

	EXPECT_TRUE(writer_sleeps(thread));
	EXPECT_FALSE(writer_done(thread));
	raise_event(&self->subject, 6);
	EXPECT_EQ(RECORD, writer_join(thread));
	EXPECT_EQ(6 * page_size(), reader.event.offset);
}

TEST_F(read, blocking_read_is_interrupted_by_a_signal)
{
	struct reader reader = { .ctx = self->ctx };
	struct writer *thread;

	count_signal(SIGUSR1, 0);
	thread = writer_thread(op_read, &reader);
	EXPECT_TRUE(writer_sleeps(thread));
	EXPECT_TRUE(writer_interrupt(thread, SIGUSR1));
	EXPECT_EQ(-EINTR, writer_join(thread));
	EXPECT_LE(1, signals_seen);
}

TEST_F(read, poll_says_readable_while_an_event_is_undelivered)
{
	struct pgprotect_event event;

	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	raise_event(&self->subject, 0);
	raise_event(&self->subject, 1);
	EXPECT_TRUE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(RECORD, read_bytes(self->ctx, &event, RECORD));
	EXPECT_TRUE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(RECORD, read_bytes(self->ctx, &event, RECORD));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

static long op_poll(struct writer *self)
{
	return ctx_readable(*(int *)self->arg, DEADLINE_MS);
}

TEST_F(read, poll_wakes_at_an_event)
{
	struct writer *thread = writer_thread(op_poll, &self->ctx);

	EXPECT_TRUE(writer_sleeps(thread));
	EXPECT_FALSE(writer_done(thread));
	raise_event(&self->subject, 0);
	EXPECT_EQ(1, writer_join(thread));
}

TEST_F(read, select_says_readable)
{
	struct timeval none = { 0 };
	fd_set set;

	FD_ZERO(&set);
	FD_SET(self->ctx, &set);
	EXPECT_EQ(0, select(self->ctx + 1, &set, NULL, NULL, &none));
	raise_event(&self->subject, 0);
	FD_SET(self->ctx, &set);
	EXPECT_EQ(1, select(self->ctx + 1, &set, NULL, NULL, &none));
	EXPECT_TRUE(FD_ISSET(self->ctx, &set));
}

static int epoll_of(int ctx, uint32_t events)
{
	struct epoll_event event = { .events = events };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, ctx, &event))
		die("epoll of a context");
	return epoll;
}

TEST_F(read, epoll_by_level_repeats_until_the_event_is_read)
{
	int epoll = epoll_of(self->ctx, EPOLLIN);
	struct pgprotect_event event;
	struct epoll_event got;

	EXPECT_EQ(0, epoll_wait(epoll, &got, 1, 0));
	raise_event(&self->subject, 0);
	EXPECT_EQ(1, epoll_wait(epoll, &got, 1, 0));
	EXPECT_EQ(EPOLLIN, got.events & EPOLLIN);
	EXPECT_EQ(1, epoll_wait(epoll, &got, 1, 0));
	EXPECT_EQ(RECORD, read_bytes(self->ctx, &event, RECORD));
	EXPECT_EQ(0, epoll_wait(epoll, &got, 1, 0));
	close(epoll);
}

TEST_F(read, epoll_by_edge_tells_each_new_event)
{
	int epoll = epoll_of(self->ctx, EPOLLIN | EPOLLET);
	struct epoll_event got;

	raise_event(&self->subject, 0);
	EXPECT_EQ(1, epoll_wait(epoll, &got, 1, 0));
	EXPECT_EQ(0, epoll_wait(epoll, &got, 1, 0));
	raise_event(&self->subject, 1);
	EXPECT_EQ(1, epoll_wait(epoll, &got, 1, 0));
	EXPECT_EQ(0, epoll_wait(epoll, &got, 1, 0));
	close(epoll);
}

TEST_F(read, fionread_counts_the_bytes_of_undelivered_events)
{
	struct pgprotect_event event;
	int bytes = -1;

	EXPECT_EQ(0, ctx_ioctl(self->ctx, FIONREAD, &bytes));
	EXPECT_EQ(0, bytes);
	for (int i = 0; i < 3; i++)
		raise_event(&self->subject, i);
	EXPECT_EQ(0, ctx_ioctl(self->ctx, FIONREAD, &bytes));
	EXPECT_EQ(3 * RECORD, bytes);
	EXPECT_EQ(RECORD, read_bytes(self->ctx, &event, RECORD));
	EXPECT_EQ(0, ctx_ioctl(self->ctx, FIONREAD, &bytes));
	EXPECT_EQ(2 * RECORD, bytes);
}

TEST_F(read, fionread_into_nowhere_is_a_fault)
{
	EXPECT_EQ(-EFAULT, ctx_ioctl(self->ctx, FIONREAD, nowhere));
}

TEST_F(read, deny_without_notify_raises_no_event)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_DENY, 0);

	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(subject.file.map, 1));
	EXPECT_FALSE(ctx_readable(subject.ctx, 0));
	subject_close(&subject);
}

TEST_HARNESS_MAIN
