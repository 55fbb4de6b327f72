// SPDX-License-Identifier: GPL-2.0
/* PGPROTECT_IOC_INFO: what the kernel says of itself. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

static int info(struct pgprotect_info *out)
{
	int ctx = ctx_open();
	int ret;

	*out = (struct pgprotect_info){ .size = sizeof(*out) };
	ret = ctx_ioctl(ctx, PGPROTECT_IOC_INFO, out);
	close(ctx);
	return ret;
}

TEST(info_states_version_limits_and_page_size)
{
	struct pgprotect_info got;

	ASSERT_EQ(0, info(&got));
	EXPECT_EQ(PGPROTECT_API_VERSION, got.version);
	EXPECT_EQ(page_size(), got.page_size);
	EXPECT_EQ(PGPROTECT_MAX_RANGES, got.max_ranges);
	EXPECT_EQ(PGPROTECT_MAX_BATCH, got.max_batch);
	EXPECT_LT(0, got.max_notes);
}

/* Only if new mappings can share: see ptshare/sharing for each setting. */
TEST(info_ptshare_align_is_zero_where_no_page_tables_are_shared)
{
	char mode[64] = "[never]";
	int fd = open("/sys/kernel/mm/ptshare/enabled", O_RDONLY);
	struct pgprotect_info got;

	if (fd >= 0) {
		ASSERT_LT(0, read(fd, mode, sizeof(mode) - 1));
		close(fd);
	}
	ASSERT_EQ(0, info(&got));
	EXPECT_EQ(strstr(mode, "[never]") ? 0 : 2UL << 20, got.ptshare_align);
}

TEST(info_features_and_modes_agree)
{
	const uint64_t must = PGPROTECT_FEATURE_STALL | PGPROTECT_FEATURE_DENY |
			      PGPROTECT_FEATURE_SHMEM | PGPROTECT_FEATURE_URING_CMD |
			      PGPROTECT_FEATURE_PERSIST | PGPROTECT_FEATURE_PINS |
			      PGPROTECT_FEATURE_HUGETLB | PGPROTECT_FEATURE_REGULAR;
	const uint64_t must_not = PGPROTECT_FEATURE_TRACK | PGPROTECT_FEATURE_PRESERVE |
				  PGPROTECT_FEATURE_SCAN;
	struct pgprotect_info got;

	ASSERT_EQ(0, info(&got));
	EXPECT_EQ(must, got.features & must);
	EXPECT_EQ(0, got.features & must_not);
	EXPECT_EQ((1U << PGPROTECT_MODE_STALL) | (1U << PGPROTECT_MODE_DENY), got.modes);
}

TEST(info_stall_ms_is_the_sysctl)
{
	long before = stall_limit_read();
	struct pgprotect_info got;
	int ret;

	stall_limit_write(12345);
	ret = info(&got);
	stall_limit_write(before);
	ASSERT_EQ(0, ret);
	EXPECT_EQ(12345, got.stall_ms);
	ASSERT_EQ(0, info(&got));
	EXPECT_EQ(before, got.stall_ms);
}

TEST_HARNESS_MAIN
