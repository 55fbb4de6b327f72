// SPDX-License-Identifier: GPL-2.0
/*
 * A process whose memory is mirrored by a device shares no page tables, and the device is
 * told of what those do who share them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"
#include "../routes/common/device.h"

#define SIZE	(4 * UNIT)
#define TARGET	UNIT		/* where device and others meet */
#define RW	(PROT_READ | PROT_WRITE)

/* Another process, which stores whenever it is told to. */
static long op_share_and_store(struct writer *self)
{
	char *map = self->arg;
	long ret;

	touch_pages(map, SIZE);
	writer_checkpoint(self);
	ret = store_byte(map + TARGET, 's');
	writer_checkpoint(self);
	if (!is_shared(map, SIZE))
		die("shared no more");
	return ret;
}

/* The mirror stays registered as long as the address space, which is the test's own. */
FIXTURE(mirror) {
	int fd;
	char *map;
	struct writer *sharer;
	int device;
};

FIXTURE_SETUP(mirror)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	if (access("/dev/hmm_dmirror0", R_OK | W_OK))
		SKIP(return, "no test device of HMM (CONFIG_TEST_HMM)");
	self->fd = memfd_make(SIZE, 0);
	self->map = map_guest(self->fd, SIZE, 0, RW, true);
	dirty_pages(self->map, SIZE);
	self->sharer = writer_fork(op_share_and_store, self->map);
	writer_wait_ready(self->sharer);
	self->device = device_open();
	ASSERT_LE(0, self->device);
}

FIXTURE_TEARDOWN(mirror)
{
	close(self->device);
	munmap(self->map, SIZE);
	close(self->fd);
}

/* What its store ended with. */
static long let_store(struct writer *sharer)
{
	writer_go(sharer);
	writer_wait_ready(sharer);
	writer_go(sharer);
	return writer_join(sharer);
}

TEST_F(mirror, unshares_all_and_nothing_is_shared_again)
{
	char *other;

	EXPECT_TRUE(is_ordinary(self->map, SIZE));
	for (size_t at = 0; at < SIZE; at += page_size()) {
		ASSERT_EQ(1, self->map[at]);
	}
	EXPECT_EQ(-EINVAL, advise(self->map, SIZE, MADV_PTSHARE));
	sharing_set("always");
	other = mmap(NULL, SIZE, RW, MAP_SHARED, self->fd, 0);
	sharing_set("madvise");
	ASSERT_NE(MAP_FAILED, other);
	EXPECT_TRUE(is_ordinary(other, SIZE));
	EXPECT_EQ(0, let_store(self->sharer));
	EXPECT_EQ('s', other[TARGET]);
	munmap(other, SIZE);
}

TEST_F(mirror, is_one_memory_with_those_who_share)
{
	EXPECT_LE(0, device_write(self->device, self->map + TARGET, 'd'));
	EXPECT_EQ('d', self->map[TARGET]);
	EXPECT_EQ(0, let_store(self->sharer));
	EXPECT_EQ('s', device_read(self->device, self->map + TARGET));
}

TEST_F(mirror, is_told_of_protect)
{
	int ctx = ctx_open();
	uint32_t id = ctx_attach(ctx, self->fd, PGPROTECT_MODE_DENY, 0);
	char *target = self->map + TARGET;

	ASSERT_LE(0, device_write(self->device, target, 'd'));
	ASSERT_EQ(SEEN_WRITE, device_sees(self->device, target) & SEEN_WRITE);
	ASSERT_EQ(0, ctx_protect_all(ctx, id));
	EXPECT_EQ(-EFAULT, device_write(self->device, target, 'e'));
	EXPECT_EQ('d', device_read(self->device, target));
	EXPECT_EQ(SEEN_READ, device_sees(self->device, target));
	EXPECT_EQ(GOT_SIGBUS, let_store(self->sharer));
	EXPECT_EQ('d', *target);
	ASSERT_EQ(0, ctx_unprotect_all(ctx, id));
	EXPECT_LE(0, device_write(self->device, target, 'e'));
	EXPECT_EQ('e', *target);
	close(ctx);
}

TEST_F(mirror, is_told_of_truncation)
{
	char *target = self->map + TARGET;

	ASSERT_LE(0, device_write(self->device, target, 'd'));
	ASSERT_EQ(0, ftruncate(self->fd, TARGET));
	EXPECT_EQ(-EFAULT, device_read(self->device, target));
	EXPECT_EQ(-EFAULT, device_write(self->device, target, 'e'));
	EXPECT_EQ(GOT_SIGBUS, let_store(self->sharer));
	ASSERT_EQ(0, ftruncate(self->fd, SIZE));
	EXPECT_EQ(0, device_read(self->device, target));
	EXPECT_EQ(1, device_read(self->device, target - page_size()));
}

TEST_HARNESS_MAIN
