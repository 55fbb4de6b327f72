// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect list: the attachments in the system that the caller may see.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "comm.h"
#include "command.h"
#include "json.h"
#include "libpgprotect.h"
#include "message.h"
#include "whose.h"

static const struct option_desc options[] = {
	{ 'j', "json", NULL, "print JSON, one object a line" },
	{}
};

static int run_list(const struct command *self, int argc, char **argv);

const struct command list_command = {
	.name = "list",
	.synopsis = "[OPTION]...",
	.summary = "show which files are attached, and by whom",
	.about = "Prints a line for each attachment of a file to a context that you may see:\n"
		 "your own, and with CAP_SYS_ADMIN all. Paths are found by looking at the\n"
		 "processes that have the file mapped or open.",
	.options = options,
	.run = run_list,
};

static void print_json(const struct pgprotect_list_entry *entry, const struct whose *whose)
{
	json_object *object = json_object_new_object();

	json_add_count(object, "pid", entry->pid);
	json_add_string(object, "comm", comm_of(entry->pid));
	json_add_count(object, "uid", entry->uid);
	json_add_string(object, "mode", pgprotect_mode_name(entry->mode));
	json_add_count(object, "pages", entry->pages);
	json_add_count(object, "stalled", entry->stalled);
	json_add_count(object, "events", entry->events);
	json_add_count(object, "flags", entry->flags);
	json_object_object_add(object, "orphan",
			       json_object_new_boolean(entry->state & PGPROTECT_LIST_ORPHAN));
	json_add_count(object, "file_id", entry->file);
	json_add_count(object, "cookie", entry->cookie);
	json_add_count(object, "dev_major", major(entry->dev));
	json_add_count(object, "dev_minor", minor(entry->dev));
	json_add_count(object, "ino", entry->ino);
	json_object_object_add(object, "path", whose->path ?
			       json_object_new_string(whose->path) : NULL);
	json_add_count(object, "path_pid", whose->pid);
	json_print(stdout, object);
}

static void print_line(const struct pgprotect_list_entry *entry, const struct whose *whose)
{
	char place[48];

	snprintf(place, sizeof(place), "%x:%x/%llu", major(entry->dev),
		 minor(entry->dev), entry->ino);
	printf("%7u %-15s %6u %-8s %10llu %8u %9llu  %-16s %s", entry->pid,
	       entry->state & PGPROTECT_LIST_ORPHAN ? "(kept)" : comm_of(entry->pid),
	       entry->uid, pgprotect_mode_name(entry->mode),
	       entry->pages, entry->stalled, entry->events, place, whose->path ? whose->path : "?");
	if (whose->pid)
		printf(" (process %d)", whose->pid);
	putchar('\n');
}

static int print_all(const struct pgprotect_list_entry *entries, int nr, bool json)
{
	struct whose *whose = calloc(nr ? nr : 1, sizeof(*whose));
	int i;

	if (!whose)
		return failure_errno("listing", -ENOMEM);
	for (i = 0; i < nr; i++) {
		whose[i].dev = entries[i].dev;
		whose[i].ino = entries[i].ino;
	}
	whose_find(whose, nr);
	if (!json)
		printf("%7s %-15s %6s %-8s %10s %8s %9s  %-16s %s\n", "PID", "COMMAND",
		       "UID", "MODE", "PAGES", "STALLED", "EVENTS", "DEV/INODE", "PATH");
	for (i = 0; i < nr; i++) {
		if (json)
			print_json(&entries[i], &whose[i]);
		else
			print_line(&entries[i], &whose[i]);
		free(whose[i].path);
	}
	free(whose);
	return STATUS_OK;
}

static int run_list(const struct command *self, int argc, char **argv)
{
	struct pgprotect_list_entry *entries;
	struct pgprotect *ctx;
	bool json = false;
	int key, ret;

	while ((key = parse_options(self, argc, argv)) != OPTIONS_END) {
		if (key < 0)
			return key == OPTIONS_HELP ? STATUS_OK : STATUS_USAGE;
		json = true;
	}
	if (optind < argc)
		return usage_error("no argument is needed, '%s' is one", argv[optind]);

	ret = pgprotect_open(&ctx, PGPROTECT_OPEN_CLOEXEC);
	if (ret < 0)
		return failure_open(ret);
	ret = pgprotect_list(ctx, &entries);
	pgprotect_close(ctx);
	if (ret < 0)
		return failure_errno("listing", ret);
	ret = print_all(entries, ret, json);
	pgprotect_list_free(entries);
	return ret;
}
