/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A list of cases, run and reported as KTAP.
 */
#ifndef TOOLS_TAP_H
#define TOOLS_TAP_H

#include <stdbool.h>
#include <stdio.h>

struct tap_case {
	const char *name;
	bool (*run)(void);
};

/* Makes the calling case fail, and says why. */
#define CHECK(cond)							\
	do {								\
		if (!(cond)) {						\
			printf("# %s:%d: not: %s\n", __FILE__,		\
			       __LINE__, #cond);			\
			return false;					\
		}							\
	} while (0)

/* The list ends with a case that has no name. */
static inline int tap_run(const struct tap_case *cases)
{
	int i, nr = 0, failed = 0;

	while (cases[nr].name)
		nr++;
	printf("KTAP version 1\n1..%d\n", nr);
	for (i = 0; i < nr; i++) {
		bool good = cases[i].run();

		failed += !good;
		printf("%sok %d %s\n", good ? "" : "not ", i + 1, cases[i].name);
		fflush(stdout);
	}
	return failed ? 1 : 0;
}

#endif /* TOOLS_TAP_H */
