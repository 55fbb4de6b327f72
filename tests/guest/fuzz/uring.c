// SPDX-License-Identifier: GPL-2.0
/*
 * What the fuzzer does by io_uring: commands of contexts, writes, and pages that stay
 * pinned. Nothing is waited for, so that what workers may still write to is not on the
 * stack.
 */
#include <liburing.h>
#include <string.h>

#include "fuzz.h"

static struct io_uring ring;	/* of this process */

static struct io_uring_sqe *next_entry(void)
{
	if (!ring.ring_fd && io_uring_queue_init(8, &ring, 0))
		return NULL;
	return io_uring_get_sqe(&ring);
}

/* Return: what the last one that has ended says; -1: none. */
static long submit(void)
{
	struct io_uring_cqe *cqe;
	long ret = -1;

	io_uring_submit(&ring);
	while (!io_uring_peek_cqe(&ring, &cqe)) {
		ret = cqe->res;
		io_uring_cqe_seen(&ring, cqe);
	}
	return ret;
}

static long op_command(struct fuzzer *f)
{
	static struct pgprotect_event events[4];
	static struct pgprotect_range range;
	static struct pgprotect_unprotect unprotect = {
		.size = sizeof(unprotect), .ranges = (uintptr_t)&range, .nr_ranges = 1,
	};
	static struct pgprotect_next next;
	struct pgprotect_uring_cmd cmd = { .arg = (uintptr_t)&unprotect };
	struct io_uring_sqe *sqe = next_entry();

	if (!sqe)
		return -1;
	range = fuzz_range(f);
	next = (struct pgprotect_next){
		.size = sizeof(next), .events = (uintptr_t)events, .max_events = 4,
		.min_events = fuzz_random(f, 3), .timeout_ns = fuzz_random(f, 20000000),
	};
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fuzz_context(f), NULL, 0, 0);
	sqe->cmd_op = PGPROTECT_IOC_UNPROTECT;
	if (f->fetches && fuzz_chance(f, 2)) {
		sqe->cmd_op = PGPROTECT_IOC_NEXT;
		cmd.arg = (uintptr_t)&next;
	}
	if (fuzz_chance(f, 10))
		sqe->cmd_op = PGPROTECT_IOC_INFO;
	cmd.reserved = fuzz_chance(f, 10);
	memcpy(sqe->cmd, &cmd, sizeof(cmd));
	return submit();
}

/* A write to a file, or a read into a mapping that needs its pages while it lasts. */
static long op_async(struct fuzzer *f)
{
	static char bytes[4 * 4096];
	struct io_uring_sqe *sqe = next_entry();
	int file = fuzz_random(f, FILES);
	char *page = fuzz_page(f);

	if (!sqe)
		return -1;
	if (page && fuzz_chance(f, 2))
		io_uring_prep_read(sqe, f->direct, page, page_size(), 0);
	else
		io_uring_prep_write(sqe, f->files[file], bytes,
				    1 + fuzz_random(f, sizeof(bytes)), fuzz_offset(f, file));
	if (fuzz_chance(f, 3))
		sqe->flags |= IOSQE_ASYNC;
	return submit();
}

/* Until the next time. */
static long op_pin(struct fuzzer *f)
{
	struct iovec buffer = { fuzz_page(f), (1 + fuzz_random(f, 4)) * page_size() };

	if (!ring.ring_fd)
		return -1;
	io_uring_unregister_buffers(&ring);
	return buffer.iov_base ? io_uring_register_buffers(&ring, &buffer, 1) : -1;
}

const struct fuzz_op uring_ops[] = {
	{ "command", 8, op_command },
	{ "async", 6, op_async },
	{ "pin", 6, op_pin },
	{ }
};
