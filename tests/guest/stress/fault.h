/* SPDX-License-Identifier: GPL-2.0 */
/* What a run does wrong itself: see enum fault. None of this happens without. */
#ifndef STRESS_FAULT_H
#define STRESS_FAULT_H

#include "route.h"

/* Before its first turn. */
void fault_of_writer(struct hand *h);
/* What the writer is told that its route did. */
enum outcome fault_outcome(const struct hand *h, enum outcome outcome);
/* Before its first step. */
void fault_of_keeper(struct run *run);
/* When the file has gone to swap or to the disk. */
void fault_at_end(struct run *run, unsigned int file);

#endif
