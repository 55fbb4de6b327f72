/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Mappings with shared page tables, and what the kernel tells of them.
 *
 * As in pgtest.h, a helper that cannot do its part ends the test.
 */
#ifndef SHARING_H
#define SHARING_H

#include <linux/ptshare.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define UNIT		(2UL << 20)	/* of sharing, in the address space and the file */
#define DIRECTORY	(1UL << 30)	/* what is shared by one link if a mapping covers it */

/* Sets /sys/kernel/mm/ptshare/enabled; false: this kernel has none. */
bool sharing_set(const char *mode);
/* What it says; NULL: this kernel has none. */
const char *sharing_mode(void);
/* A number below /sys/kernel/mm/ptshare. */
long sharing_count(const char *name);

/*
 * Maps @size bytes of @fd from @offset, shared, where the address is as far from
 * a whole unit (or directory, if the mapping is as large) as the offset is. Never at
 * the same address twice in a row.
 */
char *map_congruent(int fd, size_t size, size_t offset, int prot);
/* The same, and advises to share; with page tables of its own if @shared is false. */
char *map_guest(int fd, size_t size, size_t offset, int prot, bool shared);
/* madvise(): 0 or -errno. */
int advise(void *addr, size_t size, int advice);

/* A child that has touched @size bytes there is stopped, and its byte changed: 0 or -errno. */
int poke_forked_child(char *map, size_t size, char value);
/* By io_uring; -ENOSYS: there is none. What the completion of a read of a byte to @map says. */
int read_by_ring(char *map, char value);
/* Registers the page at @map as a buffer, for a moment: 0 or an error. */
int register_with_ring(char *map);

/* In kB, of the mapping that @addr is in: a line of /proc/self/smaps. */
long mapping_kb(const void *addr, const char *key);
/* True if all of the range, in whole units, is in mappings marked "sp". */
bool is_shared(const void *addr, size_t size);
/* True if no part of the range is. */
bool is_ordinary(const void *addr, size_t size);
/* In kB: a line of /proc/self/status. */
long status_kb(const char *key);
/* In kB: a line of /proc/meminfo. */
long memory_kb(const char *key);
/* Faults of this process so far. */
long fault_count(void);

/* The signal that the access ended with, or 0. */
int try_load(const volatile char *addr);
int try_store(volatile char *addr, char value);
int try_call(void *code);

/* Writes to a process by process_vm_writev(): 0 or -errno. */
long copy_to(pid_t pid, void *addr, char value);
/* A page of a file on a disk, all 1, opened for direct I/O; negative: there is no disk. */
int direct_open(void);

/* Reads a byte of each page; writes one. */
void touch_pages(const volatile char *map, size_t size);
void dirty_pages(volatile char *map, size_t size);

/* What the tracepoint says of one PROTECT. */
struct protect_counts {
	unsigned int tables, flushes, fences;
};

struct protect_counts protect_counted(int ctx, uint32_t id, size_t offset, size_t length);

/* From the first to the second: how many PROTECTs, of whomever, have fenced something. */
void fences_watch(void);
unsigned int fences_seen(void);

#endif
