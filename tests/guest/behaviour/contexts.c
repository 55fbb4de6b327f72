// SPDX-License-Identifier: GPL-2.0
/* Several contexts and attachments on one file, and contexts that change hands. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES		32
#define CONTEXTS	16
#define WRITERS		32

/* A context of its own that protects all of @fd. */
static int protecting_context(int fd, uint32_t mode)
{
	int ctx = ctx_open();

	if (ctx_protect_all(ctx, ctx_attach(ctx, fd, mode, 0)))
		die("protect");
	return ctx;
}

/* Answers the one event that comes on either context; the context's index, or -1. */
static int allow_on_either(const int *ctx)
{
	struct pollfd fds[] = {
		{ .fd = ctx[0], .events = POLLIN }, { .fd = ctx[1], .events = POLLIN },
	};
	struct pgprotect_event event;
	int which;

	if (poll(fds, 2, DEADLINE_MS) < 1)
		return -1;
	which = fds[0].revents & POLLIN ? 0 : 1;
	if (ctx_next(ctx[which], &event, 1, 1) != 1 ||
	    ctx_verdict(ctx[which], event.id, PGPROTECT_ALLOW, 0))
		return -1;
	return which;
}

TEST(writer_needs_the_release_of_each_context)
{
	struct test_file file = file_memfd(PAGES);
	int ctx[] = {
		protecting_context(file.fd, PGPROTECT_MODE_STALL),
		protecting_context(file.fd, PGPROTECT_MODE_STALL),
	};
	struct access access = { .map = file.map, .value = 1 };
	struct writer *writer = writer_thread(op_store, &access);
	int first, second;

	first = allow_on_either(ctx);
	ASSERT_LE(0, first);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, file.map[0]);
	second = allow_on_either(ctx);
	EXPECT_EQ(1 - first, second);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(1, file.map[0]);
	close(ctx[0]);
	close(ctx[1]);
	file_close(&file);
}

TEST(protections_of_many_contexts_end_with_the_last)
{
	struct test_file file = file_memfd(1);
	struct access access = { .map = file.map, .value = 1 };
	int ctx[CONTEXTS];
	struct writer *writer;

	for (int i = 0; i < CONTEXTS; i++)
		ctx[i] = protecting_context(file.fd, PGPROTECT_MODE_STALL);
	writer = writer_thread(op_store, &access);
	for (int i = 0; i < CONTEXTS; i++) {
		EXPECT_TRUE(writer_stalled(writer));
		EXPECT_EQ(0, file.map[0]);
		close(ctx[i]);
	}
	EXPECT_EQ(0, writer_join(writer));
	file_close(&file);
}

TEST(closing_one_of_two_contexts_leaves_the_other)
{
	struct test_file file = file_memfd(2);
	int one = protecting_context(file.fd, PGPROTECT_MODE_DENY);
	int two = protecting_context(file.fd, PGPROTECT_MODE_DENY);

	close(one);
	EXPECT_EQ(-EPERM, write_page(file.fd, 0, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(file.map, 1));
	close(two);
	EXPECT_EQ(1, write_page(file.fd, 0, 1));
	EXPECT_EQ(0, store_byte(file.map, 1));
	file_close(&file);
}

TEST(deny_beats_stall_without_an_event)
{
	struct test_file file = file_memfd(2);
	int stall = protecting_context(file.fd, PGPROTECT_MODE_STALL);
	int deny = protecting_context(file.fd, PGPROTECT_MODE_DENY);
	struct access access = { .fd = file.fd };
	struct writer *writer;

	EXPECT_EQ(-EPERM, write_page(file.fd, 0, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(file.map, 1));
	EXPECT_FALSE(ctx_readable(stall, 0));
	close(deny);
	writer = writer_thread(op_pwrite, &access);
	EXPECT_TRUE(writer_stalled(writer));
	close(stall);
	EXPECT_EQ(1, writer_join(writer));
	file_close(&file);
}

/* A stalled writer meets what was protected while it slept. */
TEST(deny_that_comes_while_a_writer_stalls_refuses_it_after_release)
{
	struct test_file file = file_memfd(1);
	int stall = protecting_context(file.fd, PGPROTECT_MODE_STALL);
	struct access access = { .fd = file.fd };
	struct writer *writer = writer_thread(op_pwrite, &access);
	int deny;

	EXPECT_TRUE(writer_stalled(writer));
	deny = protecting_context(file.fd, PGPROTECT_MODE_DENY);
	close(stall);
	EXPECT_EQ(-EPERM, writer_join(writer));
	EXPECT_EQ(0, file.map[0]);
	close(deny);
	file_close(&file);
}

TEST(ranges_of_two_contexts_are_independent)
{
	struct test_file file = file_memfd(3);
	int one = ctx_open(), two = ctx_open();
	uint32_t id_one = ctx_attach(one, file.fd, PGPROTECT_MODE_DENY, 0);
	uint32_t id_two = ctx_attach(two, file.fd, PGPROTECT_MODE_DENY, 0);

	ASSERT_EQ(0, ctx_protect_range(one, id_one, 0, 2 * page_size()));
	ASSERT_EQ(0, ctx_protect_range(two, id_two, page_size(), 2 * page_size()));
	ASSERT_EQ(0, ctx_unprotect_all(one, id_one));
	EXPECT_EQ(1, write_page(file.fd, 0, 1));
	EXPECT_EQ(-EPERM, write_page(file.fd, 1, 1));
	EXPECT_EQ(-EPERM, write_page(file.fd, 2, 1));
	close(one);
	close(two);
	file_close(&file);
}

TEST(two_attachments_in_one_context_both_count)
{
	struct test_file file = file_memfd(1);
	int ctx = ctx_open();
	uint32_t ids[] = {
		ctx_attach(ctx, file.fd, PGPROTECT_MODE_STALL, 0),
		ctx_attach(ctx, file.fd, PGPROTECT_MODE_STALL, 0),
	};
	struct access access = { .map = file.map, .value = 1 };
	struct pgprotect_event first, second;
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_all(ctx, ids[0]));
	ASSERT_EQ(0, ctx_protect_all(ctx, ids[1]));
	writer = writer_thread(op_store, &access);
	ASSERT_EQ(0, ctx_read_event(ctx, &first));
	EXPECT_EQ(0, ctx_verdict(ctx, first.id, PGPROTECT_ALLOW, 0));
	ASSERT_EQ(0, ctx_read_event(ctx, &second));
	EXPECT_EQ(ids[0] + ids[1], first.file + second.file);
	EXPECT_NE(first.file, second.file);
	EXPECT_NE(first.id, second.id);
	EXPECT_FALSE(writer_done(writer));
	EXPECT_EQ(0, ctx_detach(ctx, second.file));
	EXPECT_EQ(0, writer_join(writer));
	close(ctx);
	file_close(&file);
}

TEST(detach_of_one_attachment_leaves_its_twin)
{
	struct test_file file = file_memfd(1);
	int ctx = ctx_open();
	uint32_t one = ctx_attach(ctx, file.fd, PGPROTECT_MODE_DENY, 0);
	uint32_t two = ctx_attach(ctx, file.fd, PGPROTECT_MODE_DENY, 0);

	ASSERT_EQ(0, ctx_protect_all(ctx, one));
	ASSERT_EQ(0, ctx_protect_all(ctx, two));
	EXPECT_EQ(0, ctx_detach(ctx, one));
	EXPECT_EQ(-EPERM, write_page(file.fd, 0, 1));
	EXPECT_EQ(0, ctx_detach(ctx, two));
	EXPECT_EQ(1, write_page(file.fd, 0, 1));
	close(ctx);
	file_close(&file);
}

TEST(detach_releases_the_waiting_writers)
{
	struct subject subject = subject_protected(PAGES, PGPROTECT_MODE_STALL, 0);
	struct access access = { .map = subject.file.map };
	struct writer *writer = writer_thread(op_store, &access);

	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_detach(subject.ctx, subject.id));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_FALSE(ctx_readable(subject.ctx, 0));
	subject_close(&subject);
}

/* A COPY in one context that another context stalls. */

FIXTURE(stalled_copy) {
	struct test_file file, spare;
	int ctx, other;		/* DENY, that copies; STALL */
	uint32_t id, id_other;
	char *source;
};

FIXTURE_SETUP(stalled_copy)
{
	self->file = file_memfd(1);
	self->spare = file_memfd(1);
	self->source = calloc(1, page_size());
	self->source[0] = 'c';
	self->ctx = ctx_open();
	self->other = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
	self->id_other = ctx_attach(self->other, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_EQ(0, ctx_protect_all(self->other, self->id_other));
}

FIXTURE_TEARDOWN(stalled_copy)
{
	close(self->ctx);
	close(self->other);
	file_close(&self->file);
	file_close(&self->spare);
	free(self->source);
}

static long op_copy(struct writer *self)
{
	struct _test_data_stalled_copy *copy = self->arg;

	return ctx_copy(copy->ctx, copy->id, 0, copy->source, page_size(), NULL);
}

static long op_detach_attach_protect(struct writer *self)
{
	struct _test_data_stalled_copy *copy = self->arg;
	int ret = ctx_detach(copy->ctx, copy->id);

	if (ret)
		return ret;
	return ctx_protect_all(copy->ctx, ctx_attach(copy->ctx, copy->spare.fd,
						     PGPROTECT_MODE_DENY, 0));
}

TEST_F(stalled_copy, does_not_hold_up_its_context)
{
	struct writer *copier = writer_thread(op_copy, self), *others;

	ASSERT_TRUE(writer_stalled(copier));
	others = writer_thread(op_detach_attach_protect, self);
	EXPECT_EQ(0, writer_join(others));
	EXPECT_EQ(-EPERM, write_page(self->spare.fd, 0, 1));
	EXPECT_TRUE(task_stalled(copier->tid));
	EXPECT_EQ(0, self->file.map[0]);

	EXPECT_EQ(0, ctx_unprotect_all(self->other, self->id_other));
	EXPECT_EQ(0, writer_join(copier));
	EXPECT_EQ('c', self->file.map[0]);
}

TEST_F(stalled_copy, can_be_killed_and_leaves_the_file_as_it_was)
{
	struct writer *copier = writer_fork(op_copy, self), *again;

	ASSERT_TRUE(writer_stalled(copier));
	writer_kill(copier, SIGKILL);
	EXPECT_EQ(SIGKILL, WTERMSIG(writer_wait(copier)));
	EXPECT_EQ(0, self->file.map[0]);
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 0, 1));

	again = writer_thread(op_copy, self);
	ASSERT_TRUE(writer_stalled(again));
	EXPECT_EQ(0, ctx_unprotect_all(self->other, self->id_other));
	EXPECT_EQ(0, writer_join(again));
	EXPECT_EQ('c', self->file.map[0]);
}

/* Receives a context, allows one event, and keeps it until told to end. */
static long op_serve_received(struct writer *self)
{
	int ctx = receive_fd(*(int *)self->arg);
	struct pgprotect_event event;

	if (ctx_next(ctx, &event, 1, 1) != 1 ||
	    ctx_verdict(ctx, event.id, PGPROTECT_ALLOW, 0))
		return -1;
	writer_checkpoint(self);
	return event.offset;
}

TEST(context_passed_on_works_and_lives_after_the_original_is_closed)
{
	struct subject subject = subject_protected(PAGES, PGPROTECT_MODE_STALL, 0);
	struct access access = {
		.map = subject.file.map, .offset = 3 * page_size(), .value = 1,
	};
	struct writer *server, *first, *second;
	int pair[2];

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	/* In flight while closed here: the server gets it, but does not inherit it. */
	send_fd(pair[0], subject.ctx);
	close(subject.ctx);
	server = writer_fork(op_serve_received, &pair[1]);
	close(pair[1]);
	first = writer_thread(op_store, &access);
	EXPECT_EQ(0, writer_join(first));
	EXPECT_EQ(1, subject.file.map[3 * page_size()]);
	writer_wait_ready(server);
	access.offset = 4 * page_size();
	second = writer_thread(op_store, &access);
	EXPECT_TRUE(writer_stalled(second));
	writer_go(server);
	EXPECT_EQ(3 * page_size(), writer_join(server));
	/* The last descriptor went with the process. */
	EXPECT_EQ(0, writer_join(second));
	close(pair[0]);
	file_close(&subject.file);
}

/* Protects, fetches some events, never answers. */
static long op_handle_and_hang(struct writer *self)
{
	struct test_file *file = self->arg;
	int ctx = protecting_context(file->fd, PGPROTECT_MODE_STALL);
	struct pgprotect_event events[WRITERS];

	writer_checkpoint(self);
	ctx_next(ctx, events, WRITERS / 2, 1);
	writer_checkpoint(self);
	return 0;
}

TEST(death_of_the_handler_releases_every_writer)
{
	struct test_file file = file_memfd(PAGES);
	struct writer *handler = writer_fork(op_handle_and_hang, &file);
	struct access access[WRITERS];
	struct writer *writers[WRITERS];

	writer_wait_ready(handler);
	for (int i = 0; i < WRITERS; i++) {
		access[i] = (struct access){
			.fd = file.fd, .map = file.map, .offset = i / 2 * page_size() + i % 2,
			.value = 'w',
		};
		writers[i] = writer_thread(i % 2 ? op_store : op_pwrite, &access[i]);
	}
	for (int i = 0; i < WRITERS; i++) {
		EXPECT_TRUE(writer_stalled(writers[i]));
	}
	writer_go(handler);
	writer_wait_ready(handler);
	writer_kill(handler, SIGKILL);
	for (int i = 0; i < WRITERS; i++) {
		EXPECT_EQ(i % 2 ? 0 : 1, writer_join(writers[i]));
	}
	for (int i = 0; i < WRITERS; i++) {
		EXPECT_EQ('w', file.map[access[i].offset]);
	}
	EXPECT_EQ(SIGKILL, WTERMSIG(writer_wait(handler)));
	EXPECT_EQ(1, write_page(file.fd, PAGES - 1, 1));
	file_close(&file);
}

TEST_HARNESS_MAIN
