// SPDX-License-Identifier: GPL-2.0
/*
 * Hostile files against a real daemon: nginx serves a directory of another user, writes
 * its log there, and takes uploads. The user protects all of it, and answers nothing.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

#define NGINX	"/usr/sbin/nginx"
#define PORT	8099
#define BODY	"all that is served"

FIXTURE(server) {
	char dir[32];		/* USER's, on tmpfs */
	char conf[32];
	pid_t nginx;
	int ctx;
};

static int open_in(const char *dir, const char *name)
{
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || fchmod(fd, 0666) || fchown(fd, USER, USER))
		die("make %s", path);
	return fd;
}

static void write_conf(const char *conf, const char *dir)
{
	FILE *out = fopen(conf, "we");

	if (!out)
		die("make %s", conf);
	fprintf(out,
		"daemon off; worker_processes 1; pid %s.pid; error_log %s.err;\n"
		"events { worker_connections 64; }\n"
		"http { access_log %s/access.log; sendfile on;\n"
		"client_body_temp_path %s/body; proxy_temp_path %s/proxy;\n"
		"fastcgi_temp_path %s/fastcgi; uwsgi_temp_path %s/uwsgi; scgi_temp_path %s/scgi;\n"
		"server { listen 127.0.0.1:%d; root %s;\n"
		"location / { dav_methods PUT DELETE COPY; } } }\n",
		conf, conf, dir, dir, dir, dir, dir, dir, PORT, dir);
	fclose(out);
}

static int connect_to_server(void)
{
	struct timeval limit = { .tv_sec = DEADLINE_MS / 1000 };
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons(PORT),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (connect(sock, (struct sockaddr *)&at, sizeof(at))) {
		close(sock);
		return -1;
	}
	return sock;
}

static int request_send(const char *method, const char *uri, const char *headers,
			const char *body)
{
	char text[512];
	int sock = connect_to_server();
	int length = snprintf(text, sizeof(text),
			      "%s %s HTTP/1.0\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s",
			      method, uri, headers, strlen(body), body);

	if (sock >= 0 && write(sock, text, length) != length)
		die("send a request");
	return sock;
}

/* The status of the answer, 0 if there is none in time; closes the socket. */
static int answer(int sock, const char *body)
{
	char text[1024];
	size_t got = 0;
	ssize_t more;
	int status = 0;

	while (got < sizeof(text) - 1 &&
	       (more = read(sock, text + got, sizeof(text) - 1 - got)) > 0)
		got += more;
	text[got] = 0;
	close(sock);
	sscanf(text, "HTTP/%*s %d", &status);
	return body && !strstr(text, body) ? 0 : status;
}

static int request(const char *method, const char *uri, const char *headers, const char *body)
{
	return answer(request_send(method, uri, headers, body),
		      strcmp(method, "GET") ? NULL : BODY);
}

FIXTURE_SETUP(server)
{
	int fd;

	self->ctx = -1;
	if (access(NGINX, X_OK))
		SKIP(return, "no nginx");
	strcpy(self->dir, "/dev/shm/www.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	ASSERT_EQ(0, chmod(self->dir, 0777));
	ASSERT_EQ(0, chown(self->dir, USER, USER));
	fd = open_in(self->dir, "index.html");
	ASSERT_EQ((ssize_t)strlen(BODY), write(fd, BODY, strlen(BODY)));
	close(fd);
	close(open_in(self->dir, "access.log"));
	fd = open_in(self->dir, "upload");
	ASSERT_EQ(4, write(fd, "old\n", 4));
	close(fd);

	snprintf(self->conf, sizeof(self->conf), "/run/nginx-%d", getpid());
	write_conf(self->conf, self->dir);
	self->nginx = fork_child();
	if (self->nginx == 0) {
		setpgid(0, 0);
		execl(NGINX, "nginx", "-c", self->conf, NULL);
		_exit(127);
	}
	ASSERT_TRUE(WAIT_FOR((fd = connect_to_server()) >= 0));
	close(fd);
}

FIXTURE_TEARDOWN(server)
{
	if (!self->nginx)
		return;
	close(self->ctx);
	kill(-self->nginx, SIGKILL);
	waitpid(self->nginx, NULL, 0);
}

/* All files of the directory, for good: nobody reads the context. */
static int protect_directory(const char *dir, int ctx)
{
	struct dirent *entry;
	DIR *d = opendir(dir);
	int nr = 0;

	while ((entry = readdir(d))) {
		if (entry->d_type != DT_REG)
			continue;
		int fd = open_in(dir, entry->d_name);

		protect_by(ctx, fd, PGPROTECT_MODE_STALL, 0);
		close(fd);
		nr++;
	}
	closedir(d);
	return nr;
}

TEST_F(server, is_not_hung_by_files_of_the_user_it_serves)
{
	EXPECT_EQ(200, request("GET", "/index.html", "", ""));
	self->ctx = ctx_open_by(USER, -1);
	ASSERT_EQ(3, protect_directory(self->dir, self->ctx));
	/* It reads, and writes a line of its log, each time. */
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(200, request("GET", "/index.html", "", ""));
	/* An upload replaces the file. */
	EXPECT_EQ(204, request("PUT", "/upload", "", "new"));
	EXPECT_EQ(201, request("PUT", "/another", "", "new"));
	/* A copy opens and truncates it: that fails, and nothing else. */
	protect_by(self->ctx, open_in(self->dir, "another"), PGPROTECT_MODE_STALL, 0);
	EXPECT_LE(400, request("COPY", "/index.html", "Destination: /another\r\n", ""));
	EXPECT_EQ(204, request("DELETE", "/another", "", ""));
	/* The log is opened anew. */
	kill(self->nginx, SIGUSR1);
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(200, request("GET", "/index.html", "", ""));
	EXPECT_EQ(0, ctx_fdinfo(self->ctx, "stalled"));
	EXPECT_FALSE(ctx_readable(self->ctx, 0));
}

/* That the daemon does write to what is protected, and that it is the rule that counts. */
TEST_F(server, is_held_by_a_context_that_may_stop_it)
{
	struct pgprotect_event event;
	int sock;

	self->ctx = ctx_open_by(USER, CAP_SYS_PTRACE);
	ASSERT_EQ(3, protect_directory(self->dir, self->ctx));
	sock = request_send("GET", "/index.html", "", "");
	ASSERT_EQ(0, ctx_read_event(self->ctx, &event));
	EXPECT_EQ(PGPROTECT_EVENT_STALL, event.type);
	EXPECT_EQ(PGPROTECT_ORIGIN_WRITE, event.origin);
	EXPECT_EQ(1, ctx_fdinfo(self->ctx, "stalled"));
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(200, answer(sock, BODY));
}

TEST_HARNESS_MAIN
