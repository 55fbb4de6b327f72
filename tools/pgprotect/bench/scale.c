// SPDX-License-Identifier: GPL-2.0
/*
 * How costs grow with what there is.
 *
 *   release      one of N stalled writers is released; all wait on one fd
 *   attachments  one event, with N files attached to the context
 *   handlers     events of 16 writers, fetched by N threads from one context
 *
 * Each writer of "release" has a page of its own, and is released alone; the cost is
 * that of the call and of the writer it wakes. In a counted guest the sum over all
 * writers is constant times N if a release is O(1).
 */
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "bench.h"

#define PAGE		4096UL
#define WRITERS_MAX	4000
#define FILES_MAX	10000
#define CROWD		16
#define CROWD_PAGES	2048UL

struct store {
	volatile char *at;
	unsigned long stride, nr;
	struct gate *done;
};

static void *store_main(void *arg)
{
	struct store *store = arg;

	for (unsigned long i = 0; i < store->nr; i++)
		store->at[i * store->stride] = 1;
	gate_add(store->done, 1);
	return NULL;
}

static void start(pthread_t *thread, struct store *store)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	if (pthread_create(thread, &attr, store_main, store))
		fatal("pthread_create");
	pthread_attr_destroy(&attr);
}

/* What holds the writers up. */
struct holder {
	const char *subject;
	int fd;
	uint32_t file;
	char *memory;
};

static void holder_open(struct holder *h, unsigned long pages)
{
	int memfd = memfd_sized(pages * PAGE);

	h->memory = map_shared(memfd, pages * PAGE, 0);
	memset(h->memory, 1, pages * PAGE);
	if (!strcmp(h->subject, "pgprotect")) {
		h->fd = pgprotect_open();
		if (h->fd < 0)
			fatal("/dev/pgprotect");
		h->file = pgprotect_attach(h->fd, memfd, PGPROTECT_MODE_STALL);
		pgprotect_protect(h->fd, h->file, 0, pages * PAGE, NULL);
	} else {
		h->fd = uffd_open_wp(h->memory, pages * PAGE);
		uffd_set_wp(h->fd, h->memory, pages * PAGE, true);
	}
	close(memfd);
}

static void holder_close(struct holder *h, unsigned long pages)
{
	close(h->fd);
	munmap(h->memory, pages * PAGE);
}

/* Takes @nr events, so that none is on its way when the clock starts. */
static void holder_fetch(struct holder *h, unsigned long nr)
{
	union {
		struct pgprotect_event event[64];
		struct uffd_msg msg[64];
	} buffer;
	size_t size = strcmp(h->subject, "pgprotect") ? sizeof(buffer.msg[0]) :
							sizeof(buffer.event[0]);

	while (nr) {
		ssize_t got = read(h->fd, &buffer, (nr < 64 ? nr : 64) * size);

		if (got <= 0)
			fatal("read of events");
		nr -= got / size;
	}
}

static void holder_release(struct holder *h, unsigned long page)
{
	if (!strcmp(h->subject, "pgprotect"))
		pgprotect_unprotect(h->fd, h->file, page * PAGE, PAGE);
	else
		uffd_set_wp(h->fd, h->memory + page * PAGE, PAGE, false);
}

static void release(const char *subject, unsigned int writers, unsigned int repeats)
{
	static pthread_t thread[WRITERS_MAX];
	static struct store store[WRITERS_MAX];
	struct samples s = {};

	for (unsigned int i = 0; i < repeats; i++) {
		struct holder h = { .subject = subject };
		struct gate *done = shared_alloc(sizeof(*done));

		holder_open(&h, writers);
		for (unsigned int w = 0; w < writers; w++) {
			store[w] = (struct store){ h.memory + w * PAGE, PAGE, 1, done };
			start(&thread[w], &store[w]);
		}
		holder_fetch(&h, writers);
		sample_begin(&s);
		for (unsigned int w = 0; w < writers; w++)
			holder_release(&h, w);
		gate_wait(done, writers);
		sample_end(&s, writers);
		for (unsigned int w = 0; w < writers; w++)
			pthread_join(thread[w], NULL);
		holder_close(&h, writers);
		munmap(done, sizeof(*done));
	}
	samples_print(&s, "release", subject, "\"waiting\":%u", writers);
}

/* Attaches @files empty files, then serves the events of a file that came last. */
static void attachments(unsigned int files, unsigned int repeats)
{
	struct samples attach = {}, event = {};

	for (unsigned int i = 0; i < repeats; i++) {
		struct holder h = { .subject = "pgprotect" };
		struct gate *done = shared_alloc(sizeof(*done));
		struct store store;
		pthread_t thread;
		int other;

		h.fd = pgprotect_open();
		if (h.fd < 0)
			fatal("/dev/pgprotect");
		sample_begin(&attach);
		for (unsigned int f = 0; f < files; f++) {
			other = memfd_sized(PAGE);
			pgprotect_attach(h.fd, other, PGPROTECT_MODE_STALL);
			close(other);
		}
		sample_end(&attach, files);
		other = memfd_sized(CROWD_PAGES * PAGE);
		h.memory = map_shared(other, CROWD_PAGES * PAGE, 0);
		memset(h.memory, 1, CROWD_PAGES * PAGE);
		h.file = pgprotect_attach(h.fd, other, PGPROTECT_MODE_STALL);
		pgprotect_protect(h.fd, h.file, 0, CROWD_PAGES * PAGE, NULL);
		close(other);
		store = (struct store){ h.memory, PAGE, CROWD_PAGES, done };
		sample_begin(&event);
		start(&thread, &store);
		for (unsigned long page = 0; page < CROWD_PAGES; page++) {
			holder_fetch(&h, 1);
			holder_release(&h, page);
		}
		gate_wait(done, 1);
		sample_end(&event, CROWD_PAGES);
		pthread_join(thread, NULL);
		holder_close(&h, CROWD_PAGES);
		munmap(done, sizeof(*done));
	}
	samples_print(&attach, "attach", "pgprotect", "\"files\":%u", files);
	samples_print(&event, "attachments", "pgprotect", "\"files\":%u", files);
}

/* Fetches and answers until the context is empty and the writers are done. */
struct crew {
	int fd;
	unsigned long left;	/* atomic: events that nobody has answered */
};

static void *crew_main(void *arg)
{
	struct crew *crew = arg;
	struct pgprotect_event event[8];
	struct pgprotect_verdict verdict[8];
	struct pgprotect_next next = {
		.size = sizeof(next),
		.events = (uintptr_t)event,
		.verdicts = (uintptr_t)verdict,
		.max_events = 8,
		.min_events = 1,
		.timeout_ns = 10000000,
	};

	while (__atomic_load_n(&crew->left, __ATOMIC_RELAXED)) {
		if (ioctl(crew->fd, PGPROTECT_IOC_NEXT, &next))
			fatal("PGPROTECT_IOC_NEXT");
		__atomic_sub_fetch(&crew->left, next.nr_events, __ATOMIC_RELAXED);
		for (unsigned int i = 0; i < next.nr_events; i++)
			verdict[i] = (struct pgprotect_verdict){
				.id = event[i].id, .action = PGPROTECT_ALLOW,
			};
		next.nr_verdicts = next.nr_events;
	}
	next.max_events = 0;
	next.min_events = 0;
	if (next.nr_verdicts && ioctl(crew->fd, PGPROTECT_IOC_NEXT, &next))
		fatal("PGPROTECT_IOC_NEXT");
	return NULL;
}

static void handlers(unsigned int threads, unsigned int repeats)
{
	const unsigned long part = CROWD_PAGES / CROWD;
	pthread_t writer[CROWD], handler[16];
	struct store store[CROWD];
	struct samples s = {};

	for (unsigned int i = 0; i < repeats; i++) {
		struct holder h = { .subject = "pgprotect" };
		struct gate *done = shared_alloc(sizeof(*done));
		struct crew crew = { .left = CROWD_PAGES };

		holder_open(&h, CROWD_PAGES);
		crew.fd = h.fd;
		sample_begin(&s);
		for (unsigned int t = 0; t < threads; t++)
			if (pthread_create(&handler[t], NULL, crew_main, &crew))
				fatal("pthread_create");
		for (unsigned int w = 0; w < CROWD; w++) {
			store[w] = (struct store){ h.memory + w * part * PAGE, PAGE, part, done };
			start(&writer[w], &store[w]);
		}
		gate_wait(done, CROWD);
		sample_end(&s, CROWD_PAGES);
		for (unsigned int w = 0; w < CROWD; w++)
			pthread_join(writer[w], NULL);
		for (unsigned int t = 0; t < threads; t++)
			pthread_join(handler[t], NULL);
		holder_close(&h, CROWD_PAGES);
		munmap(done, sizeof(*done));
	}
	samples_print_rate(&s, "handlers", "pgprotect", "\"handlers\":%u", threads);
}

int main(int argc, char **argv)
{
	static const unsigned int writers[] = { 250, 1000, 4000 };
	static const unsigned int files[] = { 1, 100, 10000 };
	static const unsigned int threads[] = { 1, 4 };
	unsigned int repeats = argc > 1 ? atoi(argv[1]) : 3;
	struct rlimit limit = { 1 << 16, 1 << 16 };

	if (!repeats || repeats >= SAMPLES_MAX) {
		fprintf(stderr, "Usage: scale [REPEATS]\n");
		return 2;
	}
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < 3; i++) {
		release("pgprotect", writers[i], repeats);
		release("uffd-wp", writers[i], repeats);
	}
	for (int i = 0; i < 3; i++)
		attachments(files[i], repeats);
	for (int i = 0; i < 2; i++)
		handlers(threads[i], repeats);
	return 0;
}
