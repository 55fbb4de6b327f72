// SPDX-License-Identifier: GPL-2.0
/* Thin calls of what is measured: pgprotect and userfaultfd. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bench.h"

int pgprotect_open(void)
{
	return open("/dev/pgprotect", O_RDWR | O_CLOEXEC);
}

uint32_t pgprotect_attach(int dev, int fd, uint32_t mode)
{
	struct pgprotect_attach attach = {
		.size = sizeof(attach),
		.fd = fd,
		.mode = mode,
		.access = PGPROTECT_ACCESS_WRITE,
	};

	if (ioctl(dev, PGPROTECT_IOC_ATTACH, &attach))
		fatal("PGPROTECT_IOC_ATTACH");
	return attach.file;
}

uint64_t pgprotect_protect(int dev, uint32_t file, uint64_t offset, uint64_t length,
			   struct pgprotect_protect *result)
{
	struct pgprotect_range range = { .file = file, .offset = offset, .length = length };
	struct pgprotect_protect protect = {
		.size = sizeof(protect),
		.access = PGPROTECT_ACCESS_WRITE,
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};
	uint64_t t = now_ns();

	if (ioctl(dev, PGPROTECT_IOC_PROTECT, &protect))
		fatal("PGPROTECT_IOC_PROTECT");
	t = now_ns() - t;
	if (result)
		*result = protect;
	return t;
}

void pgprotect_unprotect(int dev, uint32_t file, uint64_t offset, uint64_t length)
{
	struct pgprotect_range range = { .file = file, .offset = offset, .length = length };
	struct pgprotect_unprotect unprotect = {
		.size = sizeof(unprotect),
		.nr_ranges = 1,
		.ranges = (uintptr_t)&range,
	};

	if (ioctl(dev, PGPROTECT_IOC_UNPROTECT, &unprotect))
		fatal("PGPROTECT_IOC_UNPROTECT");
}

int uffd_open_wp(void *addr, size_t length)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)addr, .len = length },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0)
		fatal("userfaultfd");
	if (ioctl(uffd, UFFDIO_API, &api))
		fatal("UFFDIO_API");
	if (ioctl(uffd, UFFDIO_REGISTER, &reg))
		fatal("UFFDIO_REGISTER");
	return uffd;
}

void uffd_set_wp(int uffd, void *addr, size_t length, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { .start = (uintptr_t)addr, .len = length },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &wp))
		fatal("UFFDIO_WRITEPROTECT");
}
