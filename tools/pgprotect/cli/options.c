// SPDX-License-Identifier: GPL-2.0
/*
 * The options of a subcommand: one table makes the parser and the help.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "message.h"

#define MAX_OPTIONS	24

static void make_tables(const struct option_desc *desc, struct option *longs,
			char *shorts)
{
	/* The colon: getopt tells a missing argument from an unknown option. */
	*shorts++ = ':';
	*shorts++ = 'h';
	*longs++ = (struct option) { .name = "help", .val = 'h' };
	for (; desc->name; desc++) {
		*longs++ = (struct option) {
			.name = desc->name,
			.has_arg = desc->arg ? required_argument : no_argument,
			.val = desc->key,
		};
		if (desc->key >= 256)
			continue;
		*shorts++ = desc->key;
		if (desc->arg)
			*shorts++ = ':';
	}
	*shorts = '\0';
	*longs = (struct option) {};
}

int parse_options(const struct command *command, int argc, char **argv)
{
	struct option longs[MAX_OPTIONS + 2];
	char shorts[2 * MAX_OPTIONS + 3];
	int key, at = optind ? optind : 1;

	make_tables(command->options, longs, shorts);
	opterr = 0;
	key = getopt_long(argc, argv, shorts, longs, NULL);
	switch (key) {
	case 'h':
		print_help(command);
		return OPTIONS_HELP;
	case ':':
		usage_error("option '%s' needs an argument", argv[optind - 1]);
		return OPTIONS_BAD;
	case '?':
		/* A letter can be in the middle of its word. */
		if (optopt && optopt < 256 && strncmp(argv[optind - 1], "--", 2))
			usage_error("unknown option '-%c'", optopt);
		else if (optopt)
			usage_error("option '%s' takes no argument", argv[optind - 1]);
		else
			usage_error("unknown option '%s'",
				    argv[optind > at ? optind - 1 : at]);
		return OPTIONS_BAD;
	default:
		return key;
	}
}

static void print_option(const struct option_desc *desc)
{
	char left[64], letter[8] = "    ";

	if (desc->key < 256)
		snprintf(letter, sizeof(letter), "-%c, ", desc->key);
	snprintf(left, sizeof(left), "%s--%s%s%s", letter, desc->name,
		 desc->arg ? " " : "", desc->arg ? desc->arg : "");
	printf("  %-26s %s\n", left, desc->help);
}

void print_help(const struct command *command)
{
	static const struct option_desc help = {
		'h', "help", NULL, "print this and exit",
	};
	const struct option_desc *desc;
	const char *form = command->synopsis;
	const char *lead = "Usage:";

	do {
		int size = strcspn(form, "\n");

		printf("%-6s pgprotect %s%s%.*s\n", lead, command->name,
		       size ? " " : "", size, form);
		form += size + (form[size] == '\n');
		lead = "";
	} while (*form);
	printf("\n%s\n\nOptions:\n", command->about);
	for (desc = command->options; desc->name; desc++)
		print_option(desc);
	print_option(&help);
}
