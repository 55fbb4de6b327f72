// SPDX-License-Identifier: GPL-2.0
/* Processes that dump core: they read what is protected, and wait for nobody. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/memory.h"
#include "common/route.h"

#define PATTERN		"/proc/sys/kernel/core_pattern"
#define CORE		"/dev/shm/pgtest-core"
#define MARK		"this page was protected when its process died"

FIXTURE(dump) {
	struct subject subject;
	struct image before;
	char pattern[200];
};

FIXTURE_SETUP(dump)
{
	int fd = open(PATTERN, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, self->pattern, sizeof(self->pattern) - 1) < 0 ||
	    !write_text(PATTERN, CORE))
		SKIP(return, "no core dumps");
	close(fd);
	self->subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	file_fill(&self->subject.file);
	strcpy(self->subject.file.map + 5 * PAGE, MARK);
	image_read(self->subject.file.fd, &self->before);
	ASSERT_EQ(0, ctx_protect_all(self->subject.ctx, self->subject.id));
}

FIXTURE_TEARDOWN(dump)
{
	write_text(PATTERN, self->pattern);
	unlink(CORE);
	if (!self->subject.ctx)
		return;
	subject_close(&self->subject);
	image_free(&self->before);
}

static void die_by_abort(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &limit);
	signal(SIGABRT, SIG_DFL);
	abort();
}

static bool core_has(const char *text)
{
	struct stat stat_of;
	int fd = open(CORE, O_RDONLY | O_CLOEXEC);
	bool found = false;
	char *core;

	if (fd < 0)
		return false;
	if (!fstat(fd, &stat_of) && stat_of.st_size) {
		core = mmap(NULL, stat_of.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		found = core != MAP_FAILED && memmem(core, stat_of.st_size, text, strlen(text));
	}
	close(fd);
	return found;
}

TEST_F(dump, of_protected_memory_is_whole_and_raises_nothing)
{
	struct subject *s = &self->subject;
	pid_t pid = fork_child();
	int status;

	if (!pid)
		die_by_abort();
	status = wait_child(pid);
	ASSERT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status)) {
		TH_LOG("status %#x", status);
	}
	EXPECT_TRUE(core_has(MARK));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
}

static void *store_to_target(void *arg)
{
	struct subject *s = arg;

	s->file.map[5 * PAGE] = 'w';
	return NULL;
}

static long op_abort_beside_a_store(struct writer *self)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, store_to_target, self->arg))
		die("pthread_create");
	writer_checkpoint(self);
	die_by_abort();
	return 0;
}

TEST_F(dump, is_not_held_up_by_a_thread_that_waits)
{
	struct subject *s = &self->subject;
	struct writer *writer = writer_fork(op_abort_beside_a_store, s);
	int status;

	ASSERT_TRUE(ctx_wait_stalled(s->ctx, 1));
	writer_wait_ready(writer);
	writer_go(writer);
	status = writer_wait(writer);
	EXPECT_TRUE(WIFSIGNALED(status) && WCOREDUMP(status)) {
		TH_LOG("status %#x", status);
	}
	EXPECT_TRUE(ctx_wait_stalled(s->ctx, 0));
	EXPECT_TRUE(core_has(MARK));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

/* Refused, with the default action: a SIGBUS that dumps core. */
static long op_store_without_a_handler(struct writer *self)
{
	struct subject *s = self->arg;
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &limit);
	writer_checkpoint(self);
	s->file.map[5 * PAGE] = 'w';
	return 0;
}

TEST_F(dump, of_a_store_refused_by_deny_has_the_page_as_it_was)
{
	struct subject *s = &self->subject;
	uint32_t deny = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	struct writer *writer = writer_fork(op_store_without_a_handler, s);
	int status;

	writer_wait_ready(writer);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, deny));
	writer_go(writer);
	status = writer_wait(writer);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS && WCOREDUMP(status)) {
		TH_LOG("status %#x", status);
	}
	EXPECT_TRUE(core_has(MARK));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

TEST_HARNESS_MAIN
