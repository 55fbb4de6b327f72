// SPDX-License-Identifier: GPL-2.0
/* PGPROTECT_IOC_NEXT: verdicts in, events out, and how long it waits. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	8
#define MS	1000000LL

/* Events come from @notes, where nobody waits, or from writers of @stalls. */
FIXTURE(next) {
	struct subject notes;
	struct subject stalls;
};

FIXTURE_SETUP(next)
{
	self->notes = subject_protected(PAGES, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);
	self->stalls = subject_protected(PAGES, PGPROTECT_MODE_STALL, 0);
}

FIXTURE_TEARDOWN(next)
{
	subject_close(&self->notes);
	subject_close(&self->stalls);
}

static void raise_events(struct subject *subject, int nr)
{
	for (int i = 0; i < nr; i++) {
		if (write_page(subject->file.fd, i, 1) != -EPERM)
			die("write of page %d was not refused", i);
	}
}

/* Fetches at most @max events; the count or -errno. */
static int fetch(int ctx, struct pgprotect_event *events, uint32_t max, uint32_t min,
		 int64_t timeout_ns)
{
	struct pgprotect_next next = {
		.events = (uintptr_t)events,
		.max_events = max,
		.min_events = min,
		.timeout_ns = timeout_ns,
	};
	int ret = ctx_next_args(ctx, &next);

	return ret ? ret : (int)next.nr_events;
}

static int answer(int ctx, const struct pgprotect_verdict *verdicts, uint32_t nr, uint32_t *stale)
{
	struct pgprotect_next next = { .verdicts = (uintptr_t)verdicts, .nr_verdicts = nr };
	int ret = ctx_next_args(ctx, &next);

	if (stale)
		*stale = next.nr_stale;
	return ret;
}

TEST_F(next, fetches_at_most_what_fits)
{
	struct pgprotect_event events[PAGES];

	raise_events(&self->notes, 5);
	EXPECT_EQ(2, fetch(self->notes.ctx, events, 2, 0, 0));
	EXPECT_EQ(page_size(), events[1].offset);
	EXPECT_EQ(3, fetch(self->notes.ctx, events, PAGES, 0, 0));
	EXPECT_EQ(4 * page_size(), events[2].offset);
	EXPECT_EQ(0, fetch(self->notes.ctx, events, PAGES, 0, 0));
}

TEST_F(next, without_room_fetches_nothing_and_loses_nothing)
{
	struct pgprotect_event event;

	raise_events(&self->notes, 1);
	EXPECT_EQ(0, fetch(self->notes.ctx, NULL, 0, 0, -1));
	EXPECT_EQ(1, fetch(self->notes.ctx, &event, 1, 0, 0));
}

TEST_F(next, minimum_of_zero_does_not_wait)
{
	struct pgprotect_event event;

	EXPECT_EQ(0, fetch(self->notes.ctx, &event, 1, 0, -1));
}

TEST_F(next, timeout_of_zero_does_not_wait)
{
	struct pgprotect_event event;

	EXPECT_EQ(0, fetch(self->notes.ctx, &event, 1, 1, 0));
}

TEST_F(next, timeout_expires_without_error)
{
	struct pgprotect_event events[2];
	uint64_t before = now_ns();

	EXPECT_EQ(0, fetch(self->notes.ctx, events, 1, 1, 50 * MS));
	EXPECT_LE(before + 50 * MS, now_ns());
	raise_events(&self->notes, 1);
	before = now_ns();
	EXPECT_EQ(1, fetch(self->notes.ctx, events, 2, 2, 50 * MS));
	EXPECT_LE(before + 50 * MS, now_ns());
}

TEST_F(next, nonblocking_context_does_not_wait)
{
	struct pgprotect_event event;

	fcntl(self->notes.ctx, F_SETFL, O_RDWR | O_NONBLOCK);
	EXPECT_EQ(0, fetch(self->notes.ctx, &event, 1, 1, -1));
	raise_events(&self->notes, 1);
	EXPECT_EQ(1, fetch(self->notes.ctx, &event, 1, 1, -1));
}

TEST_F(next, minimum_above_the_room_is_invalid)
{
	struct pgprotect_event event;

	EXPECT_EQ(-EINVAL, fetch(self->notes.ctx, &event, 1, 2, 0));
	EXPECT_EQ(-EINVAL, fetch(self->notes.ctx, NULL, 0, 1, 0));
}

TEST_F(next, oversized_batches_are_too_big)
{
	struct pgprotect_event *events = calloc(PGPROTECT_MAX_BATCH + 1, sizeof(*events));
	struct pgprotect_verdict *verdicts = calloc(PGPROTECT_MAX_BATCH + 1, sizeof(*verdicts));
	int ctx = self->notes.ctx;

	EXPECT_EQ(-E2BIG, fetch(ctx, events, PGPROTECT_MAX_BATCH + 1, 0, 0));
	EXPECT_EQ(-E2BIG, fetch(ctx, events, UINT32_MAX, 0, 0));
	EXPECT_EQ(0, fetch(ctx, events, PGPROTECT_MAX_BATCH, 0, 0));
	EXPECT_EQ(-E2BIG, answer(ctx, verdicts, PGPROTECT_MAX_BATCH + 1, NULL));
	EXPECT_EQ(-E2BIG, answer(ctx, verdicts, UINT32_MAX, NULL));
	free(events);
	free(verdicts);
}

TEST_F(next, largest_batch_of_verdicts_is_accepted)
{
	struct pgprotect_verdict *verdicts = calloc(PGPROTECT_MAX_BATCH, sizeof(*verdicts));
	uint32_t stale;

	for (int i = 0; i < PGPROTECT_MAX_BATCH; i++) {
		verdicts[i].id = 1000 + i;
		verdicts[i].action = PGPROTECT_ALLOW;
	}
	EXPECT_EQ(0, answer(self->stalls.ctx, verdicts, PGPROTECT_MAX_BATCH, &stale));
	EXPECT_EQ(PGPROTECT_MAX_BATCH, stale);
	free(verdicts);
}

struct fetcher {
	int ctx;
	uint32_t min;
	int64_t limit_ns;	/* 0: no limit */
};

static long op_fetch(struct writer *self)
{
	struct fetcher *fetcher = self->arg;
	struct pgprotect_event events[PAGES];

	return fetch(fetcher->ctx, events, PAGES, fetcher->min, fetcher->limit_ns ?: -1);
}

TEST_F(next, wait_without_limit_ends_by_events)
{
	struct fetcher fetcher = { .ctx = self->notes.ctx, .min = 2 };
	struct writer *thread = writer_thread(op_fetch, &fetcher);

	EXPECT_TRUE(writer_sleeps(thread));
	raise_events(&self->notes, 1);
	EXPECT_TRUE(HOLDS_FOR(50, !writer_done(thread)));
	raise_events(&self->notes, 1);
	EXPECT_EQ(2, writer_join(thread));
}

/* One by one, until the wait ends otherwise: how. */
static long op_fetch_all(struct writer *self)
{
	struct fetcher *fetcher = self->arg;
	struct pgprotect_event event;
	int ret;

	while ((ret = fetch(fetcher->ctx, &event, 1, 1, fetcher->limit_ns ?: -1)) == 1)
		self->progress++;
	return ret;
}

/* One event wakes both handlers, and one of them gets it. */
static void who_comes_second_waits_on(struct __test_metadata *_metadata, struct fetcher fetcher,
				      struct subject *notes)
{
	struct writer *threads[2];

	count_signal(SIGUSR1, 0);
	for (int i = 0; i < 2; i++)
		threads[i] = writer_thread(op_fetch_all, &fetcher);
	for (long nr = 1; nr <= 1000; nr++) {
		raise_events(notes, 1);
		ASSERT_TRUE(WAIT_FOR(threads[0]->progress + threads[1]->progress == nr));
		ASSERT_FALSE(writer_done(threads[0]) || writer_done(threads[1]));
	}
	for (int i = 0; i < 2; i++) {
		EXPECT_TRUE(writer_interrupt(threads[i], SIGUSR1));
		EXPECT_EQ(-EINTR, writer_join(threads[i]));
	}
}

TEST_F(next, who_comes_second_waits_on_without_limit)
{
	struct fetcher fetcher = { .ctx = self->notes.ctx };

	who_comes_second_waits_on(_metadata, fetcher, &self->notes);
}

TEST_F(next, who_comes_second_waits_on_for_the_rest_of_his_time)
{
	struct fetcher fetcher = { .ctx = self->notes.ctx, .limit_ns = 3 * DEADLINE_MS * MS };

	who_comes_second_waits_on(_metadata, fetcher, &self->notes);
}

TEST_F(next, wait_with_nothing_to_return_is_interrupted_by_a_signal)
{
	struct fetcher fetcher = { .ctx = self->notes.ctx, .min = 1 };
	struct writer *thread;

	count_signal(SIGUSR1, 0);
	thread = writer_thread(op_fetch, &fetcher);
	EXPECT_TRUE(writer_sleeps(thread));
	EXPECT_TRUE(writer_interrupt(thread, SIGUSR1));
	EXPECT_EQ(-EINTR, writer_join(thread));
}

TEST_F(next, wait_with_something_to_return_returns_it_at_a_signal)
{
	struct fetcher fetcher = { .ctx = self->notes.ctx, .min = 3 };
	struct writer *thread;

	raise_events(&self->notes, 2);
	count_signal(SIGUSR1, 0);
	thread = writer_thread(op_fetch, &fetcher);
	EXPECT_TRUE(writer_sleeps(thread));
	EXPECT_TRUE(writer_interrupt(thread, SIGUSR1));
	EXPECT_EQ(2, writer_join(thread));
}

/* A thread that stores to page @page of the stalling file, and its event. */
static struct writer *stall_store(struct subject *subject, struct access *access,
				  uint64_t page, struct pgprotect_event *event)
{
	struct writer *writer;

	*access = (struct access){
		.map = subject->file.map, .offset = page * page_size(), .value = 42,
	};
	writer = writer_thread(op_store, access);
	if (ctx_next(subject->ctx, event, 1, 1) != 1)
		die("no event for the store to page %llu", (unsigned long long)page);
	return writer;
}

TEST_F(next, allow_releases_the_page_and_its_writer)
{
	struct pgprotect_event event;
	struct access access;
	struct writer *writer = stall_store(&self->stalls, &access, 1, &event);

	EXPECT_EQ(0, ctx_verdict(self->stalls.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(42, self->stalls.file.map[page_size()]);
}

TEST_F(next, answers_and_fetches_in_one_call)
{
	struct pgprotect_verdict verdict = { .action = PGPROTECT_ALLOW };
	struct pgprotect_event first, second;
	struct access access[2];
	struct writer *writers[2];
	struct pgprotect_next next = {
		.verdicts = (uintptr_t)&verdict, .nr_verdicts = 1,
		.events = (uintptr_t)&second, .max_events = 1, .min_events = 1,
		.timeout_ns = -1,
	};

	writers[0] = stall_store(&self->stalls, &access[0], 0, &first);
	access[1] = (struct access){ .map = self->stalls.file.map, .offset = page_size() };
	writers[1] = writer_thread(op_store, &access[1]);
	verdict.id = first.id;
	EXPECT_EQ(0, ctx_next_args(self->stalls.ctx, &next));
	EXPECT_EQ(1, next.nr_events);
	EXPECT_EQ(0, next.nr_stale);
	EXPECT_EQ(page_size(), second.offset);
	EXPECT_NE(first.id, second.id);
	EXPECT_EQ(0, writer_join(writers[0]));
	EXPECT_FALSE(writer_done(writers[1]));
	EXPECT_EQ(0, ctx_verdict(self->stalls.ctx, second.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writers[1]));
}

TEST_F(next, invalid_verdicts_are_refused_as_a_whole)
{
	static const struct pgprotect_verdict bad[] = {
		{ .id = 99, .action = 0 },
		{ .id = 99, .action = 3 },
		{ .id = 99, .action = UINT32_MAX },
		{ .id = 99, .action = PGPROTECT_REFUSE, .error = 134 },
		{ .id = 99, .action = PGPROTECT_REFUSE, .error = -1 },
		{ .id = 99, .action = PGPROTECT_REFUSE, .error = 4096 },
	};
	struct pgprotect_event event;
	struct access access;
	struct writer *writer = stall_store(&self->stalls, &access, 0, &event);

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct pgprotect_verdict both[] = {
			{ .id = event.id, .action = PGPROTECT_ALLOW }, bad[i],
		};

		EXPECT_EQ(-EINVAL, answer(self->stalls.ctx, both, 2, NULL)) {
			TH_LOG("action %u, error %d", bad[i].action, bad[i].error);
		}
	}
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_verdict(self->stalls.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(next, verdicts_that_cannot_be_read_are_a_fault)
{
	struct pgprotect_event event;
	struct access access;
	struct writer *writer = stall_store(&self->stalls, &access, 0, &event);

	EXPECT_EQ(-EFAULT, answer(self->stalls.ctx, nowhere, 1, NULL));
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_verdict(self->stalls.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(next, verdicts_without_their_event_are_counted_stale)
{
	struct pgprotect_event event;
	struct access access;
	struct writer *writer = stall_store(&self->stalls, &access, 0, &event);
	struct pgprotect_verdict verdicts[] = {
		{ .id = event.id, .action = PGPROTECT_ALLOW },
		{ .id = event.id, .action = PGPROTECT_ALLOW },
		{ .id = event.id + 1000, .action = PGPROTECT_REFUSE },
	};
	uint32_t stale;

	EXPECT_EQ(0, answer(self->stalls.ctx, verdicts, 3, &stale));
	EXPECT_EQ(2, stale);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(1, ctx_verdict(self->stalls.ctx, event.id, PGPROTECT_ALLOW, 0));
}

TEST_F(next, events_that_cannot_be_stored_are_delivered_again)
{
	struct access access = { .map = self->stalls.file.map, .offset = page_size() };
	struct writer *writer = writer_thread(op_store, &access);
	struct pgprotect_event event;

	EXPECT_EQ(-EFAULT, fetch(self->stalls.ctx, nowhere, 1, 1, -1));
	EXPECT_EQ(1, fetch(self->stalls.ctx, &event, 1, 1, DEADLINE_MS * MS));
	EXPECT_EQ(page_size(), event.offset);
	EXPECT_EQ(0, ctx_verdict(self->stalls.ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
}

struct slow_fetcher {
	int ctx;
	struct pgprotect_event *events;
};

static long op_fetch_slowly(struct writer *self)
{
	struct slow_fetcher *fetcher = self->arg;

	return fetch(fetcher->ctx, fetcher->events, 1, 1, -1);
}

/* A page that whoever touches waits for; what it returns hears of that. */
static int missing_page(void **page)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	*page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.range.start = (uintptr_t)*page;
	reg.range.len = page_size();
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	return uffd;
}

TEST_F(next, event_that_could_not_be_stored_goes_to_who_waits)
{
	struct access access = { .map = self->stalls.file.map, .offset = page_size() };
	struct fetcher fetcher = { .ctx = self->stalls.ctx, .min = 1 };
	struct slow_fetcher slow = { .ctx = self->stalls.ctx };
	struct writer *first, *second, *writer;
	struct uffd_msg msg;
	int uffd = missing_page((void **)&slow.events);

	first = writer_thread(op_fetch_slowly, &slow);
	writer = writer_thread(op_store, &access);
	/* It has the event, and cannot store it yet. */
	ASSERT_EQ(sizeof(msg), read(uffd, &msg, sizeof(msg)));
	second = writer_thread(op_fetch, &fetcher);
	EXPECT_TRUE(writer_sleeps(second));
	ASSERT_EQ(0, mprotect(slow.events, page_size(), PROT_NONE));
	close(uffd);
	EXPECT_EQ(-EFAULT, writer_join(first));
	EXPECT_EQ(1, writer_join(second));
	EXPECT_EQ(0, ctx_unprotect_all(self->stalls.ctx, self->stalls.id));
	EXPECT_EQ(0, writer_join(writer));
}

TEST_F(next, only_the_events_that_could_not_be_stored_come_again)
{
	char *pages = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct pgprotect_event *last = (void *)(pages + page_size() - sizeof(*last));
	struct pgprotect_event event = { 0 };
	int ret;

	ASSERT_NE(MAP_FAILED, pages);
	ASSERT_EQ(0, munmap(pages + page_size(), page_size()));
	raise_events(&self->notes, 2);
	ret = fetch(self->notes.ctx, last, 2, 2, DEADLINE_MS * MS);
	/* One fits. Either it is reported now, or both come again. */
	EXPECT_TRUE(ret == 1 || ret == -EFAULT);
	EXPECT_EQ(ret == 1 ? 1 : 2, fetch(self->notes.ctx, last - 1, 2, 0, 0));
	event = ret == 1 ? last[-1] : last[0];
	EXPECT_EQ(page_size(), event.offset);
}

TEST_F(next, verdicts_have_acted_though_events_could_not_be_stored)
{
	struct pgprotect_event first, second;
	struct access access[2];
	struct writer *writers[2];
	struct pgprotect_verdict verdict = { .action = PGPROTECT_ALLOW };
	struct pgprotect_next next = {
		.verdicts = (uintptr_t)&verdict, .nr_verdicts = 1,
		.events = (uintptr_t)nowhere, .max_events = 1, .min_events = 1,
		.timeout_ns = -1,
	};

	writers[0] = stall_store(&self->stalls, &access[0], 0, &first);
	access[1] = (struct access){ .map = self->stalls.file.map, .offset = page_size() };
	writers[1] = writer_thread(op_store, &access[1]);
	verdict.id = first.id;
	EXPECT_EQ(-EFAULT, ctx_next_args(self->stalls.ctx, &next));
	EXPECT_EQ(0, writer_join(writers[0]));
	EXPECT_EQ(1, ctx_next(self->stalls.ctx, &second, 1, 1));
	EXPECT_EQ(page_size(), second.offset);
	EXPECT_EQ(0, ctx_verdict(self->stalls.ctx, second.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writers[1]));
}

TEST_HARNESS_MAIN
