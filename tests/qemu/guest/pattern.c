// SPDX-License-Identifier: GPL-2.0
/* Writes the disk of disk.h to standard output. */
#include <stdio.h>

#include "disk.h"

int main(void)
{
	uint64_t words[WORDS];

	for (uint64_t block = 0; block < DISK_BLOCKS; block++) {
		for (size_t i = 0; i < WORDS; i++)
			words[i] = disk_word(block, i);
		if (fwrite(words, sizeof(words), 1, stdout) != 1)
			return 1;
	}
	return fflush(stdout) ? 1 : 0;
}
