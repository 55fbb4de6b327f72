/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Finding a path for a file of which only device and inode are known.
 */
#ifndef PGP_WHOSE_H
#define PGP_WHOSE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* @path: found; NULL: not. @pid: a process that has it mapped or open. */
struct whose {
	uint64_t dev;
	uint64_t ino;
	char *path;
	pid_t pid;
};

/* Looks at all processes that the caller may look at; as well as can be. */
void whose_find(struct whose *files, size_t nr);

#endif /* PGP_WHOSE_H */
