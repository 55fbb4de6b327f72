/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A trial: does a write really wait, and go on when it is released?
 */
#ifndef PGP_TRIAL_H
#define PGP_TRIAL_H

#include <stdint.h>

#include "libpgprotect.h"

/*
 * A process of its own writes to a memfd. Returns 0 and the time from the event
 * to the end of the write; or -errno: ETIMEDOUT: no event; EIO: the write did
 * not go on.
 */
int trial_run(struct pgprotect *ctx, int64_t *round_ns);

#endif /* PGP_TRIAL_H */
