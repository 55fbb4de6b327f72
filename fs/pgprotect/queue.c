// SPDX-License-Identifier: GPL-2.0
/* pgprotect queue: events out, verdicts in */
#include <linux/file.h>
#include <linux/hrtimer.h>
#include <linux/security.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "internal.h"

#include <trace/events/pgprotect.h>

/* Events copied to user space at a time; on the stack. */
#define FETCH_BATCH	8
/* Verdicts that need no allocation. */
#define VERDICT_BATCH	16

/* As wait_event_interruptible(), which would queue itself anew for each wake-up. */
static int queue_wait_forever(struct pgprotect_context *ctx, unsigned int min)
{
	DEFINE_WAIT_FUNC(wait, woken_wake_function);
	int ret = 0;

	add_wait_queue(&ctx->wait, &wait);
	/* On the queue before the look: pairs with the barrier of who queues. */
	smp_mb();
	while (pgprotect_queued(ctx) < min) {
		ret = signal_pending(current) ? -ERESTARTSYS : 0;
		if (ret)
			break;
		wait_woken(&wait, TASK_INTERRUPTIBLE, MAX_SCHEDULE_TIMEOUT);
	}
	remove_wait_queue(&ctx->wait, &wait);
	return ret;
}

/*
 * Wait for @min events. @timeout_ns negative: without limit.
 * Return: 0 also if the time is over; -ERESTARTSYS.
 */
static int queue_wait(struct pgprotect_context *ctx, unsigned int min,
		      s64 timeout_ns)
{
	int ret;

	if (pgprotect_queued(ctx) >= min)
		return 0;
	if (timeout_ns < 0)
		return queue_wait_forever(ctx, min);
	ret = wait_event_interruptible_hrtimeout(ctx->wait,
						 pgprotect_queued(ctx) >= min,
						 ns_to_ktime(timeout_ns));
	return ret == -ETIME ? 0 : ret;
}

/* Store up to @max events at @to. Return: how many, or -EFAULT if none. */
static int queue_fetch(struct pgprotect_context *ctx, struct iov_iter *to,
		       unsigned int max)
{
	struct pgprotect_event events[FETCH_BATCH] __uninitialized;
	unsigned int done = 0;

	while (done < max) {
		unsigned int nr, stored;
		size_t copied;

		nr = pgprotect_fetch(ctx, events,
				     min_t(unsigned int, max - done, FETCH_BATCH));
		if (!nr)
			break;
		copied = copy_to_iter(events, nr * sizeof(*events), to);
		stored = copied / sizeof(*events);
		done += stored;
		if (stored < nr) {
			pgprotect_unfetch(ctx, events + stored, nr - stored);
			if (!done)
				return -EFAULT;
			break;
		}
	}
	return done;
}

ssize_t pgprotect_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct file *file = iocb->ki_filp;
	struct pgprotect_context *ctx = file->private_data;
	unsigned int max = min_t(size_t, iov_iter_count(to) /
				 sizeof(struct pgprotect_event), INT_MAX);
	int ret;

	ret = security_file_permission(ctx->label, MAY_READ);
	if (ret)
		return ret;
	if (!max)
		return -EINVAL;
	ret = pgprotect_add_handler(ctx);
	if (ret)
		return ret;
	for (;;) {
		ret = queue_fetch(ctx, to, max);
		if (ret)
			break;
		if ((file->f_flags & O_NONBLOCK) ||
		    (iocb->ki_flags & IOCB_NOWAIT))
			return -EAGAIN;
		/* Another reader may be quicker: look again. */
		ret = queue_wait(ctx, 1, -1);
		if (ret)
			return ret;
	}
	return ret < 0 ? ret : ret * sizeof(struct pgprotect_event);
}

static int verdicts_check(const struct pgprotect_verdict *verdicts,
			  unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		const struct pgprotect_verdict *v = &verdicts[i];

		switch (v->action) {
		case PGPROTECT_ALLOW:
			if (v->error)
				return -EINVAL;
			break;
		case PGPROTECT_REFUSE:
			if (v->error < 0 || v->error > EHWPOISON)
				return -EINVAL;
			break;
		default:
			return -EINVAL;
		}
	}
	return 0;
}

static int verdict_act(struct pgprotect_context *ctx,
		       const struct pgprotect_verdict *v)
{
	int ret;

	if (v->action == PGPROTECT_ALLOW)
		ret = pgprotect_allow(ctx, v->id);
	else
		ret = pgprotect_refuse(ctx, v->id, -(v->error ?: EPERM));
	trace_pgprotect_verdict(v->id, v->action, ret);
	return ret;
}

/* @next->nr_verdicts becomes the number that was answered. */
static int queue_answer(struct pgprotect_context *ctx,
			struct pgprotect_next *next)
{
	struct pgprotect_verdict few[VERDICT_BATCH] __uninitialized;
	struct pgprotect_verdict *verdicts = few;
	void __user *from = u64_to_user_ptr(next->verdicts);
	unsigned int nr = next->nr_verdicts, i;
	int ret;

	if (!nr)
		return 0;
	next->nr_verdicts = 0;
	if (nr > VERDICT_BATCH) {
		verdicts = vmemdup_array_user(from, nr, sizeof(*verdicts));
		if (IS_ERR(verdicts))
			return PTR_ERR(verdicts);
	} else if (copy_from_user(few, from, nr * sizeof(*few))) {
		return -EFAULT;
	}
	ret = verdicts_check(verdicts, nr);
	for (i = 0; !ret && i < nr; i++) {
		ret = verdict_act(ctx, &verdicts[i]);
		if (ret == -ENOENT) {
			next->nr_stale++;
			ret = 0;
		}
		if (!ret)
			next->nr_verdicts++;
	}
	if (verdicts != few)
		kvfree(verdicts);
	return ret;
}

/*
 * Wait for events as @next says, and store them. Another handler may be quicker:
 * then it waits for what is left of the time. Return: as queue_fetch(), 0 if the
 * time is over, -ERESTARTSYS.
 */
static int queue_wait_fetch(struct pgprotect_context *ctx,
			    const struct pgprotect_next *next,
			    struct iov_iter *to)
{
	s64 left = next->timeout_ns;
	ktime_t end = left > 0 ? ktime_add_safe(ktime_get(), left) : 0;
	int ret;

	for (;;) {
		if (left && queue_wait(ctx, next->min_events, left) &&
		    !pgprotect_queued(ctx))
			return -ERESTARTSYS;
		ret = queue_fetch(ctx, to, next->max_events);
		if (ret || !left || !next->min_events)
			return ret;
		if (left > 0) {
			left = ktime_sub(end, ktime_get());
			if (left <= 0)
				return 0;
		}
	}
}

int pgprotect_ioc_next(struct pgprotect_context *ctx, void *arg, unsigned int how)
{
	struct pgprotect_next *next = arg;
	bool acts = next->nr_verdicts;
	struct iov_iter to;
	int ret;

	if (next->flags || next->min_events > next->max_events)
		return -EINVAL;
	if (next->nr_verdicts > PGPROTECT_MAX_BATCH ||
	    next->max_events > PGPROTECT_MAX_BATCH)
		return -E2BIG;
	next->nr_events = 0;
	next->nr_stale = 0;
	if (how & PGPROTECT_NONBLOCK)
		next->min_events = 0;
	/* Who asks is a handler, also where a worker of io_uring waits for it. */
	ret = pgprotect_add_handler(ctx);
	if (ret)
		return ret;
	if ((how & PGPROTECT_PUNT) && next->timeout_ns &&
	    pgprotect_queued(ctx) < next->min_events)
		return -EAGAIN;
	ret = queue_answer(ctx, next);
	if (ret || !next->max_events)
		return ret;

	ret = import_ubuf(ITER_DEST, u64_to_user_ptr(next->events),
			  next->max_events * sizeof(struct pgprotect_event),
			  &to);
	if (ret)
		return ret;
	if (how & PGPROTECT_PUNT)
		ret = queue_fetch(ctx, &to, next->max_events);
	else
		ret = queue_wait_fetch(ctx, next, &to);
	/* Task work is no reason to return; verdicts do not act again. */
	if (ret == -ERESTARTSYS)
		return acts ? -EINTR : -ERESTARTNOHAND;
	if (ret < 0)
		return ret;
	next->nr_events = ret;
	return 0;
}
