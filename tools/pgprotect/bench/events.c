// SPDX-License-Identifier: GPL-2.0
/*
 * Cost of one event: a writer meets a protected page, the handler releases it.
 *
 * Every page of a file is armed, every writer stores once to each page of its
 * own part, the handler answers in order of arrival. All subjects get the same
 * pages, writers and handler; each handler is the shortest loop its interface
 * allows. With one CPU writer and handler take turns and the CPU is never idle.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PAGE		4096UL
#define PAGES		4096UL
#define LENGTH		(PAGES * PAGE)
#define BATCH_MAX	64
#define WRITERS_MAX	64

/* Shared by the handler and the writers, which may be another process. */
struct control {
	struct gate go;
	struct gate done;
	int uffd;
	bool quit;
};

struct run {
	const struct source *source;
	struct control *control;
	char *memory;
	int memfd;
	int fd;			/* the context or the userfaultfd */
	uint32_t file;
	unsigned int writers;
	unsigned int batch;
	bool process;
	pid_t pid;
	pthread_t thread[WRITERS_MAX];
};

/* One way to raise events and answer them. */
struct source {
	const char *subject;
	const char *loop;
	bool (*available)(void);
	void (*open)(struct run *run);
	void (*arm)(struct run *run);
	void (*serve)(struct run *run, unsigned long events);
};

static bool pgprotect_available(void)
{
	int fd = pgprotect_open();

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void pgprotect_setup(struct run *run)
{
	run->fd = pgprotect_open();
	run->file = pgprotect_attach(run->fd, run->memfd, PGPROTECT_MODE_STALL);
}

static void pgprotect_arm(struct run *run)
{
	pgprotect_protect(run->fd, run->file, 0, LENGTH, NULL);
}

/* One system call answers the last batch and fetches the next. */
static void serve_next(struct run *run, unsigned long events)
{
	struct pgprotect_event event[BATCH_MAX];
	struct pgprotect_verdict verdict[BATCH_MAX];
	struct pgprotect_next next = {
		.size = sizeof(next),
		.events = (uintptr_t)event,
		.verdicts = (uintptr_t)verdict,
		.timeout_ns = -1,
	};

	while (events || next.nr_events) {
		next.nr_verdicts = next.nr_events;
		for (unsigned int i = 0; i < next.nr_events; i++)
			verdict[i] = (struct pgprotect_verdict){
				.id = event[i].id,
				.action = PGPROTECT_ALLOW,
			};
		next.max_events = run->batch < events ? run->batch : events;
		next.min_events = events ? 1 : 0;
		if (ioctl(run->fd, PGPROTECT_IOC_NEXT, &next))
			fatal("PGPROTECT_IOC_NEXT");
		events -= next.nr_events;
	}
}

static void serve_read(struct run *run, unsigned long events)
{
	struct pgprotect_event event[BATCH_MAX];
	struct pgprotect_range range[BATCH_MAX];
	struct pgprotect_unprotect unprotect = {
		.size = sizeof(unprotect),
		.ranges = (uintptr_t)range,
	};

	while (events) {
		ssize_t n = read(run->fd, event, run->batch * sizeof(event[0]));

		if (n < (ssize_t)sizeof(event[0]))
			fatal("read of events");
		n /= sizeof(event[0]);
		for (ssize_t i = 0; i < n; i++)
			range[i] = (struct pgprotect_range){
				.file = event[i].file,
				.offset = event[i].offset,
				.length = event[i].length,
			};
		unprotect.nr_ranges = n;
		if (ioctl(run->fd, PGPROTECT_IOC_UNPROTECT, &unprotect))
			fatal("PGPROTECT_IOC_UNPROTECT");
		events -= n;
	}
}

static bool always_available(void)
{
	return true;
}

static void uffd_setup(struct run *run)
{
	if (!run->process) {
		run->fd = uffd_open_wp(run->memory, LENGTH);
		return;
	}
	int pidfd = syscall(SYS_pidfd_open, run->pid, 0);

	run->fd = syscall(SYS_pidfd_getfd, pidfd, run->control->uffd, 0);
	if (run->fd < 0)
		fatal("userfaultfd of the writer");
	close(pidfd);
}

static void uffd_arm(struct run *run)
{
	uffd_set_wp(run->fd, run->memory, LENGTH, true);
}

static ssize_t uffd_read(struct run *run, struct uffd_msg *msg)
{
	ssize_t n = read(run->fd, msg, run->batch * sizeof(*msg));

	if (n < (ssize_t)sizeof(*msg))
		fatal("read of messages");
	return n / sizeof(*msg);
}

static void serve_uffd(struct run *run, unsigned long events)
{
	struct uffd_msg msg[BATCH_MAX];

	while (events) {
		ssize_t n = uffd_read(run, msg);

		for (ssize_t i = 0; i < n; i++)
			uffd_set_wp(run->fd, (char *)(msg[i].arg.pagefault.address & -PAGE),
				    PAGE, false);
		events -= n;
	}
}

/* Release without waking, then wake all at once: fewer looks at the wait queue. */
static void serve_uffd_wake(struct run *run, unsigned long events)
{
	struct uffdio_range all = { .start = (uintptr_t)run->memory, .len = LENGTH };
	struct uffd_msg msg[BATCH_MAX];

	while (events) {
		ssize_t n = uffd_read(run, msg);

		for (ssize_t i = 0; i < n; i++) {
			struct uffdio_writeprotect wp = {
				.range = {
					.start = msg[i].arg.pagefault.address & -PAGE,
					.len = PAGE,
				},
				.mode = UFFDIO_WRITEPROTECT_MODE_DONTWAKE,
			};

			if (ioctl(run->fd, UFFDIO_WRITEPROTECT, &wp))
				fatal("UFFDIO_WRITEPROTECT");
		}
		if (ioctl(run->fd, UFFDIO_WAKE, &all))
			fatal("UFFDIO_WAKE");
		events -= n;
	}
}

static const struct source sources[] = {
	{ "pgprotect", "next", pgprotect_available, pgprotect_setup, pgprotect_arm, serve_next },
	{ "pgprotect", "read", pgprotect_available, pgprotect_setup, pgprotect_arm, serve_read },
	{ "uffd-wp", "write-protect", always_available, uffd_setup, uffd_arm, serve_uffd },
	{ "uffd-wp", "wake-once", always_available, uffd_setup, uffd_arm, serve_uffd_wake },
};

struct writer {
	struct run *run;
	unsigned int number;
};

static void *writer_main(void *arg)
{
	struct writer *self = arg;
	struct run *run = self->run;
	struct control *control = run->control;
	unsigned long part = PAGES / run->writers;
	volatile char *p = run->memory + self->number * part * PAGE;

	for (uint32_t round = 1;; round++) {
		gate_wait(&control->go, round);
		if (control->quit)
			return NULL;
		for (unsigned long i = 0; i < part; i++)
			p[i * PAGE] = round;
		gate_add(&control->done, 1);
	}
}

static void start_threads(struct run *run)
{
	static struct writer writer[WRITERS_MAX];

	for (unsigned int i = 0; i < run->writers; i++) {
		writer[i] = (struct writer){ .run = run, .number = i };
		if (pthread_create(&run->thread[i], NULL, writer_main, &writer[i]))
			fatal("pthread_create");
	}
}

static void join_threads(struct run *run)
{
	for (unsigned int i = 0; i < run->writers; i++)
		pthread_join(run->thread[i], NULL);
}

static void start_process(struct run *run)
{
	struct gate *ready = &run->control->done;

	run->pid = fork();
	if (run->pid < 0)
		fatal("fork");
	if (!run->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		memset(run->memory, 1, LENGTH);
		if (run->source->arm == uffd_arm)
			run->control->uffd = uffd_open_wp(run->memory, LENGTH);
		gate_add(ready, 1);
		start_threads(run);
		join_threads(run);
		_exit(0);
	}
	gate_wait(ready, 1);
	ready->value = 0;
}

static void run_open(struct run *run)
{
	run->control = shared_alloc(sizeof(*run->control));
	run->memfd = memfd_sized(LENGTH);
	run->memory = map_shared(run->memfd, LENGTH, 0);
	memset(run->memory, 1, LENGTH);
	if (run->process)
		start_process(run);
	else
		start_threads(run);
	run->source->open(run);
}

static void run_close(struct run *run, uint32_t rounds)
{
	run->control->quit = true;
	gate_add(&run->control->go, rounds);
	if (run->process)
		waitpid(run->pid, NULL, 0);
	else
		join_threads(run);
	close(run->fd);
	close(run->memfd);
}

static void measure(const char *bench, struct run *run, unsigned int repeats)
{
	const unsigned long events = PAGES / run->writers * run->writers;
	struct samples s = {};
	const char *form = "\"writers\":%u,\"writer\":\"%s\",\"loop\":\"%s\",\"batch\":%u";
	const char *writer = run->process ? "process" : "thread";

	run_open(run);
	/* The first round is not counted: it warms caches and page tables. */
	for (unsigned int round = 0; round <= repeats; round++) {
		run->source->arm(run);
		sample_begin(&s);
		gate_add(&run->control->go, 1);
		run->source->serve(run, events);
		gate_wait(&run->control->done, (round + 1) * run->writers);
		if (round)
			sample_end(&s, events);
	}
	run_close(run, repeats + 2);

	if (run->writers == 1 && run->batch == 1)
		samples_print(&s, bench, run->source->subject, form, run->writers, writer,
			      run->source->loop, run->batch);
	else
		samples_print_rate(&s, bench, run->source->subject, form, run->writers,
				   writer, run->source->loop, run->batch);
}

static void roundtrip(const struct source *source, unsigned int repeats)
{
	for (int process = 0; process < 2; process++) {
		struct run run = {
			.source = source,
			.writers = 1,
			.batch = 1,
			.process = process,
		};

		measure("roundtrip", &run, repeats);
	}
}

static void throughput(const struct source *source, unsigned int repeats)
{
	static const unsigned int writers[] = { 1, 4, 16, 64 };

	for (int i = 0; i < 4; i++) {
		struct run run = {
			.source = source,
			.writers = writers[i],
			.batch = BATCH_MAX,
			.process = true,
		};

		measure("throughput", &run, repeats);
	}
}

int main(int argc, char **argv)
{
	bool rate = argc > 1 && !strcmp(argv[1], "throughput");
	unsigned int repeats = argc > 2 ? atoi(argv[2]) : 11;

	if (argc < 2 || (!rate && strcmp(argv[1], "roundtrip")) || !repeats ||
	    repeats >= SAMPLES_MAX) {
		fprintf(stderr, "Usage: events roundtrip|throughput [REPEATS [LOOP]]\n");
		return 2;
	}
	for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		/* One loop alone, for whoever profiles it. */
		if (argc > 3 && strcmp(argv[3], sources[i].loop))
			continue;
		if (!sources[i].available())
			fprintf(stderr, "events: no %s on this kernel\n", sources[i].subject);
		else if (rate)
			throughput(&sources[i], repeats);
		else if (strcmp(sources[i].loop, "wake-once"))
			roundtrip(&sources[i], repeats);
	}
	return 0;
}
