// SPDX-License-Identifier: GPL-2.0
/* KUnit tests of the gate's decisions */
#include <kunit/test.h>

#include "internal.h"

struct gate_case {
	const char *name;
	struct pgprotect_standing s;
	enum pgprotect_step step;
	int error;
};

static const struct gate_case gate_cases[] = {
	{ "unprotected passes",
	  { .may_stall = true }, PGPROTECT_PASS },
	{ "unprotected passes even who may not wait",
	  { .deny = true, .handler = true, .exiting = true, .nowait = true },
	  PGPROTECT_PASS },
	{ "stall waits",
	  { .protected = true, .may_stall = true }, PGPROTECT_WAIT },
	{ "stall without waiting is try again",
	  { .protected = true, .may_stall = true, .nowait = true },
	  PGPROTECT_FAIL, -EAGAIN },
	{ "deny refuses",
	  { .protected = true, .deny = true, .may_stall = true },
	  PGPROTECT_FAIL, -EPERM },
	{ "deny refuses without waiting too",
	  { .protected = true, .deny = true, .nowait = true },
	  PGPROTECT_FAIL, -EPERM },
	{ "deny refuses a handler too",
	  { .protected = true, .deny = true, .handler = true },
	  PGPROTECT_FAIL, -EPERM },
	{ "a handler is not stalled by its own context",
	  { .protected = true, .may_stall = true, .handler = true },
	  PGPROTECT_FAIL, -EDEADLK },
	{ "who may not be stopped is refused",
	  { .protected = true }, PGPROTECT_FAIL, -EPERM },
	{ "who exits is refused",
	  { .protected = true, .may_stall = true, .exiting = true },
	  PGPROTECT_FAIL, -EPERM },
	{ "an unfinished cut holds a stall",
	  { .protected = true, .arming = true, .may_stall = true },
	  PGPROTECT_WAIT_CUT },
	{ "an unfinished cut holds a denial",
	  { .protected = true, .arming = true, .deny = true, .may_stall = true },
	  PGPROTECT_WAIT_CUT },
	{ "an unfinished cut without waiting is try again",
	  { .protected = true, .arming = true, .deny = true, .may_stall = true,
	    .nowait = true },
	  PGPROTECT_FAIL, -EAGAIN },
	{ "an unfinished cut does not hold who may not be stopped",
	  { .protected = true, .arming = true }, PGPROTECT_FAIL, -EPERM },
	{ "an unfinished cut does not hold who exits",
	  { .protected = true, .arming = true, .may_stall = true,
	    .exiting = true },
	  PGPROTECT_FAIL, -EPERM },
	{ "an unfinished cut does not hold a handler",
	  { .protected = true, .arming = true, .may_stall = true,
	    .handler = true },
	  PGPROTECT_FAIL, -EDEADLK },
};

static void gate_case_name(const struct gate_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(gate, gate_cases, gate_case_name);

static void gate_test_judge(struct kunit *test)
{
	const struct gate_case *c = test->param_value;
	int error = 0;

	KUNIT_EXPECT_EQ(test, pgprotect_judge(&c->s, &error), c->step);
	if (c->step == PGPROTECT_FAIL)
		KUNIT_EXPECT_EQ(test, error, c->error);
}

static struct kunit_case gate_test_cases[] = {
	KUNIT_CASE_PARAM(gate_test_judge, gate_gen_params),
	{}
};

static struct kunit_suite gate_test_suite = {
	.name = "pgprotect-gate",
	.test_cases = gate_test_cases,
};

kunit_test_suite(gate_test_suite);
