// SPDX-License-Identifier: GPL-2.0
/* The longest stall: by attachment, by sysctl, and what happens at its end. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define LIMIT_MS	400
#define LIMIT_NS	(LIMIT_MS * 1000000ULL)

FIXTURE(limit) {
	struct test_file file;
	int ctx;
	long sysctl;
	struct access access;
};

FIXTURE_SETUP(limit)
{
	self->file = file_memfd(2);
	self->ctx = ctx_open();
	self->sysctl = stall_limit_read();
	self->access = (struct access){
		.fd = self->file.fd, .map = self->file.map, .value = 'v',
	};
}

FIXTURE_TEARDOWN(limit)
{
	stall_limit_write(self->sysctl);
	close(self->ctx);
	file_close(&self->file);
}

static uint32_t protect_with_limit(int ctx, int fd, uint64_t flags, uint32_t ms)
{
	uint32_t id = ctx_attach_limit(ctx, fd, PGPROTECT_MODE_STALL, flags, ms);

	if (ctx_protect_all(ctx, id))
		die("protect");
	return id;
}

/* Fetches the STALL event at once, so that it is not gone when the writer is. */
static struct writer *stall_and_fetch(int ctx, long (*op)(struct writer *),
				      struct access *access, struct pgprotect_event *event)
{
	struct writer *writer = writer_thread(op, access);

	if (ctx_read_event(ctx, event) || event->type != PGPROTECT_EVENT_STALL)
		die("no STALL event");
	return writer;
}

TEST_F(limit, write_fails_with_etimedout_not_before_the_limit)
{
	struct pgprotect_event stall, timeout;
	uint64_t start = now_ns();
	struct writer *writer;

	protect_with_limit(self->ctx, self->file.fd, 0, LIMIT_MS);
	writer = stall_and_fetch(self->ctx, op_pwrite, &self->access, &stall);
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer));
	EXPECT_LE(start + LIMIT_NS, now_ns());
	EXPECT_EQ(0, self->file.map[0]);
	ASSERT_EQ(0, ctx_read_event(self->ctx, &timeout));
	EXPECT_EQ(PGPROTECT_EVENT_TIMEOUT, timeout.type);
	EXPECT_EQ(stall.id, timeout.id);
	EXPECT_EQ(stall.offset, timeout.offset);
	EXPECT_EQ(COOKIE(self->file.fd), timeout.cookie);
	EXPECT_EQ(1, ctx_verdict(self->ctx, stall.id, PGPROTECT_ALLOW, 0));
}

TEST_F(limit, store_gets_sigbus_and_the_page_stays_protected)
{
	struct pgprotect_event stall, timeout;

	protect_with_limit(self->ctx, self->file.fd, 0, LIMIT_MS);
	for (int i = 0; i < 2; i++) {
		struct writer *writer = stall_and_fetch(self->ctx, op_store, &self->access,
							&stall);

		EXPECT_EQ(GOT_SIGBUS, writer_join(writer));
		EXPECT_EQ(0, self->file.map[0]);
		ASSERT_EQ(0, ctx_read_event(self->ctx, &timeout));
		EXPECT_EQ(PGPROTECT_EVENT_TIMEOUT, timeout.type);
		EXPECT_EQ(stall.id, timeout.id);
	}
}

TEST_F(limit, timeout_release_lets_the_writer_go_on_and_frees_the_page)
{
	struct pgprotect_event stall, timeout;
	struct writer *writer;

	protect_with_limit(self->ctx, self->file.fd, PGPROTECT_ATTACH_TIMEOUT_RELEASE, LIMIT_MS);
	writer = stall_and_fetch(self->ctx, op_store, &self->access, &stall);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('v', self->file.map[0]);
	ASSERT_EQ(0, ctx_read_event(self->ctx, &timeout));
	EXPECT_EQ(PGPROTECT_EVENT_TIMEOUT, timeout.type);
	EXPECT_EQ(stall.id, timeout.id);
	/* As a handler this thread would get EDEADLK if it were protected. */
	EXPECT_EQ(1, write_page(self->file.fd, 0, 'x'));
	EXPECT_EQ(-EDEADLK, write_page(self->file.fd, 1, 'x'));
}

TEST_F(limit, timeout_release_lets_a_write_go_on)
{
	struct pgprotect_event stall;
	struct writer *writer;

	protect_with_limit(self->ctx, self->file.fd, PGPROTECT_ATTACH_TIMEOUT_RELEASE, LIMIT_MS);
	writer = stall_and_fetch(self->ctx, op_pwrite, &self->access, &stall);
	EXPECT_EQ(1, writer_join(writer));
	EXPECT_EQ('v', self->file.map[0]);
}

TEST_F(limit, timeout_release_of_a_longer_write_takes_one_stall)
{
	struct pgprotect_event events[8];
	struct writer *writer;

	self->access.offset = page_size() - 100;
	self->access.length = 200;
	protect_with_limit(self->ctx, self->file.fd, PGPROTECT_ATTACH_TIMEOUT_RELEASE, LIMIT_MS);
	writer = stall_and_fetch(self->ctx, op_pwrite, &self->access, &events[0]);
	EXPECT_EQ(2 * page_size(), events[0].length);
	EXPECT_EQ(200, writer_join(writer));
	EXPECT_EQ(1, ctx_next(self->ctx, events, ARRAY_LEN(events), 0));
	EXPECT_EQ(PGPROTECT_EVENT_TIMEOUT, events[0].type);
	EXPECT_EQ(2 * page_size(), events[0].length);
}

TEST_F(limit, of_the_administrator_holds_without_one_of_the_attachment)
{
	uint64_t start = now_ns();
	struct pgprotect_event stall;
	struct writer *writer;

	stall_limit_write(LIMIT_MS);
	protect_with_limit(self->ctx, self->file.fd, 0, 0);
	writer = stall_and_fetch(self->ctx, op_pwrite, &self->access, &stall);
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer));
	EXPECT_LE(start + LIMIT_NS, now_ns());
}

TEST_F(limit, of_the_administrator_caps_that_of_the_attachment)
{
	struct pgprotect_event stall;
	struct writer *writer;

	stall_limit_write(LIMIT_MS);
	protect_with_limit(self->ctx, self->file.fd, 0, 1000000);
	writer = stall_and_fetch(self->ctx, op_pwrite, &self->access, &stall);
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer));
}

TEST_F(limit, of_the_attachment_holds_below_that_of_the_administrator)
{
	struct writer *writer;

	stall_limit_write(1000000);
	protect_with_limit(self->ctx, self->file.fd, 0, LIMIT_MS);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer));
}

TEST_F(limit, of_the_attachment_holds_though_the_administrator_sets_none)
{
	struct writer *writer;

	stall_limit_write(0);
	protect_with_limit(self->ctx, self->file.fd, 0, LIMIT_MS);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer));
}

TEST_F(limit, none_means_the_writer_waits_on)
{
	uint32_t id;
	struct writer *writer;

	stall_limit_write(0);
	id = protect_with_limit(self->ctx, self->file.fd, 0, 0);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_TRUE(HOLDS_FOR(2 * LIMIT_MS, !writer_done(writer)));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, id));
	EXPECT_EQ(1, writer_join(writer));
}

/* Each signal's handler runs in time, and the wait goes on where it was. */
static long interrupted(struct __test_metadata *_metadata, long (*op)(struct writer *),
			struct access *access)
{
	uint64_t start = now_ns();
	struct writer *writer = writer_thread(op, access);

	EXPECT_TRUE(WAIT_FOR(pthread_kill(writer->thread, SIGUSR1) || writer_done(writer)));
	EXPECT_LE(LIMIT_NS, now_ns() - start);
	EXPECT_LT(5, signals_seen);
	return writer_join(writer);
}

TEST_F(limit, is_reached_by_a_writer_that_handles_signals_all_the_time)
{
	count_signal(SIGUSR1, SA_RESTART);
	protect_with_limit(self->ctx, self->file.fd, 0, LIMIT_MS);
	EXPECT_EQ(GOT_SIGBUS, interrupted(_metadata, op_store, &self->access));
	EXPECT_EQ(-ETIMEDOUT, interrupted(_metadata, op_pwrite, &self->access));
	EXPECT_EQ(0, self->file.map[0]);
}

static _Atomic bool handler_runs, handler_may_end;

static void handle_for_a_while(int sig)
{
	handler_runs = true;
	while (!handler_may_end)
		pause_briefly();
}

static long op_store_twice(struct writer *self)
{
	long ret = op_store(self);

	writer_checkpoint(self);
	return ret ? ret : op_store(self);
}

TEST_F(limit, begins_anew_if_the_page_was_released_while_a_signal_was_handled)
{
	struct sigaction action = { .sa_handler = handle_for_a_while };
	uint32_t id = protect_with_limit(self->ctx, self->file.fd, 0, LIMIT_MS);
	struct writer *writer;
	uint64_t start;

	sigaction(SIGUSR1, &action, NULL);
	writer = writer_thread(op_store_twice, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_TRUE(HOLDS_FOR(LIMIT_MS / 2, !writer_done(writer)));
	pthread_kill(writer->thread, SIGUSR1);
	ASSERT_TRUE(WAIT_FOR(handler_runs));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, id));
	handler_may_end = true;
	writer_wait_ready(writer);
	EXPECT_EQ(0, ctx_protect_all(self->ctx, id));
	start = now_ns();
	writer_go(writer);
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer));
	EXPECT_LE(start + LIMIT_NS, now_ns());
}

TEST_F(limit, passing_unfetched_leaves_one_timeout_event_at_most)
{
	struct pgprotect_event events[4];
	struct writer *writer;
	int nr;

	protect_with_limit(self->ctx, self->file.fd, 0, LIMIT_MS);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer));
	nr = ctx_next(self->ctx, events, 4, 0);
	/* The STALL event went with its writer: it must not be delivered. */
	EXPECT_EQ(1, nr);
	EXPECT_EQ(PGPROTECT_EVENT_TIMEOUT, events[0].type);
}

TEST_HARNESS_MAIN
