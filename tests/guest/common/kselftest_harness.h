/* SPDX-License-Identifier: GPL-2.0 */
/* The kernel's harness, with time for a test on a slow kernel of a busy machine. */
#ifndef PGTEST_KSELFTEST_HARNESS_H
#define PGTEST_KSELFTEST_HARNESS_H

#include_next <kselftest_harness.h>

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	120	/* seconds */

#endif
