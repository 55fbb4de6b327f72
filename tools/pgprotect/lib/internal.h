/* SPDX-License-Identifier: LGPL-2.1 OR MIT */
/*
 * What the files of libpgprotect share and programs do not see.
 */
#ifndef PGP_INTERNAL_H
#define PGP_INTERNAL_H

#include "libpgprotect.h"

/* @fd: the open context; set at creation, closed with the handle. */
struct pgprotect {
	int fd;
};

/* ioctl(2) on a context; -errno. */
int pgp_ioctl(const struct pgprotect *ctx, unsigned long request, void *arg);

/*
 * Copies a structure that begins with its own size into @dst of @known bytes.
 * @first is the size of the structure as it was published first: -EINVAL if the
 * caller's is shorter, -E2BIG if it has something that @dst has no room for.
 */
int pgp_copy_options(void *dst, size_t known, size_t first, const void *src);

/* Copies back as much of @src as the caller's structure at @dst can take. */
void pgp_copy_result(void *dst, const void *src, size_t known);

/*
 * Parses one line of /proc/PID/maps, ends its path with NUL. 1: a shared
 * mapping of a file, 0: another mapping, -EIO: no such line.
 */
int pgp_parse_map(char *line, struct pgprotect_map *map);

#endif /* PGP_INTERNAL_H */
