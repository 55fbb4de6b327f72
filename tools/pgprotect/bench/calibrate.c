// SPDX-License-Identifier: GPL-2.0
/* Shows whether this guest's nanoseconds are instructions, on which all else rests. */
#include "bench.h"

int main(void)
{
	struct samples s = {};

	for (int i = 0; i < 5; i++)
		sample_add(&s, time_per_instruction() * 1e6, 1000000);
	samples_print(&s, "calibrate", "clock", "\"loop\":\"dec-jnz\"");
	return 0;
}
