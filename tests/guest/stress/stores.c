// SPDX-License-Identifier: GPL-2.0
/* Stores, through mappings to which something was done before. */
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../routes/common/memory.h"
#include "route.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25	/* Linux 6.1 */
#endif

#define PAGE	4096UL

/* --- stores that may be refused --- */

static __thread sigjmp_buf *guard;

static void on_fault(int sig)
{
	if (!guard) {
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	siglongjmp(*guard, 1);
}

void guard_install(void)
{
	/* The jump does not restore the mask: that would cost two calls each time. */
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

/* Of the bytes left, as many as one store can do at this place. */
static size_t store_size(uintptr_t to, size_t left)
{
	return to % 8 || left < 8 ? 1 : 8;
}

static __attribute__((noinline))
void store_bytes(char *to, const unsigned char *data, size_t length,
		 volatile size_t *done)
{
	while (*done < length) {
		char *byte = to + *done;
		size_t size = store_size((uintptr_t)byte, length - *done);
		uint64_t word;

		memcpy(&word, data + *done, size);
		if (size == 8)
			*(volatile uint64_t *)byte = word;
		else
			*(volatile char *)byte = word;
		*done += size;
	}
}

enum outcome guarded_store(struct hand *h, char *to, const unsigned char *data, size_t length)
{
	volatile size_t done = 0;
	sigjmp_buf jump;

	guard = &jump;
	if (!sigsetjmp(jump, 0)) {
		signals_on(h);
		store_bytes(to, data, length, &done);
	}
	guard = NULL;
	signals_off(h);
	if (done == length)
		return WROTE;
	return done ? TORN : REFUSED;
}

static __attribute__((noinline)) void add_one(_Atomic uint64_t *word, bool by_cas)
{
	uint64_t old = 0;

	if (!by_cas)
		atomic_fetch_add(word, 1);
	else
		while (!atomic_compare_exchange_weak(word, &old, old + 1))
			;
}

bool guarded_add(struct hand *h, uint64_t *word, bool by_cas)
{
	volatile bool done = false;
	sigjmp_buf jump;

	guard = &jump;
	if (!sigsetjmp(jump, 0)) {
		signals_on(h);
		add_one((_Atomic uint64_t *)word, by_cas);
		done = true;
	}
	guard = NULL;
	signals_off(h);
	return done;
}

static enum outcome store(struct hand *h, struct target *t, char *map)
{
	return guarded_store(h, map + t->at, t->data, t->length);
}

/* The pages of the target in a mapping of the file. */
static char *pages_of(struct hand *h, const struct target *t, char *map, size_t *size)
{
	size_t unit = h->run->unit;
	uint64_t first = t->at & -unit;

	*size = ((t->at + t->length + unit - 1) & -unit) - first;
	return map + first;
}

static void read_from(const char *address)
{
	(void)*(const volatile char *)address;
}

/* --- mappings that stay --- */

static enum outcome by_store(struct hand *h, struct target *t)
{
	return store(h, t, h->run->file[t->file].map);
}

static enum outcome by_store_after_read(struct hand *h, struct target *t)
{
	char *map = h->own[t->file];

	if (random_one_in(&h->random, 2))
		read_from(map + t->at);
	return store(h, t, map);
}

static enum outcome store_after_advice(struct hand *h, struct target *t, int advice)
{
	char *map = h->own[t->file], *pages;
	size_t size;

	pages = pages_of(h, t, map, &size);
	madvise(pages, size, advice);
	if (random_one_in(&h->random, 2))
		read_from(map + t->at);
	return store(h, t, map);
}

static enum outcome by_store_after_discard(struct hand *h, struct target *t)
{
	return store_after_advice(h, t, MADV_DONTNEED);
}

static enum outcome by_store_after_mprotect(struct hand *h, struct target *t)
{
	char *map = h->own[t->file], *pages = map;
	size_t size = h->run->file[t->file].size;

	/* Mappings of hugetlbfs stay split. */
	if (!h->run->choice->unit && random_one_in(&h->random, 2))
		pages = pages_of(h, t, map, &size);
	read_from(map + t->at);
	if (mprotect(pages, size, PROT_READ) || mprotect(pages, size, PROT_READ | PROT_WRITE))
		die("mprotect");
	return store(h, t, map);
}

/* The mapping goes to and fro between two places. */
static enum outcome by_store_moved(struct hand *h, struct target *t)
{
	static char *other[FILES];
	size_t size = h->run->file[t->file].size;
	char *from = h->own[t->file], *to;

	if (!other[t->file]) {
		other[t->file] = map_aligned(h->run->file[t->file].fd, size);
		read_from(other[t->file] + t->at);
	}
	to = mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, other[t->file]);
	if (to == MAP_FAILED)
		die("mremap");
	h->own[t->file] = to;
	/* Where it was is free; nobody else in this process maps anything there. */
	other[t->file] = mmap(from, size, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE,
			      h->run->file[t->file].fd, 0);
	if (other[t->file] != from)
		other[t->file] = map_aligned(h->run->file[t->file].fd, size);
	return store(h, t, to);
}

static enum outcome by_store_populated(struct hand *h, struct target *t)
{
	char *map = h->own[t->file], *pages;
	size_t size;

	pages = pages_of(h, t, map, &size);
	if (TRY(h, madvise(pages, size, MADV_POPULATE_WRITE)) && random_one_in(&h->random, 2))
		return REFUSED;
	return store(h, t, map);
}

static enum outcome by_store_after_pageout(struct hand *h, struct target *t)
{
	return store_after_advice(h, t, MADV_PAGEOUT);
}

/* Read between, so that the entry is made by the migration, not by the store's fault. */
static enum outcome by_store_after_migration(struct hand *h, struct target *t)
{
	char *map = h->own[t->file];

	read_from(map + t->at);
	if (!move_to_other_node(map + (t->at & -PAGE)) && !have_two_nodes())
		return SKIPPED;
	return store(h, t, map);
}

static enum outcome by_store_after_soft_dirty(struct hand *h, struct target *t)
{
	read_from(h->own[t->file] + t->at);
	write_text("/proc/self/clear_refs", "4");
	return store(h, t, h->own[t->file]);
}

static enum outcome by_store_wild(struct hand *h, struct target *t)
{
	return store(h, t, wild_map(t->file));
}

/* --- mappings of the moment --- */

static enum outcome by_store_in_new_mapping(struct hand *h, struct target *t)
{
	int fd = h->run->file[t->file].fd, flags = MAP_SHARED;
	uint64_t first = t->at & -h->run->unit;
	enum outcome outcome;
	size_t size;
	char *map;

	pages_of(h, t, NULL, &size);
	if (random_one_in(&h->random, 4))
		flags |= MAP_POPULATE;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, first);
	if (map == MAP_FAILED)
		die("mmap");
	if (random_one_in(&h->random, 2))
		read_from(map);
	outcome = guarded_store(h, map + (t->at - first), t->data, t->length);
	munmap(map, size);
	return outcome;
}

/*
 * Nothing is there yet: the fault makes the table, too, or one huge entry. Far from
 * the process's other mappings of the file: the lock of their huge entries is another.
 */
static enum outcome by_store_with_new_table(struct hand *h, struct target *t)
{
	const struct test_file *f = &h->run->file[t->file];
	char *place = (char *)(((uintptr_t)h->own[t->file] & -GIB) - 64 * GIB), *map;
	enum outcome outcome;

	map = mmap(place, f->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
		   f->fd, 0);
	if (map != place)
		die("mapping far away");
	outcome = store(h, t, map);
	munmap(map, f->size);
	return outcome;
}

static void make_huge(char *map)
{
	madvise(map, HUGE, MADV_HUGEPAGE);
	madvise(map, HUGE, MADV_COLLAPSE);
}

/* May become one huge entry. */
static enum outcome by_store_in_new_huge_mapping(struct hand *h, struct target *t)
{
	const struct test_file *f = &h->run->file[t->file];
	char *map = map_aligned(f->fd, f->size);
	enum outcome outcome;

	if (random_one_in(&h->random, 8))
		make_huge(map);
	if (random_one_in(&h->random, 2))
		read_from(map + t->at);
	if (random_one_in(&h->random, 4) && (mprotect(map, f->size, PROT_READ) ||
					     mprotect(map, f->size, PROT_READ | PROT_WRITE)))
		die("mprotect");
	outcome = store(h, t, map);
	munmap(map, f->size);
	return outcome;
}

/*
 * Mapped by one huge entry, if nothing was protected when it was made: by the last
 * store, or by the read after it. What has been protected since made that entry
 * read-only, and here it is made anew.
 */
static enum outcome by_store_in_kept_huge_mapping(struct hand *h, struct target *t)
{
	static char *maps[FILES];
	size_t size = h->run->file[t->file].size;
	char **map = &maps[t->file];
	enum outcome outcome;

	if (!*map)
		*map = map_aligned(h->run->file[t->file].fd, size);
	if (random_one_in(&h->random, 2) && (mprotect(*map, size, PROT_READ) ||
					     mprotect(*map, size, PROT_READ | PROT_WRITE)))
		die("mprotect");
	else if (random_one_in(&h->random, 2))
		move_to_other_node(*map);
	outcome = store(h, t, *map);
	if (random_one_in(&h->random, 2))
		return outcome;
	if (random_one_in(&h->random, 8))
		make_huge(*map);
	madvise(*map, size, MADV_DONTNEED);
	if (random_one_in(&h->random, 2))
		read_from(*map + t->at);
	return outcome;
}

static enum outcome store_in_child(struct hand *h, struct target *t, char *map)
{
	pid_t pid = fork_child();
	int status;

	if (!pid) {
		h->interrupts = false;
		_exit(store(h, t, map));
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (!WIFEXITED(status) || WEXITSTATUS(status) > TORN)
		die("a child that stores ended with %#x", status);
	return WEXITSTATUS(status);
}

static enum outcome by_store_in_child(struct hand *h, struct target *t)
{
	char *map = h->run->file[t->file].map;

	if (random_one_in(&h->random, 2))
		map = h->own[t->file];
	return store_in_child(h, t, map);
}

/* --- userfaultfd --- */

int uffd_map(struct run *run, unsigned int file, size_t size, uint64_t features, uint64_t mode,
	     char **map)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	struct uffdio_register reg = { .mode = mode };
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api)) {
		if (uffd >= 0)
			close(uffd);
		return -1;
	}
	if (!*map)
		*map = map_aligned(run->file[file].fd, size);
	reg.range.start = (uintptr_t)*map;
	reg.range.len = size;
	if (ioctl(uffd, UFFDIO_REGISTER, &reg)) {
		close(uffd);
		return -1;
	}
	return uffd;
}

/* UFFDIO_CONTINUE makes the entry. */
static enum outcome by_store_after_continue(struct hand *h, struct target *t)
{
	static char *map[FILES];
	static int uffd[FILES];
	struct uffdio_continue cont = { };
	char *pages;
	size_t size;

	if (!map[t->file])
		uffd[t->file] = uffd_map(h->run, t->file, h->run->file[t->file].size,
					 UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS |
					 UFFD_FEATURE_SIGBUS, UFFDIO_REGISTER_MODE_MINOR,
					 &map[t->file]);
	if (uffd[t->file] < 0)
		return SKIPPED;
	pages = pages_of(h, t, map[t->file], &size);
	madvise(pages, size, MADV_DONTNEED);
	cont.range.start = (uintptr_t)pages;
	cont.range.len = size;
	while (ioctl(uffd[t->file], UFFDIO_CONTINUE, &cont) && errno == EAGAIN)
		;
	return store(h, t, map[t->file]);
}

static void *read_fork_events(void *arg)
{
	struct uffd_msg msg;
	int uffd = *(int *)arg, child = -1;
	ssize_t got;

	do {
		got = read(uffd, &msg, sizeof(msg));
		if (got != sizeof(msg) || msg.event != UFFD_EVENT_FORK)
			continue;
		/* Not before that child is gone: it would lose its entries. */
		if (child >= 0)
			close(child);
		child = msg.arg.fork.ufd;
	} while (got == sizeof(msg) || errno == EINTR);
	return NULL;
}

/* Registered so that fork() copies its entries, and does not leave them to faults. */
static char *forked_map(struct hand *h, unsigned int file)
{
	static char *map[FILES];
	static int uffd[FILES];
	pthread_t thread;

	if (map[file])
		return uffd[file] < 0 ? NULL : map[file];
	uffd[file] = uffd_map(h->run, file, h->run->file[file].size,
			      UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
			      UFFDIO_REGISTER_MODE_WP, &map[file]);
	if (uffd[file] < 0)
		return NULL;
	fcntl(uffd[file], F_SETFL, 0);
	if (pthread_create(&thread, NULL, read_fork_events, &uffd[file]))
		die("pthread_create");
	return map[file];
}

/* A large folio is copied as a batch, which is writable if one of its pages is. */
static enum outcome by_store_in_copied_entries(struct hand *h, struct target *t)
{
	char *map = forked_map(h, t->file);
	uint64_t other = t->at ^ PAGE;

	if (!map)
		return SKIPPED;
	read_from(map + t->at);
	/* The neighbour's entry becomes writable by a store of what is there already. */
	if (layout_is_records(&h->run->layout, other / PAGE) && t->length == RECORD &&
	    other / h->run->unit >= h->run->layout.records && t->at / PAGE != other / PAGE)
		guarded_store(h, map + other, h->run->shadow[t->file] + other, RECORD);
	return store_in_child(h, t, map);
}

/* --- words that all add to --- */

static enum outcome by_add(struct hand *h, struct target *t)
{
	char *map = random_one_in(&h->random, 2) ? h->run->file[t->file].map : h->own[t->file];

	return guarded_add(h, (uint64_t *)(map + t->at), false) ? WROTE : REFUSED;
}

static enum outcome by_cas(struct hand *h, struct target *t)
{
	return guarded_add(h, (uint64_t *)(h->own[t->file] + t->at), true) ? WROTE : REFUSED;
}

/* The kernel adds. */
static enum outcome by_wake_op(struct hand *h, struct target *t)
{
	static uint32_t first;

	return TRY(h, syscall(SYS_futex, &first, FUTEX_WAKE_OP, 1, 1, h->own[t->file] + t->at,
			      FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0xfff))) < 0
		? REFUSED : WROTE;
}

const struct route store_routes[] = {
	{ "store", KIND_RECORD | KIND_SPAN, by_store },
	{ "store-read-first", KIND_RECORD | KIND_SPAN, by_store_after_read },
	{ "store-discarded", KIND_RECORD | KIND_SPAN, by_store_after_discard },
	{ "store-mprotected", KIND_RECORD | KIND_SPAN, by_store_after_mprotect },
	{ "store-moved", KIND_RECORD | KIND_SPAN, by_store_moved },
	{ "store-populated", KIND_RECORD | KIND_SPAN, by_store_populated },
	{ "store-paged-out", KIND_RECORD | KIND_SPAN, by_store_after_pageout },
	{ "store-migrated", KIND_RECORD | KIND_SPAN, by_store_after_migration },
	{ "store-soft-dirty", KIND_RECORD, by_store_after_soft_dirty },
	{ "store-wild", KIND_RECORD | KIND_SPAN, by_store_wild },
	{ "store-new-mapping", KIND_RECORD | KIND_SPAN, by_store_in_new_mapping },
	{ "store-new-table", KIND_RECORD | KIND_SPAN, by_store_with_new_table },
	{ "store-huge", KIND_RECORD | KIND_SPAN, by_store_in_new_huge_mapping },
	{ "store-kept-huge", KIND_RECORD | KIND_SPAN, by_store_in_kept_huge_mapping },
	{ "store-child", KIND_RECORD | KIND_SPAN, by_store_in_child },
	{ "store-continued", KIND_RECORD | KIND_SPAN, by_store_after_continue },
	{ "store-forked", KIND_RECORD, by_store_in_copied_entries },
	{ "add", KIND_ADD, by_add },
	{ "add-cas", KIND_ADD, by_cas },
	{ "add-futex", KIND_ADD_FUTEX, by_wake_op },
	{ }
};
