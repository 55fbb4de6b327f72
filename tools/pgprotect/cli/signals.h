/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Signals that end a command, turned into a stop of its event loop.
 */
#ifndef PGP_SIGNALS_H
#define PGP_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

#include "libpgprotect.h"

/*
 * From now on SIGINT, SIGTERM, SIGHUP (if it was not ignored), SIGCHLD and
 * SIGALRM stop @loop, and SIGPIPE is ignored. Once in a program.
 */
void signals_start(struct pgprotect_loop *loop);

/* Before @loop is freed. */
void signals_detach(void);

/* The signal that asked to end, 0: none. */
int signals_end(void);

/* The same, for passing it on: once for each signal, not those of a terminal,
 * which the whole process group got.
 */
int signals_take_forward(void);

/*
 * Waiting for a signal that comes between a look at the above and the sleep:
 * after signals_hold() none is handled but in signals_sleep(), which returns
 * when one was.
 */
void signals_hold(void);
void signals_sleep(void);

/* Sends SIGALRM after @ns. */
void signals_alarm(int64_t ns);
bool signals_alarmed(void);

/* Before another program is run. */
void signals_restore(void);

#endif /* PGP_SIGNALS_H */
