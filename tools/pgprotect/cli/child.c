// SPDX-License-Identifier: GPL-2.0
/*
 * The command that runs inside a fence.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "command.h"
#include "message.h"
#include "signals.h"

/* The paths, one a line. */
static char *join_paths(const struct targets *targets)
{
	char *text = NULL;
	size_t i, size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (i = 0; i < targets->nr; i++)
		fprintf(out, "%s%s", i ? "\n" : "", targets->list[i].path);
	return fclose(out) ? NULL : text;
}

static char **put_in_paths(char **command, const struct targets *targets)
{
	size_t i, nr = 1, at = 0;
	char **arg, **filled;

	for (arg = command; *arg; arg++)
		nr += strcmp(*arg, "{}") ? 1 : targets->nr;
	filled = calloc(nr, sizeof(*filled));
	if (!filled)
		return NULL;
	for (arg = command; *arg; arg++) {
		if (strcmp(*arg, "{}")) {
			filled[at++] = *arg;
			continue;
		}
		for (i = 0; i < targets->nr; i++)
			filled[at++] = targets->list[i].path;
	}
	return filled;
}

static void run(char **command)
{
	int err;

	signals_restore();
	execvp(command[0], command);
	err = errno;
	failure_errno(command[0], -err);
	_exit(err == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT);
}

int child_start(pid_t *child, char **command, const struct targets *targets)
{
	char *paths = join_paths(targets);
	char **filled = put_in_paths(command, targets);
	int ret = -ENOMEM;
	pid_t pid;

	if (!paths || !filled || setenv("PGPROTECT_FILES", paths, 1))
		goto out;
	fflush(NULL);
	pid = fork();
	if (!pid)
		run(filled);
	ret = pid < 0 ? -errno : 0;
	*child = pid > 0 ? pid : 0;
out:
	free(paths);
	free(filled);
	return ret;
}

static int status_of(int status)
{
	return WIFSIGNALED(status) ? STATUS_SIGNAL + WTERMSIG(status) :
	       WEXITSTATUS(status);
}

bool child_ended(pid_t child, int *status)
{
	int raw;

	if (waitpid(child, &raw, WNOHANG) != child)
		return false;
	*status = status_of(raw);
	return true;
}
