// SPDX-License-Identifier: GPL-2.0
/* Sets up a loop device by its ioctls. */
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "loop.h"

int loop_open(int fd, uint32_t lo_flags, int flags)
{
	struct loop_config config = {
		.fd = fd, .info.lo_flags = LO_FLAGS_AUTOCLEAR | lo_flags,
	};
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	int number, device;
	char path[32];

	if (control < 0)
		return -1;
	number = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	if (number < 0)
		return -1;
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	device = open(path, O_RDWR | O_CLOEXEC | flags);
	if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config)) {
		close(device);
		device = -1;
	}
	return device;
}
