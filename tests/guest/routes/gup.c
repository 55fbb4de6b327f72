// SPDX-License-Identifier: GPL-2.0
/* Writes by others into a mapping: debuggers, direct I/O, and reads that land there. */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <liburing.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../regress/common/race.h"
#include "common/route.h"

static long result_of(ssize_t done)
{
	return done < 0 ? -errno : done;
}

static long by_process_vm_writev(struct attempt *attempt)
{
	struct iovec from = { value_buffer(attempt->length), attempt->length };
	struct iovec to = { attempt->file.map + attempt->at, attempt->length };

	route_ready(attempt);
	/* The test's process has the file mapped at the same place. */
	return result_of(process_vm_writev(getppid(), &from, 1, &to, 1, 0));
}

static long by_proc_mem(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", getppid());
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("open %s", path);
	route_ready(attempt);
	return result_of(pwrite(fd, data, attempt->length,
				(uintptr_t)attempt->file.map + attempt->at));
}

/* A child that stays stopped under its tracer, with the mapping inherited. */
static long by_pokedata(struct attempt *attempt)
{
	unsigned long word;
	pid_t pid = fork_child();
	long result;

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	memset(&word, ROUTE_VALUE, sizeof(word));
	route_ready(attempt);
	result = ptrace(PTRACE_POKEDATA, pid, attempt->file.map + attempt->at, word) ? -errno : 0;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return result;
}

static long by_read_of_pipe(struct attempt *attempt)
{
	int pipe = pipe_with(attempt->length);

	route_ready(attempt);
	return result_of(read(pipe, attempt->file.map + attempt->at, attempt->length));
}

static long by_read_of_file(struct attempt *attempt)
{
	int fd = memfd_make(attempt->length, 0);

	if (pwrite(fd, value_buffer(attempt->length), attempt->length, 0) < 0)
		die("fill a file");
	route_ready(attempt);
	return result_of(pread(fd, attempt->file.map + attempt->at, attempt->length, 0));
}

static long by_recv(struct attempt *attempt)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
	    send(pair[0], value_buffer(attempt->length), attempt->length, 0) < 0)
		die("socketpair");
	route_ready(attempt);
	return result_of(recv(pair[1], attempt->file.map + attempt->at, attempt->length, 0));
}

static long by_vmsplice_from_pipe(struct attempt *attempt)
{
	struct iovec iov = { attempt->file.map + attempt->at, attempt->length };
	int pipe = pipe_with(attempt->length);

	route_ready(attempt);
	return result_of(vmsplice(pipe, &iov, 1, 0));
}

/* The kernel writes its answer, not ROUTE_VALUE. */
static long by_stat(struct attempt *attempt)
{
	route_ready(attempt);
	return fstat(0, (struct stat *)(attempt->file.map + attempt->at)) ? -errno : 0;
}

static long by_getrandom(struct attempt *attempt)
{
	route_ready(attempt);
	return result_of(getrandom(attempt->file.map + attempt->at, attempt->length, 0));
}

static int direct_source(struct attempt *attempt)
{
	return direct_file();
}

static long by_direct_read(struct attempt *attempt)
{
	int fd = direct_source(attempt);

	if (fd < 0)
		return ROUTE_SKIP;
	route_ready(attempt);
	return result_of(pread(fd, attempt->file.map + attempt->at, attempt->length, 0));
}

static long by_direct_aio(struct attempt *attempt)
{
	int fd = direct_source(attempt), submitted;
	io_context_t aio = NULL;
	struct io_event event;
	struct iocb iocb, *list[] = { &iocb };

	if (fd < 0)
		return ROUTE_SKIP;
	io_prep_pread(&iocb, fd, attempt->file.map + attempt->at, attempt->length, 0);
	if (io_setup(1, &aio))
		die("io_setup");
	route_ready(attempt);
	submitted = io_submit(aio, 1, list);
	if (submitted != 1)
		return submitted;
	if (io_getevents(aio, 1, 1, &event, NULL) != 1)
		die("io_getevents");
	return (long)event.res;
}

static long ring_run(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;

	if (io_uring_submit(ring) != 1 || io_uring_wait_cqe(ring, &cqe))
		die("io_uring");
	return cqe->res;
}

static long by_uring_read(struct attempt *attempt)
{
	int pipe = pipe_with(attempt->length);
	struct io_uring ring;

	if (io_uring_queue_init(4, &ring, 0))
		die("io_uring_queue_init");
	io_uring_prep_read(io_uring_get_sqe(&ring), pipe, attempt->file.map + attempt->at,
			   attempt->length, -1);
	route_ready(attempt);
	return ring_run(&ring);
}

static long by_uring_direct_read(struct attempt *attempt)
{
	int fd = direct_source(attempt);
	struct io_uring ring;

	if (fd < 0)
		return ROUTE_SKIP;
	if (io_uring_queue_init(4, &ring, 0))
		die("io_uring_queue_init");
	io_uring_prep_read(io_uring_get_sqe(&ring), fd, attempt->file.map + attempt->at,
			   attempt->length, 0);
	route_ready(attempt);
	return ring_run(&ring);
}

/* Registering takes the page for writing, so that is what meets the gate. */
static long by_uring_read_fixed(struct attempt *attempt)
{
	struct iovec iov = { attempt->file.map + attempt->at, attempt->length };
	int pipe = pipe_with(attempt->length), ret;
	struct io_uring ring;

	/* The base kernel pins no pages of a disk's file for long that are to be written. */
	if (file_kind_wanted(FILE_MEMFD) != FILE_MEMFD)
		return ROUTE_SKIP;
	if (io_uring_queue_init(4, &ring, 0))
		die("io_uring_queue_init");
	route_ready(attempt);
	ret = io_uring_register_buffers(&ring, &iov, 1);
	if (ret)
		return ret;
	io_uring_prep_read_fixed(io_uring_get_sqe(&ring), pipe, iov.iov_base, iov.iov_len, -1, 0);
	return ring_run(&ring);
}

ROUTE_FAMILY(gup);

#define GUP(name, function, start, bytes, error, ...)				\
	ROUTE_ADD(gup, name, .op = function, .at = start, .length = bytes,		\
		  .success = bytes, .denied = error, ##__VA_ARGS__)

GUP(process_vm_writev, by_process_vm_writev, ROUTE_AT, 100, -EFAULT)
GUP(proc_pid_mem, by_proc_mem, ROUTE_AT, 100, -EIO)
GUP(read_of_pipe, by_read_of_pipe, ROUTE_AT, 100, -EFAULT)
GUP(read_of_file, by_read_of_file, ROUTE_AT, 100, -EFAULT)
GUP(recv, by_recv, ROUTE_AT, 100, -EFAULT)
GUP(vmsplice_from_pipe, by_vmsplice_from_pipe, ROUTE_AT, 100, -EFAULT)
GUP(getrandom, by_getrandom, ROUTE_AT, 100, -EFAULT, .unchecked_content = true)
GUP(uring_read_of_pipe, by_uring_read, ROUTE_AT, 100, -EFAULT, .other_task = true)
GUP(uring_read_fixed_registered_after, by_uring_read_fixed, 5 * PAGE, PAGE, -EFAULT)
GUP(direct_read, by_direct_read, 5 * PAGE, PAGE, -EFAULT)
GUP(direct_read_of_two_pages, by_direct_read, 5 * PAGE, 2 * PAGE, -EFAULT, .events = 2)
GUP(direct_read_by_aio, by_direct_aio, 5 * PAGE, PAGE, -EFAULT)
GUP(direct_read_by_uring, by_uring_direct_read, 5 * PAGE, PAGE, -EFAULT, .other_task = true)

ROUTE_ADD(gup, stat, .op = by_stat, .at = 5 * PAGE + 8, .length = sizeof(struct stat),
	  .denied = -EFAULT, .unchecked_content = true)
ROUTE_ADD(gup, ptrace_pokedata, .op = by_pokedata, .at = 5 * PAGE + 8, .length = 8,
	  .denied = -EIO)

/* Takes the page without a pin, and copies a moment later: PROTECT must not fit in between. */
static long write_parent_by_proc_mem(struct writer *self)
{
	struct race *race = self->arg;
	uint32_t state = gettid();
	char data[100], path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", getppid());
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("open %s", path);
	while (!race->stop) {
		memset(data, race_random(&state), sizeof(data));
		if (pwrite(fd, data, sizeof(data),
			   (uintptr_t)race->subject.file.map + race_page(race, &state)) < 0 &&
		    errno != EIO)
			die("write %s", path);
		race->turns++;
	}
	return 0;
}

TEST(writes_of_proc_pid_mem_change_nothing_once_protect_has_returned)
{
	agitator_fn *agitators[] = { write_parent_by_proc_mem, write_parent_by_proc_mem };
	struct race *race = race_make(file_memfd(64));
	struct race_result result;

	result = race_run(race, agitators, ARRAY_LEN(agitators), 200, 4000);
	TH_LOG("%u rounds, %lu writes", result.rounds, race->turns);
	EXPECT_EQ(0, result.escapes) {
		TH_LOG("the last at offset %#lx", result.offset);
	}
}

static long op_pokedata(struct writer *self)
{
	struct attempt *attempt = self->arg;

	attempt->writer = self;
	return by_pokedata(attempt);
}

TEST(refused_pokedata_is_told_once)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);
	struct attempt attempt = { .file = subject.file };
	struct writer *writer = writer_thread(op_pokedata, &attempt);
	struct pgprotect_event events[4];

	writer_wait_ready(writer);
	writer_go(writer);
	EXPECT_EQ(-EIO, writer_join(writer));
	ASSERT_EQ(1, ctx_next(subject.ctx, events, ARRAY_LEN(events), 1));
	EXPECT_EQ(PGPROTECT_EVENT_DENIED, events[0].type);
	EXPECT_FALSE(ctx_readable(subject.ctx, 0));
	subject_close(&subject);
}

/* Taking a page for reading only is not a write. */
TEST(taking_pages_for_reading_raises_nothing)
{
	struct subject subject = subject_protected(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	char *fresh = map_shared(subject.file.fd, ROUTE_SIZE), data[64];
	struct iovec to = { data, sizeof(data) }, from = { fresh + 100, sizeof(data) };
	int ends[2];

	ASSERT_EQ(0, pipe(ends));
	EXPECT_EQ(sizeof(data), process_vm_readv(getpid(), &to, 1, &from, 1, 0));
	EXPECT_EQ(sizeof(data), write(ends[1], fresh + PAGE, sizeof(data)));
	EXPECT_EQ(sizeof(data), vmsplice(ends[1], &from, 1, 0));
	EXPECT_FALSE(ctx_readable(subject.ctx, 0));
}

TEST_HARNESS_MAIN
