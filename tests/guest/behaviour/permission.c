// SPDX-License-Identifier: GPL-2.0
/* Whom a context may stall: those its opener could have stopped by ptrace. */
#include <errno.h>
#include <liburing.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define USER	OTHER_UID

FIXTURE(opener) {
	struct test_file file;	/* of USER */
	struct access access;
	int ctx;
};

FIXTURE_SETUP(opener)
{
	self->file = file_memfd(2);
	self->access = (struct access){
		.fd = self->file.fd, .map = self->file.map, .value = 'v',
	};
	ASSERT_EQ(0, fchown(self->file.fd, USER, USER));
}

FIXTURE_TEARDOWN(opener)
{
	close(self->ctx);
	file_close(&self->file);
}

static void protect_as(struct _test_data_opener *self, uid_t uid, int cap)
{
	self->ctx = ctx_open_by(uid, cap);
	if (ctx_protect_all(self->ctx, ctx_attach(self->ctx, self->file.fd,
						  PGPROTECT_MODE_STALL, 0)))
		die("protect as %u", uid);
}

TEST_F(opener, cannot_stall_root_but_refuses_it)
{
	protect_as(self, USER, -1);
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 0, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map, 1));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(0, self->file.map[0]);
}

TEST_F(opener, cannot_stall_another_user_but_refuses_him)
{
	struct writer *writer;

	protect_as(self, USER, -1);
	writer = writer_fork_as(USER + 1, op_pwrite, &self->access);
	EXPECT_EQ(-EPERM, writer_join(writer));
	writer = writer_fork_as(USER + 1, op_store, &self->access);
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

TEST_F(opener, stalls_processes_of_the_same_user)
{
	struct pgprotect_event event;
	struct writer *store, *write;

	protect_as(self, USER, -1);
	store = writer_fork_as(USER, op_store, &self->access);
	EXPECT_TRUE(writer_stalled(store));
	write = writer_fork_as(USER, op_pwrite, &self->access);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 2));
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(store->pid, event.pid);
	EXPECT_EQ(2, event.waiters);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(0, writer_join(store));
	EXPECT_EQ(1, writer_join(write));
}

static long op_pwrite_undumpable(struct writer *self)
{
	prctl(PR_SET_DUMPABLE, 0);
	return op_pwrite(self);
}

TEST_F(opener, cannot_stall_an_undumpable_process_of_the_same_user)
{
	struct writer *writer;

	protect_as(self, USER, -1);
	writer = writer_fork_as(USER, op_pwrite_undumpable, &self->access);
	EXPECT_EQ(-EPERM, writer_join(writer));
}

TEST_F(opener, with_the_ptrace_capability_stalls_anyone)
{
	struct writer *root, *other;

	protect_as(self, USER, CAP_SYS_PTRACE);
	root = writer_thread(op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(root));
	other = writer_fork_as(USER + 1, op_store, &self->access);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 2));
	/* Not close(): the forked writer holds the context too. */
	EXPECT_EQ(0, ctx_detach(self->ctx, 1));
	EXPECT_EQ(1, writer_join(root));
	EXPECT_EQ(0, writer_join(other));
}

TEST_F(opener, who_is_root_stalls_users)
{
	struct writer *writer;

	self->ctx = ctx_open();
	ASSERT_EQ(0, ctx_protect_all(self->ctx, ctx_attach(self->ctx, self->file.fd,
							   PGPROTECT_MODE_STALL, 0)));
	writer = writer_fork_as(USER, op_store, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_detach(self->ctx, 1));
	EXPECT_EQ(0, writer_join(writer));
}

/* A request of io_uring may carry somebody else's credentials; the task is who it was. */

struct request {
	struct io_uring ring;
	int fd;
	int personality;
	unsigned int sqe_flags;
};

static int register_personality(void *arg)
{
	struct request *request = arg;
	int id = io_uring_register_personality(&request->ring);

	return id > 0 ? id : 0;
}

static void request_make(struct request *request, int fd, uid_t uid)
{
	request->fd = fd;
	if (io_uring_queue_init(4, &request->ring, 0))
		die("io_uring_queue_init");
	request->personality = run_as(uid, register_personality, request);
	if (!request->personality)
		die("register user %u as a personality", uid);
}

static long op_request(struct writer *self)
{
	struct request *request = self->arg;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&request->ring);
	struct io_uring_cqe *cqe;
	long res;

	io_uring_prep_write(sqe, request->fd, "p", 1, 0);
	sqe->personality = request->personality;
	sqe->flags |= request->sqe_flags;
	if (io_uring_submit(&request->ring) != 1 || io_uring_wait_cqe(&request->ring, &cqe))
		die("io_uring");
	res = cqe->res;
	io_uring_cqe_seen(&request->ring, cqe);
	return res;
}

TEST_F(opener, cannot_stall_root_who_writes_with_the_openers_credentials)
{
	static const unsigned int flags[] = { 0, IOSQE_ASYNC };
	struct request request = { };

	request_make(&request, self->file.fd, USER);
	protect_as(self, USER, -1);
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		request.sqe_flags = flags[i];
		EXPECT_EQ(-EPERM, writer_join(writer_thread(op_request, &request)));
		EXPECT_FALSE(ctx_readable(self->ctx, 0));
	}
	EXPECT_EQ(0, self->file.map[0]);
	io_uring_queue_exit(&request.ring);
}

TEST_F(opener, stalls_a_process_of_the_same_user_that_writes_with_roots_credentials)
{
	struct request request = { };
	struct writer *writer;

	request_make(&request, self->file.fd, 0);
	protect_as(self, USER, -1);
	writer = writer_fork_as(USER, op_request, &request);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 1));
	EXPECT_FALSE(writer_done(writer));
	EXPECT_EQ(0, ctx_detach(self->ctx, 1));
	EXPECT_EQ(1, writer_join(writer));
	EXPECT_EQ('p', self->file.map[0]);
	io_uring_queue_exit(&request.ring);
}

/* The rule is about who opened, not about who holds the descriptor now. */
TEST_F(opener, rights_are_those_of_the_opener_not_of_the_caller)
{
	struct test_file roots = file_memfd(1);
	struct pgprotect_attach args = {
		.fd = roots.fd,
		.mode = PGPROTECT_MODE_DENY,
		.access = PGPROTECT_ACCESS_WRITE,
	};

	self->ctx = ctx_open_by(USER, -1);
	EXPECT_EQ(0, geteuid());
	EXPECT_EQ(-EPERM, ctx_attach_try(self->ctx, &args));
	file_close(&roots);
}

TEST_F(opener, deny_of_an_owner_refuses_everyone)
{
	struct writer *writer;

	self->ctx = ctx_open_by(USER, -1);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, ctx_attach(self->ctx, self->file.fd,
							   PGPROTECT_MODE_DENY, 0)));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 0, 1));
	writer = writer_fork_as(USER, op_pwrite, &self->access);
	EXPECT_EQ(-EPERM, writer_join(writer));
}

TEST_HARNESS_MAIN
