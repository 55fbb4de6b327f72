// SPDX-License-Identifier: GPL-2.0
/*
 * The library's event loop on the real device, on io_uring and on epoll.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libpgprotect.h"
#include "../tap.h"

#define PAGE	4096
#define PAGES	256
#define WRITERS	4

/*
 * A protected file with a loop for it. @flags: way of waiting. @answer: to
 * STALL events. @stop_at: events after which to stop; 0: never. @open: flags.
 */
struct setup {
	uint32_t flags;
	unsigned int open;
	int answer;
	int stop_at;
	int fd;
	uint32_t file;
	volatile char *map;
	struct pgprotect *ctx;
	struct pgprotect_loop *loop;
	int events;
	int denied;
	int idles;
	uint64_t last_id;
};

static struct pgprotect_loop *loop_to_stop;

static int on_event(struct pgprotect_loop *loop, const struct pgprotect_event *event,
		    void *data)
{
	struct setup *setup = data;

	setup->events++;
	setup->denied += event->type == PGPROTECT_EVENT_DENIED;
	setup->last_id = event->id;
	if (setup->stop_at && setup->events >= setup->stop_at)
		pgprotect_loop_stop(loop);
	return setup->answer;
}

static int on_idle(struct pgprotect_loop *loop, void *data)
{
	(void)loop;
	((struct setup *)data)->idles++;
	return 0;
}

static bool begin(struct setup *setup, uint32_t mode)
{
	struct pgprotect_attach_options attach = {
		.size = sizeof(attach), .mode = mode, .stall_ms = 20000,
		.flags = mode == PGPROTECT_MODE_DENY ? PGPROTECT_ATTACH_NOTIFY : 0,
	};
	struct pgprotect_loop_options options = {
		.size = sizeof(options), .flags = setup->flags, .batch = 32,
		.data = setup, .event = on_event, .idle = on_idle,
	};

	setup->fd = memfd_create("loop", MFD_CLOEXEC);
	CHECK(setup->fd >= 0 && !ftruncate(setup->fd, PAGES * PAGE));
	setup->map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
			  setup->fd, 0);
	CHECK(setup->map != MAP_FAILED);
	CHECK(!pgprotect_open(&setup->ctx, setup->open | PGPROTECT_OPEN_CLOEXEC));
	CHECK(!pgprotect_attach(setup->ctx, setup->fd, &attach, &setup->file));
	CHECK(!pgprotect_protect(setup->ctx, setup->file, 0, PGPROTECT_TO_EOF, 0, NULL));
	CHECK(!pgprotect_loop_new(&setup->loop, setup->ctx, &options));
	return true;
}

static bool end(struct setup *setup)
{
	CHECK(!strcmp(pgprotect_loop_backend(setup->loop),
		      setup->flags == PGPROTECT_LOOP_EPOLL ? "epoll" : "io_uring"));
	pgprotect_loop_free(setup->loop);
	pgprotect_close(setup->ctx);
	munmap((void *)setup->map, PAGES * PAGE);
	close(setup->fd);
	return true;
}

/* A process that stores to each of its share of the pages. */
static pid_t store_share(struct setup *setup, int share)
{
	pid_t pid = fork();
	int page;

	if (pid)
		return pid;
	for (page = share; page < PAGES; page += WRITERS)
		setup->map[page * PAGE] = share + 1;
	_exit(0);
}

static bool serve_many(uint32_t flags, unsigned int open)
{
	struct setup setup = { .flags = flags, .open = open, .stop_at = PAGES };
	int i, status;

	CHECK(begin(&setup, PGPROTECT_MODE_STALL));
	for (i = 0; i < WRITERS; i++)
		CHECK(store_share(&setup, i) > 0);
	CHECK(!pgprotect_loop_run(setup.loop));
	for (i = 0; i < WRITERS; i++)
		CHECK(wait(&status) > 0 && !status);
	CHECK(setup.events == PAGES && setup.idles);
	for (i = 0; i < PAGES; i++)
		CHECK(setup.map[i * PAGE] == i % WRITERS + 1);
	return end(&setup);
}

static bool many_writers(uint32_t flags)
{
	return serve_many(flags, 0);
}

static bool non_blocking(uint32_t flags)
{
	return serve_many(flags, PGPROTECT_OPEN_NONBLOCK);
}

/* What a pwrite() of another process returned, as an errno. */
static pid_t write_once(struct setup *setup)
{
	pid_t pid = fork();

	if (!pid)
		_exit(pwrite(setup->fd, "x", 1, 0) == 1 ? 0 : errno);
	return pid;
}

static bool refusing(uint32_t flags)
{
	struct setup setup = { .flags = flags, .answer = -EROFS, .stop_at = 1 };
	int status;

	CHECK(begin(&setup, PGPROTECT_MODE_STALL));
	CHECK(write_once(&setup) > 0);
	CHECK(!pgprotect_loop_run(setup.loop));
	CHECK(wait(&status) > 0 && WEXITSTATUS(status) == EROFS);
	CHECK(!setup.map[0]);

	/* The page is still protected, and the loop runs again. */
	setup.answer = PGPROTECT_LOOP_ALLOW;
	setup.stop_at = 2;
	CHECK(write_once(&setup) > 0);
	CHECK(!pgprotect_loop_run(setup.loop));
	CHECK(wait(&status) > 0 && !status);
	CHECK(setup.events == 2 && setup.map[0] == 'x');
	return end(&setup);
}

static void *answer_and_stop(void *arg)
{
	struct setup *setup = arg;
	int status;

	while (!__atomic_load_n(&setup->last_id, __ATOMIC_ACQUIRE))
		usleep(1000);
	usleep(50000);
	if (setup->map[0] || pgprotect_loop_answer(setup->loop, setup->last_id, 0))
		return arg;
	/* Ends only if the loop gave the answer. */
	if (wait(&status) < 0 || status)
		return arg;
	pgprotect_loop_stop(setup->loop);
	return NULL;
}

static bool pending(uint32_t flags)
{
	struct setup setup = { .flags = flags, .answer = PGPROTECT_LOOP_PENDING };
	pthread_t thread;
	void *failed;

	CHECK(begin(&setup, PGPROTECT_MODE_STALL));
	CHECK(write_once(&setup) > 0);
	CHECK(!pthread_create(&thread, NULL, answer_and_stop, &setup));
	CHECK(!pgprotect_loop_run(setup.loop));
	CHECK(!pthread_join(thread, &failed) && !failed);
	CHECK(setup.events == 1 && setup.map[0] == 'x');
	return end(&setup);
}

static void on_alarm(int sig)
{
	(void)sig;
	pgprotect_loop_stop(loop_to_stop);
}

static bool stopped_by_signal(uint32_t flags)
{
	struct setup setup = { .flags = flags };

	CHECK(begin(&setup, PGPROTECT_MODE_STALL));
	loop_to_stop = setup.loop;
	signal(SIGALRM, on_alarm);
	ualarm(50000, 0);
	CHECK(!pgprotect_loop_run(setup.loop));
	ualarm(50000, 0);
	CHECK(!pgprotect_loop_run(setup.loop));
	/* Before it runs, too. */
	raise(SIGALRM);
	CHECK(!pgprotect_loop_run(setup.loop));
	signal(SIGALRM, SIG_DFL);
	CHECK(!setup.events);
	return end(&setup);
}

static bool denied(uint32_t flags)
{
	struct setup setup = { .flags = flags, .stop_at = 1 };
	int status;

	CHECK(begin(&setup, PGPROTECT_MODE_DENY));
	CHECK(write_once(&setup) > 0);
	CHECK(!pgprotect_loop_run(setup.loop));
	CHECK(wait(&status) > 0 && WEXITSTATUS(status) == EPERM);
	CHECK(setup.denied == 1 && !setup.map[0]);
	return end(&setup);
}

/* The thread of the loop is never stalled; it writes by pgprotect_copy(). */
static bool handler_writes(uint32_t flags)
{
	struct setup setup = { .flags = flags, .stop_at = 1 };
	static char page[PAGE];
	size_t copied;
	int status;

	CHECK(begin(&setup, PGPROTECT_MODE_STALL));
	CHECK(write_once(&setup) > 0);
	CHECK(!pgprotect_loop_run(setup.loop));
	CHECK(wait(&status) > 0 && !status);
	CHECK(pwrite(setup.fd, "y", 1, PAGE) == -1 && errno == EDEADLK);
	memset(page, 'z', PAGE);
	CHECK(!pgprotect_copy(setup.ctx, setup.file, PAGE, page, PAGE, &copied));
	CHECK(copied == PAGE && setup.map[PAGE] == 'z');
	return end(&setup);
}

/* Frees a loop while a writer waits: the context still has it. */
static bool freed_early(uint32_t flags)
{
	struct setup setup = { .flags = flags, .answer = PGPROTECT_LOOP_PENDING, .stop_at = 1 };
	uint64_t pages;
	int status;

	CHECK(begin(&setup, PGPROTECT_MODE_STALL));
	CHECK(write_once(&setup) > 0);
	CHECK(!pgprotect_loop_run(setup.loop));
	pgprotect_loop_free(setup.loop);
	usleep(20000);
	CHECK(!waitpid(-1, &status, WNOHANG));
	CHECK(!pgprotect_unprotect(setup.ctx, setup.file, 0, PAGE, &pages) && pages == 1);
	CHECK(wait(&status) > 0 && !status);
	pgprotect_close(setup.ctx);
	return true;
}

#define BOTH(name)							\
	static bool name##_uring(void) { return name(PGPROTECT_LOOP_URING); } \
	static bool name##_epoll(void) { return name(PGPROTECT_LOOP_EPOLL); }

BOTH(many_writers)
BOTH(non_blocking)
BOTH(refusing)
BOTH(pending)
BOTH(stopped_by_signal)
BOTH(denied)
BOTH(handler_writes)
BOTH(freed_early)

#define CASES(name)	{ #name "_uring", name##_uring }, { #name "_epoll", name##_epoll }

static const struct tap_case cases[] = {
	CASES(many_writers),
	CASES(non_blocking),
	CASES(refusing),
	CASES(pending),
	CASES(stopped_by_signal),
	CASES(denied),
	CASES(handler_writes),
	CASES(freed_early),
	{}
};

int main(void)
{
	return tap_run(cases);
}
