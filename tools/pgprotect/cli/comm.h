/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Names of processes by number, remembered for a moment.
 */
#ifndef PGP_COMM_H
#define PGP_COMM_H

#include <stdint.h>

/* "?" if it cannot be read. Valid until the next call. */
const char *comm_of(uint32_t pid);

#endif /* PGP_COMM_H */
