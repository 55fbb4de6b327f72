// SPDX-License-Identifier: GPL-2.0
/*
 * Cost of forbidding writes to 64 MiB that N processes have mapped and dirtied.
 *
 * pgprotect: one PROTECT. userfaultfd-wp: one UFFDIO_WRITEPROTECT, which covers
 * one process only. mprotect: each process is told by its own pipe, calls
 * mprotect(PROT_READ) and answers; the time runs from the first telling to the
 * last answer.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PAGE		4096UL
#define LENGTH		(64UL << 20)
#define MAPPERS_MAX	64

enum command {
	COMMAND_PROTECT = 'p',	/* mprotect(PROT_READ) */
	COMMAND_RESTORE = 'r',	/* every entry writable and dirty */
};

struct mappers {
	unsigned int nr;
	int memfd;
	int answers;
	int orders[MAPPERS_MAX];
	pid_t pid[MAPPERS_MAX];
};

/* Through mprotect: a fault for each page would take longer than the bench. */
static void make_writable_dirty(char *memory)
{
	if (mprotect(memory, LENGTH, PROT_READ) || mprotect(memory, LENGTH, PROT_READ | PROT_WRITE))
		fatal("mprotect");
	for (unsigned long i = 0; i < LENGTH; i += PAGE)
		*(volatile char *)(memory + i) = 1;
}

static void mapper_main(int memfd, int orders, int answers)
{
	char *memory = map_shared(memfd, LENGTH, MAP_POPULATE);
	char command;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(orders, &command, 1) == 1) {
		if (command == COMMAND_RESTORE)
			make_writable_dirty(memory);
		else if (mprotect(memory, LENGTH, PROT_READ))
			fatal("mprotect");
		if (write(answers, &command, 1) != 1)
			fatal("answer");
	}
	_exit(0);
}

static void mappers_start(struct mappers *m, unsigned int nr)
{
	int answers[2], orders[2];

	m->nr = nr;
	if (pipe(answers))
		fatal("pipe");
	m->answers = answers[0];
	for (unsigned int i = 0; i < nr; i++) {
		if (pipe(orders))
			fatal("pipe");
		m->pid[i] = fork();
		if (m->pid[i] < 0)
			fatal("fork");
		if (!m->pid[i]) {
			close(orders[1]);
			for (unsigned int j = 0; j < i; j++)
				close(m->orders[j]);
			mapper_main(m->memfd, orders[0], answers[1]);
		}
		close(orders[0]);
		m->orders[i] = orders[1];
	}
	close(answers[1]);
}

static void mappers_tell(struct mappers *m, char command)
{
	char answer[MAPPERS_MAX];

	for (unsigned int i = 0; i < m->nr; i++)
		if (write(m->orders[i], &command, 1) != 1)
			fatal("order");
	for (unsigned int left = m->nr; left;) {
		ssize_t n = read(m->answers, answer, left);

		if (n <= 0)
			fatal("answers");
		left -= n;
	}
}

static void mappers_stop(struct mappers *m)
{
	for (unsigned int i = 0; i < m->nr; i++) {
		close(m->orders[i]);
		waitpid(m->pid[i], NULL, 0);
	}
	close(m->answers);
}

static void measure_mprotect(struct mappers *m, unsigned int repeats)
{
	struct samples s = {};

	for (unsigned int i = 0; i <= repeats; i++) {
		mappers_tell(m, COMMAND_RESTORE);
		sample_begin(&s);
		mappers_tell(m, COMMAND_PROTECT);
		if (i)
			sample_end(&s, 1);
	}
	mappers_tell(m, COMMAND_RESTORE);
	samples_print(&s, "arm", "mprotect", "\"mappers\":%u,\"mib\":64", m->nr);
}

static void measure_pgprotect(struct mappers *m, unsigned int repeats)
{
	struct pgprotect_protect result = {};
	struct samples s = {};
	int dev = pgprotect_open();
	uint32_t file;

	if (dev < 0) {
		fprintf(stderr, "arm: no pgprotect on this kernel\n");
		return;
	}
	file = pgprotect_attach(dev, m->memfd, PGPROTECT_MODE_STALL);
	for (unsigned int i = 0; i <= repeats; i++) {
		mappers_tell(m, COMMAND_RESTORE);
		sample_begin(&s);
		pgprotect_protect(dev, file, 0, LENGTH, &result);
		if (i)
			sample_end(&s, 1);
		pgprotect_unprotect(dev, file, 0, LENGTH);
	}
	samples_print(&s, "arm", "pgprotect", "\"mappers\":%u,\"mib\":64,\"tables\":%u",
		      m->nr, result.nr_tables);
	close(dev);
}

static void measure_uffd(int memfd, unsigned int repeats)
{
	char *memory = map_shared(memfd, LENGTH, MAP_POPULATE);
	struct samples s = {};
	int uffd = uffd_open_wp(memory, LENGTH);

	for (unsigned int i = 0; i <= repeats; i++) {
		make_writable_dirty(memory);
		sample_begin(&s);
		uffd_set_wp(uffd, memory, LENGTH, true);
		if (i)
			sample_end(&s, 1);
		uffd_set_wp(uffd, memory, LENGTH, false);
	}
	close(uffd);
	munmap(memory, LENGTH);
	samples_print(&s, "arm", "uffd-wp", "\"mappers\":1,\"mib\":64");
}

int main(int argc, char **argv)
{
	static const unsigned int counts[] = { 1, 8, 64 };
	unsigned int repeats = argc > 1 ? atoi(argv[1]) : 5;
	struct mappers m = { .memfd = memfd_sized(LENGTH) };

	if (!repeats || repeats >= SAMPLES_MAX) {
		fprintf(stderr, "Usage: arm [REPEATS]\n");
		return 2;
	}
	/* A bench that dies must not leave mappers that wait for orders. */
	signal(SIGPIPE, SIG_IGN);
	measure_uffd(m.memfd, repeats);
	for (int i = 0; i < 3; i++) {
		mappers_start(&m, counts[i]);
		measure_mprotect(&m, repeats);
		measure_pgprotect(&m, repeats);
		mappers_stop(&m);
	}
	return 0;
}
