// SPDX-License-Identifier: GPL-2.0
/* Makes a buffer for devices of the pages of a memfd. */
#include <errno.h>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "udmabuf.h"

#define DEVICE	"/dev/udmabuf"

bool have_udmabuf(void)
{
	return !access(DEVICE, R_OK | W_OK);
}

int udmabuf_create(int memfd, uint64_t offset, uint64_t length)
{
	struct udmabuf_create create = {
		.memfd = memfd, .flags = UDMABUF_FLAGS_CLOEXEC, .offset = offset, .size = length,
	};
	int dev = open(DEVICE, O_RDWR | O_CLOEXEC);
	int ret;

	if (dev < 0)
		return -errno;
	ret = ioctl(dev, UDMABUF_CREATE, &create);
	if (ret < 0)
		ret = -errno;
	close(dev);
	return ret;
}
