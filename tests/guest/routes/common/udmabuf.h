/* SPDX-License-Identifier: GPL-2.0 */
/* udmabuf takes pages of a memfd by offset: no fault, no page table. */
#ifndef ROUTE_UDMABUF_H
#define ROUTE_UDMABUF_H

#include <stdbool.h>
#include <stdint.h>

bool have_udmabuf(void);
/* A buffer of these pages of a memfd with F_SEAL_SHRINK, or -errno. */
int udmabuf_create(int memfd, uint64_t offset, uint64_t length);

#endif
