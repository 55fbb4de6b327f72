/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers of all benches: time, repeated samples, one JSON object a line. */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/pgprotect.h>

#define SAMPLES_MAX	64

/*
 * Repeated measurements of one thing. Times are CLOCK_MONOTONIC_RAW: in a guest
 * with "-icount shift=0" its nanoseconds are executed instructions, provided
 * that the CPU was never idle; so idle time is measured along.
 */
struct samples {
	double value[SAMPLES_MAX];
	size_t nr;
	uint64_t begun_ns;
	uint64_t begun_idle_ns;
	uint64_t total_ns;
	uint64_t total_idle_ns;
};

uint64_t now_ns(void);
void sample_begin(struct samples *s);
/* Ends the sample begun last: its value is nanoseconds per operation. */
void sample_end(struct samples *s, uint64_t operations);
/* The same, with the time taken by someone else. */
void sample_add(struct samples *s, uint64_t ns, uint64_t operations);

double samples_min(const struct samples *s);
double samples_median(struct samples *s);

/* "instructions" where a nanosecond is one, else "ns". */
const char *time_unit(void);
bool time_is_instructions(void);
/* Measured nanoseconds per instruction of a loop of known length. */
double time_per_instruction(void);

/* Print the result: the median, its spread (max - min) / median, the minimum. */
__attribute__((format(printf, 4, 5)))
void samples_print(struct samples *s, const char *bench, const char *subject,
		   const char *params, ...);
/* The same as operations per second; in a counted guest as time_unit() each. */
__attribute__((format(printf, 4, 5)))
void samples_print_rate(struct samples *s, const char *bench, const char *subject,
			const char *params, ...);

__attribute__((noreturn, format(printf, 1, 2)))
void fatal(const char *format, ...);

/* A counter that processes and threads wait on without running. */
struct gate {
	uint32_t value;
};

void gate_add(struct gate *gate, uint32_t n);
void gate_wait(struct gate *gate, uint32_t at_least);
void *shared_alloc(size_t length);
int memfd_sized(size_t length);
char *map_shared(int fd, size_t length, int flags);

int pgprotect_open(void);
uint32_t pgprotect_attach(int dev, int fd, uint32_t mode);
/* Returns the nanoseconds that the call took, by the caller's clock. */
uint64_t pgprotect_protect(int dev, uint32_t file, uint64_t offset, uint64_t length,
			   struct pgprotect_protect *result);
void pgprotect_unprotect(int dev, uint32_t file, uint64_t offset, uint64_t length);

int uffd_open_wp(void *addr, size_t length);
void uffd_set_wp(int uffd, void *addr, size_t length, bool protect);

#endif
