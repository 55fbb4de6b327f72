// SPDX-License-Identifier: GPL-2.0
/* Rounds of PROTECT, two looks at the file, and release, against agitators. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "race.h"

#define PASSES		30	/* looks at the protected file */
#define TURNS		50	/* between rounds */
#define MAX_PINS	64
#define MAX_AGITATORS	8

struct race *race_make(struct test_file file)
{
	struct race *race = mmap(NULL, sizeof(*race), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (race == MAP_FAILED)
		die("memory for a race");
	race->subject.file = file;
	race->size = file.size;
	race->subject.ctx = ctx_open();
	race->subject.id = ctx_attach(race->subject.ctx, file.fd, PGPROTECT_MODE_STALL, 0);
	return race;
}

uint32_t race_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

uint64_t race_page(struct race *race, uint32_t *state)
{
	return race_random(state) % (race->size / PAGE) * PAGE;
}

static bool pinned(const struct pgprotect_protect *protect, uint64_t offset)
{
	const struct pgprotect_range *pins = (void *)(uintptr_t)protect->pins;

	for (uint32_t i = 0; i < protect->nr_pins && i < protect->max_pins; i++)
		if (offset >= pins[i].offset && offset - pins[i].offset < pins[i].length)
			return true;
	return false;
}

/* Offset of the first page that changed and was not reported as pinned; or -1. */
static int64_t first_change(const char *copy, const char *view, size_t size,
			    const struct pgprotect_protect *protect)
{
	if (!memcmp(copy, view, size))
		return -1;
	for (size_t at = 0; at < size; at += PAGE)
		if (memcmp(copy + at, view + at, PAGE) && !pinned(protect, at))
			return at;
	return -1;
}

static int64_t watch(const char *copy, const char *view, size_t size,
		     const struct pgprotect_protect *protect)
{
	int64_t change = -1;

	for (int i = 0; i < PASSES && change < 0; i++) {
		sched_yield();
		change = first_change(copy, view, size, protect);
	}
	return change;
}

static void one_round(struct race *race, const char *view, char *copy,
		      struct race_result *result)
{
	struct pgprotect_range pins[MAX_PINS];
	struct pgprotect_range all = range_of(race->subject.id, 0, PGPROTECT_TO_EOF);
	struct pgprotect_protect protect = {
		.ranges = (uintptr_t)&all, .nr_ranges = 1,
		.pins = (uintptr_t)pins, .max_pins = MAX_PINS,
	};
	unsigned long turns = race->turns;
	int64_t change;

	if (!WAIT_FOR(race->turns >= turns + TURNS))
		die("the agitators stand still");
	if (ctx_protect_args(race->subject.ctx, &protect))
		die("PROTECT");
	memcpy(copy, view, race->size);
	change = watch(copy, view, race->size, &protect);
	if (change >= 0) {
		result->escapes++;
		result->offset = change;
	}
	result->rounds++;
	if (ctx_unprotect_all(race->subject.ctx, race->subject.id))
		die("UNPROTECT");
}

struct race_result race_run(struct race *race, agitator_fn *const *agitators, size_t nr,
			    unsigned int rounds, unsigned int ms)
{
	char *view = mmap(NULL, race->size, PROT_READ, MAP_SHARED, race->subject.file.fd, 0);
	struct writer *writers[MAX_AGITATORS];
	struct race_result result = { 0 };
	char *copy = malloc(race->size);
	uint64_t end;

	if (view == MAP_FAILED || !copy)
		die("memory for a look at the file");
	for (size_t i = 0; i < nr; i++)
		writers[i] = writer_fork(agitators[i], race);
	end = now_ns() + ms * 1000000ULL;
	while (result.rounds < rounds && (now_ns() < end || result.rounds < 10))
		one_round(race, view, copy, &result);
	race->stop = true;
	for (size_t i = 0; i < nr; i++)
		writer_join(writers[i]);
	free(copy);
	munmap(view, race->size);
	return result;
}
