/* SPDX-License-Identifier: GPL-2.0 */
/* The memory manager, made to work. */
#ifndef STRESS_BACKGROUND_H
#define STRESS_BACKGROUND_H

#include <stdbool.h>

/* Before the files are made: puts this process into a cgroup that can be reclaimed. */
bool background_prepare(void);
/* NUMA balancing, without a rest. */
void background_hints(void);
void background_undo(void);

#endif
