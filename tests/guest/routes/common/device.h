/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A device with page tables of its own, which mirror those of a process: the kernel's
 * test of HMM. It reads and writes whole pages through its mirror.
 */
#ifndef ROUTE_DEVICE_H
#define ROUTE_DEVICE_H

#include <stddef.h>

/* What a snapshot says of a page: one of both, or neither. */
#define SEEN_READ	0x01
#define SEEN_WRITE	0x02

/* It mirrors who opens it, not who inherits it. Negative: there is none. */
int device_open(void);
/* Fills pages with @value. How often the mirror had to ask, or -errno. */
long device_write_pages(int device, char *address, char value, size_t pages);
long device_write(int device, char *address, char value);
/* The first byte of a page as the device sees it, or -errno. */
int device_read(int device, char *address);
/* SEEN_* of a page, or -errno. */
int device_sees(int device, char *address);

#endif
