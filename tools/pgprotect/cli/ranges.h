/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A growing list of file ranges that can be put in order and joined.
 */
#ifndef PGP_RANGES_H
#define PGP_RANGES_H

#include <stddef.h>
#include <linux/pgprotect.h>

struct ranges {
	struct pgprotect_range *list;
	size_t nr;
	size_t room;
};

/* 0 or -ENOMEM. */
int ranges_add(struct ranges *ranges, __u32 file, __u64 offset, __u64 length);

/* Sorts, and joins what touches or overlaps. */
void ranges_join(struct ranges *ranges);

void ranges_free(struct ranges *ranges);

#endif /* PGP_RANGES_H */
