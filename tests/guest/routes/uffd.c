// SPDX-License-Identifier: GPL-2.0
/* Pages filled by userfaultfd: content that comes by no write path. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

#define HOLE	(5 * PAGE)

#ifndef UFFDIO_POISON	/* Linux 6.6 */
struct uffdio_poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;
};
#define UFFD_FEATURE_POISON	(1 << 14)
#define UFFDIO_POISON		_IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

static int uffd_register(char *map, uint64_t mode, uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map, .len = ROUTE_SIZE },
		.mode = mode,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	return uffd;
}

/* The ioctl may ask to be repeated, as when the mappings change meanwhile. */
static long copy_page(int uffd, char *to, void *from, uint64_t length, uint64_t mode)
{
	struct uffdio_copy copy;
	uint64_t done = 0;

	while (done < length) {
		copy = (struct uffdio_copy){
			.dst = (uintptr_t)to + done,
			.src = (uintptr_t)from + done,
			.len = length - done,
			.mode = mode,
		};
		if (ioctl(uffd, UFFDIO_COPY, &copy) && errno != EAGAIN)
			return copy.copy < 0 ? copy.copy : -errno;
		if (copy.copy > 0)
			done += copy.copy;
	}
	return done;
}

static long by_copy(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);
	int uffd = uffd_register(map, UFFDIO_REGISTER_MODE_MISSING, 0);
	void *data = value_buffer(attempt->length);

	route_ready(attempt);
	return copy_page(uffd, map + attempt->at, data, attempt->length, 0);
}

static long by_copy_with_wp(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);
	int uffd = uffd_register(map, UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
				 UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
	void *data = value_buffer(attempt->length);

	route_ready(attempt);
	return copy_page(uffd, map + attempt->at, data, attempt->length, UFFDIO_COPY_MODE_WP);
}

static long by_zeropage(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);
	int uffd = uffd_register(map, UFFDIO_REGISTER_MODE_MISSING, 0);
	struct uffdio_zeropage zero;

	route_ready(attempt);
	do {
		zero = (struct uffdio_zeropage){
			.range = { .start = (uintptr_t)map + attempt->at, .len = PAGE },
		};
	} while (ioctl(uffd, UFFDIO_ZEROPAGE, &zero) && errno == EAGAIN);
	return zero.zeropage;
}

static void expect_nothing(struct attempt *attempt, struct image *image)
{
}

/* CONTINUE only maps what is there, writable were there no filter. */
static long store_after_continue(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);
	int uffd = uffd_register(map, UFFDIO_REGISTER_MODE_MINOR, UFFD_FEATURE_MINOR_SHMEM);
	struct uffdio_continue cont = {
		.range = { .start = (uintptr_t)map + (attempt->at & -PAGE), .len = PAGE },
	};

	route_ready(attempt);
	if (ioctl(uffd, UFFDIO_CONTINUE, &cont))
		die("UFFDIO_CONTINUE");
	return store_at(attempt, map);
}

ROUTE_FAMILY(uffd);

#define FILL(name, function, bytes, ...)					\
	ROUTE_ADD(uffd, name, .op = function, .at = HOLE, .length = bytes,		\
		  .success = bytes, .denied = -EPERM, .origin = PGPROTECT_ORIGIN_UFFD,	\
		  .hole_offset = HOLE, .hole_length = 4 * PAGE,			\
		  .many_events = (bytes) > PAGE, ##__VA_ARGS__)

FILL(copy_into_hole, by_copy, PAGE)
FILL(copy_into_hole_of_tmpfs, by_copy, PAGE, .kind = FILE_TMPFS)
FILL(copy_into_hole_of_shared_anonymous, by_copy, PAGE, .kind = FILE_SHARED_ANON)
FILL(copy_into_hole_with_wp, by_copy_with_wp, PAGE)
FILL(copy_of_four_pages, by_copy, 4 * PAGE)
FILL(zeropage_into_hole, by_zeropage, PAGE, .expect = expect_nothing)

ROUTE_ADD(uffd, store_after_continue, .op = store_after_continue, .denied = GOT_SIGBUS)

TEST(copy_into_an_unprotected_hole_passes)
{
	struct subject subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_DENY, 0);
	char *map = map_shared(subject.file.fd, ROUTE_SIZE);
	int uffd = uffd_register(map, UFFDIO_REGISTER_MODE_MISSING, 0);

	ASSERT_EQ(0, fallocate(subject.file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       HOLE, 2 * PAGE));
	ASSERT_EQ(0, ctx_protect_range(subject.ctx, subject.id, HOLE, PAGE));
	EXPECT_EQ(PAGE, copy_page(uffd, map + HOLE + PAGE, value_buffer(PAGE), PAGE, 0));
	EXPECT_EQ(ROUTE_VALUE, read_page(subject.file.fd, 6));
}

/* Nothing is there to be filled, so that nobody is asked, or EEXIST comes after the gate. */
TEST(copy_onto_a_protected_page_changes_nothing)
{
	struct subject subject = subject_protected(ROUTE_PAGES, PGPROTECT_MODE_DENY, 0);
	char *map = map_shared(subject.file.fd, ROUTE_SIZE);
	int uffd = uffd_register(map, UFFDIO_REGISTER_MODE_MISSING, 0);
	long result = copy_page(uffd, map + HOLE, value_buffer(PAGE), PAGE, 0);

	EXPECT_TRUE(result == -EEXIST || result == -EPERM) {
		TH_LOG("UFFDIO_COPY gave %ld", result);
	}
	EXPECT_EQ(0, read_page(subject.file.fd, 5));
}

/* What is poisoned is a place in a mapping. */
static void poison_protected_hole(struct __test_metadata *_metadata, uint32_t mode)
{
	struct subject subject = subject_attached(ROUTE_PAGES, mode, PGPROTECT_ATTACH_NOTIFY *
						  (mode == PGPROTECT_MODE_DENY));
	char *map = map_shared(subject.file.fd, ROUTE_SIZE);
	int uffd = uffd_register(map, UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_POISON);
	struct uffdio_poison poison;

	ASSERT_EQ(0, fallocate(subject.file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       HOLE, 2 * PAGE));
	ASSERT_EQ(0, ctx_protect_all(subject.ctx, subject.id));
	do {
		poison = (struct uffdio_poison){
			.range = { .start = (uintptr_t)map + HOLE, .len = 2 * PAGE },
		};
	} while (ioctl(uffd, UFFDIO_POISON, &poison) && errno == EAGAIN);
	EXPECT_EQ(2 * PAGE, poison.updated);
	EXPECT_FALSE(ctx_readable(subject.ctx, 0));
	EXPECT_EQ(HOLE, lseek(subject.file.fd, 0, SEEK_HOLE));
	EXPECT_EQ(0, read_page(subject.file.fd, 5));
	close(uffd);
	subject_close(&subject);
}

/* A poison that waited would wait for an answer that this thread cannot give. */
TEST(poison_of_a_protected_hole_passes)
{
	poison_protected_hole(_metadata, PGPROTECT_MODE_STALL);
}

TEST(poison_of_a_denied_hole_passes)
{
	poison_protected_hole(_metadata, PGPROTECT_MODE_DENY);
}

TEST_HARNESS_MAIN
