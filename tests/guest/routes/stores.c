// SPDX-License-Identifier: GPL-2.0
/* Stores through mappings, whatever was done to the mapping before or after PROTECT. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

/* Reads one byte of every page. */
static void read_pages(const volatile char *map)
{
	for (size_t i = 0; i < ROUTE_SIZE; i += PAGE)
		(void)map[i];
}

/* Makes the page's entry writable and dirty, the content as it was. */
static void dirty_page(struct attempt *attempt, volatile char *map)
{
	map[attempt->at] = map[attempt->at];
}

static long store_in_mapping_of_test(struct attempt *attempt)
{
	dirty_page(attempt, attempt->file.map);
	route_ready(attempt);
	return store_at(attempt, attempt->file.map);
}

static long store_in_own_dirty_mapping(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	route_ready(attempt);
	return store_at(attempt, map);
}

static long store_in_untouched_mapping(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	route_ready(attempt);
	return store_at(attempt, map);
}

/* A read maps its neighbours too, and writable, were there no filter. */
static long store_in_mapping_read_before(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	read_pages(map);
	route_ready(attempt);
	return store_at(attempt, map);
}

static long store_in_new_mapping(struct attempt *attempt)
{
	route_ready(attempt);
	return store_at(attempt, map_file(attempt, 0));
}

static long store_in_new_mapping_read_first(struct attempt *attempt)
{
	char *map;

	route_ready(attempt);
	map = map_file(attempt, 0);
	read_pages(map);
	return store_at(attempt, map);
}

static long store_in_mapping_read_after(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	route_ready(attempt);
	read_pages(map);
	return store_at(attempt, map);
}

static long store_in_child(struct attempt *attempt, char *map)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		die("fork");
	if (!pid)
		_exit(store_at(attempt, map) ? 1 : 0);
	waitpid(pid, &status, 0);
	if (!WIFEXITED(status))
		return -EINTR;
	return WEXITSTATUS(status) ? GOT_SIGBUS : 0;
}

static long store_in_child_forked_after(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	route_ready(attempt);
	return store_in_child(attempt, map);
}

static long store_in_child_of_reader(struct attempt *attempt)
{
	char *map;

	route_ready(attempt);
	map = map_file(attempt, 0);
	read_pages(map);
	return store_in_child(attempt, map);
}

/* A place of the file's size where nothing is mapped, at another alignment. */
static char *free_place(void)
{
	char *place = mmap(NULL, 4 * ROUTE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (place == MAP_FAILED)
		die("a free place");
	munmap(place, 4 * ROUTE_SIZE);
	return place + 3 * PAGE;
}

static char *move_mapping(char *map)
{
	char *moved = mremap(map, ROUTE_SIZE, ROUTE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
			     free_place());

	if (moved == MAP_FAILED)
		die("mremap");
	return moved;
}

static long store_in_mapping_moved_before(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	map = move_mapping(map);
	route_ready(attempt);
	return store_at(attempt, map);
}

static long store_in_mapping_moved_after(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	route_ready(attempt);
	return store_at(attempt, move_mapping(map));
}

/* An old size of 0 makes a second mapping of what is shared. */
static long store_in_mapping_doubled_after(struct attempt *attempt)
{
	char *map = map_file(attempt, 0), *twin;

	dirty_page(attempt, map);
	route_ready(attempt);
	twin = mremap(map, 0, ROUTE_SIZE, MREMAP_MAYMOVE);
	if (twin == MAP_FAILED)
		die("mremap of size 0");
	return store_at(attempt, twin);
}

static void set_protection(char *map, int prot)
{
	if (mprotect(map, ROUTE_SIZE, prot))
		die("mprotect");
}

static long store_after_mprotect_to_and_fro(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	route_ready(attempt);
	set_protection(map, PROT_READ);
	set_protection(map, PROT_READ | PROT_WRITE);
	return store_at(attempt, map);
}

static long store_after_mprotect_back_to_write(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	set_protection(map, PROT_READ);
	route_ready(attempt);
	set_protection(map, PROT_READ | PROT_WRITE);
	return store_at(attempt, map);
}

static long store_after_mprotect_none(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	set_protection(map, PROT_NONE);
	route_ready(attempt);
	set_protection(map, PROT_READ | PROT_WRITE);
	return store_at(attempt, map);
}

static long store_after_dontneed(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	route_ready(attempt);
	if (madvise(map, ROUTE_SIZE, MADV_DONTNEED))
		die("MADV_DONTNEED");
	return store_at(attempt, map);
}

static long store_after_dontneed_and_read(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	route_ready(attempt);
	if (madvise(map, ROUTE_SIZE, MADV_DONTNEED))
		die("MADV_DONTNEED");
	read_pages(map);
	return store_at(attempt, map);
}

static long store_in_populated_mapping(struct attempt *attempt)
{
	route_ready(attempt);
	return store_at(attempt, map_file(attempt, MAP_POPULATE));
}

static long store_after_populate_read(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	route_ready(attempt);
	if (madvise(map, ROUTE_SIZE, MADV_POPULATE_READ))
		die("MADV_POPULATE_READ");
	return store_at(attempt, map);
}

static long populate_for_writing(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	route_ready(attempt);
	return madvise(map + (attempt->at & -PAGE), PAGE, MADV_POPULATE_WRITE) ? -errno : 0;
}

static void expect_nothing(struct attempt *attempt, struct image *image)
{
}

static long store_in_locked_mapping(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	if (mlock(map, ROUTE_SIZE))
		die("mlock");
	dirty_page(attempt, map);
	route_ready(attempt);
	return store_at(attempt, map);
}

static long store_in_mapping_locked_after(struct attempt *attempt)
{
	char *map;

	route_ready(attempt);
	map = map_file(attempt, 0);
	if (mlock(map, ROUTE_SIZE))
		die("mlock");
	return store_at(attempt, map);
}

static void clear_refs(const char *what)
{
	int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, what, 1) != 1)
		die("clear_refs");
	close(fd);
}

/* Soft-dirty makes the mapping ask for write faults, which it answers itself. */
static long store_in_soft_dirty_mapping(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	dirty_page(attempt, map);
	clear_refs("4");
	dirty_page(attempt, map);
	route_ready(attempt);
	clear_refs("4");
	return store_at(attempt, map);
}

static long store_after_soft_dirty_and_mprotect(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	clear_refs("4");
	dirty_page(attempt, map);
	route_ready(attempt);
	set_protection(map, PROT_READ);
	set_protection(map, PROT_READ | PROT_WRITE);
	return store_at(attempt, map);
}

static int register_uffd_wp_with(char *map, uint64_t features)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM | features,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map, .len = ROUTE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		die("userfaultfd");
	/* Mappings of a disk file system cannot be registered. */
	if (ioctl(uffd, UFFDIO_REGISTER, &reg)) {
		if (errno != EINVAL)
			die("UFFDIO_REGISTER");
		close(uffd);
		return -1;
	}
	return uffd;
}

static int register_uffd_wp(char *map)
{
	return register_uffd_wp_with(map, 0);
}

static void set_uffd_wp(int uffd, char *map, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)map, .len = ROUTE_SIZE },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &wp))
		die("UFFDIO_WRITEPROTECT");
}

static long store_in_uffd_wp_mapping(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	if (register_uffd_wp(map) < 0)
		return ROUTE_SKIP;
	dirty_page(attempt, map);
	route_ready(attempt);
	return store_at(attempt, map);
}

/* Taking userfaultfd's protection away makes dirty entries writable again. */
static long store_after_uffd_wp_to_and_fro(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);
	int uffd = register_uffd_wp(map);

	if (uffd < 0)
		return ROUTE_SKIP;
	dirty_page(attempt, map);
	route_ready(attempt);
	set_uffd_wp(uffd, map, true);
	set_uffd_wp(uffd, map, false);
	return store_at(attempt, map);
}

static long store_after_uffd_wp_taken_away(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);
	int uffd = register_uffd_wp(map);

	if (uffd < 0)
		return ROUTE_SKIP;
	dirty_page(attempt, map);
	set_uffd_wp(uffd, map, true);
	route_ready(attempt);
	set_uffd_wp(uffd, map, false);
	return store_at(attempt, map);
}

static long store_after_uffd_closed(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);
	int uffd = register_uffd_wp(map);

	if (uffd < 0)
		return ROUTE_SKIP;
	dirty_page(attempt, map);
	set_uffd_wp(uffd, map, true);
	route_ready(attempt);
	close(uffd);
	return store_at(attempt, map);
}

/* The child inherits entries by copy, because of userfaultfd. */
static long store_in_child_with_uffd_wp(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	if (register_uffd_wp(map) < 0)
		return ROUTE_SKIP;
	dirty_page(attempt, map);
	route_ready(attempt);
	return store_in_child(attempt, map);
}

#ifndef PAGEMAP_SCAN	/* Linux 6.7 */
struct pm_scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN		_IOWR('f', 16, struct pm_scan_arg)
#define PM_SCAN_WP_MATCHING	(1 << 0)
#define PM_SCAN_CHECK_WPASYNC	(1 << 1)
#define UFFD_FEATURE_WP_ASYNC	(1 << 15)
#endif
#define PAGE_WAS_WRITTEN	(1 << 1)

/* Write-protects what was written; the kernel itself takes that away at the next write. */
static void protect_written_pages(char *map)
{
	struct pm_scan_arg scan = {
		.size = sizeof(scan), .flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)map, .end = (uintptr_t)map + ROUTE_SIZE,
		.category_mask = PAGE_WAS_WRITTEN, .return_mask = PAGE_WAS_WRITTEN,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, PAGEMAP_SCAN, &scan) < 0)
		die("PAGEMAP_SCAN");
	close(fd);
}

static long store_in_mapping_tracked_by_pagemap(struct attempt *attempt)
{
	char *map = map_file(attempt, 0);

	register_uffd_wp_with(map, UFFD_FEATURE_WP_ASYNC);
	dirty_page(attempt, map);
	protect_written_pages(map);
	dirty_page(attempt, map);
	route_ready(attempt);
	protect_written_pages(map);
	return store_at(attempt, map);
}

static long store_in_mapping_by_map_files(struct attempt *attempt)
{
	char *map;
	int fd;

	route_ready(attempt);
	fd = map_files_open(attempt->file.map, ROUTE_SIZE);
	map = map_shared(fd, ROUTE_SIZE);
	return store_at(attempt, map);
}

static long store_in_mapping_by_proc_fd(struct attempt *attempt)
{
	char path[40];
	int fd;

	route_ready(attempt);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", attempt->file.fd);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("open %s", path);
	return store_at(attempt, map_shared(fd, ROUTE_SIZE));
}

/* Only the page itself is mapped, by a mapping that starts in the file. */
static long store_in_mapping_of_one_page(struct attempt *attempt)
{
	uint64_t page = attempt->at & -PAGE;
	char *map;

	route_ready(attempt);
	map = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, attempt->file.fd, page);
	if (map == MAP_FAILED)
		die("mmap of one page");
	return store_byte(map + attempt->at - page, ROUTE_VALUE);
}

/* Reads and writes in one instruction: if it ran twice, the sum would tell. */
static long add_atomically(struct attempt *attempt)
{
	_Atomic unsigned char *byte = (void *)(attempt->file.map + attempt->at);

	route_ready(attempt);
	if (attempt->mode == PGPROTECT_MODE_DENY && store_at(attempt, attempt->file.map))
		return GOT_SIGBUS;
	return atomic_fetch_add(byte, 1);
}

static void expect_one_more(struct attempt *attempt, struct image *image)
{
	image->data[attempt->at]++;
}

static long copy_over_two_pages(struct attempt *attempt)
{
	char *from = value_buffer(attempt->length);

	route_ready(attempt);
	if (attempt->mode == PGPROTECT_MODE_DENY && store_at(attempt, attempt->file.map))
		return GOT_SIGBUS;
	memcpy(attempt->file.map + attempt->at, from, attempt->length);
	return 0;
}

/* The page is locked in the mapping and has no table: a store into a hole. */
static long store_into_hole(struct attempt *attempt)
{
	route_ready(attempt);
	return store_at(attempt, map_file(attempt, 0));
}

/* The zero page must not become writable, nor the new page be filled unasked. */
static long store_into_hole_read_first(struct attempt *attempt)
{
	char *map;

	route_ready(attempt);
	map = map_file(attempt, 0);
	read_pages(map);
	return store_at(attempt, map);
}

ROUTE_FAMILY(store);

#define STORE(name, function, ...)						\
	ROUTE_ADD(store, name, .op = function, .denied = GOT_SIGBUS, ##__VA_ARGS__)

STORE(thread_mapped_before, store_in_mapping_of_test, .thread = true)
STORE(process_inherits_mapping, store_in_mapping_of_test)
STORE(tmpfs_thread_mapped_before, store_in_mapping_of_test, .kind = FILE_TMPFS, .thread = true)
STORE(tmpfs_process_mapped_after, store_in_new_mapping, .kind = FILE_TMPFS)
STORE(tmpfs_mapped_after_read_first, store_in_new_mapping_read_first, .kind = FILE_TMPFS)
STORE(shared_anonymous_thread, store_in_mapping_of_test, .kind = FILE_SHARED_ANON, .thread = true)
STORE(shared_anonymous_process, store_in_mapping_of_test, .kind = FILE_SHARED_ANON)
STORE(shared_anonymous_mapped_by_map_files, store_in_mapping_by_map_files,
      .kind = FILE_SHARED_ANON)
STORE(shared_anonymous_mapped_after_read_first, store_in_new_mapping_read_first,
      .kind = FILE_SHARED_ANON)
STORE(sysv_shm_thread, store_in_mapping_of_test, .kind = FILE_SYSV, .thread = true)
STORE(sysv_shm_process, store_in_mapping_of_test, .kind = FILE_SYSV)
STORE(sysv_shm_mapped_by_map_files, store_in_mapping_by_map_files, .kind = FILE_SYSV)
STORE(sysv_shm_dontneed_and_read, store_after_dontneed_and_read, .kind = FILE_SYSV)
STORE(sysv_shm_mprotect_to_and_fro, store_after_mprotect_to_and_fro, .kind = FILE_SYSV)
STORE(mapped_before_dirty, store_in_own_dirty_mapping)
STORE(mapped_before_untouched, store_in_untouched_mapping)
STORE(mapped_before_read_before, store_in_mapping_read_before)
STORE(mapped_before_read_after, store_in_mapping_read_after)
STORE(mapped_after, store_in_new_mapping)
STORE(mapped_after_read_first, store_in_new_mapping_read_first)
STORE(mapped_by_another_open, store_in_mapping_by_proc_fd)
STORE(mapped_by_map_files, store_in_mapping_by_map_files)
STORE(mapped_one_page, store_in_mapping_of_one_page)
STORE(forked_after, store_in_child_forked_after, .other_task = true)
STORE(forked_after_read, store_in_child_of_reader, .other_task = true)
STORE(mremap_before, store_in_mapping_moved_before)
STORE(mremap_after, store_in_mapping_moved_after)
STORE(mremap_doubles, store_in_mapping_doubled_after)
STORE(mprotect_to_and_fro, store_after_mprotect_to_and_fro)
STORE(mprotect_back_to_write, store_after_mprotect_back_to_write)
STORE(mprotect_none_and_back, store_after_mprotect_none)
STORE(dontneed, store_after_dontneed)
STORE(dontneed_and_read, store_after_dontneed_and_read)
STORE(map_populate, store_in_populated_mapping)
STORE(populate_read, store_after_populate_read)
STORE(mlock_before, store_in_locked_mapping)
STORE(mlock_after, store_in_mapping_locked_after)
STORE(soft_dirty, store_in_soft_dirty_mapping)
STORE(soft_dirty_and_mprotect, store_after_soft_dirty_and_mprotect)
STORE(uffd_wp_registered, store_in_uffd_wp_mapping)
STORE(uffd_wp_to_and_fro, store_after_uffd_wp_to_and_fro)
STORE(uffd_wp_taken_away, store_after_uffd_wp_taken_away)
STORE(uffd_closed, store_after_uffd_closed)
STORE(uffd_wp_async, store_in_mapping_tracked_by_pagemap)
STORE(uffd_wp_forked_after, store_in_child_with_uffd_wp, .other_task = true)
STORE(only_this_page_protected, store_in_new_mapping_read_first,
      .protect_offset = ROUTE_AT & -PAGE, .protect_length = PAGE)
STORE(into_hole, store_into_hole, .hole_offset = 4 * PAGE, .hole_length = 3 * PAGE)
STORE(into_hole_read_first, store_into_hole_read_first,
      .hole_offset = 4 * PAGE, .hole_length = 3 * PAGE)
STORE(atomic_add_happens_once, add_atomically, .success = 6, .expect = expect_one_more)
STORE(string_copy_over_two_pages, copy_over_two_pages, .at = 7 * PAGE - 100, .length = 200,
      .events = 2)

ROUTE_ADD(store, populate_write, .op = populate_for_writing, .denied = -EFAULT,
	  .expect = expect_nothing)

/* What is not a write of a protected page must not be disturbed. */

TEST(reads_of_protected_pages_raise_nothing)
{
	struct subject subject = subject_protected(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	char *map = map_shared(subject.file.fd, subject.file.size);
	char byte;

	read_pages(map);
	ASSERT_EQ(1, pread(subject.file.fd, &byte, 1, 0));
	ASSERT_EQ(0, madvise(map, ROUTE_SIZE, MADV_POPULATE_READ));
	EXPECT_FALSE(ctx_readable(subject.ctx, 0));
}

TEST(private_mappings_are_written_freely)
{
	struct subject subject = subject_protected(ROUTE_PAGES, PGPROTECT_MODE_DENY, 0);
	char *map = mmap(NULL, ROUTE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, subject.file.fd, 0);

	ASSERT_NE(MAP_FAILED, map);
	read_pages(map);
	EXPECT_EQ(0, store_byte(map, 1));
	EXPECT_EQ(0, subject.file.map[0]);
}

TEST(a_private_mapping_does_not_hide_later_shared_ones)
{
	struct subject subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_DENY, 0);
	char *shared[3];

	for (int i = 0; i < 3; i++) {
		char *private = mmap(NULL, ROUTE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE,
				     subject.file.fd, 0);

		ASSERT_NE(MAP_FAILED, private);
		private[0] = 1;
		shared[i] = map_shared(subject.file.fd, ROUTE_SIZE);
		shared[i][0] = 1;
	}
	ASSERT_EQ(0, ctx_protect_all(subject.ctx, subject.id));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(GOT_SIGBUS, store_byte(shared[i], 2));
}

TEST(neighbours_of_a_protected_page_are_written_freely)
{
	struct subject subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_DENY, 0);
	char *map = map_shared(subject.file.fd, ROUTE_SIZE);

	ASSERT_EQ(0, ctx_protect_range(subject.ctx, subject.id, 5 * PAGE, PAGE));
	read_pages(map);
	for (size_t i = 0; i < ROUTE_PAGES; i++) {
		EXPECT_EQ(i == 5 ? GOT_SIGBUS : 0, store_byte(map + i * PAGE, 1));
		EXPECT_EQ(i == 5 ? GOT_SIGBUS : 0, store_byte(subject.file.map + i * PAGE, 2));
	}
}

TEST(every_page_of_a_fresh_process_that_read_first_raises_one_event)
{
	struct subject subject = subject_protected(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	struct handler *handler = handler_start(subject.ctx, HANDLER_ALLOW, 0);
	pid_t pid = fork_child();

	if (!pid) {
		char *map = map_shared(subject.file.fd, ROUTE_SIZE);

		read_pages(map);
		for (size_t i = 0; i < ROUTE_PAGES; i++)
			map[i * PAGE] = 1;
		_exit(0);
	}
	EXPECT_EQ(0, wait_child(pid));
	EXPECT_EQ(ROUTE_PAGES, handler_count(handler));
	for (size_t i = 0; i < ROUTE_PAGES; i++)
		EXPECT_EQ(1, handler_count_at(handler, i * PAGE, PGPROTECT_EVENT_STALL));
	handler_stop(handler);
}

TEST_HARNESS_MAIN
