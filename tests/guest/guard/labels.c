// SPDX-License-Identifier: GPL-2.0
/*
 * A security module that goes by labels is asked before a context is made, before each of
 * its calls and before its events are read: SELinux, with the policy of
 * tests/lib/label-policy, by which contexts have a type of their own.
 */
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

/* Of the policy: tests/lib/label-policy. */
#define DOMAIN(name)	"user_u:base_r:" name "_t"

FIXTURE(labels) {
	struct test_file file;
	int ctx;	/* made, attached and protected by who may do all */
	uint32_t id;
};

/* Each test is a process of its own. */
static bool become(const char *domain)
{
	return write_text("/proc/thread-self/attr/current", domain);
}

FIXTURE_SETUP(labels)
{
	self->ctx = -1;
	self->file = file_make(FILE_MEMFD, 2);
	if (!write_text("/sys/fs/selinux/context", DOMAIN("nocreate")))
		SKIP(return, "needs SELinux and its policy: scripts/check-labels");
	ASSERT_TRUE(become(DOMAIN("full")));
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
}

FIXTURE_TEARDOWN(labels)
{
	close(self->ctx);
	file_close(&self->file);
}

/* A writer stalls, its event is read, and it goes on. */
static bool works(struct _test_data_labels *self)
{
	struct access access = { .map = self->file.map, .value = 'v' };
	struct writer *writer = writer_fork(op_store, &access);
	struct pgprotect_event event = { 0 };
	bool stalled = writer_stalled(writer);
	ssize_t got = read(self->ctx, &event, sizeof(event));
	int released = ctx_unprotect_all(self->ctx, self->id);

	return writer_join(writer) >= 0 && stalled && got == sizeof(event) && !released &&
	       self->file.map[0] == 'v';
}

TEST_F(labels, that_allow_all_are_in_the_way_of_nothing)
{
	EXPECT_TRUE(works(self));
}

TEST_F(labels, that_forbid_to_make_a_context_forbid_to_open_the_device)
{
	ASSERT_TRUE(become(DOMAIN("nocreate")));
	EXPECT_EQ(-EACCES, ctx_open_try(0));
}

TEST_F(labels, that_forbid_calls_forbid_them_on_a_context_of_another_domain)
{
	ASSERT_TRUE(become(DOMAIN("noioctl")));
	EXPECT_EQ(-EACCES, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_EQ(-EACCES, ctx_detach(self->ctx, self->id));
	/* Still protected, and still read. */
	ASSERT_TRUE(become(DOMAIN("full")));
	EXPECT_TRUE(works(self));
}

/* What a command of a ring ends with; the ring is made by who may do all. */
static int unprotect_by_ring(struct io_uring *ring, struct _test_data_labels *self)
{
	struct pgprotect_range range = { .file = self->id, .length = self->file.size };
	struct pgprotect_unprotect args = {
		.size = sizeof(args), .nr_ranges = 1, .ranges = (uintptr_t)&range,
	};
	struct pgprotect_uring_cmd command = { .arg = (uintptr_t)&args };
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int result;

	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, self->ctx, NULL, 0, 0);
	sqe->cmd_op = PGPROTECT_IOC_UNPROTECT;
	memcpy(sqe->cmd, &command, sizeof(command));
	if (io_uring_submit_and_wait(ring, 1) != 1 || io_uring_peek_cqe(ring, &cqe))
		die("a command of a ring");
	result = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return result;
}

TEST_F(labels, that_forbid_calls_forbid_commands_of_a_ring)
{
	struct io_uring ring;

	ASSERT_EQ(0, io_uring_queue_init(4, &ring, 0));
	ASSERT_TRUE(become(DOMAIN("noioctl")));
	EXPECT_EQ(-EACCES, unprotect_by_ring(&ring, self));
	ASSERT_TRUE(become(DOMAIN("full")));
	EXPECT_TRUE(works(self));
	EXPECT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(0, unprotect_by_ring(&ring, self));
	EXPECT_EQ(0, store_byte(self->file.map, 'w'));
	io_uring_queue_exit(&ring);
}

TEST_F(labels, that_forbid_calls_forbid_them_on_a_context_of_ones_own)
{
	struct pgprotect_attach args = {
		.fd = self->file.fd, .mode = PGPROTECT_MODE_DENY,
		.access = PGPROTECT_ACCESS_WRITE,
	};
	int ctx;

	ASSERT_TRUE(become(DOMAIN("noioctl")));
	ctx = ctx_open();
	EXPECT_EQ(-EACCES, ctx_attach_try(ctx, &args));
	close(ctx);
}

TEST_F(labels, that_forbid_reads_leave_events_unread)
{
	struct access access = { .map = self->file.map, .value = 'v' };
	struct writer *writer = writer_fork(op_store, &access);
	struct pgprotect_event event;

	ASSERT_TRUE(writer_stalled(writer));
	ASSERT_TRUE(become(DOMAIN("noread")));
	EXPECT_EQ(-1, read(self->ctx, &event, sizeof(event)));
	EXPECT_EQ(EACCES, errno);
	ASSERT_TRUE(become(DOMAIN("full")));
	EXPECT_EQ(sizeof(event), read(self->ctx, &event, sizeof(event)));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_LE(0, writer_join(writer));
}

TEST_HARNESS_MAIN
