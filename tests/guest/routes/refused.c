// SPDX-License-Identifier: GPL-2.0
/* Ways into a file that are refused, whether it is protected or because it is. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

/* --- what tmpfs does not know; who asks for it learns so, and nobody else --- */

FIXTURE(unknown) {
	struct subject subject;
	struct image before;
	char path[32];
};

FIXTURE_VARIANT(unknown) { uint32_t mode; uint64_t flags; };
FIXTURE_VARIANT_ADD(unknown, stall) { .mode = PGPROTECT_MODE_STALL };
FIXTURE_VARIANT_ADD(unknown, deny) {
	.mode = PGPROTECT_MODE_DENY, .flags = PGPROTECT_ATTACH_NOTIFY,
};

FIXTURE_SETUP(unknown)
{
	struct subject *s = &self->subject;

	s->file = (struct test_file){
		.fd = tmpfs_make(ROUTE_SIZE, self->path), .size = ROUTE_SIZE,
	};
	s->file.map = map_shared(s->file.fd, ROUTE_SIZE);
	file_fill(&s->file);
	image_read(s->file.fd, &self->before);
	s->ctx = ctx_open();
	s->id = ctx_attach(s->ctx, s->file.fd, variant->mode, variant->flags);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
}

FIXTURE_TEARDOWN(unknown)
{
	unlink(self->path);
	image_free(&self->before);
	subject_close(&self->subject);
}

static bool nothing_happened(struct _test_data_unknown *self)
{
	return !ctx_readable(self->subject.ctx, 0) &&
	       image_is(self->subject.file.fd, &self->before);
}

/* A file of other content on the same file system. */
static int source_file(void)
{
	int fd = tmpfs_make(ROUTE_SIZE, NULL);
	void *data = value_buffer(ROUTE_SIZE);

	if (pwrite(fd, data, ROUTE_SIZE, 0) != (ssize_t)ROUTE_SIZE)
		die("fill a source");
	free(data);
	return fd;
}

TEST_F(unknown, clone_of_another_file_changes_nothing)
{
	int source = source_file();
	struct file_clone_range range = {
		.src_fd = source, .src_length = PAGE, .dest_offset = 5 * PAGE,
	};

	EXPECT_EQ(-1, ioctl(self->subject.file.fd, FICLONE, source));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_EQ(-1, ioctl(self->subject.file.fd, FICLONERANGE, &range));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_TRUE(nothing_happened(self));
}

TEST_F(unknown, dedupe_with_another_file_changes_nothing)
{
	struct file_dedupe_range *range = calloc(1, sizeof(*range) + sizeof(range->info[0]));
	int source = source_file();

	range->src_length = PAGE;
	range->dest_count = 1;
	range->info[0].dest_fd = self->subject.file.fd;
	range->info[0].dest_offset = 5 * PAGE;
	EXPECT_EQ(-1, ioctl(source, FIDEDUPERANGE, range));
	EXPECT_EQ(EOPNOTSUPP, errno);
	EXPECT_TRUE(nothing_happened(self));
	free(range);
}

TEST_F(unknown, use_as_swap_changes_nothing)
{
	EXPECT_EQ(-1, swapon(self->path, 0));
	/* Because it is attached, or because it is on tmpfs. */
	EXPECT_TRUE(errno == EBUSY || errno == EINVAL);
	EXPECT_TRUE(nothing_happened(self));
}

/* Neither does it become something that a later protection would not cover. */
TEST_F(unknown, swapon_leaves_the_file_as_protected_as_it_was)
{
	struct subject *s = &self->subject;
	uint32_t deny = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);

	swapon(self->path, 0);
	ASSERT_EQ(0, ctx_protect_all(s->ctx, deny));
	EXPECT_EQ(-EPERM, write_page(s->file.fd, 5, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(s->file.map + 5 * PAGE, 1));
}

/* --- a change of size from above, by who holds locks of its own --- */

static const char *const layers[] = { "lower", "upper", "work", "merged" };

FIXTURE(stacked) {
	struct subject subject;	/* the file below */
	char dir[40];
	int fd;			/* through overlayfs */
	struct image before;
};

FIXTURE_VARIANT(stacked) { uint32_t mode; };
FIXTURE_VARIANT_ADD(stacked, stall) { .mode = PGPROTECT_MODE_STALL };
FIXTURE_VARIANT_ADD(stacked, deny) { .mode = PGPROTECT_MODE_DENY };

/* In a mount namespace that goes with the test; the descriptor, or -1. */
static int open_through_overlay(const char *dir)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    chdir(dir))
		die("a mount namespace");
	if (mount("overlay", "merged", "overlay", 0,
		  "lowerdir=lower,upperdir=upper,workdir=work"))
		return -1;
	return open("merged/file", O_RDWR | O_CLOEXEC);
}

FIXTURE_SETUP(stacked)
{
	struct subject *s = &self->subject;
	char path[64];

	strcpy(self->dir, "/dev/shm/pgtest.XXXXXX");
	if (!mkdtemp(self->dir))
		die("directory on /dev/shm");
	for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
		snprintf(path, sizeof(path), "%s/%s", self->dir, layers[i]);
		if (mkdir(path, 0700))
			die("make %s", path);
	}
	snprintf(path, sizeof(path), "%s/upper/file", self->dir);
	s->file = (struct test_file){
		.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), .size = ROUTE_SIZE,
	};
	if (s->file.fd < 0 || ftruncate(s->file.fd, ROUTE_SIZE))
		die("make %s", path);
	s->file.map = map_shared(s->file.fd, ROUTE_SIZE);
	file_fill(&s->file);
	image_read(s->file.fd, &self->before);
	s->ctx = ctx_open();
	s->id = ctx_attach(s->ctx, s->file.fd, variant->mode, 0);
	self->fd = open_through_overlay(self->dir);
	if (self->fd < 0)
		SKIP(return, "no overlayfs");
	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 5 * PAGE, PAGE));
}

FIXTURE_TEARDOWN(stacked)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", self->dir);
	close(self->fd);
	umount2("merged", MNT_DETACH);
	subject_close(&self->subject);
	image_free(&self->before);
	if (chdir("/") || system(command))
		die("%s", command);
}

TEST_F(stacked, truncate_is_refused_and_raises_nothing)
{
	struct subject *s = &self->subject;

	EXPECT_EQ(-1, ftruncate(self->fd, 5 * PAGE + 100));
	EXPECT_EQ(ETXTBSY, errno);
	EXPECT_EQ(-1, truncate("merged/file", 0));
	EXPECT_EQ(ETXTBSY, errno);
	EXPECT_EQ(-1, open("merged/file", O_WRONLY | O_TRUNC));
	EXPECT_EQ(ETXTBSY, errno);
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

TEST_F(stacked, truncate_above_the_protected_page_passes)
{
	struct subject *s = &self->subject;

	EXPECT_EQ(0, ftruncate(self->fd, 6 * PAGE));
	EXPECT_EQ(0, ftruncate(self->fd, ROUTE_SIZE));
	EXPECT_EQ(6, read_page(s->file.fd, 5));
	EXPECT_EQ(0, read_page(s->file.fd, 6));
}

TEST_HARNESS_MAIN
