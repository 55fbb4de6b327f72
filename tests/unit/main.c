// SPDX-License-Identifier: GPL-2.0
/* unit tests: runs every case and prints one KTAP document */
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <urcu.h>

#include <linux/maple_tree.h>

#include "ktap.h"

u64 unit_seed;
unsigned long unit_ops = 1000000;
unsigned long unit_race_ms = 8000;

static const struct ktap_case *const lists[] = {
	ranges_basic_cases,
	ranges_nomem_cases,
	ranges_limit_cases,
	ranges_fuzz_cases,
	ranges_step_cases,
	ranges_race_cases,
};

static bool knob(const char *name, unsigned long *value)
{
	const char *text = getenv(name);
	char *end;

	if (!text || !*text)
		return true;
	errno = 0;
	*value = strtoul(text, &end, 0);
	if (!errno && !*end && *value)
		return true;
	fprintf(stderr, "%s='%s': a number above 0 is wanted\n", name, text);
	return false;
}

int main(void)
{
	unsigned int nr = 0, failed = 0;
	unsigned long seed = time(NULL);
	const struct ktap_case *c;
	unsigned int i;
	bool ok;

	if (!knob("SEED", &seed) || !knob("OPS", &unit_ops) ||
	    !knob("RACE_MS", &unit_race_ms))
		return 2;
	unit_seed = seed;

	for (i = 0; i < ARRAY_SIZE(lists); i++)
		for (c = lists[i]; c->name; c++)
			nr++;

	/* A crash must not take the lines with it that lead to it. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..%u\n", nr);
	printf("# SEED=%lu OPS=%lu RACE_MS=%lu\n", seed, unit_ops,
	       unit_race_ms);

	rcu_register_thread();
	maple_tree_init();

	nr = 0;
	for (i = 0; i < ARRAY_SIZE(lists); i++) {
		for (c = lists[i]; c->name; c++) {
			ok = c->run();
			failed += !ok;
			printf("%s %u %s\n", ok ? "ok" : "not ok", ++nr,
			       c->name);
		}
	}

	rcu_barrier();
	rcu_unregister_thread();
	return !!failed;
}
