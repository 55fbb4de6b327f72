// SPDX-License-Identifier: GPL-2.0
/* Stalled writers and signals, stops, fork, exec and exit. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

FIXTURE(stalled) {
	struct subject subject;
	struct access access;
};

FIXTURE_SETUP(stalled)
{
	self->subject = subject_protected(4, PGPROTECT_MODE_STALL, 0);
	self->access = (struct access){
		.fd = self->subject.file.fd, .map = self->subject.file.map,
		.offset = page_size(), .value = 'v',
	};
}

FIXTURE_TEARDOWN(stalled)
{
	subject_close(&self->subject);
}

static bool release(struct subject *subject)
{
	return ctx_unprotect_all(subject->ctx, subject->id) == 0;
}

static char written(struct subject *subject)
{
	return subject->file.map[page_size()];
}

static long op_pwrite_all(struct writer *self)
{
	static char data[4 * 4096];
	struct access *access = self->arg;

	return pwrite_bytes(access->fd, data, access->length, access->offset);
}

TEST_F(stalled, store_runs_the_signal_handler_and_is_tried_again)
{
	struct writer *writer;

	count_signal(SIGUSR1, 0);
	writer = writer_thread(op_store, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	for (unsigned int i = 1; i <= 3; i++) {
		writer_kill(writer, SIGUSR1);
		EXPECT_TRUE(WAIT_FOR(signals_seen == i));
		EXPECT_TRUE(writer_stalled(writer));
	}
	EXPECT_EQ(0, written(&self->subject));
	EXPECT_TRUE(release(&self->subject));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('v', written(&self->subject));
}

TEST_F(stalled, write_is_interrupted_without_restart)
{
	struct writer *writer;

	count_signal(SIGUSR1, 0);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	writer_kill(writer, SIGUSR1);
	EXPECT_EQ(-EINTR, writer_join(writer));
	EXPECT_EQ(1, signals_seen);
	EXPECT_EQ(0, written(&self->subject));
	EXPECT_TRUE(WAIT_FOR(ctx_fdinfo(self->subject.ctx, "stalled") == 0));
	EXPECT_FALSE(ctx_readable(self->subject.ctx, 0));
}

TEST_F(stalled, write_goes_on_waiting_with_restart)
{
	struct writer *writer;

	count_signal(SIGUSR1, SA_RESTART);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	writer_kill(writer, SIGUSR1);
	EXPECT_TRUE(WAIT_FOR(signals_seen == 1));
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, written(&self->subject));
	EXPECT_TRUE(release(&self->subject));
	EXPECT_EQ(1, writer_join(writer));
	EXPECT_EQ('v', written(&self->subject));
}

/* Delivers the event of a stalled writer, then lets a signal interrupt it. */
static uint64_t event_of_interrupted(struct subject *subject, struct writer *writer)
{
	struct pgprotect_event event;

	if (ctx_read_event(subject->ctx, &event))
		die("no event");
	writer_kill(writer, SIGUSR1);
	if (!WAIT_FOR(signals_seen == 1))
		die("the signal handler does not run");
	return event.id;
}

TEST_F(stalled, interrupted_store_comes_back_with_a_new_event)
{
	struct pgprotect_event again;
	struct writer *writer;
	uint64_t first;

	count_signal(SIGUSR1, 0);
	writer = writer_thread(op_store, &self->access);
	first = event_of_interrupted(&self->subject, writer);
	ASSERT_EQ(0, ctx_read_event(self->subject.ctx, &again));
	EXPECT_NE(first, again.id);
	EXPECT_EQ(1, again.waiters);
	EXPECT_EQ(1, ctx_verdict(self->subject.ctx, first, PGPROTECT_ALLOW, 0));
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_verdict(self->subject.ctx, again.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(stalled, verdict_for_an_interrupted_write_is_stale)
{
	struct writer *writer;
	uint64_t id;

	count_signal(SIGUSR1, 0);
	writer = writer_thread(op_pwrite, &self->access);
	id = event_of_interrupted(&self->subject, writer);
	EXPECT_EQ(-EINTR, writer_join(writer));
	EXPECT_EQ(1, ctx_verdict(self->subject.ctx, id, PGPROTECT_ALLOW, 0));
	/* A stale ALLOW has released nothing. */
	EXPECT_EQ(-EDEADLK, write_page(self->subject.file.fd, 1, 1));
}

static void kill_stalled(struct __test_metadata *_metadata, struct subject *subject,
			 struct writer *writer, int sig)
{
	int status;

	EXPECT_TRUE(writer_stalled(writer));
	writer_kill(writer, sig);
	status = writer_wait(writer);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(sig, WTERMSIG(status));
	EXPECT_EQ(0, written(subject));
	EXPECT_TRUE(WAIT_FOR(ctx_fdinfo(subject->ctx, "stalled") == 0));
	EXPECT_FALSE(ctx_readable(subject->ctx, 0));
}

TEST_F(stalled, killed_store_takes_its_event_along)
{
	kill_stalled(_metadata, &self->subject, writer_fork(op_store, &self->access), SIGKILL);
}

TEST_F(stalled, killed_write_takes_its_event_along)
{
	kill_stalled(_metadata, &self->subject, writer_fork(op_pwrite, &self->access), SIGKILL);
}

TEST_F(stalled, store_dies_by_an_unhandled_signal)
{
	kill_stalled(_metadata, &self->subject, writer_fork(op_store, &self->access), SIGTERM);
}

TEST_F(stalled, write_dies_by_an_unhandled_signal)
{
	kill_stalled(_metadata, &self->subject, writer_fork(op_pwrite, &self->access), SIGTERM);
}

TEST_F(stalled, verdict_for_a_killed_writer_is_stale)
{
	struct writer *writer = writer_fork(op_store, &self->access);
	struct pgprotect_event event;

	ASSERT_EQ(0, ctx_read_event(self->subject.ctx, &event));
	EXPECT_EQ(writer->pid, event.pid);
	writer_kill(writer, SIGKILL);
	writer_wait(writer);
	EXPECT_TRUE(WAIT_FOR(ctx_fdinfo(self->subject.ctx, "stalled") == 0));
	EXPECT_EQ(1, ctx_verdict(self->subject.ctx, event.id, PGPROTECT_ALLOW, 0));
}

TEST_F(stalled, killing_one_of_two_writers_leaves_the_other)
{
	struct writer *one = writer_fork(op_store, &self->access);
	struct writer *two;
	struct pgprotect_event event;

	EXPECT_TRUE(writer_stalled(one));
	two = writer_thread(op_store, &self->access);
	EXPECT_TRUE(ctx_wait_stalled(self->subject.ctx, 2));
	writer_kill(one, SIGKILL);
	writer_wait(one);
	EXPECT_TRUE(ctx_wait_stalled(self->subject.ctx, 1));
	ASSERT_EQ(0, ctx_read_event(self->subject.ctx, &event));
	EXPECT_EQ(1, event.waiters);
	EXPECT_EQ(0, ctx_verdict(self->subject.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(two));
}

static void stop_and_continue(struct __test_metadata *_metadata, struct subject *subject,
			      struct writer *writer)
{
	EXPECT_TRUE(writer_stalled(writer));
	writer_kill(writer, SIGSTOP);
	EXPECT_TRUE(WAIT_FOR(task_state(writer->tid) == 'T'));
	writer_kill(writer, SIGCONT);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, written(subject));
	EXPECT_TRUE(release(subject));
	writer_join(writer);
	EXPECT_EQ('v', written(subject));
}

/* A handler that was told of one page must not release those that others wait for. */
TEST_F(stalled, event_handed_over_to_a_longer_write_stays_as_delivered)
{
	struct access run = self->access;
	struct pgprotect_event event;
	struct writer *one, *long_write;

	run.length = 3 * page_size();
	one = writer_fork(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(one));
	long_write = writer_fork(op_pwrite_all, &run);
	EXPECT_TRUE(ctx_wait_stalled(self->subject.ctx, 2));
	ASSERT_EQ(0, ctx_read_event(self->subject.ctx, &event));
	ASSERT_EQ(page_size(), event.length);
	writer_kill(one, SIGKILL);
	writer_wait(one);

	ASSERT_EQ(0, ctx_verdict(self->subject.ctx, event.id, PGPROTECT_ALLOW, 0));
	ASSERT_EQ(0, ctx_read_event(self->subject.ctx, &event));
	EXPECT_EQ(2 * page_size(), event.offset);
	EXPECT_EQ(2 * page_size(), event.length);
	EXPECT_EQ(0, written(&self->subject));
	EXPECT_TRUE(release(&self->subject));
	EXPECT_EQ(3 * (long)page_size(), writer_join(long_write));
}

TEST_F(stalled, store_can_be_stopped_and_continued)
{
	struct writer *writer = writer_fork(op_store, &self->access);

	stop_and_continue(_metadata, &self->subject, writer);
	EXPECT_EQ(0, writer->result);
}

TEST_F(stalled, write_can_be_stopped_and_continued)
{
	struct writer *writer = writer_fork(op_pwrite, &self->access);

	stop_and_continue(_metadata, &self->subject, writer);
	EXPECT_EQ(1, writer->result);
}

TEST_F(stalled, writer_stopped_during_the_release_is_not_stuck)
{
	struct writer *writer = writer_fork(op_store, &self->access);

	EXPECT_TRUE(writer_stalled(writer));
	writer_kill(writer, SIGSTOP);
	EXPECT_TRUE(WAIT_FOR(task_state(writer->tid) == 'T'));
	EXPECT_TRUE(release(&self->subject));
	writer_kill(writer, SIGCONT);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('v', written(&self->subject));
}

/* Reads the protected memory and stores to its own. */
static int live_beside(void *arg)
{
	struct subject *subject = arg;

	return subject->file.map[page_size()] == 0 ? 5 : 6;
}

TEST_F(stalled, process_can_fork_while_its_thread_stalls)
{
	struct writer *writer = writer_thread(op_store, &self->access);
	struct writer *child;

	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(5, run_as(0, live_beside, &self->subject));
	child = writer_fork(op_store, &self->access);
	EXPECT_TRUE(ctx_wait_stalled(self->subject.ctx, 2));
	EXPECT_TRUE(release(&self->subject));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(0, writer_join(child));
}

/* A process whose other thread stalls: then it leaves as told. */
struct leaver {
	struct access access;
	bool by_exec;
};

static int leave_while_stalled(void *arg)
{
	struct leaver *leaver = arg;
	struct writer *writer = writer_thread(op_store, &leaver->access);

	if (!writer_stalled(writer))
		return 1;
	if (leaver->by_exec)
		execl("/bin/sh", "sh", "-c", "exit 8", NULL);
	return 7;
}

TEST_F(stalled, process_can_exit_while_its_thread_stalls)
{
	struct leaver leaver = { .access = self->access };

	EXPECT_EQ(7, run_as(0, leave_while_stalled, &leaver));
	EXPECT_TRUE(WAIT_FOR(ctx_fdinfo(self->subject.ctx, "stalled") == 0));
	EXPECT_EQ(0, written(&self->subject));
}

TEST_F(stalled, process_can_exec_while_its_thread_stalls)
{
	struct leaver leaver = { .access = self->access, .by_exec = true };

	EXPECT_EQ(8, run_as(0, leave_while_stalled, &leaver));
	EXPECT_TRUE(WAIT_FOR(ctx_fdinfo(self->subject.ctx, "stalled") == 0));
	EXPECT_EQ(0, written(&self->subject));
}

TEST_HARNESS_MAIN
