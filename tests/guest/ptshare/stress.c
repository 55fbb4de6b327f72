// SPDX-License-Identifier: GPL-2.0
/*
 * Everybody at once: processes that share, unshare, map, unmap, protect, fork and
 * store, while pages are reclaimed, moved, punched and collapsed below them.
 *
 * Every store goes to a word that only its process writes, so that each knows what
 * has to be there; holes are punched elsewhere. The environment may say how long: STRESS_SECONDS.
 *
 * Some units of the file are used: all, or as many of a large file, which has a page
 * directory of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"
#include "common/sharing.h"

#define UNITS		4
#define KNOWN_PAGES	((UNITS - 1) * (UNIT / 4096))
#define PROCESSES	4
#define SECONDS		20
#define RW		(PROT_READ | PROT_WRITE)

struct party {
	int fd;
	size_t size;
	unsigned int number;
	unsigned int seed;
	char *map;
	uint64_t values[KNOWN_PAGES];
};

static unsigned int pick(struct party *party, unsigned int limit)
{
	return rand_r(&party->seed) % limit;
}

/* Where the units that are used are: the first, the last, and some between. */
static size_t unit_at(struct party *party, unsigned int unit)
{
	return (party->size / UNIT - 1) * unit / (UNITS - 1) * UNIT;
}

static volatile uint64_t *word_of(struct party *party, size_t page)
{
	size_t at = unit_at(party, page / (UNIT / 4096)) + page * 4096 % UNIT;

	return (volatile uint64_t *)(party->map + at) + party->number;
}

/* The last unit is punched and truncated: nothing there is known. */
static size_t known_page(struct party *party)
{
	return pick(party, KNOWN_PAGES);
}

static bool use(struct party *party)
{
	for (int i = 0; i < 64; i++) {
		size_t page = known_page(party);
		volatile uint64_t *word = word_of(party, page);

		if (*word != party->values[page])
			return false;
		*word = ++party->values[page];
	}
	(void)try_load(party->map + party->size - UNIT + pick(party, UNIT));
	(void)try_store(party->map + party->size - UNIT + pick(party, UNIT), 1);
	return true;
}

static void remap(struct party *party)
{
	munmap(party->map, party->size);
	party->map = map_guest(party->fd, party->size, 0, RW, pick(party, 4));
}

static void replace_a_part(struct party *party)
{
	size_t at = pick(party, party->size / 4096) * 4096UL;
	size_t size = (1 + pick(party, 700)) * 4096UL;

	if (at + size > party->size)
		size = party->size - at;
	mmap(party->map + at, size, RW, MAP_SHARED | MAP_FIXED, party->fd, at);
}

static void protect_a_part(struct party *party)
{
	size_t at = pick(party, party->size / 4096) * 4096UL;
	size_t size = 4096UL << pick(party, 19);

	if (pick(party, 2))
		at &= ~(UNIT - 1);
	if (at + size > party->size)
		size = party->size - at;
	mprotect(party->map + at, size, pick(party, 2) ? PROT_READ : PROT_NONE);
	(void)try_load(party->map + at);
	mprotect(party->map + at, size, RW);
}

static void advise_a_part(struct party *party)
{
	const int advices[] = {
		MADV_DONTNEED, MADV_PAGEOUT, MADV_COLD, MADV_PTSHARE, MADV_NOPTSHARE,
		MADV_PTSHARE, MADV_POPULATE_WRITE, MADV_COLLAPSE, MADV_WILLNEED,
	};
	size_t at = unit_at(party, pick(party, UNITS));

	madvise(party->map + at, UNIT, advices[pick(party, ARRAY_LEN(advices))]);
}

static void move_a_part(struct party *party)
{
	size_t at = unit_at(party, pick(party, UNITS));
	char *moved = mremap(party->map + at, UNIT, UNIT, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
			     NULL);

	if (moved != MAP_FAILED) {
		(void)try_store(moved + UNIT - 1, 0);
		munmap(moved, UNIT);
	}
}

static void fork_one(struct party *party)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(*word_of(party, 0) != party->values[0]);
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status))
		die("what a child sees");
}

static void spoil_the_last_unit(struct party *party)
{
	if (pick(party, 2)) {
		fallocate(party->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			  party->size - UNIT + pick(party, UNIT), pick(party, UNIT));
	} else {
		(void)ftruncate(party->fd, party->size - pick(party, UNIT));
		(void)ftruncate(party->fd, party->size);
	}
}

static void compact(struct party *party)
{
	int fd;

	/* Takes seconds. */
	if (pick(party, 16))
		return;
	fd = open("/proc/sys/vm/compact_memory", O_WRONLY);
	if (fd < 0 || write(fd, "1", 1) < 0)
		die("compact memory");
	close(fd);
}

static void (*const acts[])(struct party *party) = {
	remap, remap, replace_a_part, protect_a_part, advise_a_part, advise_a_part, move_a_part,
	fork_one, spoil_the_last_unit, compact,
};

static long op_party(struct writer *self)
{
	struct party *party = self->arg;
	const char *seconds = getenv("STRESS_SECONDS");
	uint64_t end = now_ns() + (seconds ? atoi(seconds) : SECONDS) * 1000000000ULL;

	party->map = map_guest(party->fd, party->size, 0, RW, true);
	while (now_ns() < end) {
		if (!use(party))
			return 1;
		acts[pick(party, ARRAY_LEN(acts))](party);
		self->progress++;
	}
	for (size_t page = 0; page < KNOWN_PAGES; page++)
		if (*word_of(party, page) != party->values[page])
			return 2;
	return 0;
}

static struct party parties[PROCESSES];

FIXTURE(everybody) {
};

FIXTURE_VARIANT(everybody) {
	size_t size;
};

FIXTURE_VARIANT_ADD(everybody, with_links_of_units) {
	.size = UNITS * UNIT,
};

FIXTURE_VARIANT_ADD(everybody, with_links_of_a_directory) {
	.size = DIRECTORY,
};

FIXTURE_SETUP(everybody)
{
}

FIXTURE_TEARDOWN(everybody)
{
}

TEST_F_TIMEOUT(everybody, finds_what_he_stored, 600)
{
	struct writer *writers[PROCESSES];
	long hosts;
	int fd;

	if (!sharing_set("madvise"))
		SKIP(return, "no ptshare");
	hosts = sharing_count("hosts");
	fd = memfd_make(variant->size, 0);
	for (unsigned int i = 0; i < PROCESSES; i++) {
		parties[i] = (struct party) {
			.fd = fd,
			.size = variant->size,
			.number = i,
			.seed = getpid() + i,
		};
		writers[i] = writer_fork(op_party, &parties[i]);
	}
	for (unsigned int i = 0; i < PROCESSES; i++) {
		ASSERT_TRUE(({
			uint64_t end_ = now_ns() + 500 * 1000000000ULL;

			while (!writer_done(writers[i]) && now_ns() < end_)
				pause_briefly();
			writer_done(writers[i]);
		}));
		TH_LOG("process %u: %ld acts", i, writers[i]->progress);
		EXPECT_EQ(0, writer_join(writers[i]));
	}
	close(fd);
	EXPECT_TRUE(WAIT_FOR(sharing_count("hosts") <= hosts));
	EXPECT_EQ(0, sharing_count("links"));
}

TEST_HARNESS_MAIN
