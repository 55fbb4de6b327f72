// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * Structures that grow: taking those of newer and of older programs.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

int pgp_copy_options(void *dst, size_t known, size_t first, const void *src)
{
	const unsigned char *bytes = src;
	size_t size, i;

	memcpy(&size, src, sizeof(size));
	if (size < first)
		return -EINVAL;
	for (i = known; i < size; i++)
		if (bytes[i])
			return -E2BIG;

	memset(dst, 0, known);
	memcpy(dst, src, size < known ? size : known);
	memcpy(dst, &known, sizeof(known));
	return 0;
}

void pgp_copy_result(void *dst, const void *src, size_t known)
{
	size_t size;

	memcpy(&size, dst, sizeof(size));
	if (known > size)
		known = size;
	memcpy((char *)dst + sizeof(size), (const char *)src + sizeof(size),
	       known - sizeof(size));
}
