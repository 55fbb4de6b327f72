// SPDX-License-Identifier: GPL-2.0
/* Time, samples and their output. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

void fatal(const char *format, ...)
{
	int err = errno;
	va_list args;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(err));
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

/* All CPUs together, in the 10 ms steps of /proc/stat. */
static uint64_t idle_ns(void)
{
	uint64_t user, nice, sys, idle = 0, iowait = 0;
	FILE *f = fopen("/proc/stat", "r");

	if (!f || fscanf(f, "cpu %lu %lu %lu %lu %lu", &user, &nice, &sys, &idle, &iowait) != 5)
		fatal("/proc/stat");
	fclose(f);
	return (idle + iowait) * (1000000000ULL / sysconf(_SC_CLK_TCK));
}

void sample_begin(struct samples *s)
{
	s->begun_idle_ns = idle_ns();
	s->begun_ns = now_ns();
}

void sample_end(struct samples *s, uint64_t operations)
{
	uint64_t ns = now_ns() - s->begun_ns;

	s->total_idle_ns += idle_ns() - s->begun_idle_ns;
	sample_add(s, ns, operations);
}

void sample_add(struct samples *s, uint64_t ns, uint64_t operations)
{
	if (s->nr == SAMPLES_MAX)
		fatal("more than %d samples", SAMPLES_MAX);
	s->total_ns += ns;
	s->value[s->nr++] = (double)ns / operations;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double samples_min(const struct samples *s)
{
	double min = s->value[0];

	for (size_t i = 1; i < s->nr; i++)
		if (s->value[i] < min)
			min = s->value[i];
	return min;
}

static double samples_max(const struct samples *s)
{
	double max = s->value[0];

	for (size_t i = 1; i < s->nr; i++)
		if (s->value[i] > max)
			max = s->value[i];
	return max;
}

double samples_median(struct samples *s)
{
	qsort(s->value, s->nr, sizeof(s->value[0]), compare);
	if (s->nr % 2)
		return s->value[s->nr / 2];
	return (s->value[s->nr / 2 - 1] + s->value[s->nr / 2]) / 2;
}

double time_per_instruction(void)
{
	const uint64_t loops = 20000000;
	uint64_t n = loops, t = now_ns();

	asm volatile("1: dec %0; jnz 1b" : "+r"(n) : : "cc");
	return (double)(now_ns() - t) / (2 * loops);
}

bool time_is_instructions(void)
{
	static double known;

	if (!known)
		known = time_per_instruction();
	/* The timer tick is the only other thing that runs: about 0.1 %. */
	return known > 0.99 && known < 1.01;
}

const char *time_unit(void)
{
	return time_is_instructions() ? "instructions" : "ns";
}

static void print_line(struct samples *s, bool rate, const char *bench, const char *subject,
		       const char *params, va_list args)
{
	double median = samples_median(s), min = samples_min(s);
	double spread = (samples_max(s) - min) / median;

	rate = rate && !time_is_instructions();
	printf("{\"bench\":\"%s\",\"subject\":\"%s\",\"params\":{", bench, subject);
	vprintf(params, args);
	printf("},\"unit\":\"%s\",\"value\":%.4f,\"spread\":%.5f",
	       rate ? "per second" : time_unit(), rate ? 1e9 / median : median, spread);
	printf(",\"%s\":%.4f,\"repeats\":%zu", rate ? "max" : "min",
	       rate ? 1e9 / min : min, s->nr);
	/* Only where one CPU did everything does idle time spoil the count. */
	if (time_is_instructions() && s->total_ns)
		printf(",\"idle\":%.4f", (double)s->total_idle_ns / s->total_ns);
	printf("}\n");
	fflush(stdout);
}

void samples_print(struct samples *s, const char *bench, const char *subject,
		   const char *params, ...)
{
	va_list args;

	va_start(args, params);
	print_line(s, false, bench, subject, params, args);
	va_end(args);
}

void samples_print_rate(struct samples *s, const char *bench, const char *subject,
			const char *params, ...)
{
	va_list args;

	va_start(args, params);
	print_line(s, true, bench, subject, params, args);
	va_end(args);
}

void gate_add(struct gate *gate, uint32_t n)
{
	__atomic_fetch_add(&gate->value, n, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &gate->value, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void gate_wait(struct gate *gate, uint32_t at_least)
{
	uint32_t seen;

	while ((seen = __atomic_load_n(&gate->value, __ATOMIC_SEQ_CST)) < at_least)
		syscall(SYS_futex, &gate->value, FUTEX_WAIT, seen, NULL, NULL, 0);
}

void *shared_alloc(size_t length)
{
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fatal("mmap");
	return p;
}

int memfd_sized(size_t length)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, length))
		fatal("memfd of %zu bytes", length);
	return fd;
}

char *map_shared(int fd, size_t length, int flags)
{
	char *p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0);

	if (p == MAP_FAILED)
		fatal("mmap");
	return p;
}
