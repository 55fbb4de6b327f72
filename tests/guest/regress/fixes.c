// SPDX-License-Identifier: GPL-2.0
/*
 * Each protection against a race or an installer, tried twice: in force, where
 * the write must be caught, and left out, where the same write must escape. The
 * second shows that the first can fail.
 *
 * Migration entries and flushes that were put off are in flush.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../routes/common/loop.h"
#include "../routes/common/memory.h"
#include "common/switches.h"
#include "pgtest.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif

#define PAGE		4096UL
#define PAGES		32UL
#define TARGET		5UL
#define WINDOW_US	400000
#define SPIN_US		2000000	/* PROTECT must be through on the other CPU */
#define HUGE_PAGES	"12"	/* two for each file of hugetlbfs that a test tries */

/* ext4's, which no header of user space has. */
struct move_extent {
	uint32_t reserved;
	uint32_t donor_fd;
	uint64_t orig_start, donor_start, len, moved_len;
};
#define EXT4_IOC_MOVE_EXT	_IOWR('f', 15, struct move_extent)

enum outcome { CAUGHT, ESCAPED, IMPOSSIBLE };

/* An attempt to write the page TARGET of what is protected by DENY; of hugetlbfs, a huge one. */
struct fix {
	enum outcome (*attempt)(struct subject *subject);
	/* What leaves the protection out: a switch, or functions one of which holds the filter. */
	const char *name;
	const char *functions[5];
	const char *delay;	/* a point at which the writer is to be held */
	bool spin;		/* and holds its CPU */
	struct test_file (*file)(void);	/* fd -1: not possible; NULL: a memfd */
};

static enum outcome outcome_of(long result, bool changed)
{
	return result && !changed ? CAUGHT : ESCAPED;
}

static bool on_hugetlbfs(const struct subject *s)
{
	struct statfs fs;

	if (fstatfs(s->file.fd, &fs))
		die("fstatfs");
	return fs.f_type == HUGETLBFS_MAGIC;
}

static uint64_t target_at(const struct subject *s)
{
	return on_hugetlbfs(s) ? HUGE : TARGET * PAGE;
}

static size_t target_size(const struct subject *s)
{
	return on_hugetlbfs(s) ? HUGE : PAGE;
}

static char target_byte(const struct subject *s)
{
	return read_page(s->file.fd, target_at(s) / PAGE);
}

static enum outcome store(struct subject *s, char *map)
{
	volatile char *byte = map + target_at(s);
	char before = target_byte(s);
	long result = store_byte(byte, before + 1);

	return outcome_of(result, target_byte(s) != before);
}

static int protect_target(struct subject *s)
{
	return ctx_protect_range(s->ctx, s->id, target_at(s), target_size(s));
}

static void must_protect(struct subject *s)
{
	if (protect_target(s))
		die("PROTECT");
}

/* --- installers: what a read, a move or a system call makes of an entry --- */

static enum outcome read_in_new_mapping_then_store(struct subject *s)
{
	char *map;

	must_protect(s);
	map = map_shared(s->file.fd, s->file.size);
	(void)*(volatile char *)(map + target_at(s));
	return store(s, map);
}

static enum outcome read_huge_then_store(struct subject *s)
{
	char *map;

	must_protect(s);
	map = map_aligned(s->file.fd, s->file.size);
	(void)*(volatile char *)map;
	return store(s, map);
}

static enum outcome mprotect_to_and_fro_then_store(struct subject *s)
{
	must_protect(s);
	if (mprotect(s->file.map, s->file.size, PROT_READ) ||
	    mprotect(s->file.map, s->file.size, PROT_READ | PROT_WRITE))
		die("mprotect");
	return store(s, s->file.map);
}

static enum outcome migrate_then_store(struct subject *s)
{
	char *page = s->file.map + target_at(s);
	uint64_t before = frame_of(page);

	must_protect(s);
	if (madvise(page, PAGE, MADV_SOFT_OFFLINE) || frame_of(page) == before)
		return IMPOSSIBLE;
	return store(s, s->file.map);
}

static enum outcome continue_then_store(struct subject *s)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS,
	};
	char *map = map_shared(s->file.fd, s->file.size);
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map, .len = s->file.size },
		.mode = UFFDIO_REGISTER_MODE_MINOR,
	};
	struct uffdio_continue cont = {
		.range = { .start = (uintptr_t)map + target_at(s), .len = target_size(s) },
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	must_protect(s);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg) ||
	    ioctl(uffd, UFFDIO_CONTINUE, &cont))
		die("UFFDIO_CONTINUE");
	return store(s, map);
}

/* --- races: the writer passed the gate before PROTECT, and sleeps --- */

/* True once the writer is at the delay point. */
static bool writer_held(struct writer *writer)
{
	return WAIT_FOR(writer->done || delayed_now()) && !writer->done;
}

static enum outcome protect_meanwhile(struct subject *s, long (*op)(struct writer *),
				      long success)
{
	char before = target_byte(s);
	struct writer *writer = writer_thread(op, s);
	long result;

	if (!writer_held(writer))
		die("the writer was not held");
	must_protect(s);
	result = writer_join(writer);
	return outcome_of(result != success, target_byte(s) != before);
}

static long op_store_target(struct writer *self)
{
	struct subject *s = self->arg;

	return store_byte(s->file.map + target_at(s), 99);
}

/* The entry is missing. */
static enum outcome protect_while_fault_fills_entry(struct subject *s)
{
	if (madvise(s->file.map, s->file.size, MADV_DONTNEED))
		die("MADV_DONTNEED");
	return protect_meanwhile(s, op_store_target, 0);
}

/* The entry is there and read-only: it was protected once. */
static enum outcome protect_while_fault_upgrades_entry(struct subject *s)
{
	must_protect(s);
	if (ctx_unprotect_all(s->ctx, s->id))
		die("UNPROTECT");
	return protect_meanwhile(s, op_store_target, 0);
}

/*
 * To look at the file while a fault holds the folio's lock, for which read(2) waits,
 * and the lock of its page table.
 */
static char *map_in_other_tables(struct subject *s)
{
	char *place = (char *)(((uintptr_t)s->file.map & -GIB) - 4 * GIB);

	if (mmap(place, s->file.size, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, s->file.fd,
		 0) != place)
		die("mapping far away");
	return place;
}

static void run_on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("sched_setaffinity");
}

/* Not where PROTECT is to run meanwhile. */
static long op_store_target_on_other_cpu(struct writer *self)
{
	run_on_cpu(1);
	return op_store_target(self);
}

/*
 * The table is not there when PROTECT walks. What is stored before PROTECT
 * returns is none of its business.
 */
static enum outcome protect_while_filtered_fault_makes_huge_entry(struct subject *s)
{
	volatile char *other = map_in_other_tables(s) + TARGET * PAGE;
	struct writer *writer;
	char before;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return IMPOSSIBLE;
	run_on_cpu(0);
	(void)*other;
	if (madvise(s->file.map, s->file.size, MADV_DONTNEED))
		die("MADV_DONTNEED");
	writer = writer_thread(op_store_target_on_other_cpu, s);
	if (!writer_held(writer))
		die("the writer was not held");
	must_protect(s);
	before = *other;
	writer_join(writer);
	return read_page(s->file.fd, TARGET) == before ? CAUGHT : ESCAPED;
}

static long op_write_target_by_proc_mem(struct writer *self)
{
	struct subject *s = self->arg;
	char *target = s->file.map + TARGET * PAGE;
	char value = *target + 1;
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("open /proc/self/mem");
	run_on_cpu(1);
	return pwrite(fd, &value, 1, (uintptr_t)target) == 1 ? 0 : -errno;
}

/* It has the page by a reference, and writes to it through no entry. */
static enum outcome protect_while_proc_mem_copies(struct subject *s)
{
	struct writer *writer;
	char before;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		return IMPOSSIBLE;
	run_on_cpu(0);
	writer = writer_thread(op_write_target_by_proc_mem, s);
	if (!writer_held(writer))
		die("the writer was not held");
	must_protect(s);
	before = read_page(s->file.fd, TARGET);
	writer_join(writer);
	return read_page(s->file.fd, TARGET) == before ? CAUGHT : ESCAPED;
}

static long op_fill_target(struct writer *self)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct subject *s = self->arg;
	char *map = map_shared(s->file.fd, s->file.size);
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map, .len = s->file.size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	struct uffdio_copy copy = {
		.dst = (uintptr_t)map + target_at(s), .len = target_size(s),
		.src = (uintptr_t)s->file.map,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	(void)*(volatile char *)s->file.map;
	return ioctl(uffd, UFFDIO_COPY, &copy) ? -errno : 0;
}

static enum outcome protect_while_hole_is_filled(struct subject *s)
{
	if (fallocate(s->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, target_at(s),
		      target_size(s)))
		die("punch");
	return protect_meanwhile(s, op_fill_target, 0);
}

static long op_write_target(struct writer *self)
{
	struct subject *s = self->arg;

	return write_page(s->file.fd, TARGET, 99);
}

static enum outcome protect_while_write_is_on_its_way(struct subject *s)
{
	return protect_meanwhile(s, op_write_target, 1);
}

static char direct_data[PAGE] __attribute__((aligned(4096)));

static long op_write_target_directly(struct writer *self)
{
	struct subject *s = self->arg;
	char path[40];
	long written;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", s->file.fd);
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		die("open for direct I/O");
	memset(direct_data, 99, PAGE);
	written = pwrite_bytes(fd, direct_data, PAGE, TARGET * PAGE);
	close(fd);
	return written;
}

static enum outcome protect_while_direct_write_is_on_its_way(struct subject *s)
{
	return protect_meanwhile(s, op_write_target_directly, PAGE);
}

static long op_write_target_through_loop(struct writer *self)
{
	struct subject *s = self->arg;
	int device = loop_open(s->file.fd, 0, O_DIRECT);
	long written;

	if (device < 0)
		return -errno;
	memset(direct_data, 99, PAGE);
	written = pwrite_bytes(device, direct_data, PAGE, TARGET * PAGE);
	close(device);
	return written;
}

/* A thread of the kernel is. */
static enum outcome protect_while_loop_writes(struct subject *s)
{
	return protect_meanwhile(s, op_write_target_through_loop, PAGE);
}

static long op_clone_to_target(struct writer *self)
{
	struct test_file other = file_make(FILE_XFS, 1);
	struct subject *s = self->arg;
	struct file_clone_range range = {
		.src_fd = other.fd, .src_length = PAGE, .dest_offset = TARGET * PAGE,
	};
	long result = ioctl(s->file.fd, FICLONERANGE, &range) ? -errno : 0;

	file_close(&other);
	return result;
}

static enum outcome protect_while_clone_is_on_its_way(struct subject *s)
{
	return protect_meanwhile(s, op_clone_to_target, 0);
}

static long op_truncate_target(struct writer *self)
{
	struct subject *s = self->arg;

	return ftruncate(s->file.fd, TARGET * PAGE + 1) ? -errno : 0;
}

/* The size tells, not the byte at the start of the page. */
static enum outcome protect_while_truncate_is_on_its_way(struct subject *s)
{
	struct writer *writer = writer_thread(op_truncate_target, s);
	long result;

	if (!writer_held(writer))
		die("the writer was not held");
	must_protect(s);
	result = writer_join(writer);
	return outcome_of(result, lseek(s->file.fd, 0, SEEK_END) != (off_t)s->file.size);
}

/* --- changes that no gate comes before: the filter is all that stands in their way --- */

/* Refused as it has to be, or done: anything else ends the test. */
static enum outcome outcome_of_change(struct subject *s, char before, long result, long refusal)
{
	if (target_byte(s) != before)
		return ESCAPED;
	if (result != refusal)
		die("not changed, and yet the result is %ld", result);
	return CAUGHT;
}

static enum outcome fallocate_target(struct subject *s, int mode)
{
	char before = target_byte(s);
	long result;

	must_protect(s);
	result = fallocate(s->file.fd, mode, target_at(s), target_size(s)) ? -errno : 0;
	return outcome_of_change(s, before, result, -EPERM);
}

static enum outcome punch(struct subject *s)
{
	return fallocate_target(s, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static enum outcome zero_range(struct subject *s)
{
	return fallocate_target(s, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
}

static enum outcome collapse_range(struct subject *s)
{
	return fallocate_target(s, FALLOC_FL_COLLAPSE_RANGE);
}

static enum outcome insert_range(struct subject *s)
{
	return fallocate_target(s, FALLOC_FL_INSERT_RANGE);
}

/* What is on the disk shows in no page that is still in memory. */
static void forget_pages(const struct test_file *file)
{
	if (fsync(file->fd) || madvise(file->map, file->size, MADV_DONTNEED) ||
	    posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED))
		die("forget the pages of a file");
}

/* The protected file is to get the blocks of another. */
static enum outcome move_extents(struct subject *s)
{
	struct test_file other = file_make(FILE_EXT4, PAGES);
	char before = target_byte(s);
	struct move_extent move = { .donor_fd = s->file.fd };
	struct statfs fs;
	long result;

	if (fstatfs(other.fd, &fs) || fsync(other.fd) || fsync(s->file.fd))
		die("two files on ext4");
	move.len = s->file.size / fs.f_bsize;
	must_protect(s);
	result = ioctl(other.fd, EXT4_IOC_MOVE_EXT, &move) ? -errno : 0;
	file_close(&other);
	forget_pages(&s->file);
	return outcome_of_change(s, before, result, -EBUSY);
}

/* --- the cut: nobody is answered before the last file is armed --- */

struct cut {
	struct subject *subject;
	struct pgprotect_range ranges[2];
};

static long op_protect_cut(struct writer *self)
{
	struct cut *cut = self->arg;

	return ctx_protect(cut->subject->ctx, cut->ranges, 2);
}

/* Without the cut, the first file refuses while the second's entries can still be used. */
static enum outcome write_both_files_while_second_is_open(struct subject *s)
{
	struct test_file second = file_memfd(1);
	struct cut cut = { .subject = s };
	struct writer *protect;
	enum outcome outcome;

	second.map[0] = 1;
	cut.ranges[0] = range_of(s->id, TARGET * PAGE, PAGE);
	cut.ranges[1] = range_of(ctx_attach(s->ctx, second.fd, PGPROTECT_MODE_DENY, 0), 0, PAGE);
	protect = writer_thread(op_protect_cut, &cut);
	if (!writer_held(protect))
		die("PROTECT was not held");
	if (write_page(s->file.fd, TARGET, 99) != -EPERM)
		die("the first file is not armed");
	outcome = store_byte(second.map, 99) ? CAUGHT : ESCAPED;
	writer_join(protect);
	return outcome;
}

/* --- files --- */

static struct test_file file_small(void)
{
	return file_memfd(PAGES);
}

static struct test_file file_huge(void)
{
	struct test_file file = { .fd = huge_tmpfs_file(HUGE), .size = HUGE };

	if (file.fd >= 0)
		file.map = map_aligned(file.fd, HUGE);
	return file;
}

static struct test_file file_hugetlb(void)
{
	struct test_file file = { .size = 2 * HUGE };

	write_text("/proc/sys/vm/nr_hugepages", HUGE_PAGES);
	file.fd = memfd_create("pgtest", MFD_HUGETLB | MFD_CLOEXEC);
	if (file.fd < 0 || ftruncate(file.fd, file.size))
		return (struct test_file){ .fd = -1 };
	file.map = mmap(NULL, file.size, PROT_READ | PROT_WRITE, MAP_SHARED, file.fd, 0);
	if (file.map == MAP_FAILED)
		return (struct test_file){ .fd = -1 };
	return file;
}

static struct test_file file_on_disk(enum file_kind kind)
{
	return disk_mount(kind) ? file_make(kind, PAGES) : (struct test_file){ .fd = -1 };
}

static struct test_file file_ext4(void)
{
	return file_on_disk(FILE_EXT4);
}

static struct test_file file_xfs(void)
{
	return file_on_disk(FILE_XFS);
}

FIXTURE(fix) {
	struct subject subject;
};

FIXTURE_VARIANT(fix) { struct fix fix; };

#define FIX(variant_name, ...)							\
	FIXTURE_VARIANT_ADD(fix, variant_name) { .fix = { __VA_ARGS__ } };

/* Which function the compiler puts a filter into is its choice. */
#define CHANGE_FUNCTIONS							\
	"change_pte_range", "change_pmd_range", "change_pud_range",		\
	"change_protection_range", "change_protection"
#define HUGETLB_FAULT_FUNCTIONS	"hugetlb_no_page", "hugetlb_fault"

FIX(read_fault_installs_read_only, .attempt = read_in_new_mapping_then_store,
    .functions = { "set_pte_range" })
FIX(read_fault_installs_no_huge_entry, .attempt = read_huge_then_store,
    .functions = { "do_set_pmd" }, .file = file_huge)
FIX(mprotect_keeps_entry_read_only, .attempt = mprotect_to_and_fro_then_store,
    .functions = { CHANGE_FUNCTIONS })
FIX(mprotect_keeps_entry_read_only_ext4, .attempt = mprotect_to_and_fro_then_store,
    .functions = { CHANGE_FUNCTIONS }, .file = file_ext4)
FIX(mprotect_keeps_entry_read_only_xfs, .attempt = mprotect_to_and_fro_then_store,
    .functions = { CHANGE_FUNCTIONS }, .file = file_xfs)
FIX(migration_keeps_entry_read_only, .attempt = migrate_then_store,
    .functions = { "remove_migration_pte" })
FIX(read_fault_installs_read_only_hugetlb, .attempt = read_in_new_mapping_then_store,
    .functions = { HUGETLB_FAULT_FUNCTIONS }, .file = file_hugetlb)
FIX(mprotect_keeps_entry_read_only_hugetlb, .attempt = mprotect_to_and_fro_then_store,
    .functions = { "hugetlb_change_protection" }, .file = file_hugetlb)
FIX(migration_keeps_entry_read_only_hugetlb, .attempt = migrate_then_store,
    .functions = { "remove_migration_pte" }, .file = file_hugetlb)
FIX(uffd_continue_installs_read_only, .attempt = continue_then_store,
    .functions = { "mfill_atomic_install_pte" })
FIX(uffd_continue_installs_read_only_hugetlb, .attempt = continue_then_store,
    .functions = { "hugetlb_mfill_atomic_pte" }, .file = file_hugetlb)
FIX(fault_that_fills_an_entry_meanwhile, .attempt = protect_while_fault_fills_entry,
    .functions = { "set_pte_range" }, .delay = "fault_install")
FIX(fault_that_upgrades_an_entry_meanwhile, .attempt = protect_while_fault_upgrades_entry,
    .functions = { "wp_page_reuse", "do_wp_page", "wp_page_shared", "finish_mkwrite_fault" },
    .delay = "fault_install")
FIX(fault_that_fills_an_entry_meanwhile_hugetlb, .attempt = protect_while_fault_fills_entry,
    .functions = { HUGETLB_FAULT_FUNCTIONS }, .delay = "fault_install", .file = file_hugetlb)
FIX(fault_that_upgrades_an_entry_meanwhile_hugetlb,
    .attempt = protect_while_fault_upgrades_entry,
    .functions = { "hugetlb_wp", "hugetlb_fault" }, .delay = "fault_install",
    .file = file_hugetlb)
FIX(hole_that_is_being_filled, .attempt = protect_while_filtered_fault_makes_huge_entry,
    .name = "hole", .delay = "huge_filtered", .spin = true, .file = file_huge)
FIX(copy_under_way, .attempt = protect_while_proc_mem_copies, .name = "copy", .delay = "copy",
    .spin = true)
FIX(fill_on_its_way, .attempt = protect_while_hole_is_filled, .name = "write_filter",
    .delay = "fill")
FIX(fill_on_its_way_hugetlb, .attempt = protect_while_hole_is_filled, .name = "write_filter",
    .delay = "fill", .file = file_hugetlb)
FIX(write_on_its_way, .attempt = protect_while_write_is_on_its_way, .name = "write_filter",
    .delay = "write_locked")
FIX(truncate_on_its_way, .attempt = protect_while_truncate_is_on_its_way,
    .name = "write_filter", .delay = "write_locked")
FIX(write_on_its_way_ext4, .attempt = protect_while_write_is_on_its_way,
    .name = "write_filter", .delay = "write_locked", .file = file_ext4)
FIX(write_on_its_way_ext4_direct, .attempt = protect_while_direct_write_is_on_its_way,
    .name = "write_filter", .delay = "write_locked", .file = file_ext4)
FIX(write_on_its_way_xfs, .attempt = protect_while_write_is_on_its_way,
    .name = "write_filter", .delay = "write_locked", .file = file_xfs)
FIX(write_on_its_way_xfs_direct, .attempt = protect_while_direct_write_is_on_its_way,
    .name = "write_filter", .delay = "write_locked", .file = file_xfs)
FIX(truncate_on_its_way_ext4, .attempt = protect_while_truncate_is_on_its_way,
    .name = "write_filter", .delay = "write_locked", .file = file_ext4)
FIX(truncate_on_its_way_xfs, .attempt = protect_while_truncate_is_on_its_way,
    .name = "write_filter", .delay = "write_locked", .file = file_xfs)
FIX(clone_on_its_way_xfs, .attempt = protect_while_clone_is_on_its_way,
    .name = "write_filter", .delay = "write_locked", .file = file_xfs)
FIX(loop_write_on_its_way, .attempt = protect_while_loop_writes,
    .name = "write_filter", .delay = "write_locked")
FIX(loop_write_on_its_way_ext4, .attempt = protect_while_loop_writes,
    .name = "write_filter", .delay = "write_locked", .file = file_ext4)
FIX(loop_write_on_its_way_xfs, .attempt = protect_while_loop_writes,
    .name = "write_filter", .delay = "write_locked", .file = file_xfs)
FIX(punch, .attempt = punch, .name = "write_filter")
FIX(punch_hugetlb, .attempt = punch, .name = "write_filter", .file = file_hugetlb)
FIX(punch_ext4, .attempt = punch, .name = "write_filter", .file = file_ext4)
FIX(punch_xfs, .attempt = punch, .name = "write_filter", .file = file_xfs)
FIX(zero_range_ext4, .attempt = zero_range, .name = "write_filter", .file = file_ext4)
FIX(zero_range_xfs, .attempt = zero_range, .name = "write_filter", .file = file_xfs)
FIX(collapse_range_ext4, .attempt = collapse_range, .name = "write_filter", .file = file_ext4)
FIX(collapse_range_xfs, .attempt = collapse_range, .name = "write_filter", .file = file_xfs)
FIX(insert_range_ext4, .attempt = insert_range, .name = "write_filter", .file = file_ext4)
FIX(insert_range_xfs, .attempt = insert_range, .name = "write_filter", .file = file_xfs)
FIX(move_extents_ext4, .attempt = move_extents, .name = "write_filter", .file = file_ext4)
FIX(cut_over_two_files, .attempt = write_both_files_while_second_is_open, .name = "cut",
    .delay = "cut")

/* False: there is no such file here. */
static bool subject_make(struct subject *s, const struct fix *fix)
{
	s->ctx = ctx_open();
	s->file = fix->file ? fix->file() : file_small();
	if (s->file.fd < 0)
		return false;
	file_fill(&s->file);
	s->id = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	return true;
}

FIXTURE_SETUP(fix)
{
	if (!switches_present())
		SKIP(return, "needs CONFIG_PGPROTECT_DEBUG_DELAY");
	switches_reset();
	/* Where a hint has come, the store faults, and is caught, filter or not. */
	write_text("/proc/sys/kernel/numa_balancing", "0");
	if (!subject_make(&self->subject, &variant->fix))
		SKIP(return, "no such file on this system");
}

FIXTURE_TEARDOWN(fix)
{
	if (switches_present())
		switches_reset();
	if (self->subject.ctx)
		close(self->subject.ctx);
}

static enum outcome attempt(const struct fix *fix, struct subject *s)
{
	enum outcome outcome;

	if (fix->delay)
		delay_set(fix->delay, fix->spin ? SPIN_US : WINDOW_US);
	outcome = fix->attempt(s);
	if (fix->delay)
		delay_set(fix->delay, 0);
	return outcome;
}

TEST_F(fix, in_force_catches_the_write)
{
	enum outcome outcome = attempt(&variant->fix, &self->subject);

	if (outcome == IMPOSSIBLE)
		SKIP(return, "not possible on this system");
	EXPECT_EQ(CAUGHT, outcome);
}

TEST_F(fix, left_out_lets_the_same_write_escape)
{
	const struct fix *fix = &variant->fix;
	enum outcome outcome = CAUGHT;

	if (fix->name) {
		fix_disable(fix->name);
		outcome = attempt(fix, &self->subject);
	}
	for (size_t i = 0; i < ARRAY_LEN(fix->functions) && fix->functions[i]; i++) {
		struct subject another;

		if (!subject_make(&another, fix)) {
			outcome = IMPOSSIBLE;
			break;
		}
		filter_disable(fix->functions[i]);
		outcome = attempt(fix, &another);
		close(another.ctx);
		if (outcome != CAUGHT)
			break;
	}
	if (outcome == IMPOSSIBLE)
		SKIP(return, "not possible on this system");
	EXPECT_EQ(ESCAPED, outcome);
}

TEST_HARNESS_MAIN
