// SPDX-License-Identifier: GPL-2.0
/* Mappings with shared page tables, and what the kernel tells of them. */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgtest.h"
#include "sharing.h"

#define SYSFS	"/sys/kernel/mm/ptshare/"

bool sharing_set(const char *mode)
{
	int fd = open(SYSFS "enabled", O_WRONLY);

	if (fd < 0)
		return false;
	if (write(fd, mode, strlen(mode)) != (ssize_t)strlen(mode))
		die("set ptshare to %s", mode);
	close(fd);
	return true;
}

const char *sharing_mode(void)
{
	static const char *const modes[] = { "never", "madvise", "always" };
	int fd = open(SYSFS "enabled", O_RDONLY);
	char text[64] = "", set[16];

	if (fd < 0)
		return NULL;
	if (read(fd, text, sizeof(text) - 1) < 0)
		die("read how page tables are shared");
	close(fd);
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		snprintf(set, sizeof(set), "[%s]", modes[i]);
		if (strstr(text, set))
			return modes[i];
	}
	die("how page tables are shared: %s", text);
}

long sharing_count(const char *name)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), SYSFS "%s", name);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		die("read %s", path);
	close(fd);
	return strtol(text, NULL, 10);
}

char *map_congruent(int fd, size_t size, size_t offset, int prot)
{
	const size_t align = size < DIRECTORY ? UNIT : DIRECTORY;
	char *space = mmap(NULL, size + 2 * align, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uintptr_t start = ((uintptr_t)space + align - 1) & ~(align - 1);
	char *map;

	if (space == MAP_FAILED)
		die("find %zu bytes of addresses", size);
	start += offset & (align - 1);
	map = mmap((void *)start, size, prot, MAP_SHARED | MAP_FIXED, fd, offset);
	if (map == MAP_FAILED)
		die("map fd %d at %#lx", fd, start);
	return map;
}

char *map_guest(int fd, size_t size, size_t offset, int prot, bool shared)
{
	char *map = map_congruent(fd, size, offset, prot);
	int ret = advise(map, size, shared ? MADV_PTSHARE : MADV_NOPTSHARE);

	if (ret) {
		errno = -ret;
		die("advise to share: %d", shared);
	}
	return map;
}

int advise(void *addr, size_t size, int advice)
{
	return madvise(addr, size, advice) ? -errno : 0;
}

struct mapping {
	unsigned long start, end;
	bool marked;		/* "sp" */
	long value;		/* of the key asked for, kB */
};

/* The next mapping of smaps. */
static bool next_mapping(FILE *smaps, struct mapping *mapping, const char *key)
{
	char line[512], format[64];
	bool found = false;

	snprintf(format, sizeof(format), "%s: %%ld kB", key);
	while (fgets(line, sizeof(line), smaps)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			*mapping = (struct mapping) { .start = start, .end = end, .value = -1 };
			found = true;
		}
		sscanf(line, format, &mapping->value);
		if (!strncmp(line, "VmFlags:", 8)) {
			mapping->marked = strstr(line, " sp");
			return found;
		}
	}
	return false;
}

static FILE *open_smaps(void)
{
	FILE *smaps = fopen("/proc/self/smaps", "r");

	if (!smaps)
		die("open smaps");
	return smaps;
}

int register_with_ring(char *map)
{
	struct iovec iov = { .iov_base = map, .iov_len = page_size() };
	struct io_uring ring;
	int ret;

	if (io_uring_queue_init(1, &ring, 0))
		return -ENOSYS;
	ret = io_uring_register_buffers(&ring, &iov, 1);
	io_uring_queue_exit(&ring);
	return ret;
}

struct touched {
	char *map;
	size_t size;
};

static long op_touch_and_wait(struct writer *self)
{
	struct touched *touched = self->arg;

	touch_pages(touched->map, touched->size);
	writer_checkpoint(self);
	return 0;
}

int poke_forked_child(char *map, size_t size, char value)
{
	struct touched touched = { map, size };
	struct writer *child = writer_fork(op_touch_and_wait, &touched);
	pid_t pid = child->pid;
	int ret;

	writer_wait_ready(child);
	if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) || waitpid(pid, NULL, 0) != pid)
		die("attach to a child");
	ret = ptrace(PTRACE_POKEDATA, pid, map, (void *)(long)value) ? -errno : 0;
	if (ptrace(PTRACE_DETACH, pid, NULL, NULL))
		die("detach from a child");
	writer_go(child);
	if (writer_join(child))
		die("a child that was poked");
	return ret;
}

int read_by_ring(char *map, char value)
{
	struct io_uring_cqe *cqe;
	struct io_uring ring;
	int pipes[2], ret;

	if (io_uring_queue_init(1, &ring, 0))
		return -ENOSYS;
	if (pipe(pipes) || write(pipes[1], &value, 1) != 1)
		die("pipe");
	io_uring_prep_read(io_uring_get_sqe(&ring), pipes[0], map, 1, 0);
	if (io_uring_submit(&ring) != 1 || io_uring_wait_cqe(&ring, &cqe))
		die("io_uring");
	ret = cqe->res;
	io_uring_queue_exit(&ring);
	close(pipes[0]);
	close(pipes[1]);
	return ret;
}

long mapping_kb(const void *addr, const char *key)
{
	FILE *smaps = open_smaps();
	struct mapping mapping;
	long value = -1;

	while (next_mapping(smaps, &mapping, key))
		if (mapping.start <= (uintptr_t)addr && (uintptr_t)addr < mapping.end)
			value = mapping.value;
	fclose(smaps);
	return value;
}

/* Bytes of the range that are mapped with the mark, or without it. */
static size_t marked_bytes(const void *addr, size_t size, bool marked)
{
	const uintptr_t start = (uintptr_t)addr, end = start + size;
	FILE *smaps = open_smaps();
	struct mapping mapping;
	size_t bytes = 0;

	while (next_mapping(smaps, &mapping, "Size")) {
		uintptr_t from = mapping.start > start ? mapping.start : start;
		uintptr_t to = mapping.end < end ? mapping.end : end;

		if (from < to && mapping.marked == marked)
			bytes += to - from;
	}
	fclose(smaps);
	return bytes;
}

bool is_shared(const void *addr, size_t size)
{
	return marked_bytes(addr, size, true) == size;
}

bool is_ordinary(const void *addr, size_t size)
{
	return marked_bytes(addr, size, false) == size;
}

static long line_kb(const char *path, const char *key)
{
	FILE *file = fopen(path, "r");
	char line[256], format[64];
	long value = -1;

	snprintf(format, sizeof(format), "%s: %%ld kB", key);
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, format, &value);
	if (!file || value < 0)
		die("no %s in %s", key, path);
	fclose(file);
	return value;
}

long status_kb(const char *key)
{
	return line_kb("/proc/self/status", key);
}

long memory_kb(const char *key)
{
	return line_kb("/proc/meminfo", key);
}

long fault_count(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		die("getrusage");
	return usage.ru_minflt + usage.ru_majflt;
}

static sigjmp_buf access_jump;
static volatile sig_atomic_t access_tried;

static void on_fault(int sig)
{
	if (!access_tried) {
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	siglongjmp(access_jump, sig);
}

static int try_access(void (*op)(volatile char *addr, char value), volatile char *addr, char value)
{
	struct sigaction action = { .sa_handler = on_fault }, segv, bus;
	int sig;

	sigaction(SIGSEGV, &action, &segv);
	sigaction(SIGBUS, &action, &bus);
	sig = sigsetjmp(access_jump, 1);
	if (!sig) {
		access_tried = 1;
		op(addr, value);
	}
	access_tried = 0;
	sigaction(SIGSEGV, &segv, NULL);
	sigaction(SIGBUS, &bus, NULL);
	return sig;
}

static void do_load(volatile char *addr, char value)
{
	(void)*addr;
}

static void do_store(volatile char *addr, char value)
{
	*addr = value;
}

static void do_call(volatile char *addr, char value)
{
	((void (*)(void))addr)();
}

int try_load(const volatile char *addr)
{
	return try_access(do_load, (volatile char *)addr, 0);
}

int try_store(volatile char *addr, char value)
{
	return try_access(do_store, addr, value);
}

int try_call(void *code)
{
	return try_access(do_call, code, 0);
}

long copy_to(pid_t pid, void *addr, char value)
{
	struct iovec from = { .iov_base = &value, .iov_len = 1 };
	struct iovec to = { .iov_base = addr, .iov_len = 1 };

	return process_vm_writev(pid, &from, 1, &to, 1, 0) == 1 ? 0 : -errno;
}

int direct_open(void)
{
	static char data[4096];
	char path[32];
	int fd, direct;

	if (!disk_mount(FILE_EXT4))
		return -1;
	fd = disk_make(FILE_EXT4, sizeof(data), path);
	memset(data, 1, sizeof(data));
	direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (direct < 0 || pwrite(fd, data, sizeof(data), 0) != sizeof(data) || fsync(fd))
		die("direct I/O on %s", path);
	close(fd);
	unlink(path);
	return direct;
}

void touch_pages(const volatile char *map, size_t size)
{
	for (size_t at = 0; at < size; at += page_size())
		(void)map[at];
}

void dirty_pages(volatile char *map, size_t size)
{
	for (size_t at = 0; at < size; at += page_size())
		map[at] = map[at] + 1;
}

#define RECORD_NAMES	"/sys/kernel/tracing/options/record-cmd"	/* an instance inherits it */
#define INSTANCE	"/sys/kernel/tracing/instances/ptshare"
#define ENABLE		INSTANCE "/events/pgprotect/pgprotect_protect/enable"

void fences_watch(void)
{
	rmdir(INSTANCE);
	/* Names of processes come from the scheduler: its code would be patched each time. */
	if (!write_text(RECORD_NAMES, "0") || mkdir(INSTANCE, 0700) ||
	    !write_text(ENABLE, "1"))
		die("trace protections");
}

/* Ends the trace. Return: how many PROTECTs have fenced something; *@last: the last one. */
static unsigned int trace_end(struct protect_counts *last)
{
	FILE *trace = fopen(INSTANCE "/trace", "r");
	unsigned int nr = 0;
	char line[512];

	if (!trace || !write_text(ENABLE, "0"))
		die("read the trace");
	while (fgets(line, sizeof(line), trace)) {
		char *found = strstr(line, " tables=");

		if (found && sscanf(found, " tables=%u flushes=%u fences=%u", &last->tables,
				    &last->flushes, &last->fences) == 3)
			nr += last->fences > 0;
	}
	fclose(trace);
	rmdir(INSTANCE);
	return nr;
}

unsigned int fences_seen(void)
{
	struct protect_counts last;

	return trace_end(&last);
}

struct protect_counts protect_counted(int ctx, uint32_t id, size_t offset, size_t length)
{
	struct protect_counts counts = { -1, -1, -1 };

	fences_watch();
	if (ctx_protect_range(ctx, id, offset, length))
		die("protect");
	trace_end(&counts);
	return counts;
}
