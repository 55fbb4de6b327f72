// SPDX-License-Identifier: GPL-2.0
/*
 * Names that others chose, made fit for a terminal and for JSON.
 */
#include <stddef.h>
#include <stdint.h>

#include "text.h"

/* Bytes of the UTF-8 character at @text, 0 if it is none. */
static size_t character_size(const unsigned char *text)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t value;
	size_t size, i;

	if (*text < 0x80)
		return *text >= 0x20 && *text != 0x7f;
	if (*text < 0xc2 || *text > 0xf4)
		return 0;
	size = *text < 0xe0 ? 2 : *text < 0xf0 ? 3 : 4;
	value = *text & (0x7f >> size);
	for (i = 1; i < size; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (text[i] & 0x3f);
	}
	/* Overlong, a surrogate, too large, or a control character of Latin-1. */
	if (value < least[size] || (value >= 0xd800 && value < 0xe000) ||
	    value > 0x10ffff || value < 0xa0)
		return 0;
	return size;
}

void text_clean(char *text)
{
	while (*text) {
		size_t size = character_size((unsigned char *)text);

		if (!size) {
			*text = '?';
			size = 1;
		}
		text += size;
	}
}
