// SPDX-License-Identifier: GPL-2.0
/* A device with page tables of its own, which mirror those of a process. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include "device.h"
#include "route.h"

/* The ABI of lib/test_hmm.c, which has no installed header. */
struct device_command {
	uint64_t address;
	uint64_t buffer;
	uint64_t pages;
	uint64_t done;		/* pages, set if all were */
	uint64_t faults;	/* how often the mirror had to ask, the same */
};

#define DEVICE_READ	_IOWR('H', 0x00, struct device_command)
#define DEVICE_WRITE	_IOWR('H', 0x01, struct device_command)
#define DEVICE_SNAPSHOT	_IOWR('H', 0x04, struct device_command)

#define PAGES_MAX	4

int device_open(void)
{
	return open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
}

static long device_do(int device, unsigned long command, char *address, void *buffer,
		      size_t pages)
{
	struct device_command cmd = {
		.address = (uintptr_t)address, .buffer = (uintptr_t)buffer, .pages = pages,
	};

	return ioctl(device, command, &cmd) ? -errno : (long)cmd.faults;
}

long device_write_pages(int device, char *address, char value, size_t pages)
{
	static char data[PAGES_MAX * PAGE];

	if (pages > PAGES_MAX)
		die("%zu pages for a device", pages);
	memset(data, value, pages * PAGE);
	return device_do(device, DEVICE_WRITE, address, data, pages);
}

long device_write(int device, char *address, char value)
{
	return device_write_pages(device, address, value, 1);
}

int device_read(int device, char *address)
{
	static unsigned char data[PAGE];
	long ret = device_do(device, DEVICE_READ, address, data, 1);

	return ret < 0 ? (int)ret : data[0];
}

int device_sees(int device, char *address)
{
	unsigned char seen;
	long ret = device_do(device, DEVICE_SNAPSHOT, address, &seen, 1);

	return ret < 0 ? (int)ret : seen & (SEEN_READ | SEEN_WRITE);
}
