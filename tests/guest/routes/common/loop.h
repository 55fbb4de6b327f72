/* SPDX-License-Identifier: GPL-2.0 */
/* A block device over a file. */
#ifndef ROUTE_LOOP_H
#define ROUTE_LOOP_H

#include <stdint.h>

/*
 * A loop device over @fd, with these LO_FLAGS_*, opened with @flags besides O_RDWR.
 * It goes with its last descriptor. -1: not possible.
 */
int loop_open(int fd, uint32_t lo_flags, int flags);

#endif
