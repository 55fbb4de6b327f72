// SPDX-License-Identifier: MIT
/*
 * Who writes to a file on tmpfs? The kernel's interface, epoll and no library.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <linux/pgprotect.h>

#define BATCH	64

/* Answers one batch and fetches the next in one call, until there is no more. */
static int serve(int ctx)
{
	struct pgprotect_event events[BATCH];
	struct pgprotect_verdict verdicts[BATCH] = {};
	struct pgprotect_next next = { .size = sizeof(next) };
	unsigned int i;

	next.events = (unsigned long)events;
	next.verdicts = (unsigned long)verdicts;
	next.max_events = BATCH;
	do {
		if (ioctl(ctx, PGPROTECT_IOC_NEXT, &next) < 0)
			return -1;
		next.nr_verdicts = 0;
		for (i = 0; i < next.nr_events; i++) {
			if (events[i].type != PGPROTECT_EVENT_STALL)
				continue;
			printf("process %u, origin %u, offset %llu, length %llu\n",
			       events[i].pid, events[i].origin, events[i].offset,
			       events[i].length);
			verdicts[next.nr_verdicts].id = events[i].id;
			verdicts[next.nr_verdicts++].action = PGPROTECT_ALLOW;
		}
	} while (next.nr_events);
	return 0;
}

int main(int argc, char **argv)
{
	struct pgprotect_attach attach = {
		.size = sizeof(attach), .mode = PGPROTECT_MODE_STALL,
		.access = PGPROTECT_ACCESS_WRITE,
	};
	struct pgprotect_range range = { .length = PGPROTECT_TO_EOF };
	struct pgprotect_protect protect = {
		.size = sizeof(protect), .access = PGPROTECT_ACCESS_WRITE,
		.ranges = (unsigned long)&range, .nr_ranges = 1,
	};
	struct epoll_event event = { .events = EPOLLIN };
	int ctx, epoll;

	if (argc != 2)
		return fprintf(stderr, "usage: %s FILE\n", argv[0]), 2;
	ctx = open("/dev/pgprotect", O_RDWR | O_CLOEXEC);
	if (ctx < 0)
		return perror("/dev/pgprotect"), 1;
	attach.fd = open(argv[1], O_RDWR | O_CLOEXEC);
	if (attach.fd < 0 || ioctl(ctx, PGPROTECT_IOC_ATTACH, &attach) < 0)
		return perror(argv[1]), 1;
	range.file = attach.file;
	if (ioctl(ctx, PGPROTECT_IOC_PROTECT, &protect) < 0)
		return perror("protecting"), 1;

	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, ctx, &event) < 0)
		return perror("epoll"), 1;
	while (epoll_wait(epoll, &event, 1, -1) == 1)
		if (serve(ctx) < 0)
			return perror("waiting"), 1;
	return 0;
}
