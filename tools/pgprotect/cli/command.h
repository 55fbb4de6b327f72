/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A subcommand: its name, its options, its function, its exit status.
 */
#ifndef PGP_COMMAND_H
#define PGP_COMMAND_H

#include <stddef.h>

/* FENCE to NOT_FOUND: as env(1) and timeout(1), when there is a COMMAND. */
enum status {
	STATUS_OK	 = 0,
	STATUS_FAILED	 = 1,
	STATUS_USAGE	 = 2,
	STATUS_TIMEOUT	 = 124,
	STATUS_FENCE	 = 125,
	STATUS_CANNOT	 = 126,
	STATUS_NOT_FOUND = 127,
	STATUS_SIGNAL	 = 128,
};

/*
 * One option. @key: its letter, or a number from 256 on if it has none.
 * @arg: what its argument is called; NULL: it takes none.
 */
struct option_desc {
	int key;
	const char *name;
	const char *arg;
	const char *help;
};

/*
 * @synopsis: what follows the name, one form a line. @summary: for the list of
 * commands. @about: a paragraph for --help. @options: ends with a name of NULL.
 * @run: gets the arguments with the command's name as argv[0].
 */
struct command {
	const char *name;
	const char *synopsis;
	const char *summary;
	const char *about;
	const struct option_desc *options;
	int (*run)(const struct command *self, int argc, char **argv);
};

extern const struct command doctor_command;
extern const struct command watch_command;
extern const struct command fence_command;
extern const struct command list_command;

/* What parse_options() returns besides keys. */
#define OPTIONS_END	(-1)
#define OPTIONS_BAD	(-2)	/* said so; exit with STATUS_USAGE */
#define OPTIONS_HELP	(-3)	/* printed it; exit with STATUS_OK */

/*
 * Returns the next option's key, its argument in optarg; OPTIONS_END: optind is
 * that of the first operand. Operands may stand between options.
 */
int parse_options(const struct command *command, int argc, char **argv);

void print_help(const struct command *command);

#endif /* PGP_COMMAND_H */
