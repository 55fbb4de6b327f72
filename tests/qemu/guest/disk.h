/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The disk that the guest reads: every word of a block says which block and which word.
 */
#ifndef TESTS_QEMU_DISK_H
#define TESTS_QEMU_DISK_H

#include <stddef.h>
#include <stdint.h>

#define BLOCK		4096
#define WORDS		(BLOCK / sizeof(uint64_t))
/* A prime: a page of the reader's buffer is never filled with the same block twice in a row. */
#define DISK_BLOCKS	4099

static inline uint64_t disk_word(uint64_t block, size_t word)
{
	return block << 32 | word;
}

#endif
