// SPDX-License-Identifier: GPL-2.0
/*
 * Shared page tables beside ordinary ones, in one boot: what N processes that map
 * a file need for page tables, what PROTECT costs with N of them, and how many
 * faults it takes to touch what others have touched.
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
#define AROUND		(64UL << 10)	/* what a read fault maps */
#define MAPPERS_MAX	1000

/* Whose page tables a file is mapped by. */
enum kind {
	OWN,
	UNITS,		/* shared, where addresses suit for no more than units of 2 MiB */
	SHARED,		/* shared by directories of 1 GiB, if the file is as large */
};

static const char *const subjects[] = {
	[OWN] = "never", [UNITS] = "ptshare-units", [SHARED] = "ptshare",
};

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fatal("%s to %s", text, path);
	close(fd);
}

/* At an address that suits for what is to be shared. */
static char *map_file(int fd, size_t length, enum kind kind)
{
	size_t align = length < GIB ? UNIT : GIB;
	char *space = mmap(NULL, length + align + UNIT, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *p = (char *)(((uintptr_t)space + align - 1) & ~(align - 1));

	if (kind == UNITS)
		p += UNIT;
	if (space == MAP_FAILED ||
	    mmap(p, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != p)
		fatal("mmap");
	if (kind != OWN && madvise(p, length, MADV_PTSHARE))
		fatal("MADV_PTSHARE");
	return p;
}

static void touch(volatile char *p, size_t length, size_t step)
{
	for (size_t i = 0; i < length; i += step)
		(void)p[i];
}

static void dirty(volatile char *p, size_t length, size_t step)
{
	for (size_t i = 0; i < length; i += step)
		p[i] = 1;
}

/* A file all of whose pages are there. */
static int filled_file(size_t length)
{
	int fd = memfd_sized(length);
	char *p = map_file(fd, length, OWN);

	dirty(p, length, PAGE);
	munmap(p, length);
	return fd;
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

/* A part of a file, in bytes. */
struct part {
	size_t at;
	size_t length;
};

/* Processes that have mapped the file, and touch parts of it when they are told to. */
struct mappers {
	unsigned int nr;
	int fd;
	size_t length;
	size_t step;
	enum kind kind;
	int answers;
	int orders;
};

/* Has entries that may be written, however they were before. */
static void touch_anew(char *p, struct part part, size_t step)
{
	if (madvise(p + part.at, part.length, MADV_DONTNEED))
		fatal("MADV_DONTNEED");
	touch(p + part.at, part.length, step);
}

static void mapper_main(const struct mappers *m, int orders, int answers)
{
	struct part part;
	char *p = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(orders, &part, sizeof(part)) == sizeof(part)) {
		if (!p)
			p = map_file(m->fd, m->length, m->kind);
		touch_anew(p, part, m->step);
		if (write(answers, "", 1) != 1)
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

static void mappers_touch(struct mappers *m, struct part part)
{
	char answer;

	for (unsigned int i = 0; i < m->nr; i++) {
		if (write(m->orders, &part, sizeof(part)) != sizeof(part))
			fatal("order");
		if (read(m->answers, &answer, 1) != 1)
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

static void measure_memory(int fd, unsigned int nr, enum kind kind)
{
	struct mappers m = {
		.nr = nr, .fd = fd, .length = GIB, .step = UNIT, .kind = kind,
	};
	long before, after;

	mappers_start(&m);
	before = proc_kb("/proc/meminfo", "PageTables");
	mappers_touch(&m, (struct part) { 0, GIB });
	after = proc_kb("/proc/meminfo", "PageTables");
	print_count("share-memory", subjects[kind], "KiB", after - before,
		    "\"mappers\":%u,\"mib\":1024", nr);
	mappers_stop(&m);
}

#define TRACING	"/sys/kernel/tracing/"
#define TRACED	TRACING "events/pgprotect/pgprotect_protect/enable"

/* Entries for whole units that the call has made read-only: only the trace tells. */
static unsigned int protect_traced(int dev, uint32_t file, struct part part)
{
	unsigned int fences = 0;
	char line[512];
	FILE *trace;

	write_text(TRACING "trace", "");
	write_text(TRACED, "1");
	pgprotect_protect(dev, file, part.at, part.length, NULL);
	write_text(TRACED, "0");
	trace = fopen(TRACING "trace", "r");
	while (trace && fgets(line, sizeof(line), trace)) {
		char *found = strstr(line, " fences=");

		if (found)
			sscanf(found, " fences=%u", &fences);
	}
	if (!trace)
		fatal("trace");
	fclose(trace);
	return fences;
}

/* Whole units around it. */
static struct part units_of(struct part part)
{
	size_t at = part.at & ~(UNIT - 1);

	return (struct part) { at, (part.at + part.length + UNIT - 1 - at) & ~(UNIT - 1) };
}

/* All mappers have entries for the part that may be written. */
static void ready_to_protect(struct mappers *m, char *p, struct part part)
{
	/* A fence goes by one write to its unit. */
	if (m->kind == SHARED)
		dirty(p + part.at, part.length, part.length < GIB ? PAGE : UNIT);
	else
		touch_anew(p, units_of(part), m->step);
	mappers_touch(m, units_of(part));
}

/* PROTECT of a part of the file, which @p maps, too. */
static void measure_protect(struct mappers *m, char *p, struct part part, unsigned int repeats)
{
	struct pgprotect_protect result = {};
	struct samples s = {};
	int dev = pgprotect_open();
	uint32_t file = pgprotect_attach(dev, m->fd, PGPROTECT_MODE_STALL);
	unsigned int fences = 0;

	for (unsigned int i = 0; i <= repeats; i++) {
		ready_to_protect(m, p, part);
		if (!i) {
			fences = protect_traced(dev, file, part);
		} else {
			sample_begin(&s);
			pgprotect_protect(dev, file, part.at, part.length, &result);
			sample_end(&s, 1);
		}
		pgprotect_unprotect(dev, file, part.at, part.length);
	}
	close(dev);
	samples_print(&s, "share-protect", subjects[m->kind],
		      "\"mappers\":%u,\"mib\":%zu,\"kib\":%zu,\"tables\":%u,\"fences\":%u,\"pages\":%llu",
		      m->nr + 1, m->length >> 20, part.length >> 10, result.nr_tables, fences,
		      (unsigned long long)result.nr_pages);
}

/* PROTECT of all of a file and, if that is much, of a page in the middle. */
static void measure_file(int fd, size_t length, unsigned int nr, enum kind kind,
			 unsigned int repeats)
{
	const struct part parts[] = { { 0, length }, { length / 2, PAGE } };
	struct mappers m = {
		.nr = nr - 1, .fd = fd, .length = length,
		.step = kind == SHARED ? UNIT : AROUND, .kind = kind,
	};
	char *p = map_file(fd, length, kind);

	touch(p, length, AROUND);
	mappers_start(&m);
	measure_protect(&m, p, parts[0], repeats);
	if (length >= GIB)
		measure_protect(&m, p, parts[1], repeats);
	mappers_stop(&m);
	munmap(p, length);
}

/* The same for all who may map it; @own_max: with tables of their own, at most so many. */
static void measure_files(int fd, size_t length, unsigned int own_max, unsigned int repeats)
{
	measure_file(fd, length, 1, OWN, repeats);
	measure_file(fd, length, own_max, OWN, repeats);
	measure_file(fd, length, 1, SHARED, repeats);
	measure_file(fd, length, 256, SHARED, repeats);
}

/* The peer of one mapper. */
static void measure_uffd(int fd, unsigned int repeats)
{
	struct samples s = {};

	for (unsigned int i = 0; i < repeats; i++) {
		char *p = map_file(fd, GIB, OWN);
		int uffd;

		touch(p, GIB, AROUND);
		uffd = uffd_open_wp(p, GIB);
		sample_begin(&s);
		uffd_set_wp(uffd, p, GIB, true);
		sample_end(&s, 1);
		close(uffd);
		munmap(p, GIB);
	}
	samples_print(&s, "share-protect", "uffd-wp", "\"mappers\":1,\"mib\":1024,\"kib\":%lu",
		      GIB >> 10);
}

static long faults_of(int who)
{
	struct rusage usage;

	getrusage(who, &usage);
	return usage.ru_minflt + usage.ru_majflt;
}

/* Faults of who touches all pages that another mapping of his has touched. */
static void measure_touch(int fd, enum kind kind)
{
	char *first = map_file(fd, GIB, kind), *p = map_file(fd, GIB, kind);
	long faults;

	touch(first, GIB, PAGE);
	faults = faults_of(RUSAGE_SELF);
	touch(p, GIB, PAGE);
	print_count("share-touch", subjects[kind], "faults", faults_of(RUSAGE_SELF) - faults,
		    "\"mib\":1024");
	munmap(p, GIB);
	munmap(first, GIB);
}

/* Faults of a forked child that touches all pages, without those of one that does not. */
static void measure_fork(int fd, enum kind kind)
{
	char *p = map_file(fd, GIB, kind);
	long faults[3];

	touch(p, GIB, PAGE);
	for (int i = 0; i < 2; i++) {
		pid_t pid;

		faults[i] = faults_of(RUSAGE_CHILDREN);
		pid = fork();
		if (!pid) {
			touch(p, i * GIB, PAGE);
			_exit(0);
		}
		waitpid(pid, NULL, 0);
	}
	faults[2] = faults_of(RUSAGE_CHILDREN);
	print_count("share-fork", subjects[kind], "faults",
		    faults[2] - faults[1] - (faults[1] - faults[0]), "\"mib\":1024");
	munmap(p, GIB);
}

int main(int argc, char **argv)
{
	unsigned int repeats = argc > 1 ? atoi(argv[1]) : 5;
	int fd;

	if (!repeats || repeats >= SAMPLES_MAX) {
		fprintf(stderr, "Usage: share [REPEATS]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	write_text("/sys/kernel/mm/ptshare/enabled", "madvise");
	fd = filled_file(16UL << 20);
	measure_files(fd, 16UL << 20, 256, repeats);
	close(fd);

	/* With 256 sets of its tables it would be minutes. */
	fd = filled_file(GIB);
	measure_files(fd, GIB, 16, repeats);
	measure_uffd(fd, repeats);
	/* A tenth of the processes: their tables are many times what is free. */
	measure_memory(fd, MAPPERS_MAX / 10, OWN);
	measure_memory(fd, MAPPERS_MAX, UNITS);
	measure_memory(fd, MAPPERS_MAX, SHARED);
	for (enum kind kind = OWN; kind <= SHARED; kind++) {
		measure_touch(fd, kind);
		measure_fork(fd, kind);
	}
	return 0;
}
