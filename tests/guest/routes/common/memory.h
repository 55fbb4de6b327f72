/* SPDX-License-Identifier: GPL-2.0 */
/* What the memory manager did with a page: huge, moved, swapped; and making it do so. */
#ifndef ROUTE_MEMORY_H
#define ROUTE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HUGE	(2UL << 20)

/* A file of this size on a tmpfs with huge=always; -1 if there is none. */
int huge_tmpfs_file(size_t size);
/* Maps all of @fd, shared, at a multiple of 2 MiB. */
char *map_aligned(int fd, size_t size);
/* kB of this smaps field for the mapping at @address, as "ShmemPmdMapped". */
long smaps_kb(const void *address, const char *field);
/* The page frame at @address, 0 if none is mapped; reading does not fault it in. */
uint64_t frame_of(const void *address);
/* Sets shmem_enabled of folios of this size, kB; false: not possible. */
bool set_shmem_folios(unsigned int kb, const char *value);
bool write_text(const char *path, const char *text);

bool have_swap(void);
bool have_two_nodes(void);
/* Swaps the page at @address out; true once it is neither mapped nor in memory. */
bool swap_out(void *address, size_t length);
/* Moves what is mapped at @address to this node; true if it went there. */
bool move_to_node(void *address, int node);

#endif
