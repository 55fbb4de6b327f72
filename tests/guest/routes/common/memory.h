/* SPDX-License-Identifier: GPL-2.0 */
/* What the memory manager did with a page: huge, moved, swapped; and making it do so. */
#ifndef ROUTE_MEMORY_H
#define ROUTE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HUGE	(2UL << 20)
#define GIB	(1UL << 30)

/* A file of this size on a tmpfs with huge=always; -1 if there is none. */
int huge_tmpfs_file(size_t size);
/* Maps all of @fd, shared, at a multiple of 2 MiB, or of a GiB if it is as large. */
char *map_aligned(int fd, size_t size);
/* kB of this smaps field for the mapping at @address, as "ShmemPmdMapped". */
long smaps_kb(const void *address, const char *field);
/* The page frame at @address, 0 if none is mapped; reading does not fault it in. */
uint64_t frame_of(const void *address);
/* Sets shmem_enabled of folios of this size, kB; false: not possible. */
bool set_shmem_folios(unsigned int kb, const char *value);

bool have_swap(void);
bool have_two_nodes(void);
/* Swaps the page at @address out; true once it is neither mapped nor in memory. */
bool swap_out(void *address, size_t length);
/* The node of the page at @address; -1: unknown. */
int node_of_page(void *address);
/* Moves what is mapped at @address to this node; true if it went there. */
bool move_to_node(void *address, int node);
/* Moves it to the other one of two nodes. */
bool move_to_other_node(void *address);
/*
 * Reads the page at @address, in a mapping from @map of @size bytes, until a NUMA
 * hint made it fault: its entry has been made anew. No hints come any more then.
 * The page is on the node of the CPU, so that it is not moved. False: no hint came.
 */
bool take_numa_hint(char *map, size_t size, volatile char *address);
/* One folio of @pages pages is mapped at @map; true also if a larger one is. */
bool one_folio(char *map, size_t pages);

#endif
