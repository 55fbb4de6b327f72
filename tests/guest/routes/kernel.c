// SPDX-License-Identifier: GPL-2.0
/*
 * What the kernel writes to files and to memory by itself: records of processes that
 * have ended, and the bits that tell programs which of their events are traced.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/acct.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	4UL

FIXTURE(accounting) {
	struct test_file file;
	char path[32];
	int ctx;
	uint32_t id;
};

FIXTURE_VARIANT(accounting) { uint32_t mode; };

FIXTURE_VARIANT_ADD(accounting, deny) { .mode = PGPROTECT_MODE_DENY };
/* Who exits is not stalled. */
FIXTURE_VARIANT_ADD(accounting, stall) { .mode = PGPROTECT_MODE_STALL };

FIXTURE_SETUP(accounting)
{
	self->file = (struct test_file){
		.fd = tmpfs_make(PAGES * 4096, self->path), .size = PAGES * 4096,
	};
	self->file.map = map_shared(self->file.fd, self->file.size);
	file_fill(&self->file);
	/* In the middle of a page, where records go on. */
	ASSERT_EQ(0, ftruncate(self->file.fd, self->file.size - 100));
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, variant->mode, 0);
	if (acct(self->path))
		SKIP(return, "needs CONFIG_BSD_PROCESS_ACCT");
}

FIXTURE_TEARDOWN(accounting)
{
	acct(NULL);
	close(self->ctx);
	file_close(&self->file);
	unlink(self->path);
}

static off_t size_of(int fd)
{
	struct stat stat_of;

	if (fstat(fd, &stat_of))
		die("fstat");
	return stat_of.st_size;
}

/* Whether that left a record in the file. */
static bool exit_is_recorded(int fd)
{
	off_t before = size_of(fd);
	int status;
	pid_t pid = fork_child();

	if (!pid)
		_exit(0);
	if (waitpid(pid, &status, 0) != pid || status)
		die("a child that does nothing");
	return size_of(fd) > before;
}

TEST_F(accounting, writes_nothing_to_what_is_protected_and_lets_who_exits_go)
{
	uint64_t before;
	off_t size;

	ASSERT_TRUE(exit_is_recorded(self->file.fd));
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	size = size_of(self->file.fd);
	before = checksum_fd(self->file.fd, size);
	EXPECT_FALSE(exit_is_recorded(self->file.fd));
	EXPECT_EQ(size, size_of(self->file.fd));
	EXPECT_EQ(before, checksum_fd(self->file.fd, size));
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_TRUE(exit_is_recorded(self->file.fd));
	EXPECT_EQ(before, checksum_fd(self->file.fd, size));
}

/* --- user events --- */

#define EVENTS	"/sys/kernel/tracing/"
#define BIT	3
#define WORD_AT	(2 * 4096 + 16)

/* As linux/user_events.h has it, which Debian 12 has not. */
struct user_reg {
	uint32_t size;
	uint8_t enable_bit, enable_size;
	uint16_t flags;
	uint64_t enable_addr;
	uint64_t name_args;
	uint32_t write_index;
} __attribute__((packed));
#define DIAG_IOCSREG	_IOWR('*', 0, struct user_reg *)

FIXTURE(user_event) {
	struct test_file file;
	volatile uint32_t *word;
	char enable[80];
	int events;
	int ctx;
	uint32_t id;
};

FIXTURE_SETUP(user_event)
{
	char name[40];
	struct user_reg reg = {
		.size = sizeof(reg), .enable_bit = BIT, .enable_size = sizeof(uint32_t),
		.name_args = (uintptr_t)name,
	};

	self->file = file_memfd(PAGES);
	self->word = (uint32_t *)(self->file.map + WORD_AT);
	*self->word = 0;
	self->ctx = ctx_open();
	self->events = open(EVENTS "user_events_data", O_RDWR | O_CLOEXEC);
	if (self->events < 0)
		SKIP(return, "needs CONFIG_USER_EVENTS");
	snprintf(name, sizeof(name), "pgtest_%d u32 value", getpid());
	snprintf(self->enable, sizeof(self->enable), EVENTS "events/user_events/pgtest_%d/enable",
		 getpid());
	reg.enable_addr = (uintptr_t)self->word;
	ASSERT_EQ(0, ioctl(self->events, DIAG_IOCSREG, &reg));
}

FIXTURE_TEARDOWN(user_event)
{
	close(self->ctx);
	if (self->events >= 0) {
		write_text(self->enable, "0");
		close(self->events);
	}
	file_close(&self->file);
}

/* A thread of the kernel faults the page in, and waits as any writer would. */
TEST_F(user_event, enabled_waits_with_its_bit_until_released)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_TRUE(write_text(self->enable, "1"));
	EXPECT_TRUE(ctx_wait_stalled(self->ctx, 1));
	EXPECT_EQ(0, *self->word);
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_TRUE(WAIT_FOR(*self->word == 1U << BIT));
}

/* Of no effect as long as the thread that was refused has not ended its try. */
static bool enable_again(struct _test_data_user_event *self)
{
	return write_text(self->enable, "0") && write_text(self->enable, "1") &&
	       *self->word == 1U << BIT;
}

TEST_F(user_event, enabled_is_refused_its_bit_until_it_is_enabled_again)
{
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY,
			      PGPROTECT_ATTACH_NOTIFY);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	ASSERT_TRUE(write_text(self->enable, "1"));
	EXPECT_TRUE(ctx_readable(self->ctx, DEADLINE_MS));
	EXPECT_EQ(0, *self->word);
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_TRUE(WAIT_FOR(enable_again(self)));
}

TEST_HARNESS_MAIN
