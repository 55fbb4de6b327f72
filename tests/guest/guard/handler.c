// SPDX-License-Identifier: GPL-2.0
/* Handlers that misbehave: their writers go on by the rules, and nothing is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

#define LIMIT_MS	300

FIXTURE(handler) {
	struct test_file file;
	struct access access;
	struct access second;
};

FIXTURE_SETUP(handler)
{
	self->file = file_memfd(4);
	self->access = (struct access){
		.fd = self->file.fd, .map = self->file.map, .value = 'v',
	};
	self->second = self->access;
	self->second.offset = page_size();
}

FIXTURE_TEARDOWN(handler)
{
	file_close(&self->file);
}

/* What a handler process is to do with its context, beside holding it. */
struct job {
	int fd;			/* of the file */
	uint32_t stall_ms;
	uint64_t flags;
	void (*act)(int ctx);
};

static long op_handle(struct writer *self)
{
	struct job *job = self->arg;
	int ctx = ctx_open();
	uint32_t id = ctx_attach_limit(ctx, job->fd, PGPROTECT_MODE_STALL, job->flags,
				       job->stall_ms);

	if (ctx_protect_all(ctx, id))
		return -1;
	writer_checkpoint(self);
	if (job->act)
		job->act(ctx);
	else
		pause();
	return 0;
}

/* Fetches events, one a call, and answers each by ALLOW. */
static void act_serve(int ctx)
{
	struct pgprotect_event event;

	while (!ctx_read_event(ctx, &event))
		ctx_verdict(ctx, event.id, PGPROTECT_ALLOW, 0);
}

/* Fetches and never answers. */
static void act_hoard(int ctx)
{
	struct pgprotect_event events[64];

	while (ctx_next(ctx, events, 64, 1) >= 0)
		;
}

static struct writer *handler_process(struct job *job)
{
	struct writer *handler = writer_fork(op_handle, job);

	writer_wait_ready(handler);
	writer_go(handler);
	return handler;
}

TEST_F(handler, stopped_lets_writers_end_at_the_limit_and_serves_on_when_continued)
{
	struct job job = { .fd = self->file.fd, .stall_ms = LIMIT_MS, .act = act_serve };
	struct writer *handler = handler_process(&job);

	EXPECT_EQ(1, writer_join(writer_thread(op_pwrite, &self->access)));
	writer_kill(handler, SIGSTOP);
	ASSERT_TRUE(WAIT_FOR(task_state(handler->pid) == 'T'));
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer_thread(op_pwrite, &self->second)));
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_thread(op_store, &self->second)));
	EXPECT_EQ(0, self->file.map[page_size()]);
	writer_kill(handler, SIGCONT);
	EXPECT_EQ(1, writer_join(writer_thread(op_pwrite, &self->second)));
	writer_kill(handler, SIGKILL);
	writer_wait(handler);
}

TEST_F(handler, that_never_reads_lets_writers_end_at_the_limit)
{
	struct job job = { .fd = self->file.fd, .stall_ms = LIMIT_MS };
	struct writer *handler = handler_process(&job);

	EXPECT_EQ(-ETIMEDOUT, writer_join(writer_thread(op_pwrite, &self->access)));
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_thread(op_store, &self->access)));
	writer_kill(handler, SIGKILL);
	writer_wait(handler);
	EXPECT_EQ(1, writer_join(writer_thread(op_pwrite, &self->access)));
}

TEST_F(handler, that_reads_and_never_answers_lets_writers_end_at_the_limit)
{
	struct job job = {
		.fd = self->file.fd, .stall_ms = LIMIT_MS, .act = act_hoard,
		.flags = PGPROTECT_ATTACH_TIMEOUT_RELEASE,
	};
	struct writer *handler = handler_process(&job);

	EXPECT_EQ(1, writer_join(writer_thread(op_pwrite, &self->access)));
	EXPECT_EQ(0, writer_join(writer_thread(op_store, &self->second)));
	writer_kill(handler, SIGKILL);
	writer_wait(handler);
}

/* Writers enough that waking them takes a while. */
#define CROWD		200
#define CROWD_PAGES	50

static void crowd_start(struct test_file *file, struct access accesses[CROWD],
			struct writer *writers[CROWD])
{
	for (int i = 0; i < CROWD; i++) {
		accesses[i] = (struct access){
			.fd = file->fd, .map = file->map, .value = 'c',
			.offset = i % CROWD_PAGES * page_size() + i,
		};
		writers[i] = writer_thread(i & 1 ? op_store : op_pwrite, &accesses[i]);
	}
}

static bool crowd_stalled(struct writer *writers[CROWD])
{
	for (int i = 0; i < CROWD; i++)
		if (!writer_stalled(writers[i]))
			return false;
	return true;
}

/* Return: how many ended as by rule. */
static int crowd_join(struct writer *writers[CROWD])
{
	int good = 0;

	for (int i = 0; i < CROWD; i++)
		good += writer_join(writers[i]) == !(i & 1);
	return good;
}

TEST_F(handler, killed_releases_a_crowd)
{
	struct test_file file = file_memfd(CROWD_PAGES);
	struct job job = { .fd = file.fd, .act = act_hoard };
	struct writer *handler = handler_process(&job);
	static struct access accesses[CROWD];
	struct writer *writers[CROWD];

	crowd_start(&file, accesses, writers);
	ASSERT_TRUE(crowd_stalled(writers));
	writer_kill(handler, SIGKILL);
	EXPECT_EQ(CROWD, crowd_join(writers));
	writer_wait(handler);
	file_close(&file);
}

TEST_F(handler, closing_its_context_releases_a_crowd)
{
	struct test_file file = file_memfd(CROWD_PAGES);
	static struct access accesses[CROWD];
	struct writer *writers[CROWD];
	int ctx = ctx_open();

	protect_by(ctx, file.fd, PGPROTECT_MODE_STALL, 0);
	crowd_start(&file, accesses, writers);
	ASSERT_TRUE(crowd_stalled(writers));
	close(ctx);
	EXPECT_EQ(CROWD, crowd_join(writers));
	file_close(&file);
}

TEST_F(handler, that_answers_nonsense_moves_nobody)
{
	int ctx = ctx_open(), other = ctx_open();
	struct pgprotect_event event;
	struct writer *writer;
	uint32_t id = protect_by(ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);

	writer = writer_thread(op_pwrite, &self->access);
	ASSERT_EQ(0, ctx_read_event(ctx, &event));
	for (unsigned int bit = 0; bit < 64; bit++)
		EXPECT_EQ(1, ctx_verdict(ctx, event.id ^ 1ULL << bit, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(1, ctx_verdict(ctx, 0, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(1, ctx_verdict(ctx, ~0ULL, PGPROTECT_REFUSE, EIO));
	EXPECT_EQ(1, ctx_verdict(other, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(-EINVAL, ctx_verdict(ctx, event.id, 0, 0));
	EXPECT_EQ(-EINVAL, ctx_verdict(ctx, event.id, 77, 0));
	EXPECT_EQ(-EINVAL, ctx_verdict(ctx, event.id, PGPROTECT_ALLOW, 1));
	EXPECT_EQ(-EINVAL, ctx_verdict(ctx, event.id, PGPROTECT_REFUSE, -1));
	EXPECT_EQ(-EINVAL, ctx_verdict(ctx, event.id, PGPROTECT_REFUSE, 134));
	EXPECT_EQ(-ENOENT, ctx_unprotect_range(ctx, id + 1, 0, page_size()));
	EXPECT_FALSE(writer_done(writer));
	EXPECT_EQ(1, ctx_fdinfo(ctx, "stalled"));
	EXPECT_EQ(0, ctx_verdict(ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(1, ctx_verdict(ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(1, writer_join(writer));
	close(ctx);
	close(other);
}

static void act_fork_and_die(int ctx)
{
	if (fork() == 0) {
		/* Lives on with the context, until the test has seen enough. */
		raise(SIGSTOP);
		_exit(0);
	}
	_exit(0);
}

static pid_t child_of_init_with_context(void)
{
	char line[64];
	FILE *in = popen("grep -ls pgprotect-version /proc/[0-9]*/fdinfo/* | cut -d/ -f3", "r");
	pid_t pid = 0;

	while (in && fgets(line, sizeof(line), in))
		if (atoi(line) != getpid())
			pid = atoi(line);
	if (in)
		pclose(in);
	return pid;
}

TEST_F(handler, that_forks_and_dies_keeps_the_context_until_the_child_dies)
{
	struct job job = { .fd = self->file.fd, .act = act_fork_and_die };
	struct writer *handler = handler_process(&job);
	struct writer *writer;
	pid_t child;

	writer_wait(handler);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	child = child_of_init_with_context();
	ASSERT_NE(0, child);
	kill(child, SIGKILL);
	EXPECT_EQ(1, writer_join(writer));
}

static void act_exec(int ctx)
{
	/* The descriptor is close-on-exec. */
	execl("/bin/sleep", "sleep", "1000", NULL);
	_exit(1);
}

TEST_F(handler, that_execs_another_program_releases_its_writers)
{
	struct job job = { .fd = self->file.fd };
	struct writer *handler = writer_fork(op_handle, &job);
	struct writer *writer;

	job.act = act_exec;
	writer_wait_ready(handler);
	writer_kill(handler, SIGKILL);
	writer_wait(handler);
	handler = writer_fork(op_handle, &job);
	writer_wait_ready(handler);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	writer_go(handler);
	EXPECT_EQ(1, writer_join(writer));
	writer_kill(handler, SIGKILL);
	writer_wait(handler);
}

TEST_F(handler, context_lost_in_a_socket_releases_its_writers)
{
	struct writer *writer;
	int pair[2], ctx = ctx_open();

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	protect_by(ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	send_fd(pair[0], ctx);
	close(ctx);
	EXPECT_TRUE(HOLDS_FOR(20, !writer_done(writer)));
	close(pair[0]);
	close(pair[1]);
	EXPECT_EQ(1, writer_join(writer));
}

struct crew {
	int ctx;
	_Atomic int fetched;
	_Atomic bool stop;
};

static long op_fetch(struct writer *self)
{
	struct crew *crew = self->arg;

	while (!crew->stop) {
		struct pgprotect_event event;
		struct pgprotect_next next = {
			.events = (uintptr_t)&event, .max_events = 1,
		};

		if (ctx_next_args(crew->ctx, &next))
			return -1;
		if (!next.nr_events)
			continue;
		crew->fetched++;
		ctx_verdict(crew->ctx, event.id, PGPROTECT_ALLOW, 0);
	}
	return 0;
}

TEST_F(handler, context_that_many_read_gives_each_event_to_one)
{
	struct test_file file = file_memfd(CROWD_PAGES);
	struct crew crew = { .ctx = ctx_open() };
	struct writer *readers[4];
	struct access access = { .fd = file.fd, .value = 'v' };
	uint32_t id = ctx_attach(crew.ctx, file.fd, PGPROTECT_MODE_STALL, 0);

	ASSERT_EQ(0, ctx_protect_all(crew.ctx, id));
	for (size_t i = 0; i < ARRAY_LEN(readers); i++)
		readers[i] = writer_thread(op_fetch, &crew);
	for (int page = 0; page < CROWD_PAGES; page++) {
		access.offset = page * page_size();
		EXPECT_EQ(1, writer_join(writer_thread(op_pwrite, &access)));
	}
	crew.stop = true;
	for (size_t i = 0; i < ARRAY_LEN(readers); i++)
		EXPECT_EQ(0, writer_join(readers[i]));
	EXPECT_EQ(CROWD_PAGES, crew.fetched);
	close(crew.ctx);
	file_close(&file);
}

/* Dies somewhere in NEXT, again and again; the writers never notice. */
static void act_next_forever(int ctx)
{
	struct pgprotect_event events[8];
	struct pgprotect_verdict verdicts[8];
	struct pgprotect_next next = {
		.events = (uintptr_t)events, .verdicts = (uintptr_t)verdicts,
		.max_events = 8, .min_events = 1, .timeout_ns = -1,
	};

	for (;;) {
		if (ctx_next_args(ctx, &next))
			_exit(1);
		next.nr_verdicts = next.nr_events;
		for (uint32_t i = 0; i < next.nr_events; i++)
			verdicts[i] = (struct pgprotect_verdict){
				.id = events[i].id, .action = PGPROTECT_ALLOW,
			};
	}
}

struct pounding {
	struct test_file *file;
	_Atomic bool stop;
	_Atomic long writes, errors;
};

static long op_pound(struct writer *self)
{
	struct pounding *pounding = self->arg;

	for (unsigned int i = 0; !pounding->stop; i++) {
		if (write_page(pounding->file->fd, i % 4, i) != 1)
			pounding->errors++;
		pounding->writes++;
	}
	return 0;
}

static long slab_kb(void)
{
	char line[128];
	long kb = -1;
	FILE *in;

	forget_freed();
	in = fopen("/proc/meminfo", "re");
	while (in && fgets(line, sizeof(line), in))
		if (!strncmp(line, "SUnreclaim:", 11))
			kb = atol(line + 11);
	if (in)
		fclose(in);
	return kb;
}

TEST_F(handler, killed_in_the_middle_of_next_again_and_again_loses_no_writer)
{
	struct job job = { .fd = self->file.fd, .act = act_next_forever };
	struct pounding pounding = { .file = &self->file };
	struct writer *writers[3];
	long before;

	for (size_t i = 0; i < ARRAY_LEN(writers); i++)
		writers[i] = writer_thread(op_pound, &pounding);
	for (int round = 0; round < 30; round++) {
		struct writer *handler = handler_process(&job);

		before = pounding.writes;
		EXPECT_TRUE(WAIT_FOR(pounding.writes > before + round % 4));
		writer_kill(handler, SIGKILL);
		writer_wait(handler);
	}
	before = pounding.writes;
	EXPECT_TRUE(WAIT_FOR(pounding.writes > before + 10));
	pounding.stop = true;
	for (size_t i = 0; i < ARRAY_LEN(writers); i++)
		EXPECT_EQ(0, writer_join(writers[i]));
	EXPECT_EQ(0, pounding.errors);
}

/* A context with all that can hang on it: much more than a kilobyte. */
static void live_and_die(int fd)
{
	int ctx = ctx_open();
	uint32_t id = protect_by(ctx, fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);

	for (int i = 0; i < 16; i++)
		write_page(fd, 0, 'x');
	ctx_unprotect_range(ctx, id, page_size(), page_size());
	close(ctx);
}

TEST_F(handler, that_comes_and_goes_leaves_no_memory_behind)
{
	int list = ctx_open();
	long before;

	for (int i = 0; i < 20; i++)
		live_and_die(self->file.fd);
	before = slab_kb();
	for (int i = 0; i < 200; i++)
		live_and_die(self->file.fd);
	/* Freed some grace periods later. 200 contexts would be 1.6 MiB and more. */
	EXPECT_TRUE(WAIT_FOR(slab_kb() < before + 1024)) {
		TH_LOG("%ld kB before, %ld kB after", before, slab_kb());
	}
	EXPECT_EQ(0, ctx_list(list, NULL, 0));
	close(list);
}

struct visitors {
	int ctx;
};

static long op_visit(struct writer *self)
{
	struct visitors *v = self->arg;
	struct pgprotect_next next = { 0 };

	return ctx_next_args(v->ctx, &next);
}

/* Pids that are in memory, or what shares a cache with them. -1: this kernel does not tell. */
static long pids_kept(void)
{
	long pids = -1;
	FILE *in;

	forget_freed_of("pid");
	in = fopen("/sys/kernel/slab/pid/objects", "re");
	if (in && fscanf(in, "%ld", &pids) != 1)
		pids = -1;
	if (in)
		fclose(in);
	return pids;
}

TEST_F(handler, threads_that_have_ended_are_forgotten)
{
	struct visitors v = { .ctx = ctx_open() };
	struct writer *visitor;
	long before = 0;

	if (access("/sys/kernel/slab/pid/objects", R_OK))
		SKIP(return, "the kernel does not tell how many pids there are");

	for (int i = 0; i < 2000; i++) {
		if (i == 500)
			before = pids_kept();
		visitor = writer_thread(op_visit, &v);
		ASSERT_EQ(0, writer_join(visitor));
		/* It is a file, and more than what is looked for. */
		munmap(visitor, page_size());
	}
	/* 1500 handlers would keep one each. */
	EXPECT_TRUE(WAIT_FOR(pids_kept() < before + 500)) {
		TH_LOG("%ld pids before, %ld after", before, pids_kept());
	}
	/* Who lives is not. */
	protect_by(v.ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	EXPECT_EQ(0, op_visit(&(struct writer){ .arg = &v }));
	EXPECT_EQ(-EDEADLK, write_page(self->file.fd, 0, 'x'));
	close(v.ctx);
}

TEST_F(handler, fence_that_is_to_persist_persists_when_it_is_killed_under_writers)
{
	struct job job = { .fd = self->file.fd, .flags = PGPROTECT_ATTACH_PERSIST };
	struct writer *handler = handler_process(&job);
	struct writer *writer;
	int ctx;

	writer = writer_thread(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	writer_kill(handler, SIGKILL);
	writer_wait(handler);
	EXPECT_TRUE(HOLDS_FOR(50, !writer_done(writer)));
	EXPECT_EQ(0, self->file.map[0]);
	ctx = ctx_open();
	EXPECT_EQ(0, attach_by(ctx, self->file.fd, PGPROTECT_MODE_STALL, PGPROTECT_ATTACH_ADOPT));
	EXPECT_TRUE(writer_stalled(writer));
	close(ctx);
	EXPECT_EQ(1, writer_join(writer));
}

TEST_HARNESS_MAIN
