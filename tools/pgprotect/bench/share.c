// SPDX-License-Identifier: GPL-2.0
/*
 * Shared page tables beside ordinary ones, in one boot: what N processes that map
 * a file need for page tables, what PROTECT costs with N of them, and how many
 * faults a forked child has.
 */
#include <fcntl.h>
#include <linux/ptshare.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PAGE		4096UL
#define UNIT		(2UL << 20)
#define GIB		(1UL << 30)
#define PROTECTED	(16UL << 20)
#define AROUND		(64UL << 10)	/* what a read fault maps */
#define MAPPERS_MAX	1000

static const char *const subjects[] = { "never", "ptshare" };

static void ptshare_set(const char *mode)
{
	int fd = open("/sys/kernel/mm/ptshare/enabled", O_WRONLY);

	if (fd < 0 || write(fd, mode, strlen(mode)) < 0)
		fatal("ptshare: %s", mode);
	close(fd);
}

/* At an address that suits for shared tables, which are used if @shared. */
static char *map_units(int fd, size_t length, bool shared)
{
	size_t align = length < GIB ? UNIT : GIB;
	char *space = mmap(NULL, length + align, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *p = (char *)(((uintptr_t)space + align - 1) & ~(align - 1));

	if (space == MAP_FAILED ||
	    mmap(p, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != p)
		fatal("mmap");
	if (shared && madvise(p, length, MADV_PTSHARE))
		fatal("MADV_PTSHARE");
	return p;
}

static void touch(volatile char *p, size_t length, size_t step)
{
	for (size_t i = 0; i < length; i += step)
		(void)p[i];
}

static void dirty(volatile char *p, size_t length)
{
	for (size_t i = 0; i < length; i += PAGE)
		p[i] = 1;
}

/* A line of a file in /proc, in kB. */
static long proc_kb(const char *path, const char *key)
{
	FILE *f = fopen(path, "r");
	char line[256], format[64];
	long value = -1;

	snprintf(format, sizeof(format), "%s: %%ld kB", key);
	while (f && fgets(line, sizeof(line), f))
		sscanf(line, format, &value);
	if (!f || value < 0)
		fatal("%s of %s", key, path);
	fclose(f);
	return value;
}

__attribute__((format(printf, 5, 6)))
static void print_count(const char *bench, const char *subject, const char *unit, double value,
			const char *params, ...)
{
	va_list args;

	printf("{\"bench\":\"%s\",\"subject\":\"%s\",\"params\":{", bench, subject);
	va_start(args, params);
	vprintf(params, args);
	va_end(args);
	printf("},\"unit\":\"%s\",\"value\":%.4f,\"spread\":0,\"min\":%.4f,\"repeats\":1}\n",
	       unit, value, value);
	fflush(stdout);
}

/* Processes that have mapped the file, and touch it when they are told to. */
struct mappers {
	unsigned int nr;
	int fd;
	size_t length;
	size_t step;
	bool shared;
	int answers;
	int orders;
};

static void mapper_main(const struct mappers *m, int orders, int answers)
{
	char *p = NULL;
	char order;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(orders, &order, 1) == 1) {
		if (!p)
			p = map_units(m->fd, m->length, m->shared);
		else if (madvise(p, m->length, MADV_DONTNEED))
			fatal("MADV_DONTNEED");
		touch(p, m->length, m->step);
		if (write(answers, &order, 1) != 1)
			fatal("answer");
		/* Each takes one order of each round. */
		raise(SIGSTOP);
	}
	_exit(0);
}

static pid_t mapper_pid[MAPPERS_MAX];

static void mappers_start(struct mappers *m)
{
	int answers[2], orders[2];

	if (pipe(answers) || pipe(orders))
		fatal("pipe");
	for (unsigned int i = 0; i < m->nr; i++) {
		mapper_pid[i] = fork();
		if (mapper_pid[i] < 0)
			fatal("fork");
		if (!mapper_pid[i]) {
			close(orders[1]);
			close(answers[0]);
			mapper_main(m, orders[0], answers[1]);
		}
	}
	close(orders[0]);
	close(answers[1]);
	m->answers = answers[0];
	m->orders = orders[1];
}

static void mappers_touch(struct mappers *m)
{
	char order = 't';

	for (unsigned int i = 0; i < m->nr; i++) {
		if (write(m->orders, &order, 1) != 1)
			fatal("order");
		if (read(m->answers, &order, 1) != 1)
			fatal("answers");
	}
	for (unsigned int i = 0; i < m->nr; i++) {
		if (waitpid(mapper_pid[i], NULL, WUNTRACED) < 0)
			fatal("waitpid");
		kill(mapper_pid[i], SIGCONT);
	}
}

static void mappers_stop(struct mappers *m)
{
	close(m->orders);
	for (unsigned int i = 0; i < m->nr; i++)
		waitpid(mapper_pid[i], NULL, 0);
	close(m->answers);
}

static void measure_memory(int fd, unsigned int nr, bool shared)
{
	struct mappers m = {
		.nr = nr, .fd = fd, .length = GIB, .step = UNIT, .shared = shared,
	};
	long before, after;

	mappers_start(&m);
	before = proc_kb("/proc/meminfo", "PageTables");
	mappers_touch(&m);
	after = proc_kb("/proc/meminfo", "PageTables");
	print_count("share-memory", subjects[shared], "KiB", after - before,
		    "\"mappers\":%u,\"mib\":1024", nr);
	mappers_stop(&m);
}

static void measure_protect(unsigned int nr, bool shared, unsigned int repeats)
{
	struct mappers m = {
		.nr = nr - 1, .fd = memfd_sized(PROTECTED), .length = PROTECTED,
		.step = shared ? UNIT : AROUND, .shared = shared,
	};
	struct pgprotect_protect result = {};
	struct samples s = {};
	int dev = pgprotect_open();
	uint32_t file = pgprotect_attach(dev, m.fd, PGPROTECT_MODE_STALL);
	char *p;

	mappers_start(&m);
	p = map_units(m.fd, PROTECTED, shared);
	for (unsigned int i = 0; i <= repeats; i++) {
		dirty(p, PROTECTED);
		mappers_touch(&m);
		sample_begin(&s);
		pgprotect_protect(dev, file, 0, PROTECTED, &result);
		if (i)
			sample_end(&s, 1);
		pgprotect_unprotect(dev, file, 0, PROTECTED);
	}
	mappers_stop(&m);
	samples_print(&s, "share-protect", subjects[shared],
		      "\"mappers\":%u,\"mib\":16,\"tables\":%u,\"pages\":%llu", nr,
		      result.nr_tables, (unsigned long long)result.nr_pages);
	munmap(p, PROTECTED);
	close(dev);
	close(m.fd);
}

static long faults_of_children(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/* Faults of a forked child that touches all pages, without those of one that does not. */
static void measure_fork(int fd, bool shared)
{
	char *p = map_units(fd, GIB, shared);
	long faults[3];

	touch(p, GIB, PAGE);
	for (int i = 0; i < 2; i++) {
		pid_t pid;

		faults[i] = faults_of_children();
		pid = fork();
		if (!pid) {
			touch(p, i * GIB, PAGE);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
	faults[2] = faults_of_children();
	print_count("share-fork", subjects[shared], "faults",
		    faults[2] - faults[1] - (faults[1] - faults[0]), "\"mib\":1024");
	munmap(p, GIB);
}

int main(int argc, char **argv)
{
	static const unsigned int mappers[] = { 1, 256 };
	unsigned int repeats = argc > 1 ? atoi(argv[1]) : 3;
	char *p;
	int fd;

	if (!repeats || repeats >= SAMPLES_MAX) {
		fprintf(stderr, "Usage: share [REPEATS]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	ptshare_set("madvise");
	for (int shared = 0; shared < 2; shared++)
		for (int i = 0; i < 2; i++)
			measure_protect(mappers[i], shared, repeats);

	fd = memfd_sized(GIB);
	p = map_units(fd, GIB, false);
	dirty(p, GIB);
	munmap(p, GIB);
	/* A tenth of the processes: their tables are many times what is free. */
	measure_memory(fd, MAPPERS_MAX / 10, false);
	measure_memory(fd, MAPPERS_MAX, true);
	for (int shared = 0; shared < 2; shared++)
		measure_fork(fd, shared);
	return 0;
}
