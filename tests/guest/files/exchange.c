// SPDX-License-Identifier: GPL-2.0
/* Files on xfs that exchange ranges: XFS_IOC_EXCHANGE_RANGE and XFS_IOC_COMMIT_RANGE. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGE	4096UL
#define PAGES	16UL
#define SIZE	(PAGES * PAGE)

/* As xfs_fs.h of Linux 6.12 has them; that of Debian 12 is older. */
struct exchange_range {
	int32_t file1_fd;
	uint32_t pad;
	uint64_t file1_offset, file2_offset, length, flags;
};
struct commit_range {
	struct exchange_range range;
	uint64_t file2_freshness[6];
};
#define EXCHANGE_RANGE	_IOW('X', 129, struct exchange_range)
#define START_COMMIT	_IOR('X', 130, struct commit_range)
#define COMMIT_RANGE	_IOW('X', 131, struct commit_range)
#define TO_EOF		(1ULL << 0)

/* 0 or -errno. */
static int exchange(int file2, const struct exchange_range *range)
{
	struct exchange_range args = *range;

	return ioctl(file2, EXCHANGE_RANGE, &args) ? -errno : 0;
}

static int commit(int file2, const struct exchange_range *range)
{
	struct commit_range args = { 0 };

	if (ioctl(file2, START_COMMIT, &args))
		die("XFS_IOC_START_COMMIT: %s", strerror(errno));
	args.range = *range;
	return ioctl(file2, COMMIT_RANGE, &args) ? -errno : 0;
}

FIXTURE(exchange) {
	struct test_file file, other;
	uint64_t before, others;
	int ctx;
	uint32_t id;
};

FIXTURE_VARIANT(exchange) {
	int (*call)(int file2, const struct exchange_range *range);
	uint64_t flags;
};

FIXTURE_VARIANT_ADD(exchange, range) { .call = exchange };
FIXTURE_VARIANT_ADD(exchange, to_eof) { .call = exchange, .flags = TO_EOF };
FIXTURE_VARIANT_ADD(exchange, commit) { .call = commit };

/*
 * What makes a file system for it is too old: the feature's bit is set afterwards, before
 * anything depends on it. It is there from the first call of a boot on.
 */
static bool is_mounted(void)
{
	static const char script[] =
		"PATH=$PATH:/sbin:/usr/sbin; dir=/run/pgtest-exchange; mkdir -p $dir && "
		"mountpoint -q $dir || { "
		"truncate -s 320M $dir.img && mkfs.xfs -q $dir.img >/dev/null 2>&1 && "
		"has=$(xfs_db -r -c 'sb 0' -c 'print features_incompat' $dir.img) && "
		"xfs_db -x -c 'sb 0' -c \"write -d features_incompat $((${has##* } | 64))\" "
		"$dir.img >/dev/null && mount -o loop $dir.img $dir && rm $dir.img; }";

	return !system(script);
}

static struct test_file file_there(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, SIZE))
		die("file on xfs");
	unlink(path);
	return (struct test_file){ fd, map_shared(fd, SIZE), SIZE };
}

FIXTURE_SETUP(exchange)
{
	if (!is_mounted())
		SKIP(return, "no xfs that exchanges ranges");
	self->file = file_there("/run/pgtest-exchange/file");
	self->other = file_there("/run/pgtest-exchange/other");
	file_fill(&self->file);
	memset(self->other.map, 0x5a, SIZE);
	ASSERT_EQ(0, fsync(self->file.fd));
	ASSERT_EQ(0, fsync(self->other.fd));
	self->before = checksum_fd(self->file.fd, SIZE);
	self->others = checksum_fd(self->other.fd, SIZE);
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY, 0);
}

FIXTURE_TEARDOWN(exchange)
{
	if (!self->ctx)
		return;
	close(self->ctx);
	file_close(&self->file);
	file_close(&self->other);
}

/* From @offset to the end, of both files. */
static struct exchange_range from(uint64_t offset, int file1, uint64_t flags)
{
	return (struct exchange_range){
		.file1_fd = file1, .file1_offset = offset, .file2_offset = offset,
		.length = flags & TO_EOF ? 0 : SIZE - offset, .flags = flags,
	};
}

/* Either way round. */
TEST_F(exchange, with_a_protected_file_is_refused)
{
	struct exchange_range mine = from(0, self->file.fd, variant->flags);
	struct exchange_range theirs = from(0, self->other.fd, variant->flags);

	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, (PAGES - 1) * PAGE, PAGE));
	EXPECT_EQ(-EBUSY, variant->call(self->other.fd, &mine));
	EXPECT_EQ(-EBUSY, variant->call(self->file.fd, &theirs));
	EXPECT_EQ(self->before, checksum_fd(self->file.fd, SIZE));
	EXPECT_EQ(self->others, checksum_fd(self->other.fd, SIZE));
	/* Nothing else spoke against it. */
	EXPECT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	EXPECT_EQ(0, variant->call(self->file.fd, &theirs));
	EXPECT_EQ(self->others, checksum_fd(self->file.fd, SIZE));
	EXPECT_EQ(self->before, checksum_fd(self->other.fd, SIZE));
}

TEST_F(exchange, beside_what_is_protected_works)
{
	struct exchange_range theirs = from(PAGE, self->other.fd, variant->flags);

	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, 0, PAGE));
	EXPECT_EQ(0, variant->call(self->file.fd, &theirs));
	EXPECT_EQ(1, read_page(self->file.fd, 0));
	EXPECT_EQ(0x5a, read_page(self->file.fd, 1));
	EXPECT_EQ(0x5a, read_page(self->file.fd, PAGES - 1));
	EXPECT_EQ(0x5a, read_page(self->other.fd, 0));
	EXPECT_EQ(2, read_page(self->other.fd, 1));
	EXPECT_EQ(PAGES, read_page(self->other.fd, PAGES - 1));
}

TEST_HARNESS_MAIN
