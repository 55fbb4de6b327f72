/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A heat map: how often each part of a file was written, drawn in a terminal.
 */
#ifndef PGP_HEAT_H
#define PGP_HEAT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define HEAT_BUCKETS	2048

/*
 * @pages: pages of the file when counting began; later ones count as the last.
 * @nr: buckets in use, at most one for each page.
 */
struct heat {
	uint64_t pages;
	unsigned int nr;
	uint64_t buckets[HEAT_BUCKETS];
};

void heat_init(struct heat *heat, uint64_t pages);

/* One write to @nr pages from @page on. */
void heat_add(struct heat *heat, uint64_t page, uint64_t nr);

/*
 * Draws rows of at most @width columns, label included. @page_size is for the
 * labels. @utf8: block characters, else ASCII.
 */
void heat_draw(FILE *out, const struct heat *heat, unsigned int width,
	       unsigned int page_size, bool utf8);

#endif /* PGP_HEAT_H */
