// SPDX-License-Identifier: GPL-2.0
/* Signal frames that the kernel puts on a stack in protected memory. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

#define STACK_SIZE	(16 * PAGE)

FIXTURE(frame) {
	struct subject subject;
	struct image before;
};

FIXTURE_SETUP(frame)
{
	self->subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	image_read(self->subject.file.fd, &self->before);
}

FIXTURE_TEARDOWN(frame)
{
	subject_close(&self->subject);
	image_free(&self->before);
}

static _Atomic int handled;

static void on_signal(int sig)
{
	handled = sig;
}

static void use_stack(void *stack)
{
	stack_t alt = { .ss_sp = stack, .ss_size = STACK_SIZE };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	if (sigaltstack(&alt, NULL) || sigaction(SIGUSR1, &action, NULL))
		die("alternate stack");
}

static long op_raise_on_protected_stack(struct writer *self)
{
	struct _test_data_frame *frame = self->arg;

	use_stack(frame->subject.file.map);
	writer_checkpoint(self);
	raise(SIGUSR1);
	return handled;
}

TEST_F(frame, on_a_protected_alternate_stack_waits_and_is_then_delivered)
{
	struct subject *s = &self->subject;
	struct writer *writer = writer_fork(op_raise_on_protected_stack, self);
	struct handler *handler;
	struct pgprotect_event event;

	writer_wait_ready(writer);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	handler = handler_start(s->ctx, HANDLER_HOLD, 0);
	writer_go(writer);
	ASSERT_TRUE(handler_wait(handler, 1));
	event = handler_event(handler, 0);
	EXPECT_EQ(PGPROTECT_ORIGIN_STORE, event.origin);
	EXPECT_GT(STACK_SIZE, event.offset);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
	handler_set(handler, HANDLER_ALLOW, 0);
	EXPECT_EQ(SIGUSR1, writer_join(writer));
	EXPECT_FALSE(image_is(s->file.fd, &self->before));
	handler_stop(handler);
}

TEST_F(frame, on_a_stack_refused_by_deny_kills_as_a_bad_stack_does)
{
	struct subject *s = &self->subject;
	uint32_t deny = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	struct writer *writer = writer_fork(op_raise_on_protected_stack, self);
	int status;

	writer_wait_ready(writer);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, deny));
	writer_go(writer);
	status = writer_wait(writer);
	ASSERT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

TEST_F(frame, that_waits_can_be_killed)
{
	struct subject *s = &self->subject;
	struct writer *writer = writer_fork(op_raise_on_protected_stack, self);

	writer_wait_ready(writer);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	writer_go(writer);
	ASSERT_TRUE(writer_stalled(writer));
	writer_kill(writer, SIGKILL);
	EXPECT_EQ(SIGKILL, WTERMSIG(writer_wait(writer)));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

static void *thread_on_stack(void *arg)
{
	char local[2 * PAGE];

	memset(local, 1, sizeof(local));
	asm volatile("" : : "r"(local) : "memory");
	return arg;
}

/* Not the kernel but each push and call: all of a thread's life on protected pages. */
static long op_thread_on_protected_stack(struct writer *self)
{
	struct _test_data_frame *frame = self->arg;
	pthread_attr_t attr;
	pthread_t thread;
	void *result = NULL;

	pthread_attr_init(&attr);
	pthread_attr_setstack(&attr, frame->subject.file.map, ROUTE_SIZE);
	writer_checkpoint(self);
	errno = pthread_create(&thread, &attr, thread_on_stack, self);
	if (errno)
		return -errno;
	pthread_join(thread, &result);
	return result == self ? 0 : -EINVAL;
}

TEST_F(frame, thread_whose_stack_is_protected_runs_page_by_page)
{
	struct subject *s = &self->subject;
	struct writer *writer = writer_fork(op_thread_on_protected_stack, self);
	struct handler *handler;

	writer_wait_ready(writer);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	handler = handler_start(s->ctx, HANDLER_ALLOW, 0);
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_LE(3, handler_count(handler));
	handler_stop(handler);
}

TEST_HARNESS_MAIN
