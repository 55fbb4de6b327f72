// SPDX-License-Identifier: GPL-2.0
/* The device and its file: mode, commands, operations it does not have. */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

TEST(device_is_for_root_alone)
{
	struct stat stat_of;

	ASSERT_EQ(0, stat("/dev/pgprotect", &stat_of));
	EXPECT_TRUE(S_ISCHR(stat_of.st_mode));
	EXPECT_EQ(0600, stat_of.st_mode & 07777);
	EXPECT_EQ(0, stat_of.st_uid);
}

static int open_device(void *arg)
{
	int fd = ctx_open_try(0);

	return fd < 0 ? -fd : 0;
}

TEST(other_users_cannot_open_the_device)
{
	EXPECT_EQ(EACCES, run_as(OTHER_UID, open_device, NULL));
}

TEST(unknown_commands_are_not_ioctls)
{
	static const unsigned long unknown[] = {
		_IOWR(PGPROTECT_IOC_MAGIC, 0x07, struct pgprotect_list),
		_IOWR(PGPROTECT_IOC_MAGIC, 0x08, struct pgprotect_list),
		_IOWR(PGPROTECT_IOC_MAGIC, 0x0a, struct pgprotect_list),
		_IOWR(PGPROTECT_IOC_MAGIC, 0xff, struct pgprotect_list),
		_IOWR('p', 0x01, struct pgprotect_attach),
		TCGETS,
	};
	struct pgprotect_list args = { .size = sizeof(args) };
	int ctx = ctx_open();

	for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
		EXPECT_EQ(-ENOTTY, ctx_ioctl(ctx, unknown[i], &args))
			TH_LOG("command %#lx", unknown[i]);
	}
	close(ctx);
}

TEST(closed_descriptor_is_bad)
{
	struct pgprotect_info info = { .size = sizeof(info) };
	int ctx = ctx_open();

	close(ctx);
	EXPECT_EQ(-EBADF, ctx_ioctl(ctx, PGPROTECT_IOC_INFO, &info));
}

TEST(context_cannot_be_mapped)
{
	int ctx = ctx_open();

	EXPECT_EQ(MAP_FAILED, mmap(NULL, page_size(), PROT_READ, MAP_SHARED, ctx, 0));
	EXPECT_EQ(ENODEV, errno);
	close(ctx);
}

TEST(context_cannot_be_written)
{
	struct pgprotect_event event = { 0 };
	int ctx = ctx_open();

	EXPECT_EQ(-1, write(ctx, &event, sizeof(event)));
	EXPECT_TRUE(errno == EINVAL || errno == EBADF)
		TH_LOG("errno %d", errno);
	close(ctx);
}

TEST(context_has_no_position)
{
	struct pgprotect_event event;
	int ctx = ctx_open();

	EXPECT_EQ(-1, lseek(ctx, 0, SEEK_SET));
	EXPECT_EQ(ESPIPE, errno);
	EXPECT_EQ(-1, pread(ctx, &event, sizeof(event), 0));
	EXPECT_EQ(ESPIPE, errno);
	close(ctx);
}

TEST(duplicated_descriptor_is_the_same_context)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_DENY, 0);
	int copy = dup(subject.ctx);

	ASSERT_LE(0, copy);
	close(subject.ctx);
	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	EXPECT_EQ(0, ctx_unprotect_all(copy, subject.id));
	EXPECT_EQ(1, write_page(subject.file.fd, 0, 1));
	close(copy);
	file_close(&subject.file);
}

static int unprotect_as_child(void *arg)
{
	struct subject *subject = arg;

	return ctx_unprotect_all(subject->ctx, subject->id) ? 1 : 0;
}

TEST(forked_child_has_the_same_context)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_DENY, 0);

	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	EXPECT_EQ(0, run_as(0, unprotect_as_child, &subject));
	EXPECT_EQ(1, write_page(subject.file.fd, 0, 1));
	subject_close(&subject);
}

TEST(two_opens_are_two_contexts)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_DENY, 0);
	int other = ctx_open();

	EXPECT_EQ(-ENOENT, ctx_unprotect_all(other, subject.id));
	EXPECT_EQ(-ENOENT, ctx_detach(other, subject.id));
	close(other);
	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	subject_close(&subject);
}

TEST(context_opened_read_only_can_fetch_events)
{
	int ctx = open("/dev/pgprotect", O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct pgprotect_event event;

	ASSERT_LE(0, ctx);
	EXPECT_EQ(-1, read(ctx, &event, sizeof(event)));
	EXPECT_EQ(EAGAIN, errno);
	close(ctx);
}

TEST(closing_the_context_drops_its_protection)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_DENY, 0);

	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(subject.file.map, 1));
	close(subject.ctx);
	EXPECT_EQ(1, write_page(subject.file.fd, 0, 1));
	EXPECT_EQ(0, store_byte(subject.file.map, 1));
	file_close(&subject.file);
}

static int write_sysctl(const char *text)
{
	int fd = open("/proc/sys/vm/pgprotect_stall_ms", O_WRONLY);
	int ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;

	close(fd);
	return ret;
}

TEST(stall_limit_sysctl_refuses_what_is_no_number)
{
	long before = stall_limit_read();

	EXPECT_EQ(-EINVAL, write_sysctl("never\n"));
	EXPECT_EQ(-EINVAL, write_sysctl("-1\n"));
	EXPECT_EQ(before, stall_limit_read());
}

TEST(stall_limit_sysctl_accepts_zero_for_no_limit)
{
	long before = stall_limit_read();
	int ret = write_sysctl("0\n");
	long got = stall_limit_read();

	stall_limit_write(before);
	EXPECT_EQ(0, ret);
	EXPECT_EQ(0, got);
	EXPECT_EQ(before, stall_limit_read());
}

TEST_HARNESS_MAIN
