/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The command that runs inside a fence.
 */
#ifndef PGP_CHILD_H
#define PGP_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "target.h"

/*
 * Runs @command, a NULL-terminated array; an argument {} stands for the paths
 * of @targets. -errno if there is no process; one that cannot run the command
 * says so and ends with STATUS_CANNOT or STATUS_NOT_FOUND.
 */
int child_start(pid_t *child, char **command, const struct targets *targets);

/* Whether it has ended. @status: as a shell says it, 128 + signal if killed. */
bool child_ended(pid_t child, int *status);

#endif /* PGP_CHILD_H */
