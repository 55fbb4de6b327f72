/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The files a command works on: named, or found in a process's mappings.
 */
#ifndef PGP_TARGET_H
#define PGP_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "libpgprotect.h"

enum which_maps {
	MAPS_DEFAULT,	/* as MAPS_ALL */
	MAPS_ONE,
	MAPS_LARGEST,
	MAPS_ALL,
};

/* What the user asked for. */
struct selection {
	pid_t pid;
	enum which_maps which;
	uint64_t start;
	uint64_t end;
	char **files;
	int nr_files;
};

enum {
	OPT_MAP = 256,
	OPT_LARGEST,
	OPT_ALL,
	OPT_FIRST_OWN,	/* where the keys of a command's own options begin */
};

#define TARGET_OPTIONS \
	{ 'p', "pid", "PID", "take the shared memory that process PID has mapped" }, \
	{ OPT_MAP, "map", "ADDR-ADDR", "of PID: the mapping that holds these addresses" }, \
	{ OPT_LARGEST, "largest", NULL, "of PID: the file of which most is mapped" }, \
	{ OPT_ALL, "all", NULL, "of PID: every file that can be protected (default)" }

/*
 * One file. @fd: open for writing. @file: its id in the context. @name: for
 * people. @path: opens it, as long as the process lives. @size: as last seen.
 */
struct target {
	int fd;
	uint32_t file;
	char *name;
	char *path;
	uint64_t dev;
	uint64_t ino;
	uint64_t size;
};

/* @pidfd: of the process, or -1. A target's index is its events' cookie. */
struct targets {
	struct target *list;
	size_t nr;
	int pidfd;
};

/* Takes an option of TARGET_OPTIONS. False: its argument is bad, and it said so. */
bool selection_option(struct selection *selection, int key, const char *arg);

/* Whether it makes sense as a whole. False: said why not. */
bool selection_check(const struct selection *selection);

/*
 * Opens and attaches them. Returns 0, or STATUS_FAILED having said why. Files of
 * --all that cannot be attached are left out, with a warning if the process can
 * write to them.
 */
int targets_attach(struct targets *targets, struct pgprotect *ctx,
		   const struct selection *selection,
		   const struct pgprotect_attach_options *options);

/* Protects all of all, in one call. -errno. */
int targets_protect(const struct targets *targets, struct pgprotect *ctx,
		    uint64_t flags, struct pgprotect_result *result);

/* Whether the process of --pid has ended. */
bool targets_gone(const struct targets *targets);

/*
 * Ends an event of the files where its file ends now: to truncate a file is to
 * ask for all pages that there could be.
 */
void targets_clip(struct targets *targets, struct pgprotect_event *event,
		  uint32_t page_size);

/* The file with this id; NULL: none. */
const struct target *targets_find(const struct targets *targets, uint32_t file);

void targets_free(struct targets *targets);

#endif /* PGP_TARGET_H */
