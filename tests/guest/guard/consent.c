// SPDX-License-Identifier: GPL-2.0
/* PR_SET_PGPROTECT: who says to be stalled by anybody, or by nobody. */
#include <errno.h>
#include <liburing.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

static int consent_set(unsigned long how)
{
	return prctl(PR_SET_PGPROTECT, how, 0, 0, 0) ? -errno : 0;
}

static int consent_get(void)
{
	return prctl(PR_GET_PGPROTECT, 0, 0, 0, 0);
}

TEST(default_is_neither)
{
	EXPECT_EQ(PR_PGPROTECT_DEFAULT, consent_get());
}

TEST(what_was_set_is_what_is_got)
{
	static const int all[] = {
		PR_PGPROTECT_STALL, PR_PGPROTECT_FAIL, PR_PGPROTECT_STALL, PR_PGPROTECT_DEFAULT,
	};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		EXPECT_EQ(0, consent_set(all[i]));
		EXPECT_EQ(all[i], consent_get());
	}
}

TEST(unknown_values_and_arguments_are_invalid_and_change_nothing)
{
	ASSERT_EQ(0, consent_set(PR_PGPROTECT_FAIL));
	EXPECT_EQ(-EINVAL, consent_set(PR_PGPROTECT_FAIL + 1));
	EXPECT_EQ(-EINVAL, consent_set(1UL << 32));
	EXPECT_EQ(-1, prctl(PR_SET_PGPROTECT, 0, 1, 0, 0));
	EXPECT_EQ(-1, prctl(PR_SET_PGPROTECT, 0, 0, 1, 0));
	EXPECT_EQ(-1, prctl(PR_SET_PGPROTECT, 0, 0, 0, 1));
	EXPECT_EQ(-1, prctl(PR_GET_PGPROTECT, 1, 0, 0, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(PR_PGPROTECT_FAIL, consent_get());
}

struct attempt {
	struct access access;	/* first: it is what the ops take */
	int how;
	long (*op)(struct writer *self);
};

static long op_attempt(struct writer *self)
{
	struct attempt *attempt = self->arg;

	if (consent_set(attempt->how))
		return -EINVAL;
	return attempt->op(self);
}

FIXTURE(consent) {
	struct test_file file;		/* USER's */
	struct attempt attempt;
	int ctx;
};

FIXTURE_SETUP(consent)
{
	self->file = file_of_user(2);
	self->attempt = (struct attempt){
		.access = { .fd = self->file.fd, .map = self->file.map, .value = 'v' },
		.op = op_pwrite,
	};
	self->ctx = -1;
}

FIXTURE_TEARDOWN(consent)
{
	close(self->ctx);
	file_close(&self->file);
}

static void protect_as(struct _test_data_consent *self, uid_t uid, uint32_t mode)
{
	self->ctx = uid ? ctx_open_by(uid, -1) : ctx_open();
	protect_by(self->ctx, self->file.fd, mode, 0);
}

TEST_F(consent, lets_anybody_stall)
{
	struct writer *writer;

	protect_as(self, USER, PGPROTECT_MODE_STALL);
	self->attempt.how = PR_PGPROTECT_DEFAULT;
	EXPECT_EQ(-EPERM, writer_join(writer_fork_as(USER + 1, op_attempt, &self->attempt)));
	self->attempt.how = PR_PGPROTECT_STALL;
	writer = writer_fork_as(USER + 1, op_attempt, &self->attempt);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_unprotect_range(self->ctx, 1, 0, page_size()));
	EXPECT_EQ(1, writer_join(writer));
}

/* Whoever waits there may hold locks of others. */
static long op_read_into_page(struct writer *self)
{
	struct attempt *attempt = self->arg;
	int ends[2];

	if (pipe(ends) || write(ends[1], "x", 1) != 1)
		return -EIO;
	return read(ends[0], attempt->access.map, 1) < 0 ? -errno : 1;
}

TEST_F(consent, does_not_let_users_stall_a_fault_in_kernel_mode)
{
	protect_as(self, USER, PGPROTECT_MODE_STALL);
	self->attempt.how = PR_PGPROTECT_STALL;
	self->attempt.op = op_read_into_page;
	EXPECT_EQ(-EFAULT, writer_join(writer_fork_as(USER + 1, op_attempt, &self->attempt)));
}

TEST_F(consent, refused_is_refused_to_root)
{
	protect_as(self, 0, PGPROTECT_MODE_STALL);
	self->attempt.how = PR_PGPROTECT_FAIL;
	EXPECT_EQ(-EPERM, writer_join(writer_fork_as(USER, op_attempt, &self->attempt)));
	EXPECT_EQ(-EPERM, writer_join(writer_fork(op_attempt, &self->attempt)));
	self->attempt.op = op_store;
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_fork(op_attempt, &self->attempt)));
	self->attempt.op = op_read_into_page;
	EXPECT_EQ(-EFAULT, writer_join(writer_fork(op_attempt, &self->attempt)));
	EXPECT_EQ(0, self->file.map[0]);
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

TEST_F(consent, refused_or_given_is_nothing_to_deny)
{
	protect_as(self, 0, PGPROTECT_MODE_DENY);
	for (int how = PR_PGPROTECT_DEFAULT; how <= PR_PGPROTECT_FAIL; how++) {
		self->attempt.how = how;
		EXPECT_EQ(-EPERM, writer_join(writer_fork(op_attempt, &self->attempt)));
	}
}

TEST_F(consent, refused_leaves_unprotected_pages_alone)
{
	protect_as(self, 0, PGPROTECT_MODE_STALL);
	ASSERT_EQ(0, ctx_unprotect_range(self->ctx, 1, page_size(), page_size()));
	self->attempt.how = PR_PGPROTECT_FAIL;
	self->attempt.access.offset = page_size();
	EXPECT_EQ(1, writer_join(writer_fork(op_attempt, &self->attempt)));
}

static long op_get(struct writer *self)
{
	return consent_get();
}

static long op_get_in_thread(struct writer *self)
{
	return writer_join(writer_thread(op_get, NULL));
}

TEST_F(consent, is_inherited_by_threads_and_children)
{
	static const int all[] = { PR_PGPROTECT_STALL, PR_PGPROTECT_FAIL };

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		ASSERT_EQ(0, consent_set(all[i]));
		EXPECT_EQ(all[i], writer_join(writer_thread(op_get, NULL)));
		EXPECT_EQ(all[i], writer_join(writer_fork(op_get, NULL)));
		EXPECT_EQ(all[i], writer_join(writer_fork_as(USER, op_get_in_thread, NULL)));
	}
}

static long op_set_fail(struct writer *self)
{
	return consent_set(PR_PGPROTECT_FAIL);
}

TEST_F(consent, of_one_thread_is_not_that_of_another)
{
	EXPECT_EQ(0, writer_join(writer_thread(op_set_fail, NULL)));
	EXPECT_EQ(PR_PGPROTECT_DEFAULT, consent_get());
}

TEST_F(consent, is_inherited_over_exec)
{
	EXPECT_EQ(PR_PGPROTECT_DEFAULT,
		  exec_program(USER, PR_PGPROTECT_DEFAULT, false, "get", -1));
	EXPECT_EQ(PR_PGPROTECT_STALL, exec_program(USER, PR_PGPROTECT_STALL, false, "get", -1));
	EXPECT_EQ(PR_PGPROTECT_FAIL, exec_program(USER, PR_PGPROTECT_FAIL, false, "get", -1));
}

TEST_F(consent, is_not_given_for_a_program_that_gains_privileges)
{
	EXPECT_EQ(PR_PGPROTECT_DEFAULT,
		  exec_program(USER, PR_PGPROTECT_STALL, true, "get", -1));
	EXPECT_EQ(PR_PGPROTECT_FAIL, exec_program(USER, PR_PGPROTECT_FAIL, true, "get", -1));
}

TEST_F(consent, of_the_user_does_not_stall_a_set_user_id_program)
{
	protect_as(self, USER, PGPROTECT_MODE_STALL);
	EXPECT_EQ(EPERM, exec_program(USER, PR_PGPROTECT_STALL, true, "write", self->file.fd));
	EXPECT_EQ(0, self->file.map[0]);
}

static long op_write_by_worker(struct writer *self)
{
	struct attempt *attempt = self->arg;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	if (io_uring_queue_init(2, &ring, 0))
		return -EIO;
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_write(sqe, attempt->access.fd, "u", 1, 0);
	sqe->flags |= IOSQE_ASYNC;
	if (io_uring_submit_and_wait(&ring, 1) != 1 || io_uring_wait_cqe(&ring, &cqe))
		return -EIO;
	return cqe->res;
}

TEST_F(consent, is_that_of_the_workers_too)
{
	struct writer *writer;

	protect_as(self, USER, PGPROTECT_MODE_STALL);
	self->attempt.op = op_write_by_worker;
	self->attempt.how = PR_PGPROTECT_FAIL;
	EXPECT_EQ(-EPERM, writer_join(writer_fork_as(USER, op_attempt, &self->attempt)));
	self->attempt.how = PR_PGPROTECT_STALL;
	writer = writer_fork_as(USER + 1, op_attempt, &self->attempt);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 1));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, 1));
	EXPECT_EQ(1, writer_join(writer));
}

TEST_HARNESS_MAIN
