// SPDX-License-Identifier: GPL-2.0
/* Who pays: pages are charged to who faults them in; what happens when he cannot. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define SIZE	(4 * UNIT)
#define RW	(PROT_READ | PROT_WRITE)
#define GROUPS	"/sys/fs/cgroup"
#define GROUP	GROUPS "/ptshare-test"

/* The number behind @key in a file of the group; the only one, if @key is "". */
static long group_number(const char *name, const char *key)
{
	char path[64], line[256], format[64];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), GROUP "/%s", name);
	snprintf(format, sizeof(format), "%s %%ld", key);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, format, &value);
	if (!file || value < 0)
		die("no %s in %s", key, path);
	fclose(file);
	return value;
}

/* Bytes of shared memory charged to the group. */
static long charged(void)
{
	return group_number("memory.stat", "shmem");
}

FIXTURE(group) {
	int unused;
};

FIXTURE_SETUP(group)
{
	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	if (!write_text(GROUPS "/cgroup.subtree_control", "+memory"))
		SKIP(return, "no memory cgroups");
	rmdir(GROUP);
	ASSERT_EQ(0, mkdir(GROUP, 0755));
}

FIXTURE_TEARDOWN(group)
{
	EXPECT_TRUE(WAIT_FOR(rmdir(GROUP) == 0));
}

static long op_make_host(struct writer *self)
{
	int fd = *(int *)self->arg;
	char *map = map_guest(fd, SIZE, 0, RW, true);

	map[0] = 1;
	writer_checkpoint(self);
	return 0;
}

static long op_fault_in_group(struct writer *self)
{
	char *map = self->arg;

	if (!write_text(GROUP "/cgroup.procs", "0"))
		return -1;
	dirty_pages(map, SIZE);
	writer_checkpoint(self);
	return 0;
}

TEST_F(group, is_charged_for_what_it_faults_in_after_the_hosts_maker_has_exited)
{
	struct writer *maker, *user;
	int fd = memfd_make(SIZE, 0);
	char *map;

	maker = writer_fork(op_make_host, &fd);
	writer_wait_ready(maker);
	map = map_guest(fd, SIZE, 0, RW, true);
	writer_go(maker);
	ASSERT_EQ(0, writer_join(maker));

	user = writer_fork(op_fault_in_group, map);
	writer_wait_ready(user);
	/* All but the maker's page; the group's counters lag a little behind. */
	EXPECT_TRUE(WAIT_FOR(charged() >= (long)(SIZE - UNIT)));
	EXPECT_LE(charged(), (long)SIZE);
	writer_go(user);
	EXPECT_EQ(0, writer_join(user));
	munmap(map, SIZE);
	close(fd);
}

#define HOT	UNIT
#define COLD	(8 * UNIT)
#define ROUNDS	6

/* Faults that pages cost which are used all the time, while the group has to shrink. */
static long op_use_while_reclaimed(struct writer *self)
{
	char *map = self->arg;
	long before = 0;

	if (!write_text(GROUP "/cgroup.procs", "0"))
		return -1;
	dirty_pages(map, HOT + COLD);
	for (int round = 0; round < ROUNDS; round++) {
		/* The CPU marks as used only what it does not remember to be marked. */
		if (mprotect(map, HOT, PROT_READ) || mprotect(map, HOT, RW))
			return -1;
		touch_pages(map, HOT);
		/* At first all are new, and so used: one round later only some are. */
		if (round == 1)
			before = fault_count();
		/* It says if it could not get all. */
		write_text(GROUP "/memory.reclaim", "1M");
		writer_checkpoint(self);
	}
	return fault_count() - before;
}

TEST_F_TIMEOUT(group, keeps_pages_that_it_uses_when_it_shrinks, 120)
{
	long faults, all = HOT / 4096;
	struct writer *user;
	char *map;
	int fd;

	if (memory_kb("SwapTotal") == 0)
		SKIP(return, "no swap");
	fd = memfd_make(HOT + COLD, 0);
	map = map_guest(fd, HOT + COLD, 0, RW, true);
	user = writer_fork(op_use_while_reclaimed, map);
	for (int round = 0; round < ROUNDS; round++) {
		writer_wait_ready(user);
		writer_go(user);
	}
	faults = writer_join(user);
	EXPECT_LE(0, faults);
	EXPECT_LT(faults, all / 4);
	munmap(map, HOT + COLD);
	close(fd);
}

TEST_F(group, has_pages_swapped_out_that_come_back_for_all)
{
	struct writer *user;
	char *map;
	int fd;

	if (memory_kb("SwapTotal") == 0)
		SKIP(return, "no swap");
	fd = memfd_make(SIZE, 0);
	map = map_guest(fd, SIZE, 0, RW, true);
	user = writer_fork(op_fault_in_group, map);
	writer_wait_ready(user);
	touch_pages(map, SIZE);
	/* It says if it could not get all. */
	EXPECT_TRUE(WAIT_FOR((write_text(GROUP "/memory.reclaim", "16M"),
			      group_number("memory.swap.current", "") >= (long)SIZE / 2)));
	EXPECT_TRUE(is_shared(map, SIZE));
	for (size_t at = 0; at < SIZE; at += page_size()) {
		ASSERT_EQ(1, map[at]);
	}
	writer_go(user);
	EXPECT_EQ(0, writer_join(user));
	munmap(map, SIZE);
	close(fd);
}

/* Writes to all but the first unit, if it is let. */
static long op_exceed_limit(struct writer *self)
{
	char *map = self->arg;

	if (!write_text(GROUP "/cgroup.procs", "0"))
		return -1;
	dirty_pages(map + UNIT, SIZE - UNIT);
	return 0;
}

TEST_F(group, takes_nothing_from_others_when_it_is_killed_for_want_of_memory)
{
	int fd = memfd_make(SIZE, 0);
	char *map = map_guest(fd, SIZE, 0, RW, true);
	long guests, links, got = 0;
	struct writer *victim;

	ASSERT_TRUE(write_text(GROUP "/memory.max", "3M"));
	/* No such file without swap. */
	write_text(GROUP "/memory.swap.max", "0");
	dirty_pages(map, UNIT);
	guests = sharing_count("guests");
	links = sharing_count("links");

	victim = writer_fork(op_exceed_limit, map);
	EXPECT_EQ(SIGKILL, WTERMSIG(writer_wait(victim)));
	EXPECT_EQ(1, group_number("memory.events", "oom_kill"));
	EXPECT_TRUE(WAIT_FOR(sharing_count("guests") == guests));
	EXPECT_EQ(links, sharing_count("links"));

	/* What it had written is in the file, as by whom else. */
	EXPECT_TRUE(is_shared(map, SIZE));
	for (size_t at = 0; at < SIZE; at += page_size())
		got += map[at] == 1;
	EXPECT_LT((long)(UNIT / page_size()), got);
	EXPECT_GT((long)((UNIT + (3UL << 20)) / page_size()), got);
	EXPECT_EQ(1, map[UNIT - page_size()]);
	dirty_pages(map, SIZE);
	EXPECT_EQ(2, map[0]);
	munmap(map, SIZE);
	close(fd);
	EXPECT_TRUE(WAIT_FOR(sharing_count("guests") < guests));
}

TEST_HARNESS_MAIN
