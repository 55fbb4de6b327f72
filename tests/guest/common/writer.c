// SPDX-License-Identifier: GPL-2.0
/* Writers: threads and processes that a protection may make wait. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgtest.h"

static void futex_wait(_Atomic uint32_t *word, uint32_t seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 0x7fffffff, NULL, NULL, 0);
}

static struct writer *writer_new(long (*op)(struct writer *), void *arg)
{
	struct writer *writer = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (writer == MAP_FAILED)
		die("memory for a writer");
	writer->op = op;
	writer->arg = arg;
	return writer;
}

static void *writer_main(void *arg)
{
	struct writer *self = arg;

	self->tid = gettid();
	self->result = self->op(self);
	self->done = true;
	return NULL;
}

struct writer *writer_thread(long (*op)(struct writer *), void *arg)
{
	struct writer *writer = writer_new(op, arg);

	writer->is_thread = true;
	writer->pid = getpid();
	errno = pthread_create(&writer->thread, NULL, writer_main, writer);
	if (errno)
		die("pthread_create");
	return writer;
}

struct writer *writer_fork_as(uid_t uid, long (*op)(struct writer *), void *arg)
{
	struct writer *writer = writer_new(op, arg);
	pid_t pid = fork_child();

	if (pid == 0) {
		if (uid)
			become_user(uid);
		writer_main(writer);
		fflush(stdout);
		_exit(0);
	}
	writer->pid = pid;
	return writer;
}

struct writer *writer_fork(long (*op)(struct writer *), void *arg)
{
	return writer_fork_as(0, op, arg);
}

void writer_checkpoint(struct writer *self)
{
	uint32_t mine = ++self->ready;
	uint32_t go;

	while ((go = self->go) < mine)
		futex_wait(&self->go, go);
}

void writer_wait_ready(struct writer *writer)
{
	if (!WAIT_FOR(writer->ready > writer->go))
		die("writer %d does not reach its checkpoint", writer->pid);
}

void writer_go(struct writer *writer)
{
	writer->go++;
	futex_wake(&writer->go);
}

static bool read_task_file(pid_t tid, const char *name, char *text, size_t size)
{
	char path[64];
	ssize_t got = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		got = read(fd, text, size - 1);
		close(fd);
	}
	text[got > 0 ? got : 0] = 0;
	return got > 0;
}

bool task_stalled(pid_t tid)
{
	char wchan[128];

	return tid && read_task_file(tid, "wchan", wchan, sizeof(wchan)) &&
	       strstr(wchan, "pgprotect");
}

char task_state(pid_t tid)
{
	char stat[512];
	char *end;

	if (!read_task_file(tid, "stat", stat, sizeof(stat)))
		return 0;
	end = strrchr(stat, ')');
	return end ? end[2] : 0;
}

bool writer_stalled(struct writer *writer)
{
	if (!WAIT_FOR(writer->done || task_stalled(writer->tid)))
		return false;
	return !writer->done;
}

bool writer_done(struct writer *writer)
{
	return writer->done;
}

static bool process_ended(struct writer *writer)
{
	if (!writer->reaped)
		writer->reaped = waitpid(writer->pid, &writer->status, WNOHANG) == writer->pid;
	return writer->reaped;
}

int writer_wait(struct writer *writer)
{
	if (!WAIT_FOR(process_ended(writer)))
		die("writer %d does not end", writer->pid);
	return writer->status;
}

long writer_join(struct writer *writer)
{
	if (writer->is_thread) {
		if (!WAIT_FOR(writer->done))
			die("writer thread %d does not end", writer->tid);
		pthread_join(writer->thread, NULL);
	} else {
		writer_wait(writer);
		if (!writer->done)
			die("writer %d died: status %#x", writer->pid, writer->status);
	}
	return writer->result;
}

void writer_kill(struct writer *writer, int sig)
{
	if (writer->is_thread)
		tgkill(writer->pid, writer->tid, sig);
	else
		kill(writer->pid, sig);
}

bool writer_sleeps(struct writer *writer)
{
	return WAIT_FOR(task_state(writer->tid) == 'S');
}

bool writer_interrupt(struct writer *writer, int sig)
{
	return WAIT_FOR((writer_kill(writer, sig), writer_done(writer)));
}

long op_store(struct writer *self)
{
	struct access *access = self->arg;

	return store_byte(access->map + access->offset, access->value);
}

long op_pwrite(struct writer *self)
{
	struct access *access = self->arg;
	char data[4096];

	memset(data, access->value, sizeof(data));
	return pwrite_bytes(access->fd, data, access->length ? access->length : 1,
			    access->offset);
}
