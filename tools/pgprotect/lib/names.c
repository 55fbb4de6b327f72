// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * Names of the numbers in events and attachments.
 */
#include "internal.h"

#define NAME_OF(table, value) \
	((value) < sizeof(table) / sizeof((table)[0]) && (table)[value] ? \
	 (table)[value] : "unknown")

static const char *const modes[] = {
	[PGPROTECT_MODE_STALL] = "stall",
	[PGPROTECT_MODE_DENY] = "deny",
	[PGPROTECT_MODE_TRACK] = "track",
	[PGPROTECT_MODE_PRESERVE] = "preserve",
};

static const char *const origins[] = {
	[PGPROTECT_ORIGIN_STORE] = "store",
	[PGPROTECT_ORIGIN_WRITE] = "write",
	[PGPROTECT_ORIGIN_SPLICE] = "splice",
	[PGPROTECT_ORIGIN_TRUNCATE] = "truncate",
	[PGPROTECT_ORIGIN_FALLOCATE] = "fallocate",
	[PGPROTECT_ORIGIN_REFLINK] = "reflink",
	[PGPROTECT_ORIGIN_PIN] = "pin",
	[PGPROTECT_ORIGIN_UFFD] = "uffd",
	[PGPROTECT_ORIGIN_IOCTL] = "ioctl",
};

static const char *const events[] = {
	[PGPROTECT_EVENT_STALL] = "stall",
	[PGPROTECT_EVENT_DENIED] = "denied",
	[PGPROTECT_EVENT_TIMEOUT] = "timeout",
	[PGPROTECT_EVENT_OVERFLOW] = "overflow",
};

const char *pgprotect_mode_name(unsigned int mode)
{
	return NAME_OF(modes, mode);
}

const char *pgprotect_origin_name(unsigned int origin)
{
	return NAME_OF(origins, origin);
}

const char *pgprotect_event_name(unsigned int type)
{
	return NAME_OF(events, type);
}
