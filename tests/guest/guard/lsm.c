// SPDX-License-Identifier: GPL-2.0
/*
 * A security module that has its own mind about ptrace is asked before anybody is
 * stalled: Yama, whose scope 2 leaves it to who has CAP_SYS_PTRACE.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

#define SCOPE		"/proc/sys/kernel/yama/ptrace_scope"
#define ANYBODY		"0"
#define CAPABLE_ONLY	"2"

FIXTURE(yama) {
	struct test_file file;		/* USER's */
	struct access access;
	char before[4];
	int ctx;
};

FIXTURE_SETUP(yama)
{
	FILE *scope = fopen(SCOPE, "re");

	self->file = file_of_user(2);
	self->access = (struct access){
		.fd = self->file.fd, .map = self->file.map, .value = 'v',
	};
	self->ctx = -1;
	if (!scope || !fgets(self->before, sizeof(self->before), scope))
		SKIP(return, "needs CONFIG_SECURITY_YAMA");
	fclose(scope);
}

FIXTURE_TEARDOWN(yama)
{
	if (self->before[0])
		write_text(SCOPE, self->before);
	close(self->ctx);
	file_close(&self->file);
}

#define EXPECT_STALLED(uid, op) do {						\
	struct writer *writer_ = writer_fork_as(uid, op, &self->access);	\
	EXPECT_TRUE(writer_stalled(writer_));					\
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, 1));				\
	EXPECT_LE(0, writer_join(writer_));					\
	EXPECT_EQ(0, ctx_protect_all(self->ctx, 1));				\
} while (0)

TEST_F(yama, that_lets_nobody_attach_lets_users_stall_nobody)
{
	self->ctx = ctx_open_by(USER, -1);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_TRUE(write_text(SCOPE, ANYBODY));
	EXPECT_STALLED(USER, op_store);
	EXPECT_EQ('v', self->file.map[0]);
	self->access.value = 'w';
	ASSERT_TRUE(write_text(SCOPE, CAPABLE_ONLY));
	EXPECT_EQ(-EPERM, writer_join(writer_fork_as(USER, op_pwrite, &self->access)));
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_fork_as(USER, op_store, &self->access)));
	EXPECT_EQ('v', self->file.map[0]);
	/* Another writer is another question. */
	ASSERT_TRUE(write_text(SCOPE, ANYBODY));
	EXPECT_STALLED(USER, op_pwrite);
	EXPECT_EQ('w', self->file.map[0]);
}

TEST_F(yama, that_lets_root_attach_lets_root_stall)
{
	self->ctx = ctx_open();
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_TRUE(write_text(SCOPE, CAPABLE_ONLY));
	EXPECT_STALLED(USER, op_store);
	EXPECT_STALLED(0, op_pwrite);
}

static long op_pwrite_with_consent(struct writer *self)
{
	if (prctl(PR_SET_PGPROTECT, PR_PGPROTECT_STALL, 0, 0, 0))
		return -errno;
	return op_pwrite(self);
}

TEST_F(yama, is_not_asked_about_who_has_agreed_to_wait)
{
	self->ctx = ctx_open_by(USER, -1);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_TRUE(write_text(SCOPE, CAPABLE_ONLY));
	EXPECT_STALLED(USER, op_pwrite_with_consent);
	EXPECT_EQ('v', self->file.map[0]);
}

TEST_HARNESS_MAIN
