/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Output that never makes its writer wait: a thread hands it on.
 */
#ifndef PGP_OUTPUT_H
#define PGP_OUTPUT_H

#include <stdint.h>
#include <stdio.h>

struct output;

/*
 * A stream whose lines go to @fd. Whoever reads there may stop reading: then
 * up to @room bytes are kept, and further lines are dropped. NULL: no memory.
 */
struct output *output_open(int fd, size_t room);

/* For writing whole lines, by one thread. Never waits, never fails. */
FILE *output_stream(struct output *output);

/* Lines dropped so far. */
uint64_t output_dropped(struct output *output);

/* 0, or -errno if writing has failed, or would because nobody can read it. */
int output_error(struct output *output);

/* From now on the writer waits, and no line is dropped. */
void output_patient(struct output *output);

/* Waits until all is written. Returns what output_error() does. */
int output_close(struct output *output);

#endif /* PGP_OUTPUT_H */
