// SPDX-License-Identifier: GPL-2.0
/*
 * Failing memory: each allocation of each call is made to fail in turn, by
 * /proc/thread-self/fail-nth. A call that fails says ENOMEM and has changed nothing;
 * one that goes on has done all of it; a gate stays closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

#define PAGES	2048		/* four bitmaps */
#define MOST	400		/* allocations of one call, more than there are */

static void write_knob(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("write %s", path);
	close(fd);
}

/* All allocations can fail, and none says so. */
static bool faults_enable(void)
{
	struct stat unused;

	if (stat("/sys/kernel/debug/failslab", &unused) ||
	    stat("/proc/self/fail-nth", &unused))
		return false;
	write_knob("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	write_knob("/sys/kernel/debug/failslab/verbose", "0");
	write_knob("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_knob("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	write_knob("/sys/kernel/debug/fail_page_alloc/verbose", "0");
	return true;
}

static int fail_nth_open(void)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("open fail-nth");
	return fd;
}

static void fail_nth(int knob, unsigned int nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", nth);

	if (pwrite(knob, text, length, 0) != length)
		die("write fail-nth");
}

/* Ends it. Return: has an allocation failed? */
static bool fail_end(int knob)
{
	char text[16] = "";

	if (pread(knob, text, sizeof(text) - 1, 0) <= 0)
		die("read fail-nth");
	fail_nth(knob, 0);
	return atoi(text) == 0;
}

FIXTURE(memory) {
	struct test_file file;
	int ctx, knob;
	uint32_t id;		/* DENY with NOTIFY */
};

FIXTURE_SETUP(memory)
{
	if (!faults_enable())
		SKIP(return, "no fault injection in this kernel");
	self->file = file_memfd(PAGES);
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY,
			      PGPROTECT_ATTACH_NOTIFY);
	self->knob = fail_nth_open();
}

FIXTURE_TEARDOWN(memory)
{
	if (!self->knob)
		return;
	close(self->knob);
	close(self->ctx);
	file_close(&self->file);
}

static struct pgprotect_list_entry entry_of(int ctx, uint32_t id)
{
	struct pgprotect_list_entry entries[8];
	int nr = ctx_list(ctx, entries, 8);

	for (int i = 0; i < nr && i < 8; i++)
		if (entries[i].file == id)
			return entries[i];
	return (struct pgprotect_list_entry){ 0 };
}

#define PAGES_OF(self)	entry_of((self)->ctx, (self)->id).pages

/*
 * @call with its first, second, ... allocation failing, until none does. @failed
 * and @done look at the state, and make it what it was before.
 */
#define EACH_FAILURE(call, failed, done) do {				\
	unsigned int nth_, failures_ = 0;				\
	bool injected_ = true;						\
									\
	for (nth_ = 1; injected_ && nth_ < MOST; nth_++) {		\
		long ret_;						\
									\
		fail_nth(self->knob, nth_);				\
		ret_ = (call);						\
		injected_ = fail_end(self->knob);			\
		failures_ += injected_;					\
		if (ret_ < 0) {						\
			EXPECT_TRUE(injected_);				\
			EXPECT_EQ(-ENOMEM, ret_) {			\
				TH_LOG("allocation %u", nth_);		\
			}						\
			failed;						\
		} else {						\
			done;						\
		}							\
	}								\
	EXPECT_LT(0, failures_);					\
	EXPECT_GT(MOST, nth_);						\
} while (0)

static long open_context(void)
{
	int fd = open("/dev/pgprotect", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

TEST_F(memory, open_fails_cleanly)
{
	long fd = -1;

	EACH_FAILURE((fd = open_context()), , close(fd));
}

TEST_F(memory, attach_fails_cleanly)
{
	struct pgprotect_attach args = {
		.fd = self->file.fd, .mode = PGPROTECT_MODE_STALL, .access = PGPROTECT_ACCESS_WRITE,
	};

	EACH_FAILURE(ctx_attach_try(self->ctx, &args),
		     EXPECT_EQ(1, ctx_list(self->ctx, NULL, 0)),
		     EXPECT_EQ(0, ctx_detach(self->ctx, args.file)));
}

TEST_F(memory, first_attach_of_a_file_fails_cleanly)
{
	int fd = memfd_make(page_size(), 0);
	struct pgprotect_attach args = {
		.fd = fd, .mode = PGPROTECT_MODE_STALL, .access = PGPROTECT_ACCESS_WRITE,
	};

	EACH_FAILURE(ctx_attach_try(self->ctx, &args),
		     EXPECT_EQ(1, ctx_list(self->ctx, NULL, 0)),
		     EXPECT_EQ(0, ctx_detach(self->ctx, args.file)));
	close(fd);
}

TEST_F(memory, adopt_fails_cleanly_and_the_fence_stands)
{
	struct test_file file = file_memfd(1);
	struct pgprotect_attach args = {
		.fd = file.fd, .mode = PGPROTECT_MODE_DENY, .access = PGPROTECT_ACCESS_WRITE,
		.flags = PGPROTECT_ATTACH_ADOPT | PGPROTECT_ATTACH_PERSIST,
	};
	int ctx = ctx_open();

	protect_by(ctx, file.fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_PERSIST);
	close(ctx);
	ctx = ctx_open();
	EACH_FAILURE(ctx_attach_try(ctx, &args),
		     EXPECT_EQ(-EPERM, write_page(file.fd, 0, 'x')),
		     { EXPECT_EQ(-EPERM, write_page(file.fd, 0, 'x')); close(ctx);
		       ctx = ctx_open(); });
	/* Adopted for good, and let go. */
	args.flags = PGPROTECT_ATTACH_ADOPT;
	EXPECT_EQ(0, ctx_attach_try(ctx, &args));
	close(ctx);
	file_close(&file);
}

/* Parts of three chunks, and one that is whole. */
static int protect_parts(int ctx, uint32_t id, uint64_t flags)
{
	struct pgprotect_range ranges[] = {
		range_of(id, 10 * page_size(), page_size()),
		range_of(id, 500 * page_size(), 700 * page_size()),
		range_of(id, 2000 * page_size(), page_size()),
	};
	struct pgprotect_range pins[4];
	struct pgprotect_protect args = {
		.ranges = (uintptr_t)ranges, .nr_ranges = ARRAY_LEN(ranges),
		.pins = (uintptr_t)pins, .max_pins = ARRAY_LEN(pins), .flags = flags,
	};

	return ctx_protect_args(ctx, &args);
}

TEST_F(memory, protect_fails_cleanly)
{
	EACH_FAILURE(protect_parts(self->ctx, self->id, 0),
		     EXPECT_EQ(0, PAGES_OF(self)),
		     { EXPECT_EQ(702, PAGES_OF(self));
		       EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id)); });
	EXPECT_EQ(1, write_page(self->file.fd, 600, 'x'));
}

TEST_F(memory, protect_of_more_fails_cleanly)
{
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, 600 * page_size(), page_size()));
	EACH_FAILURE(protect_parts(self->ctx, self->id, PGPROTECT_PROTECT_STRICT),
		     EXPECT_EQ(1, PAGES_OF(self)),
		     { EXPECT_EQ(702, PAGES_OF(self));
		       EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
		       EXPECT_EQ(0, ctx_protect_range(self->ctx, self->id, 600 * page_size(),
						      page_size())); });
}

TEST_F(memory, unprotect_fails_cleanly)
{
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EACH_FAILURE(ctx_unprotect_range(self->ctx, self->id, 700 * page_size(), page_size()),
		     EXPECT_EQ(PAGES, PAGES_OF(self)),
		     { EXPECT_EQ(PAGES - 1, PAGES_OF(self));
		       EXPECT_EQ(0, ctx_protect_all(self->ctx, self->id)); });
}

TEST_F(memory, list_fails_cleanly)
{
	struct pgprotect_list_entry entries[64];

	EACH_FAILURE(ctx_list(self->ctx, entries, 64), , );
}

/* More than the kernel takes without an allocation; only the last says anything. */
static long give_verdicts(int ctx, uint64_t id)
{
	struct pgprotect_verdict verdicts[40];
	struct pgprotect_next next = {
		.verdicts = (uintptr_t)verdicts, .nr_verdicts = ARRAY_LEN(verdicts),
	};

	for (size_t i = 0; i < ARRAY_LEN(verdicts); i++)
		verdicts[i] = (struct pgprotect_verdict){
			.id = i + 1 < ARRAY_LEN(verdicts) ? i : id, .action = PGPROTECT_ALLOW,
		};
	return ctx_next_args(ctx, &next);
}

TEST_F(memory, verdicts_fail_cleanly_and_can_be_given_again)
{
	int fd = memfd_make(PAGES * page_size(), 0);
	uint32_t id = protect_by(self->ctx, fd, PGPROTECT_MODE_STALL, 0);
	struct access access = { .fd = fd, .value = 'v' };
	struct pgprotect_event event;
	struct writer *writer;

	writer = writer_thread(op_pwrite, &access);
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EACH_FAILURE(give_verdicts(self->ctx, event.id),
		     { EXPECT_FALSE(writer_done(writer));
		       EXPECT_EQ(PAGES, entry_of(self->ctx, id).pages); },
		     { EXPECT_EQ(1, writer_join(writer));
		       EXPECT_EQ(0, ctx_protect_all(self->ctx, id));
		       writer = writer_thread(op_pwrite, &access);
		       EXPECT_EQ(0, ctx_read_event(self->ctx, &event)); });
	EXPECT_EQ(0, ctx_detach(self->ctx, id));
	EXPECT_EQ(1, writer_join(writer));
	close(fd);
}

static long copy_page(int ctx, uint32_t id, char *data)
{
	return ctx_copy(ctx, id, 700 * page_size(), data, page_size(), NULL);
}

TEST_F(memory, copy_fails_with_the_page_still_protected)
{
	char data[4096] = "copied";

	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EACH_FAILURE(copy_page(self->ctx, self->id, data),
		     { EXPECT_EQ(-EPERM, write_page(self->file.fd, 700, 'x'));
		       EXPECT_EQ(PAGES, PAGES_OF(self)); },
		     { EXPECT_EQ(PAGES - 1, PAGES_OF(self));
		       EXPECT_EQ(0, ctx_protect_all(self->ctx, self->id)); });
}

/* Writers: a thread whose n-th allocation fails, at the gate or on the way to it. */
struct starved {
	struct access access;	/* first: it is what the ops take */
	unsigned int nth;
	bool injected;
	long (*op)(struct writer *self);
};

static long op_starved(struct writer *self)
{
	struct starved *starved = self->arg;
	int knob = fail_nth_open();
	long ret;

	fail_nth(knob, starved->nth);
	ret = starved->op(self);
	starved->injected = fail_end(knob);
	close(knob);
	return ret;
}

static void expect_refused(struct __test_metadata *_metadata, struct test_file *file,
			   long (*op)(struct writer *), long refused)
{
	struct starved starved = {
		.access = { .fd = file->fd, .map = file->map, .value = 'v' },
		.op = op, .injected = true,
	};

	for (starved.nth = 1; starved.injected && starved.nth < MOST; starved.nth++) {
		long ret = writer_join(writer_thread(op_starved, &starved));

		EXPECT_TRUE(ret == refused || (starved.injected && ret == -ENOMEM)) {
			TH_LOG("allocation %u: %ld", starved.nth, ret);
		}
		EXPECT_EQ(0, file->map[0]);
	}
	EXPECT_LT(1, starved.nth);
}

TEST_F(memory, gate_of_a_starving_writer_refuses_what_is_denied)
{
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	expect_refused(_metadata, &self->file, op_pwrite, -EPERM);
	expect_refused(_metadata, &self->file, op_store, GOT_SIGBUS);
	/* Whoever had no memory for an event has counted it. */
	EXPECT_TRUE(ctx_readable(self->ctx, 0));
}

TEST_F(memory, gate_of_a_starving_writer_lets_nothing_through_at_the_limit)
{
	struct test_file file = file_memfd(PAGES);
	int ctx = ctx_open();
	uint32_t id = ctx_attach_limit(ctx, file.fd, PGPROTECT_MODE_STALL, 0, 20);

	ASSERT_EQ(0, ctx_protect_all(ctx, id));
	expect_refused(_metadata, &file, op_pwrite, -ETIMEDOUT);
	expect_refused(_metadata, &file, op_store, GOT_SIGBUS);
	close(ctx);
	file_close(&file);
}

TEST_F(memory, starving_writer_that_is_allowed_writes_or_says_enomem)
{
	struct test_file file = file_memfd(PAGES);
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, file.fd, PGPROTECT_MODE_STALL, 0);
	struct handler *handler = handler_start(ctx, HANDLER_ALLOW, 0);
	struct starved starved = {
		.access = { .fd = file.fd, .map = file.map, .value = 'v' },
		.op = op_store, .injected = true,
	};

	/* A fault without memory is tried again: nobody is killed for it. */
	for (starved.nth = 1; starved.injected && starved.nth < MOST; starved.nth++) {
		file.map[0] = 0;
		ASSERT_EQ(0, ctx_protect_all(ctx, id));
		EXPECT_EQ(0, writer_join(writer_thread(op_starved, &starved))) {
			TH_LOG("allocation %u", starved.nth);
		}
		EXPECT_EQ('v', file.map[0]);
	}
	handler_stop(handler);
	close(ctx);
	file_close(&file);
}

TEST_HARNESS_MAIN
