// SPDX-License-Identifier: GPL-2.0
/* pgprotect on shared page tables: nothing escapes, and one walk serves all. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE		(4 * UNIT)
#define PAGES		(SIZE / 4096)
#define MAPPERS		24
#define RW		(PROT_READ | PROT_WRITE)

FIXTURE(guests) {
	struct test_file file;
	char *other;
	int ctx;
	uint32_t id;
};

FIXTURE_VARIANT(guests) {
	uint32_t mode;
};

FIXTURE_VARIANT_ADD(guests, stall) {
	.mode = PGPROTECT_MODE_STALL,
};

FIXTURE_VARIANT_ADD(guests, deny) {
	.mode = PGPROTECT_MODE_DENY,
};

FIXTURE_SETUP(guests)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	self->file.size = SIZE;
	self->file.fd = memfd_make(SIZE, 0);
	self->file.map = map_guest(self->file.fd, SIZE, 0, RW, true);
	self->other = map_guest(self->file.fd, SIZE, 0, RW, true);
	dirty_pages(self->file.map, SIZE);
	dirty_pages(self->other, SIZE);
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, variant->mode, 0);
}

FIXTURE_TEARDOWN(guests)
{
	close(self->ctx);
	munmap(self->other, SIZE);
	file_close(&self->file);
}

/* A store, in a process of its own, that PROTECT stops; then one that it does not. */
static void check_stopped(struct __test_metadata *_metadata, int ctx, uint32_t id, bool deny,
			  char *map, size_t page)
{
	struct access access = { .map = map, .offset = page * page_size(), .value = 'w' };
	struct writer *writer = writer_fork(op_store, &access);

	if (deny) {
		EXPECT_EQ(GOT_SIGBUS, writer_join(writer));
		EXPECT_NE('w', map[page * page_size()]);
		return;
	}
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_NE('w', map[page * page_size()]);
	EXPECT_EQ(0, ctx_unprotect_range(ctx, id, page * page_size(), page_size()));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('w', map[page * page_size()]);
}

TEST_F(guests, are_stopped_by_a_protection)
{
	bool deny = variant->mode == PGPROTECT_MODE_DENY;

	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	check_stopped(_metadata, self->ctx, self->id, deny, self->file.map, 0);
	check_stopped(_metadata, self->ctx, self->id, deny, self->other, 1);
	check_stopped(_metadata, self->ctx, self->id, deny, self->other, PAGES - 1);
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_EQ(0, try_store(self->other + 5 * page_size(), 'v'));
	EXPECT_EQ('v', self->file.map[5 * page_size()]);
}

TEST_F(guests, made_after_a_protection_are_stopped)
{
	bool deny = variant->mode == PGPROTECT_MODE_DENY;
	char *late;

	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	late = map_guest(self->file.fd, SIZE, 0, RW, true);
	touch_pages(late, SIZE);
	check_stopped(_metadata, self->ctx, self->id, deny, late, 7);
	EXPECT_EQ(0, advise(late, SIZE, MADV_NOPTSHARE));
	check_stopped(_metadata, self->ctx, self->id, deny, late, 8);
	EXPECT_EQ(0, advise(self->other, SIZE, MADV_DONTNEED));
	check_stopped(_metadata, self->ctx, self->id, deny, self->other, 9);
	EXPECT_EQ(0, mprotect(self->other, SIZE, PROT_READ));
	EXPECT_EQ(0, mprotect(self->other, SIZE, RW));
	check_stopped(_metadata, self->ctx, self->id, deny, self->other, 10);
	munmap(late, SIZE);
}

static long op_copy_into(struct writer *self)
{
	struct access *access = self->arg;

	return copy_to(getpid(), access->map + access->offset, access->value);
}

TEST_F(guests, are_stopped_in_gup)
{
	struct access access = { .map = self->other, .offset = UNIT, .value = 'g' };
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	writer = writer_fork(op_copy_into, &access);
	if (variant->mode == PGPROTECT_MODE_DENY) {
		EXPECT_EQ(-EFAULT, writer_join(writer));
		EXPECT_NE('g', self->other[UNIT]);
		return;
	}
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_NE('g', self->other[UNIT]);
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('g', self->other[UNIT]);
}

static long op_store_all_the_time(struct writer *self)
{
	struct access *access = self->arg;
	volatile uint64_t *word = (void *)(access->map + access->offset);

	writer_checkpoint(self);
	while (store_word(word, *word + 1) == 0)
		self->progress++;
	return GOT_SIGBUS;
}

/* Threads and processes whose TLBs all have writable translations. */
TEST_F(guests, who_store_all_the_time_change_nothing_once_protect_has_returned)
{
	struct access access[4];
	struct writer *writers[4];

	if (variant->mode != PGPROTECT_MODE_DENY)
		SKIP(return, "the writers end by a refusal");
	for (int i = 0; i < 4; i++) {
		access[i] = (struct access) {
			.map = i % 2 ? self->other : self->file.map,
			.offset = i * 64,
		};
		writers[i] = i < 2 ? writer_thread(op_store_all_the_time, &access[i]) :
				     writer_fork(op_store_all_the_time, &access[i]);
		writer_wait_ready(writers[i]);
		writer_go(writers[i]);
	}
	for (int i = 0; i < 4; i++) {
		ASSERT_TRUE(WAIT_FOR(writers[i]->progress > 1000));
	}
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	{
		uint64_t before = checksum(self->file.map, page_size());

		EXPECT_TRUE(HOLDS_FOR(200, checksum(self->file.map, page_size()) == before));
	}
	for (int i = 0; i < 4; i++) {
		EXPECT_EQ(GOT_SIGBUS, writer_join(writers[i]));
	}
}

static long op_map_and_dirty(struct writer *self)
{
	struct test_file *file = self->arg;
	char *map = map_guest(file->fd, file->size, 0, RW, true);

	dirty_pages(map, file->size);
	writer_checkpoint(self);
	return 0;
}

TEST_F(guests, cost_protect_one_walk_however_many_they_are)
{
	struct writer *writers[MAPPERS];
	struct protect_counts few, many;

	few = protect_counted(self->ctx, self->id, 0, PGPROTECT_TO_EOF);
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	for (int i = 0; i < MAPPERS; i++) {
		writers[i] = writer_fork(op_map_and_dirty, &self->file);
		writer_wait_ready(writers[i]);
	}
	dirty_pages(self->file.map, SIZE);
	many = protect_counted(self->ctx, self->id, 0, PGPROTECT_TO_EOF);
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	TH_LOG("2 mappers: %u tables, %u flushes; %d: %u, %u", few.tables, few.flushes,
	       MAPPERS + 2, many.tables, many.flushes);
	EXPECT_EQ(SIZE / UNIT, few.tables);
	EXPECT_EQ(few.tables, many.tables);
	EXPECT_EQ(1, few.flushes);
	EXPECT_EQ(1, many.flushes);
	for (int i = 0; i < MAPPERS; i++) {
		writer_go(writers[i]);
		EXPECT_EQ(0, writer_join(writers[i]));
	}
}

struct lender {
	char *map;
	int fd;
	struct io_uring ring;
};

static long op_register(struct writer *self)
{
	struct lender *lender = self->arg;
	struct iovec iov = { lender->map + SIZE / 2, page_size() };
	int ret = io_uring_register_buffers(&lender->ring, &iov, 1);

	writer_checkpoint(self);
	return ret;
}

static long op_share_on_and_off(struct writer *self)
{
	int fd = *(int *)self->arg;
	char *map = map_guest(fd, UNIT, 0, RW, true);

	while (!self->go) {
		if (advise(map, UNIT, MADV_NOPTSHARE) || advise(map, UNIT, MADV_PTSHARE))
			return -1;
		self->progress++;
	}
	return 0;
}

/* Each time the only mapping is shared, the tables are new. */
TEST_F(guests, tables_that_are_being_made_are_protected)
{
	int fd = memfd_make(UNIT, 0);
	struct writer *writer = writer_thread(op_share_on_and_off, &fd);
	uint32_t id = ctx_attach(self->ctx, fd, variant->mode, 0);

	while (writer->progress < 500 && !writer_done(writer)) {
		ASSERT_EQ(0, ctx_protect_all(self->ctx, id));
		ASSERT_EQ(0, ctx_unprotect_all(self->ctx, id));
	}
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	close(fd);
}

TEST_F(guests, pins_are_found_while_they_live_and_after)
{
	struct lender lender = { .map = self->file.map };
	struct pgprotect_range all = range_of(self->id, 0, SIZE);
	struct pgprotect_protect protect = {
		.flags = PGPROTECT_PROTECT_STRICT,
		.ranges = (uintptr_t)&all, .nr_ranges = 1,
	};
	struct writer *writer;

	ASSERT_EQ(0, io_uring_queue_init(4, &lender.ring, 0));
	ASSERT_EQ(0, ctx_protect_args(self->ctx, &protect));
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	writer = writer_fork(op_register, &lender);
	writer_wait_ready(writer);
	EXPECT_EQ(-EBUSY, ctx_protect_args(self->ctx, &protect));
	writer_go(writer);
	ASSERT_EQ(0, writer_join(writer));
	EXPECT_EQ(-EBUSY, ctx_protect_args(self->ctx, &protect));
	io_uring_queue_exit(&lender.ring);
	/* The buffers may be given back a moment later. */
	EXPECT_TRUE(WAIT_FOR(!ctx_protect_args(self->ctx, &protect)));
}

static long op_pin_and_map(struct writer *self)
{
	static char own[4096] __attribute__((aligned(4096)));
	struct lender *lender = self->arg;
	struct iovec iov = { own, sizeof(own) };
	int ret = io_uring_register_buffers(&lender->ring, &iov, 1);

	if (ret || io_uring_unregister_buffers(&lender->ring))
		return -1;
	lender->map = map_guest(lender->fd, SIZE, 0, RW, true);
	return op_register(self);
}

TEST_F(guests, pins_are_found_of_who_had_pinned_before_it_mapped)
{
	struct lender lender = { .fd = memfd_make(SIZE, 0) };
	uint32_t id = ctx_attach(self->ctx, lender.fd, variant->mode, 0);
	struct pgprotect_range all = range_of(id, 0, SIZE);
	struct pgprotect_protect protect = {
		.flags = PGPROTECT_PROTECT_STRICT,
		.ranges = (uintptr_t)&all, .nr_ranges = 1,
	};
	struct writer *writer;

	ASSERT_EQ(0, io_uring_queue_init(4, &lender.ring, 0));
	writer = writer_fork(op_pin_and_map, &lender);
	writer_wait_ready(writer);
	EXPECT_EQ(-EBUSY, ctx_protect_args(self->ctx, &protect));
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	io_uring_queue_exit(&lender.ring);
	close(lender.fd);
}

/* What a process has run until now. */
static uint64_t cpu_ns(pid_t pid)
{
	struct timespec used;
	clockid_t clock;

	errno = clock_getcpuclockid(pid, &clock);
	if (errno || clock_gettime(clock, &used))
		die("CPU time of %d", pid);
	return used.tv_sec * 1000000000ULL + used.tv_nsec;
}

/* One unit of a directory that is fenced whole, and all who write there from now on. */
FIXTURE(fenced) {
	int fd;
	char *map;
	int ctx;
	uint32_t id;
};

FIXTURE_VARIANT(fenced) {
	uint32_t mode;
};

FIXTURE_VARIANT_ADD(fenced, stall) {
	.mode = PGPROTECT_MODE_STALL,
};

FIXTURE_VARIANT_ADD(fenced, deny) {
	.mode = PGPROTECT_MODE_DENY,
};

FIXTURE_SETUP(fenced)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	self->fd = memfd_make(DIRECTORY, 0);
	self->map = map_guest(self->fd, DIRECTORY, 0, RW, true);
	dirty_pages(self->map, UNIT);
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->fd, variant->mode,
			      variant->mode == PGPROTECT_MODE_DENY ? PGPROTECT_ATTACH_NOTIFY : 0);
	ASSERT_EQ(1, protect_counted(self->ctx, self->id, 0, DIRECTORY).fences);
}

FIXTURE_TEARDOWN(fenced)
{
	if (self->ctx)
		close(self->ctx);
}

/* The entry below the fence is writable: who comes back to it at once would do so for ever. */
TEST_F(fenced, writer_raises_one_event_and_does_not_spin)
{
	struct access access = { .map = self->map, .offset = 5 * page_size(), .value = 'w' };
	struct handler *handler = handler_start(self->ctx, HANDLER_HOLD, 0);
	bool deny = variant->mode == PGPROTECT_MODE_DENY;
	struct writer *writer = writer_fork(op_store, &access);
	uint64_t used;

	ASSERT_TRUE(handler_wait(handler, 1));
	EXPECT_EQ(deny ? PGPROTECT_EVENT_DENIED : PGPROTECT_EVENT_STALL,
		  handler_event(handler, 0).type);
	EXPECT_EQ(access.offset, handler_event(handler, 0).offset);
	if (deny) {
		EXPECT_EQ(GOT_SIGBUS, writer_join(writer));
	} else {
		ASSERT_TRUE(writer_stalled(writer));
		used = cpu_ns(writer->pid);
		EXPECT_TRUE(HOLDS_FOR(200, !writer_done(writer)));
		EXPECT_EQ(used, cpu_ns(writer->pid));
	}
	/* There is nothing to fence again: it stands. */
	EXPECT_EQ(0, protect_counted(self->ctx, self->id, 0, DIRECTORY).fences);
	EXPECT_EQ(1, self->map[access.offset]);
	if (!deny) {
		handler_set(handler, HANDLER_ALLOW, 0);
		EXPECT_EQ(0, writer_join(writer));
		EXPECT_EQ('w', self->map[access.offset]);
	}
	EXPECT_EQ(1, handler_count(handler));
	handler_stop(handler);
}

#define FENCES	40

/* Until it may pass a second checkpoint. */
static long op_store_until_told(struct writer *self)
{
	struct access *access = self->arg;
	volatile uint64_t *word = (void *)(access->map + access->offset);

	writer_checkpoint(self);
	while (self->go < 2) {
		*word = *word + 1;
		self->progress++;
	}
	return 0;
}

/* Each round begins with writable translations in all TLBs, and ends with a push-down. */
TEST_F_TIMEOUT(fenced, who_store_all_the_time_change_nothing_once_a_fence_stands, 120)
{
	const size_t page = page_size();
	struct access access[4];
	struct writer *writers[4];
	uint64_t before;
	long seen;

	if (variant->mode != PGPROTECT_MODE_STALL)
		SKIP(return, "the writers are to go on");
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	for (int i = 0; i < 4; i++) {
		access[i] = (struct access) { .map = self->map, .offset = i * page };
		writers[i] = i < 2 ? writer_thread(op_store_until_told, &access[i]) :
				     writer_fork(op_store_until_told, &access[i]);
		writer_wait_ready(writers[i]);
		writer_go(writers[i]);
	}
	for (int round = 0; round < FENCES; round++) {
		for (int i = 0; i < 4; i++) {
			seen = writers[i]->progress;
			ASSERT_TRUE(WAIT_FOR(writers[i]->progress > seen + 100));
		}
		ASSERT_EQ(1, protect_counted(self->ctx, self->id, 0, DIRECTORY).fences);
		before = checksum(self->map, 4 * page);
		EXPECT_TRUE(HOLDS_FOR(5, checksum(self->map, 4 * page) == before));
		ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	}
	for (int i = 0; i < 4; i++) {
		writer_go(writers[i]);
		EXPECT_EQ(0, writer_join(writers[i]));
	}
}

TEST_HARNESS_MAIN
