// SPDX-License-Identifier: GPL-2.0
/* Attaching is for owners: attempts to get at files of others, and past attributes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

FIXTURE(others) {
	struct test_file roots;	/* anybody may write to it */
};

FIXTURE_SETUP(others)
{
	self->roots = file_memfd(1);
	ASSERT_EQ(0, fchmod(self->roots.fd, 0666));
}

FIXTURE_TEARDOWN(others)
{
	file_close(&self->roots);
}

TEST_F(others, file_is_not_attached_by_who_may_only_write_it)
{
	int ctx = ctx_open_by(USER, -1);

	EXPECT_EQ(-EPERM, attach_by(ctx, self->roots.fd, PGPROTECT_MODE_DENY, 0));
	close(ctx);
}

TEST_F(others, file_is_not_attached_by_root_of_a_user_namespace)
{
	int ctx = ctx_open_in_userns(USER);

	/* With all capabilities there, which are none here. */
	EXPECT_EQ(-EPERM, attach_by(ctx, self->roots.fd, PGPROTECT_MODE_DENY, 0));
	close(ctx);
}

TEST_F(others, capabilities_of_a_user_namespace_keep_no_fence)
{
	struct test_file file = file_of_user(1);
	int ctx = ctx_open_in_userns(USER);

	EXPECT_EQ(-EPERM, attach_by(ctx, file.fd, PGPROTECT_MODE_DENY,
				    PGPROTECT_ATTACH_PERSIST));
	EXPECT_EQ(-EPERM, attach_by(ctx, file.fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_ADOPT));
	EXPECT_EQ(0, attach_by(ctx, file.fd, PGPROTECT_MODE_DENY, 0));
	close(ctx);
	file_close(&file);
}

/* A descriptor that root opened for reading gives no right to protect. */
TEST_F(others, read_only_descriptor_of_ones_own_file_is_not_enough)
{
	struct test_file file = file_of_user(1);
	char path[40];
	int ctx, fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", file.fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ctx = ctx_open_by(USER, -1);
	EXPECT_EQ(-EBADF, attach_by(ctx, fd, PGPROTECT_MODE_DENY, 0));
	close(ctx);
	close(fd);
	file_close(&file);
}

static int list_by(void *ctx)
{
	return ctx_list(*(int *)ctx, NULL, 0);
}

static int list_by_root_of_userns(void *ctx)
{
	enter_userns();
	return list_by(ctx);
}

/* The caller counts here, who may have been given any context. */
TEST_F(others, attachments_are_not_listed)
{
	int ctx = ctx_open();

	ctx_attach(ctx, self->roots.fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(1, list_by(&ctx));
	EXPECT_EQ(0, run_as(USER, list_by, &ctx));
	EXPECT_EQ(0, run_as(USER, list_by_root_of_userns, &ctx));
	close(ctx);
}

struct opening {
	const char *path;
};

static int open_device(void *arg)
{
	struct opening *opening = arg;
	int fd = open(opening->path, O_RDWR | O_CLOEXEC);

	return fd < 0 ? errno : 0;
}

static int open_device_in_userns(void *arg)
{
	enter_userns();
	return open_device(arg);
}

static int make_device_in_userns(void *arg)
{
	struct stat device;

	if (stat("/dev/pgprotect", &device))
		return 255;
	enter_userns();
	return mknod("/tmp/pgprotect", S_IFCHR | 0666, device.st_rdev) ? errno : 0;
}

TEST(device_is_not_opened_by_users_nor_in_their_namespaces)
{
	struct opening opening = { .path = "/dev/pgprotect" };

	EXPECT_EQ(EACCES, run_as(USER, open_device, &opening));
	EXPECT_EQ(EACCES, run_as(USER, open_device_in_userns, &opening));
	EXPECT_EQ(EPERM, run_as(USER, make_device_in_userns, NULL));
}

/* A log that its owner can only append to: by name, so that it can be opened twice. */
FIXTURE(attribute) {
	char path[32];
	int fd, ctx;
};

FIXTURE_SETUP(attribute)
{
	self->fd = tmpfs_make(2 * page_size(), self->path);
	ASSERT_EQ(0, fchown(self->fd, USER, USER));
	self->ctx = -1;
}

static int set_attribute(int fd, int add)
{
	int flags;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return -errno;
	flags &= ~(FS_APPEND_FL | FS_IMMUTABLE_FL);
	flags |= add;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) ? -errno : 0;
}

FIXTURE_TEARDOWN(attribute)
{
	set_attribute(self->fd, 0);
	close(self->ctx);
	close(self->fd);
	unlink(self->path);
}

TEST_F(attribute, append_only_keeps_the_owner_from_fencing_a_log)
{
	int log;

	ASSERT_EQ(0, set_attribute(self->fd, FS_APPEND_FL));
	log = open(self->path, O_WRONLY | O_APPEND | O_CLOEXEC);
	ASSERT_LE(0, log);
	self->ctx = ctx_open_by(USER, -1);
	EXPECT_EQ(-EPERM, attach_by(self->ctx, log, PGPROTECT_MODE_DENY, 0));
	EXPECT_EQ(-EPERM, attach_by(self->ctx, log, PGPROTECT_MODE_STALL, 0));
	EXPECT_EQ(1, write(log, "x", 1));
	close(self->ctx);
	self->ctx = ctx_open();
	EXPECT_EQ(0, attach_by(self->ctx, log, PGPROTECT_MODE_DENY, 0));
	close(log);
}

TEST_F(attribute, immutable_keeps_the_owner_from_attaching)
{
	ASSERT_EQ(0, set_attribute(self->fd, FS_IMMUTABLE_FL));
	self->ctx = ctx_open_by(USER, -1);
	EXPECT_EQ(-EPERM, attach_by(self->ctx, self->fd, PGPROTECT_MODE_DENY, 0));
}

/* Attached while that was allowed. */
TEST_F(attribute, file_that_changed_hands_or_attributes_is_protected_no_more)
{
	uint32_t id;

	self->ctx = ctx_open_by(USER, -1);
	id = ctx_attach(self->ctx, self->fd, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, set_attribute(self->fd, FS_APPEND_FL));
	EXPECT_EQ(-EPERM, ctx_protect_all(self->ctx, id));
	ASSERT_EQ(0, set_attribute(self->fd, FS_IMMUTABLE_FL));
	EXPECT_EQ(-EPERM, ctx_protect_all(self->ctx, id));
	ASSERT_EQ(0, set_attribute(self->fd, 0));
	ASSERT_EQ(0, fchown(self->fd, 0, 0));
	EXPECT_EQ(-EPERM, ctx_protect_all(self->ctx, id));
	EXPECT_EQ(1, write_page(self->fd, 0, 'w'));

	ASSERT_EQ(0, fchown(self->fd, USER, USER));
	EXPECT_EQ(0, ctx_protect_range(self->ctx, id, 0, page_size()));
	/* A fence is not opened by it: its owner lets go, or not. */
	ASSERT_EQ(0, set_attribute(self->fd, FS_APPEND_FL));
	EXPECT_EQ(-EPERM, ctx_protect_range(self->ctx, id, page_size(), page_size()));
	EXPECT_EQ(-EPERM, write_page(self->fd, 0, 'x'));
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, id));
	EXPECT_EQ(1, write_page(self->fd, 0, 'x'));
}

TEST_F(attribute, append_only_is_not_got_round_by_copy)
{
	char data[4096] = "forged";
	uint32_t id;

	EXPECT_EQ(1, write_page(self->fd, 0, 'r'));
	self->ctx = ctx_open_by(USER, -1);
	id = ctx_attach(self->ctx, self->fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(0, ctx_copy(self->ctx, id, page_size(), data, page_size(), NULL));
	ASSERT_EQ(0, set_attribute(self->fd, FS_APPEND_FL));
	EXPECT_EQ(-EPERM, ctx_copy(self->ctx, id, 0, data, page_size(), NULL));
	EXPECT_EQ('r', read_page(self->fd, 0));
}

TEST_HARNESS_MAIN
