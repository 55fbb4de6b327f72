// SPDX-License-Identifier: GPL-2.0
/* What hangs on an open file ends with its holders, not with who shares page tables. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE	(2 * UNIT)
#define RW	(PROT_READ | PROT_WRITE)

static long op_lock_and_share(struct writer *self)
{
	const char *path = self->arg;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	struct flock range = { .l_type = F_WRLCK, .l_len = 1 };

	if (fd < 0 || flock(fd, LOCK_EX) || fcntl(fd, F_OFD_SETLK, &range))
		die("lock %s", path);
	touch_pages(map_guest(fd, SIZE, 0, RW, true), SIZE);
	writer_checkpoint(self);
	return 0;
}

TEST(locks_of_who_shared_first_end_with_him)
{
	struct flock range = { .l_type = F_WRLCK, .l_len = 1 };
	struct writer *first;
	char path[64], *map;
	int fd;

	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	fd = tmpfs_make(SIZE, path);
	first = writer_fork(op_lock_and_share, path);
	writer_wait_ready(first);
	map = map_guest(fd, SIZE, 0, RW, true);
	touch_pages(map, SIZE);
	EXPECT_EQ(-1, flock(fd, LOCK_EX | LOCK_NB));
	EXPECT_EQ(-1, fcntl(fd, F_OFD_SETLK, &range));
	writer_go(first);
	ASSERT_EQ(0, writer_join(first));
	EXPECT_EQ(0, flock(fd, LOCK_EX | LOCK_NB));
	EXPECT_EQ(0, fcntl(fd, F_OFD_SETLK, &range));
	EXPECT_TRUE(is_shared(map, SIZE));
	munmap(map, SIZE);
	close(fd);
	unlink(path);
}

TEST_HARNESS_MAIN
