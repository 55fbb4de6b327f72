// SPDX-License-Identifier: GPL-2.0
/*
 * Names of processes by number. Asking /proc costs three system calls while a
 * writer waits, so that an answer is good for a second: a process that has
 * begun another program by then is called by its old name once or twice.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "comm.h"
#include "text.h"

#define SLOTS	1024

static struct {
	uint32_t pid;
	time_t until;
	char comm[17];
} cache[SLOTS];

static void read_comm(uint32_t pid, char *comm, size_t size)
{
	char path[40];
	ssize_t got;
	int fd;

	strcpy(comm, "?");
	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	got = read(fd, comm, size - 1);
	close(fd);
	if (got > 0) {
		comm[got] = '\0';
		comm[strcspn(comm, "\n")] = '\0';
	}
}

const char *comm_of(uint32_t pid)
{
	unsigned int slot = pid % SLOTS;
	struct timespec now;

	if (!pid)
		return "?";
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (cache[slot].pid != pid || now.tv_sec >= cache[slot].until) {
		read_comm(pid, cache[slot].comm, sizeof(cache[slot].comm));
		text_clean(cache[slot].comm);
		cache[slot].pid = pid;
		cache[slot].until = now.tv_sec + 1;
	}
	return cache[slot].comm;
}
