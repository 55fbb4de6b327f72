/* SPDX-License-Identifier: GPL-2.0 */
/* The handler of a run: protects, looks, releases, answers. */
#ifndef STRESS_KEEPER_H
#define STRESS_KEEPER_H

#include "model.h"

struct keeper;

struct keeper *keeper_make(struct run *run);
/* One step, chosen at random. */
void keeper_step(struct keeper *keeper);
/* Releases all that is protected, and answers all events. To be repeated until the end. */
void keeper_release_all(struct keeper *keeper);
/* Nothing of the file stays mapped by it. There are no more steps. */
void keeper_unmap(struct keeper *keeper, unsigned int file);
void keeper_report(struct keeper *keeper);

#endif
