/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Numbers in arguments: read whole or not at all.
 */
#ifndef PGP_NUMBER_H
#define PGP_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* A decimal number from @min to @max, no sign, no spaces. */
bool parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *value);

/* Seconds, "1.5", more than 0 and at most a year, as nanoseconds. */
bool parse_seconds(const char *text, int64_t *ns);

/* "START-END" in hexadecimal as in /proc/PID/maps, with or without 0x. */
bool parse_addresses(const char *text, uint64_t *start, uint64_t *end);

/* Monotonic time, nanoseconds. */
int64_t monotonic_ns(void);

#endif /* PGP_NUMBER_H */
