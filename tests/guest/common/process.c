// SPDX-License-Identifier: GPL-2.0
/* Child processes, time, and the end of a test that cannot go on. */
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pgtest.h"

void die(const char *fmt, ...)
{
	int saved = errno;
	va_list args;

	printf("# pgtest: ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf(" (errno %d: %s)\n", saved, strerror(saved));
	fflush(stdout);
	_exit(1);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void pause_briefly(void)
{
	usleep(1000);
}

size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

pid_t fork_child(void)
{
	pid_t parent = getpid();
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

int wait_child(pid_t pid)
{
	int status;
	pid_t got;

	if (!WAIT_FOR((got = waitpid(pid, &status, WNOHANG)) != 0)) {
		kill(pid, SIGKILL);
		die("child %d does not end", pid);
	}
	if (got != pid)
		die("waitpid %d", pid);
	return status;
}

void become_user(uid_t uid)
{
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		die("become user %u", uid);
	/* Both were reset by the change of user. */
	prctl(PR_SET_DUMPABLE, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

int run_as(uid_t uid, int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork_child();
	int status;

	if (pid == 0) {
		if (uid)
			become_user(uid);
		status = fn(arg);
		fflush(stdout);
		_exit(status);
	}
	status = wait_child(pid);
	if (!WIFEXITED(status))
		die("child died: status %#x", status);
	return WEXITSTATUS(status);
}
