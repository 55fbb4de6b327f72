// SPDX-License-Identifier: GPL-2.0
/*
 * Flushes that were put off: an entry is gone or read-only, PROTECT finds nothing
 * to do, and another CPU still writes through what it has cached.
 *
 *   this thread, CPU 0			remover, CPU 1
 *   store: the translation is cached
 *					entry changed, flush put off
 *   sees that by /proc			a thousand other entries
 *   PROTECT
 *   store				flush
 *
 * Caught, the second store faults and is refused. Escaped, it is in the file. Not
 * every try shows it: what is cached may be dropped at any time, as when another
 * process is switched to, or another page needs its place: every try is made at
 * another address. As in fixes.c, each is tried in force and left out.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../routes/common/memory.h"
#include "common/switches.h"
#include "pgtest.h"

#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define PAGE		4096UL
#define TRIES		8
#define MANY_TRIES	40	/* until one escapes, or is caught at all */
#define OUTCOMES	100	/* exit status of the first */
#define BEFORE		1
#define AFTER		2
#define CGROUP		"/sys/fs/cgroup/pgtest-flush"

enum outcome { CAUGHT, ESCAPED, TOO_LATE, IMPOSSIBLE };

struct removal {
	int fd;
	char *map;		/* the file, from its start */
	size_t offset;		/* of the page that is stored to, and protected */
	size_t unit;		/* or the unit that has it; 0: a page */
	size_t size;		/* of what is removed, from @map on */
	int uffd;
	long before;		/* what changes when the entry does */
};

struct flush {
	/* Maps a new file, and fills @removal. False: not possible here. */
	bool (*make)(struct removal *removal);
	/* Changes the entry first, then others, and flushes in the end. */
	void (*remove)(struct removal *removal);
	/* True once the entry is changed; does not touch it. */
	bool (*changed)(struct removal *removal);
	/* If set: asked when PROTECT has returned; true if even an escape says nothing. */
	bool (*pointless)(struct removal *removal);
	const char *fix;	/* switch that leaves the repair out */
	const char *filter;	/* or function whose filter it is */
	const char *without;	/* filter that is left out in both cases */
	const char *hold;	/* where the remover is held up: a function, and its caller */
	bool meanwhile;		/* store until then: it takes long */
	bool afterwards;	/* store when all is done */
};

static uint64_t pagemap_entry(const char *address)
{
	uint64_t entry;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || pread(fd, &entry, 8, (uintptr_t)address / PAGE * 8) != 8)
		die("pagemap");
	close(fd);
	return entry;
}

/* --- userfaultfd write-protects many pages and flushes once --- */

static bool make_registered(struct removal *r)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_WP };

	r->size = 256UL << 20;
	r->fd = memfd_make(r->size, 0);
	r->map = map_shared(r->fd, r->size);
	r->uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	reg.range.start = (uintptr_t)r->map;
	reg.range.len = r->size;
	return r->uffd >= 0 && !ioctl(r->uffd, UFFDIO_API, &api) &&
	       !ioctl(r->uffd, UFFDIO_REGISTER, &reg);
}

static void writeprotect(struct removal *r)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)r->map, .len = r->size },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	if (ioctl(r->uffd, UFFDIO_WRITEPROTECT, &wp))
		die("UFFDIO_WRITEPROTECT");
}

static bool entry_writeprotected(struct removal *r)
{
	return pagemap_entry(r->map) >> 57 & 1;
}

/* --- munmap: the huge entry goes first, then its VMA, then many tables --- */

#define TABLES		400UL
#define STRIDE		(2 * HUGE)	/* nobody frees two tables at once */

/* Of this process; asks for no lock. */
static long status_kb(const char *field)
{
	size_t length = strlen(field);
	char line[256];
	FILE *f = fopen("/proc/self/status", "r");
	long kb = -1;

	while (f && kb < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, length))
			kb = atol(line + length);
	if (f)
		fclose(f);
	return kb;
}

static bool map_before_tables(struct removal *r)
{
	char *place;

	r->size = (TABLES + 1) * STRIDE;
	place = mmap(NULL, r->size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		     -1, 0);
	if (r->fd < 0 || place == MAP_FAILED)
		return false;
	munmap(place, r->size + HUGE);
	r->map = (char *)(((uintptr_t)place + HUGE - 1) & -HUGE);
	if (mmap(r->map, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE, r->fd,
		 0) != r->map)
		return false;
	for (size_t i = 1; i <= TABLES; i++) {
		char *page = mmap(r->map + i * STRIDE, PAGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (page == MAP_FAILED)
			die("mapping of one page");
		*page = 1;
	}
	r->map[0] = 1;
	/* The mapping has to be aligned, so the address varies inside. */
	r->offset = getpid() * 37 % (HUGE / PAGE) * PAGE;
	r->before = status_kb("VmPTE:");
	return true;
}

static bool make_huge_before_tables(struct removal *r)
{
	r->fd = huge_tmpfs_file(HUGE);
	return map_before_tables(r) && smaps_kb(r->map, "ShmemPmdMapped") > 0;
}

static bool make_hugetlb_before_tables(struct removal *r)
{
	r->unit = HUGE;
	r->fd = memfd_create("pgtest", MFD_HUGETLB | MFD_ALLOW_SEALING | MFD_CLOEXEC);
	return write_text("/proc/sys/vm/nr_hugepages", "4") && r->fd >= 0 &&
	       !ftruncate(r->fd, HUGE) && map_before_tables(r);
}

static void unmap_all(struct removal *r)
{
	if (munmap(r->map, r->size))
		die("munmap");
}

/* A table is freed after the VMA before it was unlinked: PROTECT cannot find that. */
static bool vma_unlinked(struct removal *r)
{
	return status_kb("VmPTE:") < r->before;
}

/* Before that, its entry was cleared: other VMAs come after it. */
static bool hugetlb_zapped(struct removal *r)
{
	return !status_kb("HugetlbPages:");
}

/* Refused while the file has a VMA that may be written through. */
static bool file_has_no_vma(struct removal *r)
{
	return !fcntl(r->fd, F_ADD_SEALS, F_SEAL_WRITE);
}

/* --- reclaim: the first page of a large folio, then the others in many mappings --- */

#define VIEWS		16

static bool join_cgroup(void)
{
	return write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory") &&
	       (!mkdir(CGROUP, 0755) || !access(CGROUP, F_OK)) &&
	       write_text(CGROUP "/cgroup.procs", "0");
}

static void leave_cgroup(void)
{
	if (!write_text("/sys/fs/cgroup/cgroup.procs", "0"))
		die("leave the cgroup");
}

static bool make_large_folio(struct removal *r)
{
	if (!have_swap() || !join_cgroup())
		return false;
	r->fd = huge_tmpfs_file(HUGE);
	if (r->fd < 0)
		return false;
	r->size = PAGE;
	/* A fault would make a folio no larger than the mapping. */
	if (write_page(r->fd, 0, 1) != 1)
		die("write to a huge tmpfs");
	r->map = map_shared(r->fd, PAGE);
	r->map[0]++;
	/* Nothing else in there: the flush for it would be ours, too. */
	leave_cgroup();
	/* The walk of PROTECT does not meet these: they do not map the first page. */
	for (int i = 0; i < VIEWS; i++) {
		char *view = mmap(NULL, HUGE - PAGE, PROT_READ, MAP_SHARED, r->fd, PAGE);

		if (view == MAP_FAILED || madvise(view, HUGE - PAGE, MADV_POPULATE_READ))
			die("view of the large folio");
	}
	return true;
}

static void reclaim(struct removal *r)
{
	uint64_t end = now_ns() + DEADLINE_MS * 1000000ULL;

	while (pagemap_entry(r->map) >> 63 && now_ns() < end)
		write_text(CGROUP "/memory.reclaim", "2M");
}

static bool entry_gone(struct removal *r)
{
	return !(pagemap_entry(r->map) >> 63);
}

/* --- migration: the entries of a page in many mappings, there and back --- */

#define MAPPINGS	300

static bool make_many_mappings(struct removal *r)
{
	char *other;

	/* Registered, its protection has no write bit: an entry's comes from before. */
	if (!make_registered(r))
		return false;
	r->map[0] = 1;
	for (int i = 0; i < MAPPINGS; i++) {
		other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
		if (other == MAP_FAILED)
			die("mapping of the page");
		(void)*(volatile char *)other;
	}
	return true;
}

static void migrate(struct removal *r)
{
	madvise(r->map, PAGE, MADV_SOFT_OFFLINE);
}

/* --- a lock is held between an entry and its flush, or its new place --- */

#define HOLD_MS		400

static bool make_huge(struct removal *r)
{
	/* The scanner would make the entry anew, and filter it, before the store. */
	write_text("/proc/sys/kernel/numa_balancing", "0");
	r->fd = huge_tmpfs_file(HUGE);
	if (r->fd < 0)
		return false;
	r->size = HUGE;
	r->map = map_aligned(r->fd, HUGE);
	r->map[0] = 1;
	r->offset = getpid() * 37 % (HUGE / 2 / PAGE) * PAGE;
	return smaps_kb(r->map, "ShmemPmdMapped") > 0;
}

/* Small entries of a huge page. */
static bool make_huge_page_in_small_entries(struct removal *r)
{
	if (!make_huge(r) || mprotect(r->map, HUGE / 2, PROT_READ) ||
	    mprotect(r->map, HUGE / 2, PROT_READ | PROT_WRITE) ||
	    madvise(r->map, HUGE, MADV_NOHUGEPAGE) ||
	    madvise(r->map, HUGE, MADV_DONTNEED) || madvise(r->map, HUGE, MADV_POPULATE_WRITE))
		return false;
	return !smaps_kb(r->map, "ShmemPmdMapped") && !madvise(r->map, HUGE, MADV_HUGEPAGE);
}

/* The other half goes: the huge entry is split before the mapping is. */
static void split(struct removal *r)
{
	char *place = map_aligned(r->fd, HUGE);

	if (mremap(r->map + HUGE / 2, HUGE / 2, HUGE / 2, MREMAP_MAYMOVE | MREMAP_FIXED,
		   place) != place)
		die("mremap");
}

static void move(struct removal *r)
{
	char *place = map_aligned(r->fd, HUGE);

	if (mremap(r->map, HUGE, HUGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) != place)
		die("mremap");
	r->map = place;
}

static void give_up(struct removal *r)
{
	if (madvise(r->map, HUGE, MADV_DONTNEED))
		die("MADV_DONTNEED");
}

static void collapse(struct removal *r)
{
	/* Fails in the end: no huge entry for a page that is protected meanwhile. */
	if (!madvise(r->map, HUGE, MADV_COLLAPSE))
		printf("# collapsed\n");
}

static bool remover_held(struct removal *r)
{
	return delayed_now();
}

/* --- the try --- */

static void run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("no CPU %d", cpu);
}

struct attempt {
	const struct flush *flush;
	struct removal removal;
};

static long op_remove(struct writer *self)
{
	struct attempt *attempt = self->arg;

	run_on(1);
	writer_checkpoint(self);
	attempt->flush->remove(&attempt->removal);
	return 0;
}

static sigjmp_buf jump;

static void on_fault(int sig)
{
	siglongjmp(jump, 1);
}

/* Nothing if the store faults. */
static void try_store(volatile char *byte, char value)
{
	if (!sigsetjmp(jump, 1))
		*byte = value;
}

static enum outcome store_before_flush(struct attempt *a, int ctx, uint32_t id)
{
	struct writer *remover = writer_thread(op_remove, a);
	const struct flush *flush = a->flush;
	struct removal *r = &a->removal;
	size_t unit = r->unit ? r->unit : PAGE;
	char *byte = r->map + r->offset;
	bool late, pointless;

	writer_wait_ready(remover);
	try_store(byte, BEFORE);
	writer_go(remover);
	/* Awake all the time: an idle CPU may drop what it has cached. */
	while (!flush->changed(r) && !writer_done(remover))
		if (flush->meanwhile)
			try_store(byte, BEFORE);
	late = flush->hold && !delayed_now();
	if (ctx_protect_range(ctx, id, r->offset / unit * unit, unit))
		die("PROTECT");
	late |= writer_done(remover) && !flush->afterwards;
	pointless = flush->pointless && flush->pointless(r);
	if (flush->afterwards)
		writer_join(remover);
	try_store(r->map + r->offset, AFTER);
	if (!flush->afterwards)
		writer_join(remover);
	if (pointless)
		return TOO_LATE;
	if (read_page(r->fd, r->offset / PAGE) == AFTER)
		return ESCAPED;
	return late ? TOO_LATE : CAUGHT;
}

static void move_mappings(void)
{
	size_t gap = (1 + getpid() % 61) * PAGE;

	if (mmap(NULL, gap, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
		die("gap before the mappings");
}

/* In a child, for its address space and cgroup. */
static int one_try(void *arg)
{
	struct attempt a = { .flush = arg };
	enum outcome outcome;
	int ctx = ctx_open();

	run_on(0);
	move_mappings();
	if (!a.flush->make(&a.removal) ||
	    (a.flush->hold && !hold_set(a.flush->hold, HOLD_MS)))
		return IMPOSSIBLE;
	outcome = store_before_flush(&a, ctx, ctx_attach(ctx, a.removal.fd, PGPROTECT_MODE_DENY, 0));
	return outcome;
}

/* The parent sleeps: if it came back to look, the CPU would drop what it has cached. */
static int in_child(const struct flush *flush)
{
	pid_t pid = fork_child();
	int status;

	if (!pid)
		_exit(OUTCOMES + one_try((void *)flush));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) < OUTCOMES)
		die("child ended with %#x", status);
	return WEXITSTATUS(status) - OUTCOMES;
}

/* How many tries of TRIES ended how. */
struct tally { int of[IMPOSSIBLE + 1]; };

static void report(const struct tally *tally)
{
	printf("# caught %d, escaped %d, too late %d\n", tally->of[CAUGHT],
	       tally->of[ESCAPED], tally->of[TOO_LATE]);
}

FIXTURE(flush) { int unused; };

FIXTURE_VARIANT(flush) { struct flush flush; };

FIXTURE_VARIANT_ADD(flush, of_a_gather) {
	.flush = { make_registered, writeprotect, entry_writeprotected, .fix = "flush" },
};

FIXTURE_VARIANT_ADD(flush, of_a_huge_page_unmapped) {
	.flush = { make_huge_before_tables, unmap_all, vma_unlinked, .filter = "zap_huge_pmd" },
};

FIXTURE_VARIANT_ADD(flush, of_a_hugetlb_page_unmapped) {
	.flush = { make_hugetlb_before_tables, unmap_all, vma_unlinked,
		   .filter = "__unmap_hugepage_range" },
};

/* Its mapping can still be found: later, only the filter that is left out would help. */
FIXTURE_VARIANT_ADD(flush, of_a_hugetlb_page_being_unmapped) {
	.flush = { make_hugetlb_before_tables, unmap_all, hugetlb_zapped, file_has_no_vma,
		   .fix = "flush", .without = "__unmap_hugepage_range" },
};

FIXTURE_VARIANT_ADD(flush, of_reclaim) {
	.flush = { make_large_folio, reclaim, entry_gone, .fix = "flush", .meanwhile = true },
};

FIXTURE_VARIANT_ADD(flush, migration) {
	.flush = { make_many_mappings, migrate, entry_gone, .fix = "migration",
		   .without = "remove_migration_pte", .afterwards = true },
};

FIXTURE_VARIANT_ADD(flush, of_a_huge_page_split) {
	.flush = { make_huge, split, remover_held, .fix = "hole",
		   .hold = "flush_tlb_mm_range pmdp_huge_clear_flush" },
};

/* Its mapping can be found: PROTECT would see the gather, did the zapper not flush. */
FIXTURE_VARIANT_ADD(flush, of_a_huge_page_given_up) {
	.flush = { make_huge, give_up, remover_held, .fix = "flush", .without = "zap_huge_pmd",
		   .hold = "tlb_finish_mmu zap_page_range_single" },
};

FIXTURE_VARIANT_ADD(flush, of_a_table_collapsed) {
	.flush = { make_huge_page_in_small_entries, collapse, remover_held,
		   .filter = "collapse_pte_mapped_thp",
		   .hold = "percpu_counter_add_batch collapse_pte_mapped_thp" },
};

/* Nothing is cached of the new place: the entry itself is missed. */
FIXTURE_VARIANT_ADD(flush, huge_page_moved) {
	.flush = { make_huge, move, remover_held, .fix = "hole", .afterwards = true,
		   .hold = "__page_table_check_pmd_clear move_huge_pmd" },
};

FIXTURE_SETUP(flush)
{
	struct sigaction action = { .sa_handler = on_fault };

	if (!switches_present())
		SKIP(return, "needs CONFIG_PGPROTECT_DEBUG_DELAY");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "needs two CPUs");
	switches_reset();
	if (variant->flush.without)
		filter_disable(variant->flush.without);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

FIXTURE_TEARDOWN(flush)
{
	if (switches_present())
		switches_reset();
}

TEST_F_TIMEOUT(flush, in_force_catches_the_write, 90)
{
	struct tally tally = { 0 };

	for (int i = 0; i < TRIES || (i < MANY_TRIES && !tally.of[CAUGHT] &&
				      !tally.of[IMPOSSIBLE]); i++)
		tally.of[in_child(&variant->flush)]++;
	report(&tally);
	if (tally.of[IMPOSSIBLE])
		SKIP(return, "needs swap, huge pages, userfaultfd or page_table_check");
	EXPECT_EQ(0, tally.of[ESCAPED]);
	EXPECT_LT(0, tally.of[CAUGHT]);
}

TEST_F_TIMEOUT(flush, left_out_lets_the_same_write_escape, 90)
{
	struct tally tally = { 0 };

	if (variant->flush.fix)
		fix_disable(variant->flush.fix);
	else
		filter_disable(variant->flush.filter);
	for (int i = 0; i < MANY_TRIES && !tally.of[ESCAPED]; i++)
		tally.of[in_child(&variant->flush)]++;
	report(&tally);
	if (tally.of[IMPOSSIBLE])
		SKIP(return, "needs swap, huge pages, userfaultfd or page_table_check");
	EXPECT_LT(0, tally.of[ESCAPED]);
}

TEST_HARNESS_MAIN
