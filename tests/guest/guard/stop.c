// SPDX-License-Identifier: GPL-2.0
/* Stalling is stopping: attempts to stall whom one could not have stopped. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

FIXTURE(hostile) {
	struct test_file file;		/* USER's */
	struct access access;
	int ctx;
};

FIXTURE_SETUP(hostile)
{
	self->file = file_of_user(2);
	self->access = (struct access){
		.fd = self->file.fd, .map = self->file.map, .value = 'v',
	};
	self->ctx = -1;
}

FIXTURE_TEARDOWN(hostile)
{
	close(self->ctx);
	file_close(&self->file);
}

/* Neither kind of write waits, or changes anything. */
#define EXPECT_REFUSED(uid, op_write, op_map) do {				\
	EXPECT_EQ(-EPERM, writer_join(writer_fork_as(uid, op_write, &self->access))); \
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_fork_as(uid, op_map, &self->access))); \
	EXPECT_FALSE(ctx_readable(self->ctx, 0));				\
	EXPECT_EQ(0, self->file.map[0]);					\
} while (0)

TEST_F(hostile, root_of_a_user_namespace_cannot_stall_processes_outside)
{
	self->ctx = ctx_open_in_userns(USER);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	/* Of the same user: ids alone would let it. */
	EXPECT_REFUSED(USER, op_pwrite, op_store);
	EXPECT_REFUSED(0, op_pwrite, op_store);
}

static long op_pwrite_in_userns(struct writer *self)
{
	enter_userns();
	/* The new namespace's root is another to ptrace, unless dumpable. */
	prctl(PR_SET_DUMPABLE, 1);
	return op_pwrite(self);
}

TEST_F(hostile, owner_of_a_user_namespace_stalls_processes_inside)
{
	struct writer *writer;

	self->ctx = ctx_open_by(USER, -1);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	writer = writer_fork_as(USER, op_pwrite_in_userns, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, 1));
	EXPECT_EQ(1, writer_join(writer));
}

/* Of the same user, dumpable, but with more than that user has. */
static long op_pwrite_with_capability(struct writer *self)
{
	become_user_with(USER, CAP_NET_ADMIN);
	return op_pwrite(self);
}

static long op_store_with_capability(struct writer *self)
{
	become_user_with(USER, CAP_NET_ADMIN);
	return op_store(self);
}

TEST_F(hostile, who_has_capabilities_is_not_stalled_by_who_has_none)
{
	self->ctx = ctx_open_by(USER, -1);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	EXPECT_REFUSED(0, op_pwrite_with_capability, op_store_with_capability);
}

TEST_F(hostile, set_user_id_program_is_not_stalled_by_who_started_it)
{
	self->ctx = ctx_open_by(USER, -1);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	EXPECT_EQ(EPERM, exec_program(USER, PR_PGPROTECT_DEFAULT, true, "write", self->file.fd));
	EXPECT_EQ(0, self->file.map[0]);
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

TEST_F(hostile, context_does_not_gain_by_being_passed_to_root)
{
	/* Root attaches and protects by it; its opener is a user all the same. */
	self->ctx = ctx_open_by(USER, -1);
	ASSERT_EQ(0, geteuid());
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	EXPECT_REFUSED(0, op_pwrite, op_store);
	EXPECT_REFUSED(USER + 1, op_pwrite, op_store);
}

struct passed {
	int sock, fd;
};

/* A user who was given root's context by root. */
static int protect_what_was_passed(void *arg)
{
	struct passed *passed = arg;
	int ctx = receive_fd(passed->sock);

	return ctx_protect_all(ctx, ctx_attach(ctx, passed->fd, PGPROTECT_MODE_STALL, 0)) ? 1 : 0;
}

TEST_F(hostile, context_of_root_keeps_its_rights_when_passed_to_a_user)
{
	struct writer *writer;
	struct passed passed = { .fd = self->file.fd };
	int pair[2];

	self->ctx = ctx_open();
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	passed.sock = pair[0];
	send_fd(pair[1], self->ctx);
	ASSERT_EQ(0, run_as(USER, protect_what_was_passed, &passed));
	writer = writer_fork_as(USER + 1, op_pwrite, &self->access);
	EXPECT_TRUE(writer_stalled(writer));
	EXPECT_EQ(0, ctx_detach(self->ctx, 1));
	EXPECT_EQ(1, writer_join(writer));
}

struct faulting {
	int pipe;
	char *map;
};

/* A system call that stores to the protected page, with locks nobody knows. */
static long op_read_into_page(struct writer *self)
{
	struct faulting *faulting = self->arg;
	ssize_t got = read(faulting->pipe, faulting->map, 1);

	return got < 0 ? -errno : got;
}

TEST_F(hostile, fault_in_kernel_mode_is_refused_even_to_the_same_user)
{
	struct faulting faulting = { .map = self->file.map };
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(1, write(ends[1], "x", 1));
	faulting.pipe = ends[0];
	self->ctx = ctx_open_by(USER, -1);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	EXPECT_EQ(-EFAULT, writer_join(writer_fork_as(USER, op_read_into_page, &faulting)));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

TEST_F(hostile, writer_is_killed_at_once_though_nobody_answers)
{
	struct writer *store, *write;

	self->ctx = ctx_open_by(USER, -1);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	store = writer_fork_as(USER, op_store, &self->access);
	write = writer_fork_as(USER, op_pwrite, &self->access);
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 2));
	writer_kill(store, SIGKILL);
	writer_kill(write, SIGKILL);
	EXPECT_EQ(SIGKILL, writer_wait(store));
	EXPECT_EQ(SIGKILL, writer_wait(write));
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 0));
	EXPECT_EQ(0, self->file.map[0]);
}

/* The rule for a hostile file, for each thing that a daemon does to it. */
static long op_open_truncating(struct writer *self)
{
	struct access *access = self->arg;
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", access->fd);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static long op_truncate(struct writer *self)
{
	return ftruncate(((struct access *)self->arg)->fd, 0) ? -errno : 0;
}

static long op_punch(struct writer *self)
{
	return fallocate(((struct access *)self->arg)->fd,
			 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) ? -errno : 0;
}

static long op_read_and_map(struct writer *self)
{
	struct access *access = self->arg;
	char *map = map_shared(access->fd, page_size());

	return read_page(access->fd, 0) + *(volatile char *)map;
}

TEST_F(hostile, file_does_not_hang_who_opens_truncates_punches_or_reads_it)
{
	static long (*const ops[])(struct writer *) = {
		op_open_truncating, op_truncate, op_punch, op_pwrite,
	};

	self->ctx = ctx_open_by(USER, -1);
	protect_by(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		EXPECT_EQ(-EPERM, writer_join(writer_fork(ops[i], &self->access))) {
			TH_LOG("op %zu", i);
		}
	}
	EXPECT_EQ(0, writer_join(writer_fork(op_read_and_map, &self->access)));
	EXPECT_EQ(0, ctx_fdinfo(self->ctx, "stalled"));
}

TEST_HARNESS_MAIN
