// SPDX-License-Identifier: GPL-2.0
/*
 * Devices with page tables of their own, which mirror those of a process and are
 * told by mmu_notifier what changed there: what KVM and GPUs are. The device is
 * the kernel's test of HMM, which reads and writes whole pages through its mirror.
 *
 * A device cannot wait: its faults do not allow a retry, and are refused in STALL
 * as in DENY.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../regress/common/race.h"
#include "common/device.h"
#include "common/memory.h"
#include "common/route.h"

#define TARGET		5UL	/* page */

FIXTURE(mirror) {
	struct subject subject;
	int device;
	char *target;
	struct image before;
};

FIXTURE_VARIANT(mirror) { uint32_t mode; };
FIXTURE_VARIANT_ADD(mirror, stall) { .mode = PGPROTECT_MODE_STALL };
FIXTURE_VARIANT_ADD(mirror, deny) { .mode = PGPROTECT_MODE_DENY };

FIXTURE_SETUP(mirror)
{
	self->device = device_open();
	if (self->device < 0)
		SKIP(return, "no test device of HMM (CONFIG_TEST_HMM)");
	self->subject = subject_attached(ROUTE_PAGES, variant->mode, 0);
	file_fill(&self->subject.file);
	self->target = self->subject.file.map + TARGET * PAGE;
	image_read(self->subject.file.fd, &self->before);
}

FIXTURE_TEARDOWN(mirror)
{
	if (self->device < 0)
		return;
	image_free(&self->before);
	close(self->device);
	subject_close(&self->subject);
}

static bool unchanged(struct _test_data_mirror *self)
{
	return image_is(self->subject.file.fd, &self->before);
}

TEST_F(mirror, made_after_protect_cannot_be_written_through)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(-EFAULT, device_write(self->device, self->target, 'd'));
	EXPECT_TRUE(unchanged(self));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
}

/* Without the notifier, the second write would go where the first one went. */
TEST_F(mirror, that_was_writable_is_lost_by_protect)
{
	struct subject *s = &self->subject;

	ASSERT_LE(0, device_write(self->device, self->target, 'd'));
	EXPECT_EQ('d', *self->target);
	ASSERT_EQ(0, device_write(self->device, self->target, TARGET + 1));
	ASSERT_TRUE(unchanged(self));

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(-EFAULT, device_write(self->device, self->target, 'd'));
	EXPECT_TRUE(unchanged(self));
}

TEST_F(mirror, that_is_read_through_does_not_become_writable)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(TARGET + 1, device_read(self->device, self->target));
	EXPECT_EQ(-EFAULT, device_write(self->device, self->target, 'd'));
	EXPECT_EQ(TARGET + 1, device_read(self->device, self->target));
	EXPECT_TRUE(unchanged(self));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
}

/* A fresh mapping, which the device is the first to touch. */
TEST_F(mirror, of_a_mapping_made_after_protect_is_not_writable)
{
	struct subject *s = &self->subject;
	char *map;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	map = map_shared(s->file.fd, ROUTE_SIZE);
	EXPECT_EQ(TARGET + 1, device_read(self->device, map + TARGET * PAGE));
	EXPECT_EQ(SEEN_READ, device_sees(self->device, map + TARGET * PAGE));
	EXPECT_EQ(-EFAULT, device_write(self->device, map + TARGET * PAGE, 'd'));
	EXPECT_TRUE(unchanged(self));
}

TEST_F(mirror, of_the_neighbours_stays_writable)
{
	struct subject *s = &self->subject;

	ASSERT_LE(0, device_write(self->device, self->target + PAGE, 'd'));
	EXPECT_EQ(SEEN_WRITE, device_sees(self->device, self->target + PAGE) & SEEN_WRITE);
	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, TARGET * PAGE, PAGE));
	EXPECT_LE(0, device_write(self->device, self->target + PAGE, 'e'));
	EXPECT_LE(0, device_write(self->device, self->target - PAGE, 'e'));
	EXPECT_EQ(-EFAULT, device_write(self->device, self->target, 'e'));
	EXPECT_EQ('e', self->target[PAGE]);
	EXPECT_EQ('e', self->target[-(long)PAGE]);
	EXPECT_EQ(TARGET + 1, *self->target);
}

TEST_F(mirror, written_over_several_pages_leaves_the_protected_one)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, TARGET * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, device_write_pages(self->device, self->target - PAGE, 'd', 3));
	EXPECT_EQ(TARGET + 1, *self->target);
	EXPECT_EQ(TARGET + 2, self->target[PAGE]);
}

TEST_F(mirror, can_be_written_through_again_after_release)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	ASSERT_EQ(-EFAULT, device_write(self->device, self->target, 'd'));
	ASSERT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	EXPECT_LE(0, device_write(self->device, self->target, 'd'));
	EXPECT_EQ('d', *self->target);
}

/* One huge entry, one page of which is protected. */
TEST_F(mirror, of_a_huge_page_keeps_its_protected_page)
{
	int fd = huge_tmpfs_file(HUGE), ctx = self->subject.ctx;
	char *map, *target;
	uint32_t id;

	if (fd < 0)
		SKIP(return, "no tmpfs with huge pages");
	map = map_aligned(fd, HUGE);
	target = map + TARGET * PAGE;
	memset(map, 'a', HUGE);
	ASSERT_LE(0, device_write(self->device, target, 'b'));
	ASSERT_EQ(0, device_write(self->device, target, 'a'));
	id = ctx_attach(ctx, fd, variant->mode, 0);
	ASSERT_EQ(0, ctx_protect_range(ctx, id, TARGET * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, device_write(self->device, target, 'd'));
	EXPECT_LE(0, device_write(self->device, target + PAGE, 'd'));
	EXPECT_LE(0, device_write(self->device, map + 300 * PAGE, 'd'));
	EXPECT_EQ(-EFAULT, device_write(self->device, target, 'd'));
	EXPECT_EQ('a', *target);
	EXPECT_EQ('d', target[PAGE]);
	EXPECT_EQ('d', map[300 * PAGE]);
}

/* --- the device writes as fast as it can while PROTECT comes --- */

static long write_by_device(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	char *map = map_shared(race->subject.file.fd, race->size);
	int device = device_open();

	if (device < 0)
		die("open the device");
	while (!race->stop) {
		device_write(device, map + race_page(race, &state), race_random(&state));
		race->turns++;
	}
	return 0;
}

static long store_beside(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();

	/* In STALL: the page waits for the end of the round. */
	while (!race->stop) {
		race->subject.file.map[race_page(race, &state)]++;
		race->turns++;
	}
	return 0;
}

TEST(mirror_that_is_written_all_the_time_changes_nothing_once_protect_has_returned)
{
	agitator_fn *agitators[] = { write_by_device, store_beside };
	int device = device_open();
	struct race_result result;
	struct race *race;

	if (device < 0)
		SKIP(return, "no test device of HMM (CONFIG_TEST_HMM)");
	close(device);
	race = race_make(file_memfd(64));
	result = race_run(race, agitators, ARRAY_LEN(agitators), 100, 4000);
	TH_LOG("%u rounds, %lu writes", result.rounds, race->turns);
	EXPECT_EQ(0, result.escapes) {
		TH_LOG("the last at offset %#lx", result.offset);
	}
}

TEST_HARNESS_MAIN
