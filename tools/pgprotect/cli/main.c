// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect: the table of subcommands.
 */
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "message.h"

static int run_help(const struct command *self, int argc, char **argv);

static const struct option_desc no_options[] = { {} };

static const struct command help_command = {
	.name = "help",
	.synopsis = "[COMMAND]",
	.summary = "explain a command",
	.about = "Prints what pgprotect can do, or how COMMAND is used.",
	.options = no_options,
	.run = run_help,
};

static const struct command *const commands[] = {
	&doctor_command,
	&watch_command,
	&fence_command,
	&list_command,
	&help_command,
};

#define NR_COMMANDS	(sizeof(commands) / sizeof(commands[0]))

static const struct command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static void print_overview(void)
{
	size_t i;

	printf("Usage: pgprotect COMMAND [ARGUMENT]...\n\n"
	       "Watches and stops writes to shared files and shared memory, by whichever\n"
	       "process and route.\n\nCommands:\n");
	for (i = 0; i < NR_COMMANDS; i++)
		printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
	printf("\nOptions:\n"
	       "  -h, --help                 print this and exit\n"
	       "  -V, --version              print the version and exit\n"
	       "\n'pgprotect help COMMAND' tells more.\n");
}

static int run_help(const struct command *self, int argc, char **argv)
{
	const struct command *command;
	int key;

	while ((key = parse_options(self, argc, argv)) != OPTIONS_END)
		return key == OPTIONS_HELP ? STATUS_OK : STATUS_USAGE;
	if (optind + 1 < argc)
		return usage_error("one command at a time");
	if (optind == argc) {
		print_overview();
		return STATUS_OK;
	}
	command = find_command(argv[optind]);
	if (!command)
		return usage_error("no command '%s'", argv[optind]);
	print_help(command);
	return STATUS_OK;
}

/* Output that could not be written is a failure, but for a reader who left. */
static int flush(int status)
{
	if (fflush(stdout) && status == STATUS_OK)
		return STATUS_FAILED;
	return status;
}

int main(int argc, char **argv)
{
	const struct command *command;

	setlocale(LC_CTYPE, "");
	if (argc < 2)
		return usage_error("which command?");
	if (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help")) {
		print_overview();
		return flush(STATUS_OK);
	}
	if (!strcmp(argv[1], "-V") || !strcmp(argv[1], "--version")) {
		puts("pgprotect " PGPROTECT_VERSION);
		return flush(STATUS_OK);
	}
	command = find_command(argv[1]);
	if (!command)
		return usage_error("no command '%s'", argv[1]);
	message_set_command(command->name);
	return flush(command->run(command, argc - 1, argv + 1));
}
