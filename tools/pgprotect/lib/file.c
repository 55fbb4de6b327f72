// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * Files of a context: attach, protect, release, write through, detach.
 */
#include <errno.h>
#include <string.h>

#include "internal.h"

int pgprotect_attach(struct pgprotect *ctx, int fd,
		     const struct pgprotect_attach_options *options,
		     uint32_t *file)
{
	struct pgprotect_attach_options opts = { .size = sizeof(opts) };
	struct pgprotect_attach arg = { .size = sizeof(arg), .fd = fd };
	int ret;

	if (options) {
		ret = pgp_copy_options(&opts, sizeof(opts), sizeof(opts), options);
		if (ret < 0)
			return ret;
	}
	if (opts.reserved)
		return -EINVAL;

	arg.mode = opts.mode ? opts.mode : PGPROTECT_MODE_STALL;
	arg.access = opts.access ? opts.access : PGPROTECT_ACCESS_WRITE;
	arg.flags = opts.flags;
	arg.cookie = opts.cookie;
	arg.stall_ms = opts.stall_ms;
	ret = pgp_ioctl(ctx, PGPROTECT_IOC_ATTACH, &arg);
	if (ret < 0)
		return ret;
	*file = arg.file;
	return 0;
}

int pgprotect_detach(struct pgprotect *ctx, uint32_t file)
{
	struct pgprotect_detach arg = { .size = sizeof(arg), .file = file };

	return pgp_ioctl(ctx, PGPROTECT_IOC_DETACH, &arg);
}

int pgprotect_protectv(struct pgprotect *ctx,
		       const struct pgprotect_range *ranges,
		       unsigned int nr_ranges, uint64_t flags,
		       struct pgprotect_result *result)
{
	struct pgprotect_result res = { .size = sizeof(res) };
	struct pgprotect_protect arg = { .size = sizeof(arg) };
	int ret;

	if (result) {
		ret = pgp_copy_options(&res, sizeof(res), sizeof(res), result);
		if (ret < 0)
			return ret;
	}
	arg.access = PGPROTECT_ACCESS_WRITE;
	arg.flags = flags;
	arg.ranges = (uintptr_t)ranges;
	arg.nr_ranges = nr_ranges;
	arg.max_pins = res.pins ? res.max_pins : 0;
	arg.pins = (uintptr_t)res.pins;

	ret = pgp_ioctl(ctx, PGPROTECT_IOC_PROTECT, &arg);
	if (result && (ret == 0 || ret == -EBUSY)) {
		res.nr_pins = arg.nr_pins;
		res.nr_tables = arg.nr_tables;
		res.nr_pages = arg.nr_pages;
		res.duration_ns = arg.duration_ns;
		pgp_copy_result(result, &res, sizeof(res));
	}
	return ret;
}

int pgprotect_protect(struct pgprotect *ctx, uint32_t file, uint64_t offset,
		      uint64_t length, uint64_t flags,
		      struct pgprotect_result *result)
{
	struct pgprotect_range range = {
		.file = file, .offset = offset, .length = length,
	};

	return pgprotect_protectv(ctx, &range, 1, flags, result);
}

int pgprotect_unprotectv(struct pgprotect *ctx,
			 const struct pgprotect_range *ranges,
			 unsigned int nr_ranges, uint64_t *nr_pages)
{
	struct pgprotect_unprotect arg = { .size = sizeof(arg) };
	int ret;

	arg.ranges = (uintptr_t)ranges;
	arg.nr_ranges = nr_ranges;
	ret = pgp_ioctl(ctx, PGPROTECT_IOC_UNPROTECT, &arg);
	if (nr_pages)
		*nr_pages = arg.nr_pages;
	return ret;
}

int pgprotect_unprotect(struct pgprotect *ctx, uint32_t file, uint64_t offset,
			uint64_t length, uint64_t *nr_pages)
{
	struct pgprotect_range range = {
		.file = file, .offset = offset, .length = length,
	};

	return pgprotect_unprotectv(ctx, &range, 1, nr_pages);
}

int pgprotect_copy(struct pgprotect *ctx, uint32_t file, uint64_t offset,
		   const void *source, size_t length, size_t *copied)
{
	struct pgprotect_copy arg = { .size = sizeof(arg), .file = file };
	int ret;

	arg.offset = offset;
	arg.source = (uintptr_t)source;
	arg.length = length;
	ret = pgp_ioctl(ctx, PGPROTECT_IOC_COPY, &arg);
	if (copied)
		*copied = arg.copied;
	return ret;
}

int pgprotect_next(struct pgprotect *ctx, struct pgprotect_batch *batch)
{
	struct pgprotect_next arg = { .size = sizeof(arg) };
	struct pgprotect_batch b;
	int ret;

	ret = pgp_copy_options(&b, sizeof(b), sizeof(b), batch);
	if (ret < 0)
		return ret;
	if (b.reserved)
		return -EINVAL;

	arg.nr_verdicts = b.nr_verdicts;
	arg.verdicts = (uintptr_t)b.verdicts;
	arg.events = (uintptr_t)b.events;
	arg.max_events = b.max_events;
	arg.min_events = b.min_events;
	arg.timeout_ns = b.timeout_ns;

	ret = pgp_ioctl(ctx, PGPROTECT_IOC_NEXT, &arg);
	b.nr_verdicts = arg.nr_verdicts;
	b.nr_events = arg.nr_events;
	b.nr_stale = arg.nr_stale;
	pgp_copy_result(batch, &b, sizeof(b));
	return ret < 0 ? ret : (int)arg.nr_events;
}
