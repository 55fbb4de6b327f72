// SPDX-License-Identifier: GPL-2.0
/*
 * Writes through overlayfs, which makes them with locks held and in the name of
 * whoever mounted it: protection of the upper file holds, and nobody is made to
 * wait there by a context that could not stop any task.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define USER	OTHER_UID
#define PAGES	2

FIXTURE(overlay) {
	char dir[40];
	struct test_file upper;	/* of USER, on tmpfs; fd and map are not overlayfs' */
	struct access access;	/* through overlayfs */
	int ctx;
	uint32_t id;
};

FIXTURE_VARIANT(overlay) { uid_t mounter; };
FIXTURE_VARIANT_ADD(overlay, of_root) { .mounter = 0 };
FIXTURE_VARIANT_ADD(overlay, of_its_user) { .mounter = USER };

static void write_file(const char *path, const char *text)
{
	if (!write_text(path, text))
		die("write %s", path);
}

/* For good: root of a user namespace where all ids but its own are nobody's. */
static void become_root_of_namespace(uid_t uid)
{
	char map[40];

	become_user(uid);
	if (unshare(CLONE_NEWUSER))
		die("a user namespace");
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	write_file("/proc/self/setgroups", "deny");
	write_file("/proc/self/uid_map", map);
	write_file("/proc/self/gid_map", map);
}

/* Mounts where nobody else sees it, opens the file, sends it; 1: no overlayfs. */
static int mount_and_send(uid_t uid, const char *dir, int sock)
{
	const char *dirs = "lowerdir=lower,upperdir=upper,workdir=work";
	char options[80];
	int fd;

	if (uid)
		become_root_of_namespace(uid);
	snprintf(options, sizeof(options), "%s%s", dirs, uid ? ",userxattr" : "");
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    chdir(dir))
		die("a mount namespace");
	if (mount("overlay", "merged", "overlay", 0, options)) {
		if (errno == ENODEV)
			return 1;
		die("mount overlayfs as %u", uid);
	}
	fd = open("merged/file", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("open a file of overlayfs");
	send_fd(sock, fd);
	return 0;
}

/* The open file keeps the file system; -1: there is no overlayfs. */
static int overlay_open(uid_t uid, const char *dir)
{
	int pair[2], fd = -1;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	pid = fork_child();
	if (!pid)
		_exit(mount_and_send(uid, dir, pair[1]));
	switch (wait_child(pid)) {
	case 0:
		fd = receive_fd(pair[0]);
		break;
	case 1 << 8:
		break;
	default:
		die("the child that mounts overlayfs failed");
	}
	close(pair[0]);
	close(pair[1]);
	return fd;
}

static void tree_make(char *dir)
{
	static const char *const names[] = { "lower", "upper", "work", "merged" };
	char path[64];

	strcpy(dir, "/dev/shm/pgtest.XXXXXX");
	if (!mkdtemp(dir) || chown(dir, USER, USER))
		die("directory on /dev/shm");
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		if (mkdir(path, 0700) || chown(path, USER, USER))
			die("make %s", path);
	}
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

FIXTURE_SETUP(overlay)
{
	char path[64];
	int fd;

	tree_make(self->dir);
	snprintf(path, sizeof(path), "%s/upper/file", self->dir);
	self->upper.size = PAGES * page_size();
	self->upper.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, self->upper.fd);
	ASSERT_EQ(0, fchown(self->upper.fd, USER, USER));
	ASSERT_EQ(0, ftruncate(self->upper.fd, self->upper.size));
	self->upper.map = map_shared(self->upper.fd, self->upper.size);
	fd = overlay_open(variant->mounter, self->dir);
	self->ctx = -1;
	if (fd < 0)
		SKIP(return, "no overlayfs");
	self->access = (struct access){
		.fd = fd, .map = map_shared(fd, self->upper.size), .value = 'v',
	};
}

FIXTURE_TEARDOWN(overlay)
{
	close(self->ctx);
	if (self->access.map) {
		munmap(self->access.map, self->upper.size);
		close(self->access.fd);
	}
	file_close(&self->upper);
	nftw(self->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void protect_by(struct _test_data_overlay *self, int ctx, uint32_t mode)
{
	self->ctx = ctx;
	self->id = ctx_attach(ctx, self->upper.fd, mode, 0);
	if (ctx_protect_all(ctx, self->id))
		die("protect the upper file");
}

static long op_punch(struct writer *self)
{
	struct access *access = self->arg;

	return fallocate(access->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 access->offset, page_size()) ? -errno : 0;
}

static long op_splice(struct writer *self)
{
	struct access *access = self->arg;
	loff_t at = access->offset;
	ssize_t done;
	int ends[2];

	if (pipe(ends) || write(ends[1], &access->value, 1) != 1)
		die("pipe");
	done = splice(ends[0], NULL, access->fd, &at, 1, 0);
	return done < 0 ? -errno : done;
}

static long op_splice_two_pages(struct writer *self)
{
	struct access *access = self->arg;
	size_t size = 2 * page_size();
	char data[size];
	int ends[2];

	memset(data, access->value, size);
	if (pipe(ends) || write(ends[1], data, size) != (ssize_t)size)
		die("pipe");
	return splice(ends[0], NULL, access->fd, &(loff_t){ 0 }, size, 0);
}

TEST_F(overlay, writes_reach_the_upper_file)
{
	EXPECT_EQ(1, write_page(self->access.fd, 0, 'v'));
	EXPECT_EQ('v', self->upper.map[0]);
	EXPECT_EQ(0, store_byte(self->access.map, 'w'));
	EXPECT_EQ('w', read_page(self->upper.fd, 0));
}

TEST_F(overlay, root_is_refused_not_stalled_by_the_context_of_a_user)
{
	protect_by(self, ctx_open_by(USER, -1), PGPROTECT_MODE_STALL);
	EXPECT_EQ(-EPERM, writer_join(writer_thread(op_pwrite, &self->access)));
	EXPECT_EQ(-EPERM, writer_join(writer_thread(op_punch, &self->access)));
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_thread(op_store, &self->access)));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(0, self->upper.map[0]);
}

/* His own write, too, is made with overlayfs' locks held; his store is not. */
TEST_F(overlay, user_is_refused_not_stalled_where_locks_are_held)
{
	struct writer *store;

	protect_by(self, ctx_open_by(USER, -1), PGPROTECT_MODE_STALL);
	EXPECT_EQ(-EPERM, writer_join(writer_fork_as(USER, op_pwrite, &self->access)));
	EXPECT_EQ(-EPERM, writer_join(writer_fork_as(USER, op_punch, &self->access)));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(0, self->upper.map[0]);

	store = writer_fork_as(USER, op_store, &self->access);
	EXPECT_TRUE(writer_stalled(store));
	EXPECT_EQ(0, ctx_detach(self->ctx, self->id));
	EXPECT_EQ(0, writer_join(store));
	EXPECT_EQ('v', self->upper.map[0]);
}

/* Lets one writer wait and go: what it returned. */
static long stall_and_allow(struct __test_metadata *_metadata, struct _test_data_overlay *self,
			    struct writer *writer, uint16_t origin)
{
	struct pgprotect_event event;

	EXPECT_TRUE(writer_stalled(writer));
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(origin, event.origin);
	EXPECT_EQ(0, event.offset);
	EXPECT_EQ(page_size(), event.length);
	EXPECT_EQ(0, self->upper.map[0]);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	return writer_join(writer);
}

TEST_F(overlay, writer_is_stalled_by_a_privileged_context_and_released)
{
	static const uid_t uids[] = { 0, USER };

	protect_by(self, ctx_open(), PGPROTECT_MODE_STALL);
	for (size_t i = 0; i < ARRAY_LEN(uids); i++) {
		EXPECT_EQ(1, stall_and_allow(_metadata, self,
					     writer_fork_as(uids[i], op_pwrite, &self->access),
					     PGPROTECT_ORIGIN_WRITE));
		EXPECT_EQ('v', self->upper.map[0]);
		self->upper.map[0] = 0;
		ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
		EXPECT_EQ(0, stall_and_allow(_metadata, self,
					     writer_fork_as(uids[i], op_store, &self->access),
					     PGPROTECT_ORIGIN_STORE));
		EXPECT_EQ('v', self->upper.map[0]);
		self->upper.map[0] = 0;
		ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	}
}

TEST_F(overlay, deny_refuses_all)
{
	protect_by(self, ctx_open(), PGPROTECT_MODE_DENY);
	EXPECT_EQ(-EPERM, writer_join(writer_thread(op_pwrite, &self->access)));
	EXPECT_EQ(-EPERM, writer_join(writer_thread(op_punch, &self->access)));
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_thread(op_store, &self->access)));
	EXPECT_EQ(0, self->upper.map[0]);
}

/* Overlayfs' own splice, which the filter must not meet first: it has the pipe locked. */
TEST_F(overlay, splice_to_a_denied_file_fails_and_ends)
{
	struct writer *writer;
	bool ended;

	protect_by(self, ctx_open(), PGPROTECT_MODE_DENY);
	writer = writer_fork(op_splice, &self->access);
	ended = WAIT_FOR(writer_done(writer));
	EXPECT_TRUE(ended);
	if (!ended)
		ctx_detach(self->ctx, self->id);
	EXPECT_EQ(-EPERM, writer_join(writer));
	EXPECT_EQ(0, self->upper.map[0]);
}

TEST_F(overlay, splice_is_stalled_by_a_privileged_context_and_released)
{
	protect_by(self, ctx_open(), PGPROTECT_MODE_STALL);
	EXPECT_EQ(1, stall_and_allow(_metadata, self, writer_fork(op_splice, &self->access),
				     PGPROTECT_ORIGIN_SPLICE));
	EXPECT_EQ('v', self->upper.map[0]);
}

TEST_F(overlay, splice_waits_at_a_later_page_and_goes_on)
{
	struct pgprotect_event event;
	struct writer *writer;

	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->upper.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, page_size(), page_size()));
	writer = writer_fork(op_splice_two_pages, &self->access);
	ASSERT_TRUE(writer_stalled(writer));
	EXPECT_EQ('v', self->upper.map[page_size() - 1]);
	EXPECT_EQ(0, self->upper.map[page_size()]);
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(PGPROTECT_ORIGIN_SPLICE, event.origin);
	EXPECT_EQ(page_size(), event.offset);
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(2 * page_size(), writer_join(writer));
	EXPECT_EQ('v', self->upper.map[2 * page_size() - 1]);
}

TEST_HARNESS_MAIN
