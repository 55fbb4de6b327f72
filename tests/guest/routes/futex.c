// SPDX-License-Identifier: GPL-2.0
/* Words in protected pages that the kernel changes for its caller: futexes, thread ids. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

static long futex(void *word, int op, uint32_t value, unsigned long value2, void *word2,
		  uint32_t value3)
{
	long ret = syscall(SYS_futex, word, op, value, value2, word2, value3);

	return ret < 0 ? -errno : ret;
}

static uint32_t *word_at(struct attempt *attempt)
{
	return (uint32_t *)(attempt->file.map + attempt->at);
}

static void put_word(struct image *image, uint64_t at, uint32_t word)
{
	memcpy(image->data + at, &word, sizeof(word));
}

/* The first word is elsewhere: only the second, which the kernel sets, is protected. */
static long by_wake_op(struct attempt *attempt)
{
	static uint32_t unprotected;
	uint32_t set = 0x123;

	route_ready(attempt);
	return futex(&unprotected, FUTEX_WAKE_OP, 1, 1, word_at(attempt),
		     FUTEX_OP(FUTEX_OP_SET, set, FUTEX_OP_CMP_EQ, 0xfff));
}

static void expect_0x123(struct attempt *attempt, struct image *image)
{
	put_word(image, attempt->at, 0x123);
}

static long by_wake_op_add(struct attempt *attempt)
{
	static uint32_t unprotected;

	route_ready(attempt);
	return futex(&unprotected, FUTEX_WAKE_OP, 1, 1, word_at(attempt),
		     FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0xfff));
}

static void expect_one_more(struct attempt *attempt, struct image *image)
{
	image->data[attempt->at]++;
}

/* The word is free, but taken by the kernel, not by a store of the caller. */
static long by_lock_pi(struct attempt *attempt)
{
	*word_at(attempt) = 0;
	route_ready(attempt);
	return futex(word_at(attempt), FUTEX_LOCK_PI, 0, 0, NULL, 0);
}

static void expect_owner(struct attempt *attempt, struct image *image)
{
	put_word(image, attempt->at, attempt->writer->tid);
}

static long by_trylock_pi(struct attempt *attempt)
{
	*word_at(attempt) = 0;
	route_ready(attempt);
	return futex(word_at(attempt), FUTEX_TRYLOCK_PI, 0, 0, NULL, 0);
}

static long by_unlock_pi(struct attempt *attempt)
{
	*word_at(attempt) = gettid();
	route_ready(attempt);
	return futex(word_at(attempt), FUTEX_UNLOCK_PI, 0, 0, NULL, 0);
}

static void expect_free(struct attempt *attempt, struct image *image)
{
	put_word(image, attempt->at, 0);
}

/* A locked and a free robust mutex cost one store each; the kernel has no part in it. */
static long by_robust_mutex(struct attempt *attempt)
{
	pthread_mutex_t *mutex = (void *)(attempt->file.map + attempt->at);
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(mutex, &attr);
	route_ready(attempt);
	if (attempt->mode == PGPROTECT_MODE_DENY && store_at(attempt, attempt->file.map))
		return GOT_SIGBUS;
	return pthread_mutex_lock(mutex) + pthread_mutex_unlock(mutex);
}

/* CLONE_CHILD_SETTID: the kernel writes in the child, before it runs. */
static long by_child_settid(struct attempt *attempt)
{
	pid_t pid;

	route_ready(attempt);
	pid = syscall(SYS_clone, CLONE_PARENT_SETTID | SIGCHLD, NULL, word_at(attempt), NULL, 0);
	if (!pid)
		_exit(0);
	if (pid < 0)
		return -errno;
	waitpid(pid, NULL, 0);
	return 0;
}

/*
 * Of a futex that is private to its process the kernel does not look for the page first:
 * it finds out when it changes the word, with page faults disabled.
 */
static long by_private_wake_op(struct attempt *attempt)
{
	static uint32_t unprotected;

	route_ready(attempt);
	return futex(&unprotected, FUTEX_WAKE_OP_PRIVATE, 1, 1, word_at(attempt),
		     FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0xfff));
}

static long by_private_lock_pi(struct attempt *attempt)
{
	*word_at(attempt) = 0;
	route_ready(attempt);
	return futex(word_at(attempt), FUTEX_LOCK_PI_PRIVATE, 0, 0, NULL, 0);
}

static long by_private_unlock_pi(struct attempt *attempt)
{
	*word_at(attempt) = gettid();
	route_ready(attempt);
	return futex(word_at(attempt), FUTEX_UNLOCK_PI_PRIVATE, 0, 0, NULL, 0);
}

ROUTE_FAMILY(kernel_word);

#define WORD(name, function, expected, ...)					\
	ROUTE_ADD(kernel_word, name, .op = function, .at = 5 * PAGE + 8, .length = 4,	\
		  .denied = -EFAULT, .expect = expected, ##__VA_ARGS__)

WORD(futex_wake_op_set, by_wake_op, expect_0x123)
WORD(futex_wake_op_add, by_wake_op_add, expect_one_more)
WORD(futex_wake_op_sysv_shm, by_wake_op, expect_0x123, .kind = FILE_SYSV)
WORD(futex_lock_pi, by_lock_pi, expect_owner)
WORD(futex_lock_pi_by_thread, by_lock_pi, expect_owner, .thread = true)
WORD(futex_trylock_pi, by_trylock_pi, expect_owner)
WORD(futex_unlock_pi, by_unlock_pi, expect_free)
WORD(futex_wake_op_private, by_private_wake_op, expect_one_more)
WORD(futex_lock_pi_private, by_private_lock_pi, expect_owner)
WORD(futex_unlock_pi_private, by_private_unlock_pi, expect_free)
ROUTE_ADD(kernel_word, robust_pi_mutex, .op = by_robust_mutex, .at = 5 * PAGE + 64,
	  .length = sizeof(pthread_mutex_t), .denied = GOT_SIGBUS, .unchecked_content = true)

/* The kernel ignores that it could not tell the parent: the clone succeeds. */
TEST(clone_that_cannot_set_the_thread_id_still_succeeds)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_DENY, 0);
	struct route route = { .at = 8 };
	struct attempt attempt = { .route = &route, .file = subject.file, .at = 8 };
	struct writer writer = { .go = 1 };

	attempt.writer = &writer;
	EXPECT_EQ(0, by_child_settid(&attempt));
	EXPECT_EQ(0, subject.file.map[8]);
}

FIXTURE(shared_word) {
	struct subject subject;
	uint32_t *word;
};

FIXTURE_SETUP(shared_word)
{
	self->subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	self->word = (uint32_t *)(self->subject.file.map + 5 * PAGE);
}

FIXTURE_TEARDOWN(shared_word)
{
	subject_close(&self->subject);
}

static long op_wait_for_another_value(struct writer *self)
{
	struct _test_data_shared_word *shared = self->arg;

	return futex(shared->word, FUTEX_WAIT, 77, 0, NULL, 0);
}

/* To wait on a word is not to write it, though the kernel takes its page so. */
TEST_F(shared_word, waiting_on_a_protected_word_ends_well_when_released)
{
	struct subject *s = &self->subject;
	struct handler *handler;
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	handler = handler_start(s->ctx, HANDLER_ALLOW, 0);
	writer = writer_fork(op_wait_for_another_value, self);
	EXPECT_EQ(-EAGAIN, writer_join(writer));
	handler_stop(handler);
}

TEST_F(shared_word, waiting_on_a_word_refused_by_deny_ends_well)
{
	struct subject *s = &self->subject;
	uint32_t deny = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, deny));
	writer = writer_fork(op_wait_for_another_value, self);
	EXPECT_EQ(-EAGAIN, writer_join(writer));
}

static long op_wait_until_woken(struct writer *self)
{
	struct _test_data_shared_word *shared = self->arg;

	self->progress = 1;
	return futex(shared->word, FUTEX_WAIT, 0, 0, NULL, 0);
}

/* Who slept before PROTECT is woken by a wake of the protected word. */
TEST_F(shared_word, wake_of_a_protected_word_needs_no_release)
{
	struct subject *s = &self->subject;
	uint32_t deny = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	struct writer *writer = writer_fork(op_wait_until_woken, self);

	ASSERT_TRUE(WAIT_FOR(writer->progress) && writer_sleeps(writer));
	ASSERT_EQ(0, ctx_protect_all(s->ctx, deny));
	EXPECT_TRUE(WAIT_FOR(futex(self->word, FUTEX_WAKE, 1, 0, NULL, 0) == 1));
	EXPECT_EQ(0, writer_join(writer));
}

static long op_contend_for_pi(struct writer *self)
{
	struct _test_data_shared_word *shared = self->arg;

	return futex(shared->word, FUTEX_LOCK_PI, 0, 0, NULL, 0);
}

static long op_hold_pi(struct writer *self)
{
	struct _test_data_shared_word *shared = self->arg;

	if (futex(shared->word, FUTEX_LOCK_PI, 0, 0, NULL, 0))
		return -errno;
	writer_checkpoint(self);
	return futex(shared->word, FUTEX_UNLOCK_PI, 0, 0, NULL, 0);
}

/* The kernel marks the word for the waiter, and hands it over when the owner lets go. */
TEST_F(shared_word, contended_pi_lock_waits_at_the_gate_and_is_then_handed_over)
{
	struct subject *s = &self->subject;
	struct writer *owner = writer_fork(op_hold_pi, self), *next;
	struct pgprotect_event event;
	uint32_t word;

	writer_wait_ready(owner);
	word = *self->word;
	EXPECT_EQ(owner->tid, (pid_t)word);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	next = writer_fork(op_contend_for_pi, self);
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(5 * PAGE, event.offset);
	EXPECT_TRUE(HOLDS_FOR(20, *(volatile uint32_t *)self->word == word));
	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_TRUE(WAIT_FOR(*(volatile uint32_t *)self->word == (word | FUTEX_WAITERS)));

	/* Protected again: to unlock is a write as well. */
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	writer_go(owner);
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(word | FUTEX_WAITERS, *self->word);
	EXPECT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	EXPECT_EQ(0, writer_join(owner));
	EXPECT_EQ(0, writer_join(next));
	EXPECT_EQ(next->tid, (pid_t)(*self->word & FUTEX_TID_MASK));
}

static int exit_when_told(void *writer)
{
	writer_checkpoint(writer);
	return 0;
}

/* The kernel clears the word for who else is in the address space: there has to be one. */
static long op_exit_with_tid_in(struct writer *self)
{
	static char stack[64 * 1024] __attribute__((aligned(16)));
	struct _test_data_shared_word *shared = self->arg;
	int status;
	pid_t pid;

	*shared->word = gettid();
	pid = clone(exit_when_told, stack + sizeof(stack),
		    CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, self, NULL, NULL, shared->word);
	return pid < 0 || waitpid(pid, &status, 0) != pid ? -errno : status;
}

/*
 * Who exits waits for nobody. The kernel would clear the word, and wake who
 * waits for it, but not when that is forbidden.
 */
TEST_F(shared_word, exit_with_the_thread_id_in_a_protected_page_does_not_wait)
{
	struct subject *s = &self->subject;
	struct writer *writer = writer_fork(op_exit_with_tid_in, self);
	uint32_t word;

	writer_wait_ready(writer);
	word = *self->word;
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(word, *self->word);
	EXPECT_TRUE(ctx_wait_stalled(s->ctx, 0));
}

TEST_F(shared_word, exit_with_the_thread_id_in_an_unprotected_page_clears_it)
{
	struct subject *s = &self->subject;
	struct writer *writer = writer_fork(op_exit_with_tid_in, self);

	writer_wait_ready(writer);
	ASSERT_NE(0, *self->word);
	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 0, PAGE));
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(0, *self->word);
}

struct robust {
	struct robust_list_head head;
	struct robust_list node;
	uint32_t word;
};

static long op_exit_with_robust_lock(struct writer *self)
{
	struct _test_data_shared_word *shared = self->arg;
	struct robust *robust = (void *)shared->word;

	robust->word = gettid();
	robust->node.next = &robust->head.list;
	robust->head.list.next = &robust->node;
	robust->head.futex_offset = offsetof(struct robust, word) - offsetof(struct robust, node);
	if (syscall(SYS_set_robust_list, &robust->head, sizeof(robust->head)))
		return -errno;
	writer_checkpoint(self);
	return 0;
}

TEST_F(shared_word, exit_with_a_robust_lock_in_a_protected_page_does_not_wait)
{
	struct subject *s = &self->subject;
	struct writer *writer = writer_fork(op_exit_with_robust_lock, self);
	struct robust *robust = (void *)self->word;
	uint32_t word;

	writer_wait_ready(writer);
	word = robust->word;
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(word, robust->word);
}

/* The same without protection, so that the above shows what it seems to. */
TEST_F(shared_word, exit_with_a_robust_lock_marks_the_unprotected_word)
{
	struct writer *writer = writer_fork(op_exit_with_robust_lock, self);
	struct robust *robust = (void *)self->word;

	writer_wait_ready(writer);
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_TRUE(robust->word & FUTEX_OWNER_DIED);
}

TEST_HARNESS_MAIN
