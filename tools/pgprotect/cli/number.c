// SPDX-License-Identifier: GPL-2.0
/*
 * Numbers in arguments: read whole or not at all.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "number.h"

#define NS_PER_SEC	INT64_C(1000000000)

bool parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return false;
	errno = 0;
	*value = strtoull(text, &end, 10);
	return !errno && !*end && *value >= min && *value <= max;
}

bool parse_seconds(const char *text, int64_t *ns)
{
	double seconds;
	char *end;

	if (!*text || text[strspn(text, "0123456789.")])
		return false;
	seconds = strtod(text, &end);
	if (*end || !(seconds > 0) || seconds > 366.0 * 24 * 3600)
		return false;
	*ns = seconds * NS_PER_SEC;
	return *ns > 0;
}

static bool parse_address(const char *text, char **end, uint64_t *value)
{
	/* strtoull() would take a sign or a space. */
	if (!isxdigit((unsigned char)*text))
		return false;
	errno = 0;
	*value = strtoull(text, end, 16);
	return !errno && *end != text;
}

bool parse_addresses(const char *text, uint64_t *start, uint64_t *end)
{
	char *rest;

	return parse_address(text, &rest, start) && *rest == '-' &&
	       parse_address(rest + 1, &rest, end) && !*rest && *start < *end;
}

int64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}
