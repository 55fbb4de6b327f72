// SPDX-License-Identifier: GPL-2.0
/*
 * Messages to the user on standard error, and what to do about an error.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "message.h"

static char command[32] = "pgprotect";

void message_set_command(const char *name)
{
	snprintf(command, sizeof(command), "pgprotect %s", name);
}

static void say(const char *kind, const char *format, va_list args, const char *end)
{
	fflush(stdout);
	fprintf(stderr, "%s: %s", command, kind);
	vfprintf(stderr, format, args);
	fputs(end, stderr);
}

int usage_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("", format, args, "");
	va_end(args);
	fprintf(stderr, "; try '%s --help'\n", command);
	return STATUS_USAGE;
}

int failure(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("", format, args, "\n");
	va_end(args);
	return STATUS_FAILED;
}

void warning(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("warning: ", format, args, "\n");
	va_end(args);
}

void note(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say("", format, args, "\n");
	va_end(args);
}

void remedy(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "  what to do: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

const char *open_reason(int err)
{
	switch (-err) {
	case ENOENT:
		return "there is no /dev/pgprotect";
	case ENODEV:
	case ENXIO:
		return "/dev/pgprotect has no driver";
	case EACCES:
	case EPERM:
		return "no permission to open /dev/pgprotect";
	case ENOTTY:
		return "/dev/pgprotect is something else";
	default:
		return strerror(-err);
	}
}

const char *open_remedy(int err)
{
	switch (-err) {
	case ENOENT:
	case ENODEV:
	case ENXIO:
		return "boot a kernel with CONFIG_PGPROTECT=y; 'pgprotect doctor' tells more";
	case EACCES:
	case EPERM:
		return "run as root, or let the administrator give you access: chmod or chgrp /dev/pgprotect";
	case ENOTTY:
		return "remove it and have devtmpfs or udev make the right one";
	default:
		return "'pgprotect doctor' tells more";
	}
}

int failure_open(int err)
{
	failure("%s", open_reason(err));
	remedy("%s", open_remedy(err));
	return STATUS_FAILED;
}

int failure_errno(const char *what, int err)
{
	return failure("%s: %s", what, strerror(-err));
}
