/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A stand-in for /dev/pgprotect: what tests ask of it.
 */
#ifndef FAKE_DEVICE_H
#define FAKE_DEVICE_H

#include <linux/types.h>

/* Queues an event of the first file. */
void fake_event(unsigned int type, unsigned int pid, __u64 offset, __u64 length);

#endif /* FAKE_DEVICE_H */
