// SPDX-License-Identifier: GPL-2.0
/* What becomes of the waiting writers: allowed, refused, released, or a handler's own. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	8
#define WAITERS	8

FIXTURE(verdict) {
	struct subject subject;
	int ctx;
	int fd;
	char *map;
	struct access access[WAITERS];
	struct writer *writers[WAITERS];
};

FIXTURE_SETUP(verdict)
{
	self->subject = subject_protected(PAGES, PGPROTECT_MODE_STALL, 0);
	self->ctx = self->subject.ctx;
	self->fd = self->subject.file.fd;
	self->map = self->subject.file.map;
}

FIXTURE_TEARDOWN(verdict)
{
	subject_close(&self->subject);
}

/* Writer i stores or writes a byte 'w' at @offset of page pages[i]; all stall. */
static bool start_writers(struct _test_data_verdict *self, const uint64_t *pages, int nr,
			  long (*op)(struct writer *))
{
	for (int i = 0; i < nr; i++) {
		self->access[i] = (struct access){
			.fd = self->fd, .map = self->map,
			.offset = pages[i] * page_size() + i, .value = 'w',
		};
		self->writers[i] = writer_thread(op, &self->access[i]);
	}
	return ctx_wait_stalled(self->ctx, nr);
}

static const uint64_t same_page[WAITERS] = { 2, 2, 2, 2, 2, 2, 2, 2 };
static const uint64_t each_page[WAITERS] = { 0, 1, 2, 3, 4, 5, 6, 7 };

TEST_F(verdict, one_event_for_all_writers_of_a_page)
{
	struct pgprotect_event events[2];

	ASSERT_TRUE(start_writers(self, same_page, WAITERS, op_store));
	EXPECT_EQ(1, ctx_next(self->ctx, events, 2, 0));
	EXPECT_EQ(WAITERS, events[0].waiters);
	EXPECT_EQ(0, ctx_verdict(self->ctx, events[0].id, PGPROTECT_ALLOW, 0));
	for (int i = 0; i < WAITERS; i++) {
		EXPECT_EQ(0, writer_join(self->writers[i]));
		EXPECT_EQ('w', self->map[self->access[i].offset]);
	}
}

TEST_F(verdict, stores_and_writes_share_the_event_of_a_page)
{
	struct pgprotect_event events[2];
	struct access access = { .fd = self->fd, .offset = 2 * page_size() + 100 };
	struct writer *writer;

	ASSERT_TRUE(start_writers(self, same_page, 2, op_store));
	writer = writer_thread(op_pwrite, &access);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 3));
	EXPECT_EQ(1, ctx_next(self->ctx, events, 2, 0));
	EXPECT_EQ(3, events[0].waiters);
	EXPECT_EQ(PGPROTECT_ORIGIN_STORE, events[0].origin);
	EXPECT_EQ(0, ctx_verdict(self->ctx, events[0].id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(1, writer_join(writer));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, writer_join(self->writers[i]));
	}
}

TEST_F(verdict, covers_writers_that_came_after_delivery)
{
	struct access late = { .map = self->map, .offset = 2 * page_size() + 50, .value = 'l' };
	struct pgprotect_event event;
	struct writer *writer;

	ASSERT_TRUE(start_writers(self, same_page, 1, op_store));
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	writer = writer_thread(op_store, &late);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 2));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(0, writer_join(self->writers[0]));
	EXPECT_EQ('l', self->map[late.offset]);
}

TEST_F(verdict, release_wakes_the_writers_of_that_page_alone)
{
	ASSERT_TRUE(start_writers(self, each_page, WAITERS, op_store));
	EXPECT_EQ(0, ctx_unprotect_range(self->ctx, self->subject.id, 3 * page_size(),
					 page_size()));
	EXPECT_EQ(0, writer_join(self->writers[3]));
	EXPECT_EQ(WAITERS - 1, ctx_fdinfo(self->ctx, "stalled"));
	for (int i = 0; i < WAITERS; i++) {
		EXPECT_EQ(i == 3, writer_done(self->writers[i]));
		EXPECT_EQ(i == 3 ? 'w' : 0, self->map[self->access[i].offset]);
	}
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->subject.id));
	for (int i = 0; i < WAITERS; i++) {
		if (i != 3) {
			EXPECT_EQ(0, writer_join(self->writers[i]));
		}
	}
}

TEST_F(verdict, batch_answers_each_event_in_its_own_way)
{
	struct pgprotect_event events[WAITERS];
	struct pgprotect_verdict verdicts[WAITERS];
	struct pgprotect_next next = {
		.verdicts = (uintptr_t)verdicts, .nr_verdicts = WAITERS,
	};

	ASSERT_TRUE(start_writers(self, each_page, WAITERS, op_pwrite));
	ASSERT_EQ(WAITERS, ctx_next(self->ctx, events, WAITERS, WAITERS));
	for (int i = 0; i < WAITERS; i++) {
		bool even = events[i].offset / page_size() % 2 == 0;

		verdicts[i] = (struct pgprotect_verdict){
			.id = events[i].id,
			.action = even ? PGPROTECT_ALLOW : PGPROTECT_REFUSE,
			.error = even ? 0 : EIO,
		};
	}
	EXPECT_EQ(0, ctx_next_args(self->ctx, &next));
	EXPECT_EQ(0, next.nr_stale);
	for (int i = 0; i < WAITERS; i++) {
		EXPECT_EQ(i % 2 ? -EIO : 1, writer_join(self->writers[i]));
	}
}

TEST_F(verdict, unprotect_of_a_wide_range_wakes_all_within)
{
	ASSERT_TRUE(start_writers(self, each_page, WAITERS, op_store));
	EXPECT_EQ(0, ctx_unprotect_range(self->ctx, self->subject.id, 0, 1UL << 40));
	for (int i = 0; i < WAITERS; i++) {
		EXPECT_EQ(0, writer_join(self->writers[i]));
	}
	EXPECT_EQ(0, ctx_fdinfo(self->ctx, "stalled"));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

/* Refuses one write with @error: what the writer got. */
static long refuse_write(struct _test_data_verdict *self, int error)
{
	static const uint64_t page[] = { 1 };
	struct pgprotect_event event;

	if (!start_writers(self, page, 1, op_pwrite) || ctx_read_event(self->ctx, &event) ||
	    ctx_verdict(self->ctx, event.id, PGPROTECT_REFUSE, error))
		die("refuse with %d", error);
	return writer_join(self->writers[0]);
}

TEST_F(verdict, refused_write_gets_the_chosen_errno)
{
	static const int errors[] = { EPERM, EROFS, ENOSPC, EIO, ENOMEM, 133 };

	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		EXPECT_EQ(-errors[i], refuse_write(self, errors[i]));
	}
	EXPECT_EQ(-EPERM, refuse_write(self, 0));
	EXPECT_EQ(0, self->map[page_size()]);
}

TEST_F(verdict, refused_store_gets_sigbus_and_the_page_stays_protected)
{
	struct pgprotect_event event;

	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(start_writers(self, same_page, 1, op_store));
		ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
		EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_REFUSE, EIO));
		EXPECT_EQ(GOT_SIGBUS, writer_join(self->writers[0]));
		EXPECT_EQ(0, self->map[2 * page_size()]);
	}
}

static long op_store_counting(struct writer *self)
{
	long result = op_store(self);

	return result == GOT_SIGBUS ? sigbus_count() : result;
}

/* No errno of a verdict is the fault handler's to act upon. */
TEST_F(verdict, store_refused_for_want_of_memory_gets_one_sigbus)
{
	struct pgprotect_event event;

	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(start_writers(self, same_page, 1, op_store_counting));
		ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
		EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_REFUSE, ENOMEM));
		EXPECT_EQ(1, writer_join(self->writers[0]));
		EXPECT_FALSE(ctx_readable(self->ctx, 0));
		EXPECT_EQ(0, self->map[2 * page_size()]);
	}
}

TEST_F(verdict, refusal_reaches_every_writer_that_waits)
{
	struct pgprotect_event event;

	ASSERT_TRUE(start_writers(self, same_page, WAITERS, op_pwrite));
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_REFUSE, EROFS));
	for (int i = 0; i < WAITERS; i++) {
		EXPECT_EQ(-EROFS, writer_join(self->writers[i]));
	}
}

TEST_F(verdict, allow_of_a_long_write_releases_its_whole_run)
{
	struct access access = { .fd = self->fd, .offset = 100, .length = 4096, .value = 'r' };
	struct pgprotect_event event;
	struct writer *writer = writer_thread(op_pwrite, &access);

	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(0, event.offset);
	EXPECT_EQ(2 * page_size(), event.length);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(4096, writer_join(writer));
	EXPECT_EQ('r', self->map[100]);
	EXPECT_EQ('r', self->map[4195]);
}

TEST_F(verdict, handler_answers_many_writers_of_many_pages)
{
	struct handler *handler = handler_start(self->ctx, HANDLER_ALLOW, 0);

	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < WAITERS; i++) {
			self->access[i] = (struct access){
				.fd = self->fd, .map = self->map, .value = round + 1,
				.offset = each_page[i] * page_size(),
			};
			self->writers[i] = writer_thread(i % 2 ? op_store : op_pwrite,
							 &self->access[i]);
		}
		for (int i = 0; i < WAITERS; i++) {
			EXPECT_LE(0, writer_join(self->writers[i]));
		}
		EXPECT_EQ(0, ctx_protect_all(self->ctx, self->subject.id));
	}
	for (int i = 0; i < PAGES; i++) {
		EXPECT_EQ(5, self->map[i * page_size()]);
	}
	EXPECT_EQ(5 * PAGES, handler_count(handler));
	handler_stop(handler);
}

TEST_F(verdict, handler_thread_is_never_stalled_by_its_own_context)
{
	struct pgprotect_event event;

	EXPECT_EQ(0, ctx_next(self->ctx, &event, 0, 0));
	EXPECT_EQ(-EDEADLK, write_page(self->fd, 0, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->map, 1));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(0, self->map[0]);
}

TEST_F(verdict, thread_that_reads_events_is_a_handler_too)
{
	struct pgprotect_event event;

	ASSERT_TRUE(start_writers(self, same_page, 1, op_store));
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(-EDEADLK, write_page(self->fd, 0, 1));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->subject.id));
	EXPECT_EQ(0, writer_join(self->writers[0]));
}

TEST_F(verdict, other_threads_of_the_handlers_process_are_stalled)
{
	struct pgprotect_event event;

	EXPECT_EQ(0, ctx_next(self->ctx, &event, 0, 0));
	ASSERT_TRUE(start_writers(self, same_page, 2, op_pwrite));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->subject.id));
	EXPECT_EQ(1, writer_join(self->writers[0]));
	EXPECT_EQ(1, writer_join(self->writers[1]));
}

static long op_handle_then_write(struct writer *self)
{
	struct _test_data_verdict *verdict = self->arg;
	struct pgprotect_event event;

	if (ctx_next(verdict->ctx, &event, 0, 0))
		return -1;
	writer_checkpoint(self);
	return write_page(verdict->fd, 1, 'h');
}

TEST_F(verdict, handler_of_one_context_is_stalled_by_another)
{
	struct subject other = { .ctx = ctx_open() };
	struct writer *handler = writer_thread(op_handle_then_write, self);

	writer_wait_ready(handler);
	other.id = ctx_attach(other.ctx, self->fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->subject.id));
	ASSERT_EQ(0, ctx_protect_all(other.ctx, other.id));
	writer_go(handler);
	EXPECT_TRUE(writer_stalled(handler));
	close(other.ctx);
	EXPECT_EQ(1, writer_join(handler));
}

TEST_F(verdict, handler_writes_by_copy)
{
	struct pgprotect_event event;
	char *page = calloc(1, page_size());

	page[0] = 'h';
	ASSERT_TRUE(start_writers(self, same_page, 2, op_store));
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(0, ctx_copy(self->ctx, event.file, event.offset, page, event.length, NULL));
	EXPECT_EQ(0, writer_join(self->writers[0]));
	EXPECT_EQ(0, writer_join(self->writers[1]));
	/* The writers came after: one wrote over the handler's byte, one beside. */
	EXPECT_EQ('w', self->map[2 * page_size()]);
	EXPECT_EQ('w', self->map[2 * page_size() + 1]);
	/* COPY was the answer. */
	EXPECT_EQ(1, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	free(page);
}

TEST_F(verdict, protect_again_after_release_stalls_again)
{
	struct pgprotect_event event;

	for (int i = 0; i < 10; i++) {
		ASSERT_TRUE(start_writers(self, same_page, 1, op_store));
		ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
		EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
		EXPECT_EQ(0, writer_join(self->writers[0]));
		ASSERT_EQ(0, ctx_protect_range(self->ctx, self->subject.id, 2 * page_size(),
					       page_size()));
	}
}

TEST(notes_beyond_the_limit_are_counted_by_an_overflow_event)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_DENY,
						   PGPROTECT_ATTACH_NOTIFY);
	struct pgprotect_info info = { .size = sizeof(info) };
	struct pgprotect_event *events;
	unsigned int denied = 0, lost = 0, overflows = 0;
	const unsigned int excess = 50;
	int nr;

	ASSERT_EQ(0, ctx_ioctl(subject.ctx, PGPROTECT_IOC_INFO, &info));
	events = calloc(info.max_notes + excess, sizeof(*events));
	for (unsigned int i = 0; i < info.max_notes + excess; i++) {
		ASSERT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	}
	EXPECT_EQ(excess, ctx_fdinfo(subject.ctx, "notes-lost"));
	while ((nr = ctx_next(subject.ctx, events, info.max_notes + excess, 0)) > 0) {
		for (int i = 0; i < nr; i++) {
			if (events[i].type == PGPROTECT_EVENT_OVERFLOW) {
				overflows++;
				lost += events[i].waiters;
				EXPECT_EQ(0, events[i].origin);
				EXPECT_EQ(0, events[i].id);
			} else {
				EXPECT_EQ(PGPROTECT_EVENT_DENIED, events[i].type);
				denied++;
			}
		}
	}
	EXPECT_EQ(info.max_notes, denied);
	EXPECT_EQ(1, overflows);
	EXPECT_EQ(excess, lost);
	/* Told once; afterwards notes are queued again. */
	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	EXPECT_EQ(1, ctx_next(subject.ctx, events, 2, 0));
	EXPECT_EQ(PGPROTECT_EVENT_DENIED, events[0].type);
	free(events);
	subject_close(&subject);
}

TEST_HARNESS_MAIN
