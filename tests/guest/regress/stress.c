// SPDX-License-Identifier: GPL-2.0
/*
 * Every way to change a file, in loops, against PROTECT: once it has returned,
 * nothing changes. What is raced here cannot be held still by a delay point:
 * tables that are not there yet, entries that are being moved or copied, flushes
 * that were put off.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <stdio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../routes/common/memory.h"
#include "common/race.h"

#define PAGES		64UL
#define ROUNDS		200
#define ROUNDS_MS	6000

static char *map_new(struct race *race)
{
	return map_shared(race->subject.file.fd, race->size);
}

static void dirty(struct race *race, char *map, uint32_t *state)
{
	map[race_page(race, state) + race_random(state) % PAGE]++;
	race->turns++;
}

/* One mapping: entries come and go. */
static long store_and_discard(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	char *map = map_new(race);

	while (!race->stop) {
		dirty(race, map, &state);
		if (race_random(&state) % 8 == 0)
			madvise(map + race_page(race, &state), PAGE, MADV_DONTNEED);
	}
	return 0;
}

/* Each mapping is the first in its table, which comes and goes with it. */
static long store_in_new_tables(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();

	while (!race->stop) {
		char *map = map_aligned(race->subject.file.fd, race->size);

		for (int i = 0; i < 4; i++)
			dirty(race, map, &state);
		munmap(map, race->size);
	}
	return 0;
}

static long store_and_mprotect(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	char *map = map_new(race);

	while (!race->stop) {
		mprotect(map, race->size, PROT_READ);
		mprotect(map, race->size, PROT_READ | PROT_WRITE);
		for (int i = 0; i < 8; i++)
			dirty(race, map, &state);
	}
	return 0;
}

/* Downwards and upwards: the walk of PROTECT meets the mapping old or new. */
static long store_and_move(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	char *map = map_new(race);
	char *place = mmap(NULL, 3 * race->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	while (!race->stop) {
		char *to = place + (race_random(&state) % 2) * 2 * race->size;

		if (to != map) {
			map = mremap(map, race->size, race->size, MREMAP_MAYMOVE | MREMAP_FIXED,
				     to);
			if (map == MAP_FAILED)
				die("mremap");
		}
		for (int i = 0; i < 8; i++)
			dirty(race, map, &state);
	}
	return 0;
}

static long store_in_children(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	char *map = map_new(race);

	while (!race->stop) {
		pid_t pid;

		dirty(race, map, &state);
		pid = fork();
		if (!pid) {
			for (int i = 0; i < 8; i++)
				dirty(race, map, &state);
			_exit(0);
		}
		for (int i = 0; i < 8; i++)
			dirty(race, map, &state);
		waitpid(pid, NULL, 0);
	}
	return 0;
}

static long write_pages(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	static char data[5 * PAGE];

	while (!race->stop) {
		uint64_t at = race_page(race, &state) + race_random(&state) % PAGE;
		size_t length = race_random(&state) % sizeof(data);

		memset(data, race_random(&state), sizeof(data));
		if (at + length > race->size)
			length = race->size - at;
		pwrite(race->subject.file.fd, data, length, at);
		race->turns++;
	}
	return 0;
}

static long append_and_cut(struct writer *self)
{
	struct race *race = self->arg;

	while (!race->stop) {
		/* Not below the last page, which the checker reads. */
		if (ftruncate(race->subject.file.fd, race->size - 1) ||
		    ftruncate(race->subject.file.fd, race->size))
			die("ftruncate");
		pwrite(race->subject.file.fd, "x", 1, race->size - 1);
		race->turns++;
	}
	return 0;
}

static long punch_and_fill(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	static char data[PAGE];

	memset(data, 'f', PAGE);
	while (!race->stop) {
		uint64_t at = race_page(race, &state);

		fallocate(race->subject.file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
			  PAGE);
		pwrite(race->subject.file.fd, data, PAGE, at);
		race->turns++;
	}
	return 0;
}

static int uffd_of(char *map, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)map, .len = size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	return uffd;
}

static long punch_and_fill_by_uffd(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	static char data[PAGE];
	char *map = map_new(race);
	int uffd = uffd_of(map, race->size);

	memset(data, 'u', PAGE);
	while (!race->stop) {
		uint64_t at = race_page(race, &state);
		struct uffdio_copy copy = {
			.dst = (uintptr_t)map + at, .src = (uintptr_t)data, .len = PAGE,
		};

		fallocate(race->subject.file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
			  PAGE);
		ioctl(uffd, UFFDIO_COPY, &copy);
		race->turns++;
	}
	return 0;
}

#define CGROUP	"/sys/fs/cgroup/pgtest-race"

static bool join_cgroup(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	return write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory") &&
	       (!mkdir(CGROUP, 0755) || errno == EEXIST) &&
	       write_text(CGROUP "/cgroup.procs", pid);
}

/* Unmaps many pages and flushes later. */
static long reclaim(struct writer *self)
{
	struct race *race = self->arg;

	while (!race->stop)
		write_text(CGROUP "/memory.reclaim", "256K");
	return 0;
}

static long compact(struct writer *self)
{
	struct race *race = self->arg;

	while (!race->stop)
		write_text("/proc/sys/vm/compact_memory", "1");
	return 0;
}

struct discarder {
	struct race *race;
	char *map;
};

static void *discard_all(void *arg)
{
	struct discarder *d = arg;

	while (!d->race->stop)
		madvise(d->map, d->race->size, MADV_DONTNEED);
	return NULL;
}

/* One thread drops the huge entry while the other writes through it. */
static long store_while_discarded(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	struct discarder d = { race, map_aligned(race->subject.file.fd, race->size) };
	pthread_t thread;

	pthread_create(&thread, NULL, discard_all, &d);
	while (!race->stop)
		for (int i = 0; i < 50; i++)
			dirty(race, d.map, &state);
	pthread_join(thread, NULL);
	return 0;
}

/* The same, but the mapping goes, and with it all that PROTECT could find. */
static void *hammer(void *arg)
{
	struct discarder *d = arg;
	volatile char *map = d->map;

	/* Unmapped below it, the thread ends by the signal handler. */
	for (;;)
		map[17]++;
	return NULL;
}

static void end_thread(int sig)
{
	pthread_exit(NULL);
}

static long store_while_unmapped(struct writer *self)
{
	struct race *race = self->arg;
	struct sigaction action = { .sa_handler = end_thread, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	while (!race->stop) {
		struct discarder d = { race, map_aligned(race->subject.file.fd, race->size) };
		volatile char *map = d.map;
		pthread_t thread;
		char seen;

		map[17]++;
		pthread_create(&thread, NULL, hammer, &d);
		for (seen = map[17]; seen == map[17] && !race->stop;)
			;
		munmap(d.map, race->size);
		pthread_join(thread, NULL);
		race->turns++;
	}
	return 0;
}

/* Writes by another process into this one's mapping; its pins are reported. */
static long write_into_neighbour(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	static char data[100];

	while (!race->stop) {
		struct iovec from = { data, sizeof(data) };
		struct iovec to = { race->subject.file.map + race_page(race, &state), 100 };

		memset(data, race_random(&state), sizeof(data));
		process_vm_writev(getppid(), &from, 1, &to, 1, 0);
		race->turns++;
	}
	return 0;
}

FIXTURE(race) {
	struct race *race;
};

FIXTURE_VARIANT(race) {
	agitator_fn *agitators[4];
	bool huge;
	bool swap;
};

#define RACE(name, ...)								\
	FIXTURE_VARIANT_ADD(race, name) { __VA_ARGS__ };

RACE(stores_and_discards, { store_and_discard, store_and_discard, store_and_discard })
RACE(stores_in_new_tables, { store_in_new_tables, store_in_new_tables, store_in_new_tables })
RACE(stores_and_mprotect, { store_and_mprotect, store_and_mprotect })
RACE(stores_and_mremap, { store_and_move, store_and_move })
RACE(stores_and_fork, { store_in_children, store_in_children })
RACE(writes, { write_pages, write_pages })
RACE(writes_and_stores, { write_pages, store_and_discard })
RACE(truncates, { append_and_cut, write_pages })
RACE(punches, { punch_and_fill, store_and_discard })
RACE(uffd_fills, { punch_and_fill_by_uffd, write_pages })
RACE(reclaim, { reclaim, store_and_discard, write_pages }, .swap = true)
RACE(compaction, { compact, store_and_discard })
RACE(remote_writes, { write_into_neighbour, store_and_discard })
RACE(huge_discards, { store_while_discarded, store_while_discarded }, .huge = true)
RACE(huge_unmaps, { store_while_unmapped, store_while_discarded }, .huge = true)

FIXTURE_SETUP(race)
{
	struct test_file file = { .size = HUGE };

	if (variant->swap && (!have_swap() || !join_cgroup()))
		SKIP(return, "no swap or no memory cgroup");
	if (variant->huge) {
		file.fd = huge_tmpfs_file(HUGE);
		if (file.fd < 0)
			SKIP(return, "no tmpfs with huge pages");
		file.map = map_aligned(file.fd, HUGE);
	} else {
		file = file_memfd(PAGES);
	}
	file_fill(&file);
	self->race = race_make(file);
}

FIXTURE_TEARDOWN(race)
{
	write_text("/sys/fs/cgroup/cgroup.procs", "0");
}

TEST_F_TIMEOUT(race, changes_nothing_once_protect_has_returned, 120)
{
	size_t nr = 0;
	struct race_result result;

	while (nr < ARRAY_LEN(variant->agitators) && variant->agitators[nr])
		nr++;
	result = race_run(self->race, variant->agitators, nr, ROUNDS, ROUNDS_MS);
	TH_LOG("%u rounds, %lu changes", result.rounds, self->race->turns);
	EXPECT_EQ(0, result.escapes) {
		TH_LOG("the last at offset %#lx", result.offset);
	}
}

TEST_HARNESS_MAIN
