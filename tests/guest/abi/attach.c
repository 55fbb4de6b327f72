// SPDX-License-Identifier: GPL-2.0
/* PGPROTECT_IOC_ATTACH and DETACH: files, modes, rights, ids. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/memfd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../routes/common/loop.h"
#include "../routes/common/nfs.h"
#include "../routes/common/slow_file.h"
#include "pgtest.h"

#define OVERLAYFS_MAGIC	0x794c7630

FIXTURE(attach) {
	int ctx;
};

FIXTURE_SETUP(attach)
{
	self->ctx = ctx_open();
}

FIXTURE_TEARDOWN(attach)
{
	close(self->ctx);
}

static int attach_fd(int ctx, int fd)
{
	struct pgprotect_attach args = {
		.fd = fd,
		.mode = PGPROTECT_MODE_DENY,
		.access = PGPROTECT_ACCESS_WRITE,
	};

	return ctx_attach_try(ctx, &args);
}

/* Tries to attach @fd, closes it. */
static int attach_once(int ctx, int fd)
{
	int ret = attach_fd(ctx, fd);

	close(fd);
	return ret;
}

TEST_F(attach, every_kind_of_shared_memory_can_be_attached)
{
	for (int kind = 0; kind < NR_FILE_KINDS; kind++) {
		struct test_file file = file_make(kind, 4);
		uint32_t id = ctx_attach(self->ctx, file.fd, PGPROTECT_MODE_DENY, 0);

		EXPECT_EQ(0, ctx_protect_all(self->ctx, id));
		EXPECT_EQ(GOT_SIGBUS, store_byte(file.map + page_size(), 1))
			TH_LOG("%s", file_kind_names[kind]);
		EXPECT_EQ(-EPERM, write_page(file.fd, 1, 1))
			TH_LOG("%s", file_kind_names[kind]);
		file_close(&file);
	}
}

TEST_F(attach, descriptor_that_is_no_file_is_bad)
{
	int fd = memfd_make(page_size(), 0);

	close(fd);
	EXPECT_EQ(-EBADF, attach_fd(self->ctx, -1));
	EXPECT_EQ(-EBADF, attach_fd(self->ctx, INT32_MAX));
	EXPECT_EQ(-EBADF, attach_fd(self->ctx, fd));
}

TEST_F(attach, file_must_be_open_for_writing)
{
	char path[32];
	int fd = tmpfs_make(page_size(), path);

	EXPECT_EQ(-EBADF, attach_once(self->ctx, open(path, O_RDONLY)));
	EXPECT_EQ(-EBADF, attach_once(self->ctx, open(path, O_PATH)));
	EXPECT_EQ(-EBADF, attach_once(self->ctx, open("/dev/shm", O_RDONLY | O_DIRECTORY)));
	EXPECT_EQ(0, attach_once(self->ctx, open(path, O_WRONLY)));
	unlink(path);
	close(fd);
}

TEST_F(attach, other_kinds_of_file_are_not_supported)
{
	int pipes[2], sockets[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, pipes[1]));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, sockets[0]));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, eventfd(0, 0)));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, epoll_create1(0)));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, open("/dev/null", O_RDWR)));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, open("/dev/zero", O_RDWR)));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, open("/proc/self/comm", O_RDWR)));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, ctx_open()));
	EXPECT_EQ(-EOPNOTSUPP, attach_fd(self->ctx, self->ctx));
	close(pipes[0]);
	close(sockets[1]);
}

TEST_F(attach, fifo_on_tmpfs_is_not_supported)
{
	ASSERT_EQ(0, mkfifo("/dev/shm/pgtest-fifo", 0600));
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, open("/dev/shm/pgtest-fifo", O_RDWR)));
	unlink("/dev/shm/pgtest-fifo");
}

TEST_F(attach, hugetlb_memfd_can_be_attached)
{
	int fd = memfd_create("huge", MFD_HUGETLB);

	if (fd < 0)
		SKIP(return, "no hugetlb memfd: errno %d", errno);
	EXPECT_EQ(0, attach_once(self->ctx, fd));
}

TEST_F(attach, secret_memory_is_not_supported)
{
	int fd = syscall(SYS_memfd_secret, 0);

	if (fd < 0)
		SKIP(return, "no memfd_secret: errno %d", errno);
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, fd));
}

static int attach_with(int ctx, int fd, uint32_t mode, uint32_t access, uint64_t flags)
{
	struct pgprotect_attach args = {
		.fd = fd, .mode = mode, .access = access, .flags = flags,
	};

	return ctx_attach_try(ctx, &args);
}

TEST_F(attach, file_on_ext4_can_be_attached_but_not_kept)
{
	const char *image = "/dev/shm/pgtest-ext4", *dir = "/dev/shm/pgtest-mount";
	int status, fd;

	if (access("/sbin/mkfs.ext4", X_OK))
		SKIP(return, "no mkfs.ext4");
	status = system("truncate -s 4M /dev/shm/pgtest-ext4 && "
			"/sbin/mkfs.ext4 -q -F /dev/shm/pgtest-ext4 && "
			"mkdir /dev/shm/pgtest-mount && "
			"mount -o loop /dev/shm/pgtest-ext4 /dev/shm/pgtest-mount");
	if (!status) {
		fd = open("/dev/shm/pgtest-mount/file", O_RDWR | O_CREAT, 0600);
		EXPECT_LE(0, fd);
		EXPECT_EQ(-EOPNOTSUPP, attach_with(self->ctx, fd, PGPROTECT_MODE_DENY,
						   PGPROTECT_ACCESS_WRITE,
						   PGPROTECT_ATTACH_PERSIST));
		EXPECT_EQ(0, attach_once(self->ctx, fd));
		close(self->ctx);
		self->ctx = ctx_open();
		EXPECT_EQ(0, umount2(dir, 0));
	}
	rmdir(dir);
	unlink(image);
	if (status)
		SKIP(return, "cannot mount ext4 by loop");
}

TEST_F(attach, file_on_overlayfs_is_not_supported)
{
	const char *path = "/var/tmp/pgtest-overlay";
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	struct statfs fs;

	unlink(path);
	if (fd < 0 || fstatfs(fd, &fs) || fs.f_type != OVERLAYFS_MAGIC)
		SKIP(return, "/var/tmp is not on overlayfs");
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, fd));
}

TEST_F(attach, file_on_fuse_is_not_supported)
{
	struct slow_file *file = slow_file_make(page_size());
	char path[40];
	int fd;

	if (!file)
		SKIP(return, "no FUSE");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	fd = open(path, O_RDWR);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, fd));
}

/*
 * A file on what @script mounts at $dir, on a tmpfs that goes with the mounts of this
 * process. -1: not possible.
 */
static int file_mounted(const char *script)
{
	char command[400];
	int fd = -1;

	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("pgtest", "/mnt", "tmpfs", 0, NULL))
		die("mounts of its own");
	snprintf(command, sizeof(command),
		 "PATH=$PATH:/sbin:/usr/sbin; dir=/mnt/fs; mkdir $dir && %s >/dev/null 2>&1",
		 script);
	if (!system(command))
		fd = open("/mnt/fs/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd;
}

TEST_F(attach, file_on_btrfs_is_not_supported)
{
	int fd = file_mounted("truncate -s 128M $dir.img && mkfs.btrfs -q $dir.img && "
			      "mount -o loop $dir.img $dir");

	if (fd < 0)
		SKIP(return, "no btrfs");
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, fd));
}

/* Whose pages are those of the device: there is nothing to write-protect them by. */
TEST_F(attach, file_on_dax_is_not_supported)
{
	int fd = file_mounted("mkfs.ext4 -q -b 4096 /dev/pmem0 && "
			      "mount -o dax=always /dev/pmem0 $dir");

	if (fd < 0)
		SKIP(return, "no DAX");
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, fd));
}

/* The client's pages; what nfsd writes to is attached where it is: routes/nfs. */
TEST_F(attach, file_on_nfs_is_not_supported)
{
	char path[32];
	int local = tmpfs_make(page_size(), path), fd = nfs_open(path, O_RDWR);

	if (fd >= 0) {
		EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, fd));
	}
	nfs_end();
	unlink(path);
	close(local);
	if (fd < 0)
		SKIP(return, "no NFS");
}

/* Not what it is on, and not the device itself. */
TEST_F(attach, block_device_is_not_supported)
{
	int below = memfd_make(16 * page_size(), 0);
	int device = loop_open(below, 0, 0);

	if (device < 0)
		SKIP(return, "no loop device");
	EXPECT_EQ(-EOPNOTSUPP, attach_once(self->ctx, device));
	EXPECT_EQ(0, attach_once(self->ctx, below));
}

TEST_F(attach, reserved_modes_are_not_supported)
{
	int fd = memfd_make(page_size(), 0);

	EXPECT_EQ(-EOPNOTSUPP, attach_with(self->ctx, fd, PGPROTECT_MODE_TRACK,
					   PGPROTECT_ACCESS_WRITE, 0));
	EXPECT_EQ(-EOPNOTSUPP, attach_with(self->ctx, fd, PGPROTECT_MODE_PRESERVE,
					   PGPROTECT_ACCESS_WRITE, 0));
	close(fd);
}

TEST_F(attach, unknown_mode_and_access_are_invalid)
{
	int fd = memfd_make(page_size(), 0);

	EXPECT_EQ(-EINVAL, attach_with(self->ctx, fd, 0, PGPROTECT_ACCESS_WRITE, 0));
	EXPECT_EQ(-EINVAL, attach_with(self->ctx, fd, 5, PGPROTECT_ACCESS_WRITE, 0));
	EXPECT_EQ(-EINVAL, attach_with(self->ctx, fd, UINT32_MAX, PGPROTECT_ACCESS_WRITE, 0));
	EXPECT_EQ(-EINVAL, attach_with(self->ctx, fd, PGPROTECT_MODE_DENY, 0, 0));
	EXPECT_EQ(-EINVAL, attach_with(self->ctx, fd, PGPROTECT_MODE_DENY,
				       PGPROTECT_ACCESS_WRITE << 1, 0));
	EXPECT_EQ(-EINVAL, attach_with(self->ctx, fd, PGPROTECT_MODE_DENY,
				       PGPROTECT_ACCESS_WRITE | 1U << 31, 0));
	close(fd);
}

TEST_F(attach, nothing_is_protected_by_attach_alone)
{
	struct test_file file = file_memfd(2);

	ctx_attach(self->ctx, file.fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(1, write_page(file.fd, 0, 1));
	EXPECT_EQ(0, store_byte(file.map + page_size(), 1));
	file_close(&file);
}

TEST_F(attach, ids_differ_and_are_never_zero)
{
	int fd = memfd_make(page_size(), 0);
	uint32_t ids[16];

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		ids[i] = ctx_attach(self->ctx, fd, PGPROTECT_MODE_STALL, 0);
		for (size_t k = 0; k < i; k++) {
			EXPECT_NE(ids[k], ids[i]);
		}
	}
	close(fd);
}

TEST_F(attach, descriptor_can_be_closed_after_attach)
{
	struct test_file file = file_memfd(1);
	int fd = dup(file.fd);
	uint32_t id = ctx_attach(self->ctx, fd, PGPROTECT_MODE_DENY, 0);

	close(fd);
	EXPECT_EQ(0, ctx_protect_all(self->ctx, id));
	EXPECT_EQ(-EPERM, write_page(file.fd, 0, 1));
	file_close(&file);
}

TEST_F(attach, more_than_1024_attachments_of_a_file_are_for_the_administrator)
{
	int ctx = ctx_open_by(OTHER_UID, -1), fd = memfd_make(page_size(), 0);
	int nr = 0, ret;

	ASSERT_EQ(0, fchown(fd, OTHER_UID, OTHER_UID));
	while (!(ret = attach_fd(ctx, fd)))
		nr++;
	EXPECT_EQ(-ENOSPC, ret);
	EXPECT_EQ(1024, nr);
	EXPECT_EQ(0, attach_fd(self->ctx, fd));
	close(ctx);
	close(fd);
}

TEST_F(attach, persist_and_adopt_need_the_administrator)
{
	int ctx = ctx_open_by(OTHER_UID, -1);
	int fd = memfd_make(page_size(), 0);

	ASSERT_EQ(0, fchown(fd, OTHER_UID, OTHER_UID));
	EXPECT_EQ(0, attach_with(ctx, fd, PGPROTECT_MODE_DENY, PGPROTECT_ACCESS_WRITE, 0));
	EXPECT_EQ(-EPERM, attach_with(ctx, fd, PGPROTECT_MODE_DENY, PGPROTECT_ACCESS_WRITE,
				      PGPROTECT_ATTACH_PERSIST));
	EXPECT_EQ(-EPERM, attach_with(ctx, fd, PGPROTECT_MODE_DENY, PGPROTECT_ACCESS_WRITE,
				      PGPROTECT_ATTACH_ADOPT));
	close(fd);
	close(ctx);
}

TEST_F(attach, adopt_finds_nothing_that_was_not_kept)
{
	int fd = memfd_make(page_size(), 0);

	EXPECT_EQ(-ENOENT, attach_with(self->ctx, fd, PGPROTECT_MODE_DENY,
				       PGPROTECT_ACCESS_WRITE, PGPROTECT_ATTACH_ADOPT));
	close(fd);
}

TEST_F(attach, file_of_another_user_is_refused)
{
	int ctx = ctx_open_by(OTHER_UID, -1);
	int fd = memfd_make(page_size(), 0);

	EXPECT_EQ(-EPERM, attach_once(ctx, fd));
	close(ctx);
}

TEST_F(attach, file_of_ones_own_is_accepted)
{
	int ctx = ctx_open_by(OTHER_UID, -1);
	int fd = memfd_make(page_size(), 0);

	ASSERT_EQ(0, fchown(fd, OTHER_UID, OTHER_UID));
	EXPECT_EQ(0, attach_once(ctx, fd));
	close(ctx);
}

TEST_F(attach, either_capability_replaces_ownership)
{
	static const int caps[] = { CAP_FOWNER, CAP_SYS_ADMIN };

	for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
		int ctx = ctx_open_by(OTHER_UID, caps[i]);

		EXPECT_EQ(0, attach_once(ctx, memfd_make(page_size(), 0)))
			TH_LOG("capability %d", caps[i]);
		close(ctx);
	}
}

TEST_F(attach, other_capabilities_do_not_replace_ownership)
{
	int ctx = ctx_open_by(OTHER_UID, CAP_DAC_OVERRIDE);

	EXPECT_EQ(-EPERM, attach_once(ctx, memfd_make(page_size(), 0)));
	close(ctx);
}

TEST_F(attach, detach_drops_the_protection)
{
	struct test_file file = file_memfd(1);
	uint32_t id = ctx_attach(self->ctx, file.fd, PGPROTECT_MODE_DENY, 0);

	ASSERT_EQ(0, ctx_protect_all(self->ctx, id));
	EXPECT_EQ(GOT_SIGBUS, store_byte(file.map, 1));
	EXPECT_EQ(0, ctx_detach(self->ctx, id));
	EXPECT_EQ(0, store_byte(file.map, 1));
	EXPECT_EQ(1, write_page(file.fd, 0, 1));
	file_close(&file);
}

TEST_F(attach, detach_of_an_unknown_id_is_not_found)
{
	int fd = memfd_make(page_size(), 0);
	uint32_t id = ctx_attach(self->ctx, fd, PGPROTECT_MODE_DENY, 0);

	EXPECT_EQ(-ENOENT, ctx_detach(self->ctx, 0));
	EXPECT_EQ(-ENOENT, ctx_detach(self->ctx, id + 1));
	EXPECT_EQ(-ENOENT, ctx_detach(self->ctx, UINT32_MAX));
	EXPECT_EQ(0, ctx_detach(self->ctx, id));
	EXPECT_EQ(-ENOENT, ctx_detach(self->ctx, id));
	EXPECT_EQ(-ENOENT, ctx_protect_all(self->ctx, id));
	close(fd);
}

TEST_HARNESS_MAIN
