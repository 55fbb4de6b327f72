// SPDX-License-Identifier: GPL-2.0
/* Child processes, time, and the end of a test that cannot go on. */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
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

void *const nowhere = (void *)8;

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

/*
 * What the kernel tells of a process that hangs, and the times it has run; of one that
 * runs, the kernel's log says where.
 */
static void say_where(pid_t pid)
{
	static const char *const files[] = { "stat", "stack", "syscall" };
	char path[64], line[256];
	size_t i;

	for (i = 0; i < ARRAY_LEN(files); i++) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/%s", pid, files[i]);
		f = fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			printf("# %s: %.*s\n", path, (int)strcspn(line, "\n"), line);
		if (f)
			fclose(f);
	}
	if (task_state(pid) == 'R')
		write_text("/proc/sysrq-trigger", "l");
}

int wait_child(pid_t pid)
{
	int status;
	pid_t got;

	if (!WAIT_FOR((got = waitpid(pid, &status, WNOHANG)) != 0)) {
		say_where(pid);
		kill(pid, SIGKILL);
		die("child %d does not end", pid);
	}
	if (got != pid)
		die("waitpid %d", pid);
	return status;
}

static void keep_capability(int cap)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	data[cap / 32].permitted = data[cap / 32].effective = 1U << cap % 32;
	if (syscall(SYS_capset, &header, data))
		die("keep capability %d", cap);
}

void become_user_with(uid_t uid, int cap)
{
	prctl(PR_SET_KEEPCAPS, cap >= 0);
	if (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid))
		die("become user %u", uid);
	if (cap >= 0)
		keep_capability(cap);
	/* Both were reset by the change of user. */
	prctl(PR_SET_DUMPABLE, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void become_user(uid_t uid)
{
	become_user_with(uid, -1);
}

union fd_message {
	struct cmsghdr header;
	char space[CMSG_SPACE(sizeof(int))];
};

void send_fd(int sock, int fd)
{
	union fd_message control = { 0 };
	struct iovec iov = { .iov_base = "", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};

	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	if (sendmsg(sock, &msg, 0) != 1)
		die("send an fd");
}

int receive_fd(int sock)
{
	union fd_message control;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control),
	};
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != 1 ||
	    msg.msg_controllen < CMSG_LEN(sizeof(int)))
		die("receive an fd");
	memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
	return fd;
}

_Atomic unsigned int signals_seen;

static void on_signal(int sig)
{
	(void)sig;
	signals_seen++;
}

void count_signal(int sig, int flags)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };

	if (sigaction(sig, &action, NULL))
		die("sigaction %d", sig);
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
