// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel stores to a mapping of the file: reads that land there, debuggers, other
 * processes. Who is refused in the middle may have stored a part.
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "route.h"

static char *some_map(struct hand *h, const struct target *t)
{
	return random_one_in(&h->random, 2) ? h->run->file[t->file].map : h->own[t->file];
}

/* Of a call that may have stored something even if it fails. */
static enum outcome outcome_of_copy(long ret, size_t length)
{
	return ret == (long)length ? WROTE : TORN;
}

static void close_both(const int ends[2])
{
	close(ends[0]);
	close(ends[1]);
}

static void pipe_with(const struct target *t, int ends[2])
{
	if (pipe2(ends, O_CLOEXEC) ||
	    write(ends[1], t->data, t->length) != (ssize_t)t->length)
		die("pipe of %zu bytes", t->length);
}

static enum outcome by_read_of_pipe(struct hand *h, struct target *t)
{
	char *to = some_map(h, t) + t->at;
	int ends[2];
	long ret;

	pipe_with(t, ends);
	ret = TRY(h, read(ends[0], to, t->length));
	close_both(ends);
	return outcome_of_copy(ret, t->length);
}

static enum outcome by_vmsplice(struct hand *h, struct target *t)
{
	struct iovec iov = { some_map(h, t) + t->at, t->length };
	int ends[2];
	long ret;

	pipe_with(t, ends);
	ret = TRY(h, vmsplice(ends[0], &iov, 1, 0));
	close_both(ends);
	return outcome_of_copy(ret, t->length);
}

static enum outcome by_recv(struct hand *h, struct target *t)
{
	char *to = some_map(h, t) + t->at;
	int pair[2];
	long ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) ||
	    send(pair[0], t->data, t->length, 0) != (ssize_t)t->length)
		die("socketpair");
	ret = TRY(h, recv(pair[1], to, t->length, 0));
	close_both(pair);
	return outcome_of_copy(ret, t->length);
}

static enum outcome by_read_of_file(struct hand *h, struct target *t)
{
	static int fd = -1;

	if (fd < 0)
		fd = memfd_make(0, 0);
	if (pwrite(fd, t->data, t->length, 0) != (ssize_t)t->length)
		die("fill a source");
	return outcome_of_copy(TRY(h, pread(fd, some_map(h, t) + t->at, t->length, 0)),
			       t->length);
}

static enum outcome by_uring_read(struct hand *h, struct target *t)
{
	static struct io_uring ring;
	static bool ready;
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int ends[2];
	long ret;

	if (!ready && io_uring_queue_init(4, &ring, 0))
		die("io_uring");
	ready = true;
	pipe_with(t, ends);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_read(sqe, ends[0], some_map(h, t) + t->at, t->length, -1);
	if (random_one_in(&h->random, 2))
		sqe->flags |= IOSQE_ASYNC;
	while ((ret = io_uring_submit(&ring)) == -EINTR)
		;
	if (ret != 1)
		die("io_uring_submit gave %ld", ret);
	while ((ret = io_uring_wait_cqe(&ring, &cqe)) == -EINTR)
		;
	if (ret)
		die("io_uring_wait_cqe gave %ld", ret);
	ret = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	close_both(ends);
	return outcome_of_copy(ret, t->length);
}

/* --- memory of the keeper, which has the file mapped at the same place --- */

static enum outcome by_process_vm_writev(struct hand *h, struct target *t)
{
	struct iovec from = { t->data, t->length };
	struct iovec to = { h->run->file[t->file].map + t->at, t->length };

	return outcome_of(TRY(h, process_vm_writev(getppid(), &from, 1, &to, 1, 0)), t->length);
}

static enum outcome by_proc_mem(struct hand *h, struct target *t)
{
	static int fd = -1;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/mem", getppid());
	if (fd < 0)
		fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("open %s", path);
	return outcome_of(TRY(h, pwrite(fd, t->data, t->length,
					(uintptr_t)h->run->file[t->file].map + t->at)),
			  t->length);
}

/* A child that stays stopped, with the mapping inherited. */
static pid_t tracee(void)
{
	static pid_t pid;

	if (pid)
		return pid;
	pid = fork_child();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	while (waitpid(pid, NULL, WUNTRACED) < 0 && errno == EINTR)
		;
	return pid;
}

static enum outcome by_pokedata(struct hand *h, struct target *t)
{
	char *to = h->run->file[t->file].map + t->at;
	pid_t pid = tracee();
	unsigned long word;
	size_t done;

	for (done = 0; done < t->length; done += sizeof(word)) {
		memcpy(&word, t->data + done, sizeof(word));
		if (TRY(h, ptrace(PTRACE_POKEDATA, pid, to + done, word)))
			break;
	}
	return done ? outcome_of(done, t->length) : REFUSED;
}

const struct route memory_routes[] = {
	{ "memory-read-pipe", KIND_RECORD | KIND_SPAN, by_read_of_pipe },
	{ "memory-vmsplice", KIND_RECORD | KIND_SPAN, by_vmsplice },
	{ "memory-recv", KIND_RECORD | KIND_SPAN, by_recv },
	{ "memory-read-file", KIND_RECORD | KIND_SPAN, by_read_of_file },
	{ "memory-uring", KIND_RECORD | KIND_SPAN, by_uring_read },
	{ "memory-process-vm", KIND_RECORD | KIND_SPAN, by_process_vm_writev },
	{ "memory-proc-mem", KIND_RECORD | KIND_SPAN, by_proc_mem },
	{ "memory-ptrace", KIND_RECORD, by_pokedata },
	{ }
};
