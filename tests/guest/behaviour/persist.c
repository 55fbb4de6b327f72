// SPDX-License-Identifier: GPL-2.0
/* PERSIST and ADOPT: protection that outlives its context. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	4

FIXTURE(kept) {
	struct test_file file;
	int watcher;	/* a context that only lists */
};

FIXTURE_SETUP(kept)
{
	self->file = file_memfd(PAGES);
	self->watcher = ctx_open();
}

FIXTURE_TEARDOWN(kept)
{
	close(self->watcher);
	file_close(&self->file);
}

/* Protects page 1 and closes the context. */
static void leave_protected(int fd, uint32_t mode)
{
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, fd, mode, PGPROTECT_ATTACH_PERSIST);

	if (ctx_protect_range(ctx, id, page_size(), page_size()))
		die("protect");
	close(ctx);
}

static int adopt(int ctx, int fd, uint32_t mode, uint32_t *id)
{
	struct pgprotect_attach args = {
		.fd = fd,
		.mode = mode,
		.access = PGPROTECT_ACCESS_WRITE,
		.flags = PGPROTECT_ATTACH_ADOPT,
	};
	int ret = ctx_attach_try(ctx, &args);

	*id = args.file;
	return ret;
}

TEST_F(kept, deny_goes_on_after_close_and_is_listed_as_orphan)
{
	struct pgprotect_list_entry entry;

	leave_protected(self->file.fd, PGPROTECT_MODE_DENY);
	EXPECT_EQ(1, write_page(self->file.fd, 0, 1));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 1, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + page_size(), 1));
	ASSERT_EQ(1, ctx_list(self->watcher, &entry, 1));
	EXPECT_EQ(PGPROTECT_LIST_ORPHAN, entry.state);
	EXPECT_EQ(PGPROTECT_MODE_DENY, entry.mode);
	EXPECT_EQ(PGPROTECT_ATTACH_PERSIST, entry.flags & PGPROTECT_ATTACH_PERSIST);
	EXPECT_EQ(1, entry.pages);
	EXPECT_EQ(0, entry.file);
}

TEST_F(kept, attachment_can_be_adopted_and_released)
{
	int ctx = ctx_open();
	struct pgprotect_list_entry entry;
	uint32_t id;

	leave_protected(self->file.fd, PGPROTECT_MODE_DENY);
	ASSERT_EQ(0, adopt(ctx, self->file.fd, PGPROTECT_MODE_DENY, &id));
	EXPECT_NE(0, id);
	ASSERT_EQ(1, ctx_list(self->watcher, &entry, 1));
	EXPECT_EQ(0, entry.state);
	EXPECT_EQ(id, entry.file);
	EXPECT_EQ(1, entry.pages);
	EXPECT_EQ(1, write_page(self->file.fd, 0, 1));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 1, 1));
	EXPECT_EQ(0, ctx_unprotect_all(ctx, id));
	EXPECT_EQ(1, write_page(self->file.fd, 1, 1));
	close(ctx);
	EXPECT_EQ(0, ctx_list(self->watcher, NULL, 0));
}

TEST_F(kept, attachment_adopted_without_persist_ends_with_its_new_context)
{
	int ctx = ctx_open();
	uint32_t id;

	leave_protected(self->file.fd, PGPROTECT_MODE_DENY);
	ASSERT_EQ(0, adopt(ctx, self->file.fd, PGPROTECT_MODE_DENY, &id));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 1, 1));
	close(ctx);
	EXPECT_EQ(1, write_page(self->file.fd, 1, 1));
}

TEST_F(kept, attachment_is_adopted_once)
{
	int ctx = ctx_open();
	uint32_t id;

	leave_protected(self->file.fd, PGPROTECT_MODE_DENY);
	EXPECT_EQ(0, adopt(ctx, self->file.fd, PGPROTECT_MODE_DENY, &id));
	EXPECT_EQ(-ENOENT, adopt(ctx, self->file.fd, PGPROTECT_MODE_DENY, &id));
	close(ctx);
}

TEST_F(kept, attachment_of_a_live_context_cannot_be_adopted)
{
	int owner = ctx_open(), ctx = ctx_open();
	uint32_t id;

	ctx_attach(owner, self->file.fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_PERSIST);
	EXPECT_EQ(-ENOENT, adopt(ctx, self->file.fd, PGPROTECT_MODE_DENY, &id));
	close(owner);
	EXPECT_EQ(0, adopt(ctx, self->file.fd, PGPROTECT_MODE_DENY, &id));
	close(ctx);
}

TEST_F(kept, attachment_is_not_adopted_in_another_mode)
{
	int ctx = ctx_open();
	uint32_t id;
	int ret;

	leave_protected(self->file.fd, PGPROTECT_MODE_DENY);
	ret = adopt(ctx, self->file.fd, PGPROTECT_MODE_STALL, &id);
	EXPECT_TRUE(ret == -ENOENT || ret == -EINVAL) {
		TH_LOG("adopt gave %d", ret);
	}
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 1, 1));
	EXPECT_EQ(0, adopt(ctx, self->file.fd, PGPROTECT_MODE_DENY, &id));
	close(ctx);
}

TEST_F(kept, detach_drops_it_all_the_same)
{
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, self->file.fd, PGPROTECT_MODE_DENY,
				 PGPROTECT_ATTACH_PERSIST);

	ASSERT_EQ(0, ctx_protect_all(ctx, id));
	EXPECT_EQ(0, ctx_detach(ctx, id));
	close(ctx);
	EXPECT_EQ(1, write_page(self->file.fd, 1, 1));
	EXPECT_EQ(0, ctx_list(self->watcher, NULL, 0));
}

TEST_F(kept, writer_of_an_orphan_waits_until_it_is_adopted)
{
	struct access access = {
		.map = self->file.map, .offset = page_size(), .value = 'v',
	};
	int ctx = ctx_open();
	struct pgprotect_event event;
	struct writer *writer;
	uint32_t id;

	leave_protected(self->file.fd, PGPROTECT_MODE_STALL);
	writer = writer_thread(op_store, &access);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, self->file.map[page_size()]);
	ASSERT_EQ(0, adopt(ctx, self->file.fd, PGPROTECT_MODE_STALL, &id));
	ASSERT_EQ(0, ctx_read_event(ctx, &event));
	EXPECT_EQ(PGPROTECT_EVENT_STALL, event.type);
	EXPECT_EQ(id, event.file);
	EXPECT_EQ(page_size(), event.offset);
	EXPECT_EQ(0, ctx_verdict(ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ('v', self->file.map[page_size()]);
	close(ctx);
}

TEST_F(kept, writer_that_waited_before_the_close_waits_on)
{
	struct access access = { .fd = self->file.fd, .value = 'v' };
	int owner = ctx_open(), ctx = ctx_open();
	uint32_t id = ctx_attach(owner, self->file.fd, PGPROTECT_MODE_STALL,
				 PGPROTECT_ATTACH_PERSIST);
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_all(owner, id));
	writer = writer_thread(op_pwrite, &access);
	EXPECT_TRUE(writer_stalled(writer));
	close(owner);
	EXPECT_TRUE(HOLDS_FOR(50, !writer_done(writer)));
	EXPECT_EQ(0, self->file.map[0]);
	ASSERT_EQ(0, adopt(ctx, self->file.fd, PGPROTECT_MODE_STALL, &id));
	EXPECT_EQ(0, ctx_detach(ctx, id));
	EXPECT_EQ(1, writer_join(writer));
	close(ctx);
}

TEST_F(kept, stall_of_an_orphan_ends_at_the_limit)
{
	struct access access = { .fd = self->file.fd, .offset = page_size() };
	int ctx = ctx_open();
	uint32_t id = ctx_attach_limit(ctx, self->file.fd, PGPROTECT_MODE_STALL,
				       PGPROTECT_ATTACH_PERSIST, 100);
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect_all(ctx, id));
	close(ctx);
	writer = writer_thread(op_pwrite, &access);
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer));
}

static long op_protect_and_hang(struct writer *self)
{
	struct test_file *file = self->arg;
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, file->fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_PERSIST);

	if (ctx_protect_range(ctx, id, page_size(), page_size()))
		return -1;
	writer_checkpoint(self);
	return 0;
}

TEST_F(kept, fence_survives_the_crash_of_its_handler)
{
	struct writer *handler = writer_fork(op_protect_and_hang, &self->file);
	int ctx = ctx_open();
	uint32_t id;

	writer_wait_ready(handler);
	writer_kill(handler, SIGKILL);
	writer_wait(handler);
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 1, 1));
	EXPECT_EQ(0, adopt(ctx, self->file.fd, PGPROTECT_MODE_DENY, &id));
	close(ctx);
}

TEST_F(kept, orphan_goes_with_the_file)
{
	struct test_file file = file_memfd(2);

	leave_protected(file.fd, PGPROTECT_MODE_DENY);
	EXPECT_EQ(1, ctx_list(self->watcher, NULL, 0));
	file_close(&file);
	/* The inode goes when its last reference is dropped, soon after close. */
	EXPECT_TRUE(WAIT_FOR(ctx_list(self->watcher, NULL, 0) == 0));
}

/* Nothing holds the file but the mapping, which a writer waiting for a page does not keep. */
static long op_unmap_below_a_writer(struct writer *self)
{
	struct test_file file = file_memfd(2);
	struct access access = { .map = file.map, .offset = page_size() };
	struct writer *thread;

	leave_protected(file.fd, PGPROTECT_MODE_STALL);
	close(file.fd);
	thread = writer_thread(op_store, &access);
	if (!writer_stalled(thread))
		return -1;
	munmap(file.map, file.size);
	return writer_join(thread);
}

TEST_F(kept, writer_waits_no_longer_than_the_file_is_there)
{
	int status = writer_wait(writer_fork(op_unmap_below_a_writer, NULL));

	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGSEGV, WTERMSIG(status));
	EXPECT_EQ(0, ctx_list(self->watcher, NULL, 0));
}

TEST_HARNESS_MAIN
