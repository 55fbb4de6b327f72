// SPDX-License-Identifier: GPL-2.0
/* Users, user namespaces, and a program that can be started with privileges. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "users.h"

static void write_file(const char *path, const char *text)
{
	if (!write_text(path, text))
		die("write '%s' to %s", text, path);
}

void enter_userns(void)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char map[32];

	if (unshare(CLONE_NEWUSER))
		die("unshare");
	write_file("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "0 %u 1", uid);
	write_file("/proc/self/uid_map", map);
	snprintf(map, sizeof(map), "0 %u 1", gid);
	write_file("/proc/self/gid_map", map);
}

int ctx_open_in_userns(uid_t uid)
{
	const char *node = "/dev/pgprotect-guard";
	struct stat device;
	int pair[2];
	pid_t pid;
	int fd;

	if (stat("/dev/pgprotect", &device) || mknod(node, S_IFCHR | 0600, device.st_rdev) ||
	    chmod(node, 0666) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("make %s", node);
	pid = fork_child();
	if (pid == 0) {
		become_user(uid);
		enter_userns();
		fd = open(node, O_RDWR | O_CLOEXEC);
		if (fd >= 0)
			send_fd(pair[1], fd);
		_exit(fd < 0);
	}
	close(pair[1]);
	fd = wait_child(pid) ? -1 : receive_fd(pair[0]);
	unlink(node);
	close(pair[0]);
	if (fd < 0)
		die("context in a user namespace");
	return fd;
}

struct test_file file_of_user(size_t pages)
{
	struct test_file file = file_memfd(pages);

	if (fchown(file.fd, USER, USER))
		die("fchown");
	return file;
}

int attach_by(int ctx, int fd, uint32_t mode, uint64_t flags)
{
	struct pgprotect_attach args = {
		.fd = fd,
		.mode = mode,
		.access = PGPROTECT_ACCESS_WRITE,
		.flags = flags,
	};

	return ctx_attach_try(ctx, &args);
}

uint32_t protect_by(int ctx, int fd, uint32_t mode, uint64_t flags)
{
	uint32_t id = ctx_attach(ctx, fd, mode, flags);

	if (ctx_protect_all(ctx, id))
		die("protect");
	return id;
}

/* "get": what PR_GET_PGPROTECT says. "write": 0, or the errno of a write to @fd. */
static int program_run(const char *word, int fd)
{
	if (!strcmp(word, "get"))
		return prctl(PR_GET_PGPROTECT, 0, 0, 0, 0);
	return write_page(fd, 0, 'p') == 1 ? 0 : errno;
}

/* Before the harness, whose main() knows nothing of this. */
__attribute__((constructor)) static void program_main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "--program"))
		_exit(program_run(argv[2], atoi(argv[3])));
}

/* Where set-user-id counts. */
static void program_install(const char *path, bool setuid)
{
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	struct stat self;

	if (in < 0 || out < 0 || fstat(in, &self))
		die("install %s", path);
	while (sendfile(out, in, NULL, self.st_size) > 0)
		;
	if (fchmod(out, setuid ? 04755 : 0755))
		die("chmod %s", path);
	close(in);
	close(out);
}

struct program {
	const char *path, *word;
	int how, fd;
};

static int program_exec(void *arg)
{
	struct program *program = arg;
	char fd[16];

	snprintf(fd, sizeof(fd), "%d", program->fd);
	/* Descriptors of the tests are not inherited, by themselves. */
	if (program->fd >= 0)
		fcntl(program->fd, F_SETFD, 0);
	if (prctl(PR_SET_PGPROTECT, program->how, 0, 0, 0))
		return 254;
	execl(program->path, program->path, "--program", program->word, fd, NULL);
	return 255;
}

int exec_program(uid_t uid, int how, bool setuid, const char *word, int fd)
{
	struct program program = {
		.path = "/run/pgprotect-program", .word = word, .how = how, .fd = fd,
	};
	int status;

	program_install(program.path, setuid);
	status = run_as(uid, program_exec, &program);
	unlink(program.path);
	return status;
}

static FILE *sysctl_open(const char *name, const char *mode)
{
	char path[80];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/sys/vm/%s", name);
	file = fopen(path, mode);
	if (!file)
		die("open %s", path);
	return file;
}

long sysctl_read(const char *name)
{
	FILE *in = sysctl_open(name, "re");
	long value;

	if (fscanf(in, "%ld", &value) != 1)
		die("read %s", name);
	fclose(in);
	return value;
}

void sysctl_write(const char *name, long value)
{
	FILE *out = sysctl_open(name, "we");

	if (fprintf(out, "%ld\n", value) < 0 || fclose(out))
		die("write %ld to %s", value, name);
}

void forget_freed_of(const char *cache)
{
	char pattern[128];
	glob_t caches;

	snprintf(pattern, sizeof(pattern), "/sys/kernel/slab/%s/shrink", cache);
	if (glob(pattern, 0, NULL, &caches))
		return;
	for (size_t i = 0; i < caches.gl_pathc; i++)
		write_file(caches.gl_pathv[i], "1");
	globfree(&caches);
}

void forget_freed(void)
{
	forget_freed_of("*");
}
