// SPDX-License-Identifier: GPL-2.0
/*
 * Callers of 32 bits. The structures have no pointers and no padding, so they
 * are the same; that the kernel takes them is shown through int $0x80, which
 * enters it as a 32-bit program does. Arguments lie below 4 GiB for that.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define NR32_READ	3
#define NR32_GETPID	20
#define NR32_IOCTL	54

static long syscall32(long nr, long a, long b, long c)
{
	long ret = nr;

	asm volatile("int $0x80" : "+a"(ret) : "b"(a), "c"(b), "d"(c)
		     : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

static int probe(void *arg)
{
	return syscall32(NR32_GETPID, 0, 0, 0) != getpid();
}

/* int $0x80 is a fault where the kernel has no 32-bit entry. */
static bool have_32bit_entry(void)
{
	pid_t pid = fork_child();
	int status;

	if (pid == 0)
		_exit(probe(NULL));
	status = wait_child(pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct arguments {
	struct pgprotect_info info;
	struct pgprotect_attach attach;
	struct pgprotect_protect protect;
	struct pgprotect_unprotect unprotect;
	struct pgprotect_next next;
	struct pgprotect_copy copy;
	struct pgprotect_list list;
	struct pgprotect_detach detach;
	struct pgprotect_range range;
	struct pgprotect_event event;
	struct pgprotect_list_entry entry;
	char page[4096];
};

FIXTURE(compat) {
	int ctx;
	struct test_file file;
	struct arguments *args;	/* below 4 GiB */
};

FIXTURE_SETUP(compat)
{
	self->ctx = ctx_open();
	self->file = file_memfd(4);
	self->args = mmap(NULL, sizeof(*self->args), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	ASSERT_NE(MAP_FAILED, self->args);
}

FIXTURE_TEARDOWN(compat)
{
	munmap(self->args, sizeof(*self->args));
	close(self->ctx);
	file_close(&self->file);
}

static long ioctl32(int fd, unsigned long cmd, void *arg)
{
	*(uint32_t *)arg = _IOC_SIZE(cmd);
	return syscall32(NR32_IOCTL, fd, (long)cmd, (long)arg);
}

static long attach32(struct arguments *args, int ctx, int fd)
{
	args->attach = (struct pgprotect_attach){
		.fd = fd,
		.mode = PGPROTECT_MODE_DENY,
		.access = PGPROTECT_ACCESS_WRITE,
		.flags = PGPROTECT_ATTACH_NOTIFY,
		.cookie = 0x123456789abcdefULL,
	};
	return ioctl32(ctx, PGPROTECT_IOC_ATTACH, &args->attach);
}

static long protect32(struct arguments *args, int ctx, uint64_t offset, uint64_t length)
{
	args->range = range_of(args->attach.file, offset, length);
	args->protect = (struct pgprotect_protect){
		.access = PGPROTECT_ACCESS_WRITE,
		.ranges = (uintptr_t)&args->range,
		.nr_ranges = 1,
	};
	return ioctl32(ctx, PGPROTECT_IOC_PROTECT, &args->protect);
}

TEST(structures_have_no_holes_that_another_compiler_may_move)
{
	EXPECT_EQ(48, sizeof(struct pgprotect_info));
	EXPECT_EQ(40, sizeof(struct pgprotect_attach));
	EXPECT_EQ(8, sizeof(struct pgprotect_detach));
	EXPECT_EQ(24, sizeof(struct pgprotect_range));
	EXPECT_EQ(64, sizeof(struct pgprotect_protect));
	EXPECT_EQ(32, sizeof(struct pgprotect_unprotect));
	EXPECT_EQ(64, sizeof(struct pgprotect_event));
	EXPECT_EQ(16, sizeof(struct pgprotect_verdict));
	EXPECT_EQ(56, sizeof(struct pgprotect_next));
	EXPECT_EQ(48, sizeof(struct pgprotect_copy));
	EXPECT_EQ(72, sizeof(struct pgprotect_list_entry));
	EXPECT_EQ(32, sizeof(struct pgprotect_list));
	EXPECT_EQ(16, sizeof(struct pgprotect_uring_cmd));
}

TEST_F(compat, info_and_list_answer)
{
	struct arguments *args = self->args;

	if (!have_32bit_entry())
		SKIP(return, "this kernel has no 32-bit entry");
	EXPECT_EQ(0, ioctl32(self->ctx, PGPROTECT_IOC_INFO, &args->info));
	EXPECT_EQ(PGPROTECT_API_VERSION, args->info.version);
	ASSERT_EQ(0, attach32(args, self->ctx, self->file.fd));
	args->list.max_entries = 1;
	args->list.entries = (uintptr_t)&args->entry;
	EXPECT_EQ(0, ioctl32(self->ctx, PGPROTECT_IOC_LIST, &args->list));
	EXPECT_EQ(1, args->list.nr_entries);
	EXPECT_EQ(0x123456789abcdefULL, args->entry.cookie);
}

TEST_F(compat, protection_made_by_a_32bit_call_holds)
{
	struct arguments *args = self->args;

	if (!have_32bit_entry())
		SKIP(return, "this kernel has no 32-bit entry");
	ASSERT_EQ(0, attach32(args, self->ctx, self->file.fd));
	EXPECT_EQ(0, protect32(args, self->ctx, page_size(), PGPROTECT_TO_EOF));
	EXPECT_EQ(1, write_page(self->file.fd, 0, 1));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 1, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(self->file.map + page_size(), 1));
	args->unprotect.ranges = (uintptr_t)&args->range;
	args->unprotect.nr_ranges = 1;
	EXPECT_EQ(0, ioctl32(self->ctx, PGPROTECT_IOC_UNPROTECT, &args->unprotect));
	EXPECT_EQ(1, write_page(self->file.fd, 1, 1));
	args->detach.file = args->attach.file;
	EXPECT_EQ(0, ioctl32(self->ctx, PGPROTECT_IOC_DETACH, &args->detach));
	EXPECT_EQ(-ENOENT, ioctl32(self->ctx, PGPROTECT_IOC_DETACH, &args->detach));
}

TEST_F(compat, events_and_copy_work)
{
	struct arguments *args = self->args;

	if (!have_32bit_entry())
		SKIP(return, "this kernel has no 32-bit entry");
	ASSERT_EQ(0, attach32(args, self->ctx, self->file.fd));
	ASSERT_EQ(0, protect32(args, self->ctx, 0, PGPROTECT_TO_EOF));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 1, 1));
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 2, 1));
	EXPECT_EQ(64, syscall32(NR32_READ, self->ctx, (long)&args->event, 64));
	EXPECT_EQ(page_size(), args->event.offset);
	args->next.events = (uintptr_t)&args->event;
	args->next.max_events = 1;
	EXPECT_EQ(0, ioctl32(self->ctx, PGPROTECT_IOC_NEXT, &args->next));
	EXPECT_EQ(1, args->next.nr_events);
	EXPECT_EQ(2 * page_size(), args->event.offset);
	EXPECT_EQ(0x123456789abcdefULL, args->event.cookie);
	memset(args->page, 'c', sizeof(args->page));
	args->copy.file = args->attach.file;
	args->copy.source = (uintptr_t)args->page;
	args->copy.length = sizeof(args->page);
	EXPECT_EQ(0, ioctl32(self->ctx, PGPROTECT_IOC_COPY, &args->copy));
	EXPECT_EQ(sizeof(args->page), args->copy.copied);
	EXPECT_EQ('c', self->file.map[0]);
}

TEST_F(compat, pointer_above_4_gib_is_usable_or_a_fault_but_never_cut)
{
	struct arguments *args = self->args;
	long ret;

	if (!have_32bit_entry())
		SKIP(return, "this kernel has no 32-bit entry");
	ASSERT_EQ(0, attach32(args, self->ctx, self->file.fd));
	args->range = range_of(args->attach.file, 0, page_size());
	args->protect = (struct pgprotect_protect){
		.access = PGPROTECT_ACCESS_WRITE,
		.ranges = (uintptr_t)&args->range | 1ULL << 46,
		.nr_ranges = 1,
	};
	ret = ioctl32(self->ctx, PGPROTECT_IOC_PROTECT, &args->protect);
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_EQ(1, write_page(self->file.fd, 0, 1));
}

TEST_HARNESS_MAIN
