// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * Contexts: opening, closing, what the kernel supports, who is attached.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "internal.h"

int pgp_ioctl(const struct pgprotect *ctx, unsigned long request, void *arg)
{
	int ret = ioctl(ctx->fd, request, arg);

	return ret < 0 ? -errno : ret;
}

int pgprotect_open_fd(struct pgprotect **ctx, int fd)
{
	struct pgprotect_info info = { .size = sizeof(info) };
	struct pgprotect *new;
	int ret;

	new = calloc(1, sizeof(*new));
	if (!new)
		return -ENOMEM;
	new->fd = fd;
	ret = pgp_ioctl(new, PGPROTECT_IOC_INFO, &info);
	if (ret < 0) {
		free(new);
		return ret;
	}
	*ctx = new;
	return 0;
}

int pgprotect_open(struct pgprotect **ctx, unsigned int flags)
{
	int mode = O_RDWR;
	int fd, ret;

	if (flags & ~(PGPROTECT_OPEN_NONBLOCK | PGPROTECT_OPEN_CLOEXEC))
		return -EINVAL;
	if (flags & PGPROTECT_OPEN_NONBLOCK)
		mode |= O_NONBLOCK;
	if (flags & PGPROTECT_OPEN_CLOEXEC)
		mode |= O_CLOEXEC;

	fd = open("/dev/pgprotect", mode);
	if (fd < 0)
		return -errno;
	ret = pgprotect_open_fd(ctx, fd);
	if (ret < 0)
		close(fd);
	return ret;
}

void pgprotect_close(struct pgprotect *ctx)
{
	if (!ctx)
		return;
	close(ctx->fd);
	free(ctx);
}

int pgprotect_fd(const struct pgprotect *ctx)
{
	return ctx->fd;
}

int pgprotect_info(struct pgprotect *ctx, struct pgprotect_info *info)
{
	/* The first published size is the kernel's to know and to refuse. */
	return pgp_ioctl(ctx, PGPROTECT_IOC_INFO, info);
}

int pgprotect_list(struct pgprotect *ctx, struct pgprotect_list_entry **entries)
{
	struct pgprotect_list_entry *array = NULL, *bigger;
	uint32_t room = 64;
	int ret;

	/* Others attach meanwhile: some spare room, and again if it is short. */
	for (;;) {
		struct pgprotect_list list = { .size = sizeof(list) };

		bigger = reallocarray(array, room, sizeof(*array));
		if (!bigger) {
			ret = -ENOMEM;
			break;
		}
		array = bigger;
		memset(array, 0, room * sizeof(*array));
		list.max_entries = room;
		list.entries = (uintptr_t)array;
		ret = pgp_ioctl(ctx, PGPROTECT_IOC_LIST, &list);
		if (ret < 0)
			break;
		if (list.nr_entries <= room) {
			*entries = array;
			return list.nr_entries;
		}
		room = list.nr_entries + 16;
	}
	free(array);
	return ret;
}

void pgprotect_list_free(struct pgprotect_list_entry *entries)
{
	free(entries);
}
