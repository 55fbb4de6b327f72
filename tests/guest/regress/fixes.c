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
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
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

enum outcome { CAUGHT, ESCAPED, IMPOSSIBLE };

/* An attempt to write the page TARGET of what is protected by DENY. */
struct fix {
	enum outcome (*attempt)(struct subject *subject);
	/* What leaves the protection out: a switch, or functions one of which holds the filter. */
	const char *name;
	const char *functions[5];
	const char *delay;	/* a point at which the writer is to be held */
	bool spin;		/* and holds its CPU */
	bool huge;		/* the file is on a tmpfs with huge pages */
};

static enum outcome outcome_of(long result, bool changed)
{
	return result && !changed ? CAUGHT : ESCAPED;
}

static enum outcome store(struct subject *s, char *map)
{
	volatile char *byte = map + TARGET * PAGE;
	char before = read_page(s->file.fd, TARGET);
	long result = store_byte(byte, before + 1);

	return outcome_of(result, read_page(s->file.fd, TARGET) != before);
}

static int protect_target(struct subject *s)
{
	return ctx_protect_range(s->ctx, s->id, TARGET * PAGE, PAGE);
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
	(void)*(volatile char *)(map + TARGET * PAGE);
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
	char *page = s->file.map + TARGET * PAGE;
	uint64_t before = frame_of(page);

	must_protect(s);
	if (madvise(page, PAGE, MADV_SOFT_OFFLINE) || frame_of(page) == before)
		return IMPOSSIBLE;
	return store(s, s->file.map);
}

static enum outcome continue_then_store(struct subject *s)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MINOR_SHMEM };
	char *map = map_shared(s->file.fd, s->file.size);
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map, .len = s->file.size },
		.mode = UFFDIO_REGISTER_MODE_MINOR,
	};
	struct uffdio_continue cont = {
		.range = { .start = (uintptr_t)map + TARGET * PAGE, .len = PAGE },
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
	char before = read_page(s->file.fd, TARGET);
	struct writer *writer = writer_thread(op, s);
	long result;

	if (!writer_held(writer))
		die("the writer was not held");
	must_protect(s);
	result = writer_join(writer);
	return outcome_of(result != success, read_page(s->file.fd, TARGET) != before);
}

static long op_store_target(struct writer *self)
{
	struct subject *s = self->arg;

	return store_byte(s->file.map + TARGET * PAGE, 99);
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
	/* The scanner would make the entry anew, and filter it, before the store is tried again. */
	write_text("/proc/sys/kernel/numa_balancing", "0");
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
		.dst = (uintptr_t)map + TARGET * PAGE, .len = PAGE,
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
	if (fallocate(s->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, TARGET * PAGE,
		      PAGE))
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

FIXTURE(fix) {
	struct subject subject;
};

FIXTURE_VARIANT(fix) { struct fix fix; };

#define FIX(variant_name, ...)							\
	FIXTURE_VARIANT_ADD(fix, variant_name) { .fix = { __VA_ARGS__ } };

/* Which function the compiler puts a filter into is its choice. */
FIX(read_fault_installs_read_only, .attempt = read_in_new_mapping_then_store,
    .functions = { "set_pte_range" })
FIX(read_fault_installs_no_huge_entry, .attempt = read_huge_then_store,
    .functions = { "do_set_pmd" }, .huge = true)
FIX(mprotect_keeps_entry_read_only, .attempt = mprotect_to_and_fro_then_store,
    .functions = { "change_pte_range", "change_pmd_range", "change_pud_range",
		   "change_protection_range", "change_protection" })
FIX(migration_keeps_entry_read_only, .attempt = migrate_then_store,
    .functions = { "remove_migration_pte" })
FIX(uffd_continue_installs_read_only, .attempt = continue_then_store,
    .functions = { "mfill_atomic_install_pte" })
FIX(fault_that_fills_an_entry_meanwhile, .attempt = protect_while_fault_fills_entry,
    .functions = { "set_pte_range" }, .delay = "fault_install")
FIX(fault_that_upgrades_an_entry_meanwhile, .attempt = protect_while_fault_upgrades_entry,
    .functions = { "wp_page_reuse", "do_wp_page", "wp_page_shared", "finish_mkwrite_fault" },
    .delay = "fault_install")
FIX(hole_that_is_being_filled, .attempt = protect_while_filtered_fault_makes_huge_entry,
    .name = "hole", .delay = "huge_filtered", .spin = true, .huge = true)
FIX(copy_under_way, .attempt = protect_while_proc_mem_copies, .name = "copy", .delay = "copy",
    .spin = true)
FIX(fill_on_its_way, .attempt = protect_while_hole_is_filled, .name = "write_filter",
    .delay = "fill")
FIX(write_on_its_way, .attempt = protect_while_write_is_on_its_way, .name = "write_filter",
    .delay = "write_locked")
FIX(truncate_on_its_way, .attempt = protect_while_truncate_is_on_its_way,
    .name = "write_filter", .delay = "write_locked")
FIX(cut_over_two_files, .attempt = write_both_files_while_second_is_open, .name = "cut",
    .delay = "cut")

static void subject_make(struct subject *s, const struct fix *fix)
{
	s->ctx = ctx_open();
	if (fix->huge) {
		s->file = (struct test_file){ .fd = huge_tmpfs_file(HUGE), .size = HUGE };
		if (s->file.fd >= 0)
			s->file.map = map_aligned(s->file.fd, HUGE);
	} else {
		s->file = file_memfd(PAGES);
	}
	if (s->file.fd >= 0) {
		file_fill(&s->file);
		s->id = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	}
}

FIXTURE_SETUP(fix)
{
	if (!switches_present())
		SKIP(return, "needs CONFIG_PGPROTECT_DEBUG_DELAY");
	switches_reset();
	subject_make(&self->subject, &variant->fix);
	if (self->subject.file.fd < 0)
		SKIP(return, "no tmpfs with huge pages");
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

		subject_make(&another, fix);
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
