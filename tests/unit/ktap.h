/* SPDX-License-Identifier: GPL-2.0 */
/* KTAP for the unit tests: cases, checks and knobs */
#ifndef _UNIT_KTAP_H
#define _UNIT_KTAP_H

#include <stdbool.h>
#include <stdio.h>

#include <linux/types.h>

struct ktap_case {
	const char *name;
	bool (*run)(void);
};

/* Each list ends with a case that has no name. */
extern const struct ktap_case ranges_basic_cases[];
extern const struct ktap_case ranges_nomem_cases[];
extern const struct ktap_case ranges_limit_cases[];
extern const struct ktap_case ranges_fuzz_cases[];
extern const struct ktap_case ranges_step_cases[];
extern const struct ktap_case ranges_race_cases[];

/* From the environment: SEED, OPS, RACE_MS. */
extern u64 unit_seed;
extern unsigned long unit_ops;
extern unsigned long unit_race_ms;

/* Make the calling case fail, and say why. */
#define CHECK(cond, fmt, ...)						\
	do {								\
		if (!(cond)) {						\
			printf("# %s:%d: !(%s): " fmt "\n", __FILE__,	\
			       __LINE__, #cond, ##__VA_ARGS__);		\
			return false;					\
		}							\
	} while (0)

static inline u64 rnd(u64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

/* 0 to @n - 1. The low bits of rnd() are the weaker ones. */
static inline u64 rnd_below(u64 *state, u64 n)
{
	return (rnd(state) >> 8) % n;
}

#endif
