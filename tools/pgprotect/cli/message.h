/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Messages to the user on standard error, and what to do about an error.
 */
#ifndef PGP_MESSAGE_H
#define PGP_MESSAGE_H

#include "command.h"

#define PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* The name that messages begin with: "pgprotect watch". */
void message_set_command(const char *name);

/* One line with a hint. Returns STATUS_USAGE. */
int usage_error(const char *format, ...) PRINTF(1, 2);

/* Returns STATUS_FAILED. */
int failure(const char *format, ...) PRINTF(1, 2);

/* "warning: " before it. */
void warning(const char *format, ...) PRINTF(1, 2);

/* For the user's information. */
void note(const char *format, ...) PRINTF(1, 2);

/* A second line: what to do. */
void remedy(const char *format, ...) PRINTF(1, 2);

/* pgprotect_open() failed with @err, negative. Returns STATUS_FAILED. */
int failure_open(int err);

/* A regular function of this program is out of memory, or the like. */
int failure_errno(const char *what, int err);

/* What to do about pgprotect_open() failing with @err; one sentence. */
const char *open_remedy(int err);

/* What is wrong, in words. */
const char *open_reason(int err);

#endif /* PGP_MESSAGE_H */
