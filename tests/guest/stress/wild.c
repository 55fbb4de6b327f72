// SPDX-License-Identifier: GPL-2.0
/*
 * A mapping that a second thread changes while the first one stores to it: entries go,
 * become read-only, are replaced, and their flushes are put off. A store may fault
 * where the mapping does not allow it just then; it is refused then.
 *
 * The flush comes when all is done. To put it off for longer, the mapping may reach far
 * beyond the end of the file, or be followed by many tables that go with it.
 */
#include <linux/ptshare.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../routes/common/memory.h"
#include "route.h"

enum way { REST, DISCARD, MPROTECT, WRITEPROTECT, PAGEOUT, REPLACE, SHARE, NR_WAYS };

static const char *const way_names[NR_WAYS] = {
	"rest", "discard", "mprotect", "writeprotect", "pageout", "replace",
	"share",
};

static struct hand *owner;
static char *maps[FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static enum way wanted;		/* @lock; read without it by the thread at work */
static enum way current_way;	/* @lock */

char *wild_map(unsigned int file)
{
	return maps[file];
}

static bool go_on(enum way way)
{
	return __atomic_load_n(&wanted, __ATOMIC_ACQUIRE) == way;
}

/* What follows the mapping of the file. */
static size_t tables_size(void)
{
	return owner->run->wild_tables * HUGE;
}

static void map_again(unsigned int file)
{
	size_t size = owner->run->wild_size;

	/* All at once, so that nothing else can be mapped there in between. */
	if (tables_size() && mmap(maps[file], size + tables_size(), PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
				  0) != maps[file])
		die("map nothing");
	if (tables_size() && mprotect(maps[file] + size, tables_size(), PROT_READ | PROT_WRITE))
		die("memory for tables");
	for (size_t i = 0; i < tables_size(); i += HUGE)
		maps[file][size + i] = 1;
	if (mmap(maps[file], size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 owner->run->file[file].fd, 0) != maps[file])
		die("map again");
}

static void discard(unsigned int file, uint64_t *random)
{
	const struct test_file *f = &owner->run->file[file];
	uint64_t at = random_below(random, f->size) & -owner->run->unit;

	if (random_one_in(random, 2))
		madvise(maps[file], f->size, MADV_DONTNEED);
	else
		madvise(maps[file] + at, f->size - at, MADV_DONTNEED);
}

static void make_readonly_and_back(unsigned int file)
{
	mprotect(maps[file], owner->run->wild_size, PROT_READ);
	mprotect(maps[file], owner->run->wild_size, PROT_READ | PROT_WRITE);
}

static void page_out(unsigned int file, uint64_t *random)
{
	uint64_t at = random_below(random, owner->run->layout.tail) * owner->run->unit;

	madvise(maps[file] + at, 64 * 1024, MADV_PAGEOUT);
}

static void replace(unsigned int file)
{
	map_again(file);
	(void)*(volatile char *)maps[file];
}

static void share_and_back(unsigned int file)
{
	/* Not on this kind of file, or not allowed. */
	if (madvise(maps[file], owner->run->wild_size, MADV_PTSHARE))
		replace(file);
	else
		madvise(maps[file], owner->run->wild_size, MADV_NOPTSHARE);
}

static void work_with_uffd(unsigned int file)
{
	struct uffdio_writeprotect wp = { };
	int uffd = uffd_map(owner->run, file, owner->run->wild_size,
			    UFFD_FEATURE_SIGBUS | UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
			    UFFDIO_REGISTER_MODE_WP, &maps[file]);

	/* Not by this file system: rest. */
	while (uffd < 0 && go_on(WRITEPROTECT))
		pause_briefly();
	wp.range.start = (uintptr_t)maps[file];
	wp.range.len = owner->run->wild_size;
	while (uffd >= 0 && go_on(WRITEPROTECT)) {
		wp.mode ^= UFFDIO_WRITEPROTECT_MODE_WP;
		ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
	}
	if (uffd >= 0)
		close(uffd);
}

static void work(enum way way, uint64_t *random)
{
	unsigned int file = random_below(random, FILES);

	if (way == WRITEPROTECT) {
		work_with_uffd(file);
		return;
	}
	while (go_on(way)) {
		if (way == DISCARD)
			discard(file, random);
		else if (way == MPROTECT)
			make_readonly_and_back(file);
		else if (way == PAGEOUT)
			page_out(file, random);
		else if (way == SHARE)
			share_and_back(file);
		else
			replace(file);
		file = random_below(random, FILES);
	}
}

static void *wild_main(void *arg)
{
	uint64_t random = random_seed(owner->run, 3000 + owner->number);
	enum way way;

	for (;;) {
		pthread_mutex_lock(&lock);
		current_way = REST;
		pthread_cond_broadcast(&changed);
		while (wanted == REST)
			pthread_cond_wait(&changed, &lock);
		way = current_way = wanted;
		pthread_mutex_unlock(&lock);
		work(way, &random);
	}
	return NULL;
}

/* Rest first, so that no way begins with what another has left half done. */
static void set_way(enum way way)
{
	pthread_mutex_lock(&lock);
	__atomic_store_n(&wanted, REST, __ATOMIC_RELEASE);
	while (current_way != REST)
		pthread_cond_wait(&changed, &lock);
	__atomic_store_n(&wanted, way, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static enum way choose_way(struct hand *h)
{
	for (int i = 0; h->run->wild_way && i < NR_WAYS; i++)
		if (!strcmp(way_names[i], h->run->wild_way))
			return i;
	return 1 + random_below(&h->random, NR_WAYS - 1);
}

void wild_set(struct hand *h, bool active)
{
	static bool was_active;

	if (!active && !was_active)
		return;
	was_active = active;
	set_way(active ? choose_way(h) : REST);
}

void wild_start(struct hand *h)
{
	pthread_t thread;

	owner = h;
	for (unsigned int i = 0; i < FILES; i++)
		maps[i] = map_aligned(h->run->file[i].fd, h->run->wild_size + tables_size());
	if (pthread_create(&thread, NULL, wild_main, NULL))
		die("pthread_create");
}
