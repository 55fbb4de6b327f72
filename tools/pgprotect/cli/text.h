/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Names that others chose, made fit for a terminal and for JSON.
 */
#ifndef PGP_TEXT_H
#define PGP_TEXT_H

/* Replaces control characters and what is not UTF-8 by '?'. */
void text_clean(char *text);

#endif /* PGP_TEXT_H */
