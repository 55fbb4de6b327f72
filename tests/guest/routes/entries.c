// SPDX-License-Identifier: GPL-2.0
/*
 * Entries that the memory manager makes anew: huge ones, those of large folios, and
 * those that it takes a second node for. As in regress/fixes.c each is tried twice:
 * with its filter in force, and, where the kernel lets tests do that, without it,
 * where the same store must escape.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../regress/common/switches.h"
#include "common/memory.h"
#include "common/route.h"

#define TARGET		77UL	/* page */
#define MAPPED_PAGES	16UL	/* that a read fault makes entries for, at most */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

enum outcome { CAUGHT, ESCAPED, IMPOSSIBLE };

struct entry {
	/* Protects the page TARGET by DENY, has its entry made anew, and stores there. */
	enum outcome (*attempt)(struct subject *subject);
	unsigned int kb;	/* of the folio it is in */
	/* One of them holds the filter: where to, is the compiler's choice. */
	const char *functions[6];
};

static bool target_is_huge(struct subject *s)
{
	return smaps_kb(s->file.map, "ShmemPmdMapped") > 0;
}

static void must_protect(struct subject *s)
{
	if (ctx_protect_range(s->ctx, s->id, TARGET * PAGE, PAGE))
		die("PROTECT");
}

static enum outcome outcome_of(struct subject *s, long result)
{
	return result && read_page(s->file.fd, TARGET) == 'a' ? CAUGHT : ESCAPED;
}

static enum outcome store_through(struct subject *s, char *map)
{
	return outcome_of(s, store_byte(map + TARGET * PAGE, 'w'));
}

static enum outcome store(struct subject *s)
{
	return store_through(s, s->file.map);
}

static enum outcome move_then_store(struct subject *s)
{
	bool huge = target_is_huge(s);

	must_protect(s);
	if (!move_to_other_node(s->file.map + TARGET * PAGE) || target_is_huge(s) != huge)
		return IMPOSSIBLE;
	return store(s);
}

static enum outcome hint_then_store(struct subject *s)
{
	bool huge = target_is_huge(s);

	must_protect(s);
	if (!take_numa_hint(s->file.map, HUGE, s->file.map + TARGET * PAGE) ||
	    target_is_huge(s) != huge)
		return IMPOSSIBLE;
	return store(s);
}

static enum outcome mprotect_then_store(struct subject *s)
{
	must_protect(s);
	if (mprotect(s->file.map, HUGE, PROT_READ) ||
	    mprotect(s->file.map, HUGE, PROT_READ | PROT_WRITE))
		die("mprotect");
	return store(s);
}

static void *read_fork_event(void *arg)
{
	int uffd = *(int *)arg;
	struct uffd_msg msg;

	if (read(uffd, &msg, sizeof(msg)) != sizeof(msg) || msg.event != UFFD_EVENT_FORK)
		die("no fork event");
	/* msg.arg.fork.ufd stays open: its end would make the child's entries anew. */
	return NULL;
}

/* A child that keeps userfaultfd gets its entries copied, those of a folio in one batch. */
static enum outcome fork_then_store(struct subject *s)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_EVENT_FORK,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)s->file.map, .len = HUGE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	pthread_t reader;
	int status;
	pid_t pid;

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		return IMPOSSIBLE;
	must_protect(s);
	if (pthread_create(&reader, NULL, read_fork_event, &uffd))
		die("pthread_create");
	pid = fork_child();
	if (!pid)
		_exit(store_byte(s->file.map + TARGET * PAGE, 'w') ? 1 : 0);
	pthread_join(reader, NULL);
	status = wait_child(pid);
	/* It would want to hear of the next fork, too. */
	close(uffd);
	return outcome_of(s, status);
}

/* In a new mapping the read of a neighbour makes the entries of a folio, in one batch. */
static enum outcome map_then_store(struct subject *s)
{
	volatile char *first;
	uint64_t frame;
	char *map;

	must_protect(s);
	map = map_aligned(s->file.fd, HUGE);
	first = map + TARGET / MAPPED_PAGES * MAPPED_PAGES * PAGE;
	(void)*first;
	frame = frame_of((char *)first);
	if (!frame || frame_of(map + TARGET * PAGE) != frame + TARGET % MAPPED_PAGES)
		return IMPOSSIBLE;
	return store_through(s, map);
}

/* Small folios become one. */
static bool collapse(struct subject *s)
{
	/* A failure if there is no huge entry for it; what counts is the folio. */
	madvise(s->file.map, HUGE, MADV_COLLAPSE);
	return one_folio(s->file.map, HUGE / PAGE);
}

static enum outcome collapse_then_store(struct subject *s)
{
	must_protect(s);
	return collapse(s) ? store(s) : IMPOSSIBLE;
}

static enum outcome collapse_and_map_then_store(struct subject *s)
{
	char *map;

	must_protect(s);
	if (!collapse(s))
		return IMPOSSIBLE;
	map = map_aligned(s->file.fd, HUGE);
	(void)*(volatile char *)map;
	return store_through(s, map);
}

/* False: there are no folios of this size. */
static bool subject_make(struct subject *s, unsigned int kb)
{
	unsigned long pages = kb / 4;
	char *folio;

	if (kb != 4 && kb != 2048 && !set_shmem_folios(kb, "always"))
		return false;
	s->file = (struct test_file){
		.fd = kb == 2048 ? huge_tmpfs_file(HUGE) : memfd_make(HUGE, 0), .size = HUGE,
	};
	if (s->file.fd < 0)
		return false;
	s->file.map = map_aligned(s->file.fd, HUGE);
	memset(s->file.map, 'a', HUGE);
	if (kb != 4 && kb != 2048)
		set_shmem_folios(kb, "never");
	s->ctx = ctx_open();
	s->id = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);
	folio = s->file.map + TARGET / pages * pages * PAGE;
	return one_folio(folio, pages);
}

FIXTURE(entry) {
	struct subject subject;
};

FIXTURE_VARIANT(entry) { struct entry entry; };

#define ENTRY(name, size, how, ...)						\
	FIXTURE_VARIANT_ADD(entry, name) {						\
		.entry = { .attempt = how, .kb = size, .functions = { __VA_ARGS__ } },	\
	};
#define NUMA_FUNCTIONS	"numa_rebuild_single_mapping",					\
			"numa_rebuild_single_mapping.constprop.0",			\
			"numa_rebuild_large_mapping", "do_numa_page", "handle_pte_fault"
#define FORK_FUNCTIONS	"copy_present_ptes", "copy_pte_range", "copy_pmd_range",	\
			"copy_pud_range", "copy_p4d_range", "copy_page_range"

ENTRY(moved_huge, 2048, move_then_store, "remove_migration_pmd")
ENTRY(moved_64k, 64, move_then_store, "remove_migration_pte")
ENTRY(moved_small, 4, move_then_store, "remove_migration_pte")
ENTRY(hinted_huge, 2048, hint_then_store, "do_huge_pmd_numa_page")
ENTRY(hinted_64k, 64, hint_then_store, NUMA_FUNCTIONS)
ENTRY(hinted_small, 4, hint_then_store, NUMA_FUNCTIONS)
ENTRY(reprotected_huge, 2048, mprotect_then_store, "change_huge_pmd")
ENTRY(forked_64k, 64, fork_then_store, FORK_FUNCTIONS)
ENTRY(mapped_64k, 64, map_then_store, "set_pte_range")
ENTRY(collapsed, 4, collapse_then_store, "do_set_pmd")
ENTRY(collapsed_elsewhere, 4, collapse_and_map_then_store, "do_set_pmd")

FIXTURE_SETUP(entry)
{
	if (switches_present())
		switches_reset();
	/* Where a hint has come, the store faults, and is caught, filter or not. */
	write_text("/proc/sys/kernel/numa_balancing", "0");
	if (!subject_make(&self->subject, variant->entry.kb))
		SKIP(return, "no folios of %u kB", variant->entry.kb);
}

FIXTURE_TEARDOWN(entry)
{
	if (switches_present())
		switches_reset();
	if (self->subject.ctx)
		close(self->subject.ctx);
}

TEST_F(entry, in_force_catches_the_store)
{
	enum outcome outcome = variant->entry.attempt(&self->subject);

	if (outcome == IMPOSSIBLE)
		SKIP(return, "needs two nodes, userfaultfd, or huge pages");
	EXPECT_EQ(CAUGHT, outcome);
}

TEST_F_TIMEOUT(entry, left_out_lets_the_same_store_escape, 120)
{
	enum outcome outcome = CAUGHT;

	if (!switches_present())
		SKIP(return, "needs CONFIG_PGPROTECT_DEBUG_DELAY");
	for (size_t i = 0; i < ARRAY_LEN(variant->entry.functions) && outcome == CAUGHT; i++) {
		struct subject another;

		if (!variant->entry.functions[i] || !subject_make(&another, variant->entry.kb))
			break;
		filter_disable(variant->entry.functions[i]);
		outcome = variant->entry.attempt(&another);
		close(another.ctx);
	}
	if (outcome == IMPOSSIBLE)
		SKIP(return, "needs two nodes, userfaultfd, or huge pages");
	EXPECT_EQ(ESCAPED, outcome);
}

TEST_HARNESS_MAIN
