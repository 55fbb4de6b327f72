// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect stalls: writers asleep at the gate, and the events they are.
 *
 * The queue of STALL events is the stalled writers themselves: each has a
 * struct pgprotect_stall on its stack, so that nothing is allocated to wait
 * and no event can be lost. The first writer for a page leads; later ones join
 * its ring, and only the leader is hashed, queued and numbered:
 *
 *   ctx->stalls[hash(att, page)] -> leader <-> peer <-> peer (ring)
 *   ctx->queued                  -> leader, until its event is fetched
 *   ctx->fetched                 -> leader, until a verdict or a release
 *
 * Lost wake-ups. The writer checks the state after it has queued itself, under
 * ctx->lock; who releases changes the state first and then looks for writers
 * under ctx->lock:
 *
 *   writer					releaser
 *   lock(ctx->lock)				clear the bits (or set ->gone)
 *   enqueue					lock(ctx->lock)
 *   bits still set? sleep : go on		find the writer? wake it
 *   unlock(ctx->lock)				unlock(ctx->lock)
 *
 * If the releaser's section comes first, the writer sees the bits cleared; if
 * the writer's comes first, the releaser finds it. The bits need not be looked
 * up again if the set counts no release since the gate found them set.
 *
 * Time limits. A timer for each writer would be started and stopped for every
 * event. There is one work item for a context, due when the first writer of all
 * reaches its limit as far as was known when it was queued; it tells who has, and
 * queues itself for the next. Limits of the same length come in order, so that it
 * is queued once for all that wait at a time.
 *
 * A signal takes a writer from its wait, to which it comes back, as the store or the
 * system call starts again. It has the time that it had left: else one with a timer
 * of its own would wait for ever. The context remembers a few who left so, for as
 * long as a signal's handler takes; whoever is not remembered starts anew.
 */
#include <linux/hash.h>
#include <linux/memcontrol.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/wake_q.h>
#include <linux/slab.h>
#include <linux/sysctl.h>

#include "internal.h"

#define CREATE_TRACE_POINTS
#include <trace/events/pgprotect.h>

/* Longest stall, milliseconds; 0: no limit. */
unsigned int pgprotect_stall_ms = PGPROTECT_STALL_MS;

static struct ctl_table pgprotect_sysctls[] = {
	{
		.procname	= "pgprotect_stall_ms",
		.data		= &pgprotect_stall_ms,
		.maxlen		= sizeof(pgprotect_stall_ms),
		.mode		= 0644,
		.proc_handler	= proc_douintvec,
	},
};

static int __init pgprotect_stall_init(void)
{
	register_sysctl_init("vm", pgprotect_sysctls);
	return 0;
}
core_initcall(pgprotect_stall_init);

static u32 pgprotect_bucket(const struct pgprotect_attachment *att,
			    pgoff_t page)
{
	return hash_64((unsigned long)att ^ page, PGPROTECT_STALL_BITS);
}

static struct pgprotect_stall *
pgprotect_leader(struct pgprotect_attachment *att, pgoff_t page)
{
	struct pgprotect_context *ctx = att->ctx;
	struct pgprotect_stall *stall;

	lockdep_assert_held(&ctx->lock);
	hlist_for_each_entry(stall, &ctx->stalls[pgprotect_bucket(att, page)], hash)
		if (stall->att == att && stall->first == page)
			return stall;
	return NULL;
}

/* Let the limits be looked at by @when, jiffies. */
static void pgprotect_expire_at(struct pgprotect_context *ctx,
				unsigned long when)
{
	lockdep_assert_held(&ctx->lock);
	if (ctx->expiring && time_after_eq(when, ctx->expiry))
		return;
	ctx->expiring = true;
	ctx->expiry = when;
	when = time_after(when, jiffies) ? when - jiffies : 0;
	/* The work takes the lock before it drops the reference. */
	if (!mod_delayed_work(system_wq, &ctx->expire, when))
		kref_get(&ctx->ref);
}

/* How long a writer that a signal took away is remembered, jiffies. */
#define INTERRUPTED_TIME	HZ

static bool pgprotect_is_recent(unsigned long when)
{
	return time_before(jiffies, when + INTERRUPTED_TIME);
}

/* @stall leaves because of a signal. */
static void pgprotect_remember(const struct pgprotect_stall *stall)
{
	struct pgprotect_context *ctx = stall->att->ctx;
	struct pgprotect_interrupted *oldest = ctx->interrupted, *i;

	lockdep_assert_held(&ctx->lock);
	for (i = oldest; i < ctx->interrupted + PGPROTECT_MAX_INTERRUPTED; i++) {
		if (!i->task) {
			oldest = i;
			break;
		}
		if (time_before(i->when, oldest->when))
			oldest = i;
	}
	*oldest = (struct pgprotect_interrupted) {
		.task = stall->task,
		.att = stall->att,
		.page = stall->first,
		.deadline = stall->deadline,
		.when = jiffies,
	};
	ctx->last_interrupted = jiffies ?: 1;
}

/* Pages of @att are released: who comes back to them begins a new wait, if any. */
static void pgprotect_forget(const struct pgprotect_attachment *att,
			     pgoff_t first, pgoff_t last)
{
	struct pgprotect_context *ctx = att->ctx;
	struct pgprotect_interrupted *i;

	lockdep_assert_held(&ctx->lock);
	if (!ctx->last_interrupted || !pgprotect_is_recent(ctx->last_interrupted))
		return;
	for (i = ctx->interrupted; i < ctx->interrupted + PGPROTECT_MAX_INTERRUPTED; i++)
		if (i->att == att && i->page >= first && i->page <= last)
			i->task = NULL;
}

/* @stall, new, may be one of those who come back. */
static void pgprotect_resume(struct pgprotect_stall *stall)
{
	struct pgprotect_context *ctx = stall->att->ctx;
	struct pgprotect_interrupted *i;

	lockdep_assert_held(&ctx->lock);
	if (!ctx->last_interrupted || !pgprotect_is_recent(ctx->last_interrupted))
		return;
	for (i = ctx->interrupted; i < ctx->interrupted + PGPROTECT_MAX_INTERRUPTED; i++) {
		if (i->task != stall->task || i->att != stall->att ||
		    i->page != stall->first)
			continue;
		if (pgprotect_is_recent(i->when) &&
		    time_before(i->deadline, stall->deadline))
			stall->deadline = i->deadline;
		i->task = NULL;
		break;
	}
	stall->expired = time_after_eq(jiffies, stall->deadline);
}

/* Queue @stall; the first writer of its page becomes the leader. */
static void pgprotect_enqueue(struct pgprotect_stall *stall)
{
	struct pgprotect_attachment *att = stall->att;
	struct pgprotect_context *ctx = att->ctx;
	struct pgprotect_stall *leader;
	u32 bucket;

	ctx->nr_waiting++;
	att->waiting++;
	if (stall->limited) {
		pgprotect_resume(stall);
		pgprotect_expire_at(ctx, stall->deadline);
	}
	leader = pgprotect_leader(att, stall->first);
	if (leader) {
		list_add_tail(&stall->peers, &leader->peers);
		return;
	}
	/* The id names the bucket, so that a verdict finds its event. */
	bucket = pgprotect_bucket(att, stall->first);
	stall->id = (++ctx->last_id << PGPROTECT_STALL_BITS) | bucket;
	stall->leader = true;
	hlist_add_head(&stall->hash, &ctx->stalls[bucket]);
	list_add_tail(&stall->queue, &ctx->queued);
	ctx->nr_queued++;
}

static void pgprotect_unqueue(struct pgprotect_context *ctx,
			      struct pgprotect_stall *leader)
{
	hlist_del(&leader->hash);
	list_del(&leader->queue);
	if (!leader->fetched)
		ctx->nr_queued--;
}

/* The leader leaves, others wait: the next takes over its event. */
static void pgprotect_hand_over(struct pgprotect_context *ctx,
				struct pgprotect_stall *from)
{
	struct pgprotect_stall *to = list_next_entry(from, peers);

	to->leader = true;
	/* The event stays what it was: its verdict releases no more pages. */
	to->id = from->id;
	to->last = from->last;
	to->fetched = from->fetched;
	hlist_add_behind(&to->hash, &from->hash);
	hlist_del(&from->hash);
	list_replace(&from->queue, &to->queue);
}

/* @stall gives up, unless it was woken meanwhile. */
static void pgprotect_dequeue(struct pgprotect_stall *stall)
{
	struct pgprotect_context *ctx = stall->att->ctx;

	lockdep_assert_held(&ctx->lock);
	if (stall->result != PGPROTECT_STALL_WAITING)
		return;
	if (stall->leader) {
		if (list_empty(&stall->peers))
			pgprotect_unqueue(ctx, stall);
		else
			pgprotect_hand_over(ctx, stall);
	}
	list_del(&stall->peers);
	ctx->nr_waiting--;
	stall->att->waiting--;
}

/*
 * @stall, which is on no list any more, leaves with @result. It may be gone
 * from its writer's stack as soon as the result is stored; and the result must
 * be stored before wake_q_add_safe(), which relies on it if somebody else is
 * about to wake the task anyway.
 */
static void pgprotect_finish(struct pgprotect_stall *stall, int result,
			     struct wake_q_head *wake)
{
	struct task_struct *task = get_task_struct(stall->task);

	stall->att->ctx->nr_waiting--;
	stall->att->waiting--;
	/* Pairs with the acquire in pgprotect_sleep(). */
	smp_store_release(&stall->result, result);
	wake_q_add_safe(wake, task);
}

/* End the event that @leader leads: all its writers leave with @result. */
static void pgprotect_end(struct pgprotect_stall *leader, int result,
			  struct wake_q_head *wake)
{
	struct pgprotect_context *ctx = leader->att->ctx;
	struct pgprotect_stall *stall, *next;

	lockdep_assert_held(&ctx->lock);
	pgprotect_unqueue(ctx, leader);
	list_for_each_entry_safe(stall, next, &leader->peers, peers) {
		list_del(&stall->peers);
		pgprotect_finish(stall, result, wake);
	}
	pgprotect_finish(leader, result, wake);
}

/* Longest that the current task waits for an attachment, jiffies. */
long pgprotect_stall_limit(const struct pgprotect_attachment *att)
{
	unsigned int limit = READ_ONCE(pgprotect_stall_ms);

	if (att->stall_ms && (!limit || att->stall_ms < limit))
		limit = att->stall_ms;
	/* Nobody can kill a kernel thread. */
	if (!limit && (current->flags & PF_KTHREAD))
		limit = PGPROTECT_STALL_MS;
	/* The jiffy that passes already is not a whole one. */
	return limit ? msecs_to_jiffies(limit) + 1 : MAX_SCHEDULE_TIMEOUT;
}

/* Return: as the stall's result, -ERESTARTSYS for a signal, -ETIMEDOUT. */
static int pgprotect_sleep(struct pgprotect_stall *stall,
			   const struct pgprotect_request *req)
{
	unsigned int state = req->interruptible ? TASK_INTERRUPTIBLE :
						  TASK_KILLABLE;
	/* Who may hold locks must not be frozen with them. */
	unsigned int freezable = req->user ? TASK_FREEZABLE : 0;

	for (;;) {
		int result;

		set_current_state(state | freezable);
		/* Pairs with the release in pgprotect_finish(). */
		result = smp_load_acquire(&stall->result);
		if (result != PGPROTECT_STALL_WAITING) {
			__set_current_state(TASK_RUNNING);
			return result;
		}
		if (signal_pending_state(state, current) ||
		    READ_ONCE(stall->expired)) {
			__set_current_state(TASK_RUNNING);
			return READ_ONCE(stall->expired) ? -ETIMEDOUT :
							   -ERESTARTSYS;
		}
		schedule();
	}
}

/*
 * Wake @stall if its limit is reached; it leaves by itself. Else @next becomes
 * the earliest deadline. Return: is there one?
 */
static bool pgprotect_expire_one(struct pgprotect_stall *stall,
				 unsigned long *next, bool found)
{
	if (!stall->limited || stall->expired)
		return found;
	if (time_after_eq(jiffies, stall->deadline)) {
		/* Before the wake-up: pairs with set_current_state(). */
		WRITE_ONCE(stall->expired, true);
		wake_up_process(stall->task);
		return found;
	}
	if (!found || time_before(stall->deadline, *next))
		*next = stall->deadline;
	return true;
}

/* The work item of a context: see "Time limits" above. */
void pgprotect_expire(struct work_struct *work)
{
	struct pgprotect_context *ctx =
		container_of(to_delayed_work(work), struct pgprotect_context,
			     expire);
	struct pgprotect_stall *leader, *stall;
	bool found = false;
	unsigned long next;
	int bucket;

	spin_lock(&ctx->lock);
	ctx->expiring = false;
	hash_for_each(ctx->stalls, bucket, leader, hash) {
		found = pgprotect_expire_one(leader, &next, found);
		list_for_each_entry(stall, &leader->peers, peers)
			found = pgprotect_expire_one(stall, &next, found);
	}
	if (found)
		pgprotect_expire_at(ctx, next);
	spin_unlock(&ctx->lock);
	pgprotect_context_put(ctx);
}

/**
 * pgprotect_expire_now - look at the limits now
 * @ctx: A context that is being closed, and would else be kept by the work item
 *	until it is due.
 *
 * Context: does not sleep.
 */
void pgprotect_expire_now(struct pgprotect_context *ctx)
{
	spin_lock(&ctx->lock);
	if (ctx->expiring && time_after(ctx->expiry, jiffies))
		pgprotect_expire_at(ctx, jiffies);
	spin_unlock(&ctx->lock);
}

/* The limit is reached: tell the handler, and fail, or release the page if there is memory. */
static int pgprotect_stall_timeout(struct pgprotect_stall *stall, u64 id)
{
	struct pgprotect_attachment *att = stall->att;
	struct mem_cgroup *old;
	int ret;

	pgprotect_note(att, PGPROTECT_EVENT_TIMEOUT, id, stall->origin,
		       stall->first, stall->last);
	if (!(att->flags & PGPROTECT_ATTACH_TIMEOUT_RELEASE))
		return -ETIMEDOUT;
	/* What that takes is not the writer's, nor is it to be made room for. */
	old = set_active_memcg(att->ctx->memcg);
	ret = pgprotect_release(att, stall->first, stall->last,
				GFP_NOWAIT | __GFP_NOWARN | __GFP_ACCOUNT, NULL);
	set_active_memcg(old);
	return ret ? -ETIMEDOUT : 0;
}

/*
 * @stall has slept to its end. Return: @why, with the id of its event in @id
 * if no other writer is left to wait for it; or what a waker said meanwhile.
 */
static int pgprotect_give_up(struct pgprotect_stall *stall, int why, u64 *id)
{
	struct pgprotect_context *ctx = stall->att->ctx;

	spin_lock(&ctx->lock);
	if (stall->result == PGPROTECT_STALL_WAITING) {
		if (stall->leader && list_empty(&stall->peers))
			*id = stall->id;
		if (why == -ERESTARTSYS && stall->limited)
			pgprotect_remember(stall);
		pgprotect_dequeue(stall);
	} else {
		why = stall->result;
	}
	spin_unlock(&ctx->lock);
	return why;
}

/* Is the page of @stall, which is enqueued, still protected? */
static bool pgprotect_still(const struct pgprotect_stall *stall,
			    unsigned long releases)
{
	struct pgprotect_attachment *att = stall->att;
	pgoff_t first = stall->first, last = stall->first;
	bool arming, still;

	lockdep_assert_held(&att->ctx->lock);
	if (READ_ONCE(att->set->releases) == releases &&
	    !rcu_access_pointer(att->arming))
		return !READ_ONCE(att->gone);
	rcu_read_lock();
	still = pgprotect_run(att, &first, &last, &arming) && !arming;
	rcu_read_unlock();
	return still;
}

/**
 * pgprotect_stall - let the current task wait for its page
 * @att: The attachment that protects it.
 * @req: What the task wants.
 * @d: What the gate found: the page is the first of the run.
 *
 * Context: holds nothing. Sleeps.
 * Return: 0: look again; -ERESTARTSYS: a signal; -ETIMEDOUT; or a verdict's
 * error.
 */
int pgprotect_stall(struct pgprotect_attachment *att,
		    const struct pgprotect_request *req,
		    const struct pgprotect_decision *d)
{
	struct pgprotect_context *ctx = att->ctx;
	struct pgprotect_stall stall = {
		.att = att,
		.task = current,
		.first = d->first,
		.last = d->last,
		.since = ktime_get(),
		.pid = pid_nr_ns(task_tgid(current), ctx->pid_ns),
		.tid = pid_nr_ns(task_pid(current), ctx->pid_ns),
		.origin = req->origin,
		.result = PGPROTECT_STALL_WAITING,
	};
	long limit = pgprotect_stall_limit(att);
	bool wait, leader;
	u64 id = 0;
	int ret;

	INIT_LIST_HEAD(&stall.peers);
	stall.limited = limit != MAX_SCHEDULE_TIMEOUT;
	stall.deadline = jiffies + limit;

	spin_lock(&ctx->lock);
	pgprotect_enqueue(&stall);
	/* After enqueueing: see "Lost wake-ups" above. */
	wait = pgprotect_still(&stall, d->releases);
	if (!wait)
		pgprotect_dequeue(&stall);
	leader = stall.leader;
	spin_unlock(&ctx->lock);
	if (!wait)
		return 0;

	if (leader) {
		atomic64_inc(&att->events);
		trace_pgprotect_event(att, PGPROTECT_EVENT_STALL, d->first,
				      d->last, req->origin);
	}
	trace_pgprotect_stall_begin(att, d->first, d->last, req->origin);
	/* Pairs with the barrier of who prepares to wait for events. */
	if (leader && wq_has_sleeper(&ctx->wait))
		wake_up_interruptible_poll(&ctx->wait, EPOLLIN | EPOLLRDNORM);

	ret = pgprotect_sleep(&stall, req);
	if (ret == -ERESTARTSYS || ret == -ETIMEDOUT)
		ret = pgprotect_give_up(&stall, ret, &id);
	if (ret == -ETIMEDOUT && stall.result == PGPROTECT_STALL_WAITING)
		ret = pgprotect_stall_timeout(&stall, id);
	if (trace_pgprotect_stall_end_enabled())
		trace_pgprotect_stall_end(att, d->first, ret,
					  ktime_to_ns(ktime_sub(ktime_get(), stall.since)));
	return ret;
}

/**
 * pgprotect_wake - let writers of some pages look again
 * @att: The attachment.
 * @first: First page that was released.
 * @last: Last page.
 *
 * Costs the smaller of the number of pages and the number of events.
 *
 * Context: does not sleep.
 */
void pgprotect_wake(struct pgprotect_attachment *att, pgoff_t first,
		    pgoff_t last)
{
	struct pgprotect_context *ctx = att->ctx;
	struct pgprotect_stall *stall;
	struct hlist_node *next;
	DEFINE_WAKE_Q(wake);
	pgoff_t page;
	int bucket;

	spin_lock(&ctx->lock);
	pgprotect_forget(att, first, last);
	if (!att->waiting)
		goto unlock;
	if (last - first < min_t(unsigned long, ctx->nr_waiting,
				 HASH_SIZE(ctx->stalls))) {
		for (page = first; page <= last; page++) {
			stall = pgprotect_leader(att, page);
			if (stall)
				pgprotect_end(stall, PGPROTECT_STALL_RECHECK,
					      &wake);
		}
	} else {
		hash_for_each_safe(ctx->stalls, bucket, next, stall, hash)
			if (stall->att == att && stall->first >= first &&
			    stall->first <= last)
				pgprotect_end(stall, PGPROTECT_STALL_RECHECK,
					      &wake);
	}
unlock:
	spin_unlock(&ctx->lock);
	wake_up_q(&wake);
}

static struct pgprotect_stall *
pgprotect_stall_find(struct pgprotect_context *ctx, u64 id)
{
	struct pgprotect_stall *stall;
	u32 bucket = id & (HASH_SIZE(ctx->stalls) - 1);

	lockdep_assert_held(&ctx->lock);
	hlist_for_each_entry(stall, &ctx->stalls[bucket], hash)
		if (stall->id == id)
			return stall;
	return NULL;
}

/**
 * pgprotect_refuse - fail the writers of an event
 * @ctx: The context.
 * @id: The event's.
 * @error: Negative errno for them.
 *
 * Context: does not sleep. Return: 0; -ENOENT: there is no such event.
 */
int pgprotect_refuse(struct pgprotect_context *ctx, u64 id, int error)
{
	struct pgprotect_stall *stall;
	DEFINE_WAKE_Q(wake);

	spin_lock(&ctx->lock);
	stall = pgprotect_stall_find(ctx, id);
	if (stall)
		pgprotect_end(stall, error, &wake);
	spin_unlock(&ctx->lock);
	wake_up_q(&wake);
	return stall ? 0 : -ENOENT;
}

/**
 * pgprotect_allow - release the pages of an event
 * @ctx: The context.
 * @id: The event's.
 *
 * Context: sleeps. Return: 0; -ENOENT: there is no such event; -ENOMEM, -EINTR:
 * the event is still to be answered.
 */
int pgprotect_allow(struct pgprotect_context *ctx, u64 id)
{
	struct pgprotect_attachment *att = NULL;
	struct pgprotect_stall *stall;
	pgoff_t first, last;
	int ret;

	spin_lock(&ctx->lock);
	stall = pgprotect_stall_find(ctx, id);
	if (stall && refcount_inc_not_zero(&stall->att->ref)) {
		att = stall->att;
		first = stall->first;
		last = stall->last;
	}
	spin_unlock(&ctx->lock);
	if (!att)
		return -ENOENT;
	ret = pgprotect_release(att, first, last, GFP_KERNEL_ACCOUNT, NULL);
	pgprotect_attachment_put(att);
	return ret;
}

/*
 * Charged to who opened the context. The writer is no party to that: it neither
 * makes room in the opener's control group nor waits until there is some.
 */
static struct pgprotect_note *pgprotect_note_alloc(struct pgprotect_context *ctx)
{
	struct pgprotect_note *note;
	struct mem_cgroup *old;

	if (!pgprotect_charge(ctx->user, PGPROTECT_LIMIT_EVENTS))
		return NULL;
	old = set_active_memcg(ctx->memcg);
	note = kmalloc(sizeof(*note),
		       GFP_NOWAIT | __GFP_NOWARN | __GFP_ACCOUNT);
	set_active_memcg(old);
	if (!note)
		pgprotect_uncharge(ctx->user, PGPROTECT_LIMIT_EVENTS);
	return note;
}

/* NULL is allowed. */
static void pgprotect_note_free(struct pgprotect_context *ctx,
				struct pgprotect_note *note)
{
	if (!note)
		return;
	pgprotect_uncharge(ctx->user, PGPROTECT_LIMIT_EVENTS);
	kfree(note);
}

/* @ctx goes: nobody reads them any more. */
void pgprotect_notes_free(struct pgprotect_context *ctx)
{
	struct pgprotect_note *note, *next;

	list_for_each_entry_safe(note, next, &ctx->notes, link)
		pgprotect_note_free(ctx, note);
}

/**
 * pgprotect_note - queue an event that wants no verdict
 * @att: The attachment it is about.
 * @type: enum pgprotect_event_type.
 * @id: Of the event it is about, or 0.
 * @origin: How the write came.
 * @first: First page.
 * @last: Last page.
 *
 * If there is no memory or nobody reads, the event is counted as lost, which
 * is an event of its own.
 *
 * Context: does not sleep.
 */
void pgprotect_note(struct pgprotect_attachment *att, u16 type, u64 id,
		    enum pgprotect_origin origin, pgoff_t first, pgoff_t last)
{
	struct pgprotect_context *ctx = att->ctx;
	struct pgprotect_note *note;

	note = pgprotect_note_alloc(ctx);
	if (note)
		note->event = (struct pgprotect_event) {
			.id = id,
			.offset = (u64)first << PAGE_SHIFT,
			.length = (u64)(last - first + 1) << PAGE_SHIFT,
			.cookie = att->cookie,
			.time_ns = ktime_get_ns(),
			.file = att->id,
			.pid = pid_nr_ns(task_tgid(current), ctx->pid_ns),
			.tid = pid_nr_ns(task_pid(current), ctx->pid_ns),
			.type = type,
			.origin = origin,
		};
	atomic64_inc(&att->events);

	spin_lock(&ctx->lock);
	if (note && ctx->nr_notes < PGPROTECT_MAX_NOTES) {
		list_add_tail(&note->link, &ctx->notes);
		ctx->nr_notes++;
		note = NULL;
	} else {
		ctx->lost++;
		ctx->lost_total++;
	}
	spin_unlock(&ctx->lock);
	pgprotect_note_free(ctx, note);
	wake_up_interruptible_poll(&ctx->wait, EPOLLIN | EPOLLRDNORM);
}

static void pgprotect_stall_event(const struct pgprotect_stall *leader,
				  struct pgprotect_event *event)
{
	*event = (struct pgprotect_event) {
		.id = leader->id,
		.offset = (u64)leader->first << PAGE_SHIFT,
		.length = (u64)(leader->last - leader->first + 1) << PAGE_SHIFT,
		.cookie = leader->att->cookie,
		.time_ns = ktime_to_ns(leader->since),
		.file = leader->att->id,
		.pid = leader->pid,
		.tid = leader->tid,
		.waiters = 1 + list_count_nodes((struct list_head *)&leader->peers),
		.type = PGPROTECT_EVENT_STALL,
		.origin = leader->origin,
	};
}

/**
 * pgprotect_fetch - take events off the queue
 * @ctx: The context.
 * @events: Receives them.
 * @max: Room.
 *
 * Stalls come first, as somebody waits; then notes, oldest first; then a
 * report of lost notes.
 *
 * Context: does not sleep. Return: number of events.
 */
unsigned int pgprotect_fetch(struct pgprotect_context *ctx,
			     struct pgprotect_event *events, unsigned int max)
{
	struct pgprotect_stall *stall;
	struct pgprotect_note *note;
	unsigned int nr = 0;

	spin_lock(&ctx->lock);
	while (nr < max && !list_empty(&ctx->queued)) {
		stall = list_first_entry(&ctx->queued, struct pgprotect_stall,
					 queue);
		stall->fetched = true;
		list_move_tail(&stall->queue, &ctx->fetched);
		ctx->nr_queued--;
		pgprotect_stall_event(stall, &events[nr++]);
	}
	while (nr < max && !list_empty(&ctx->notes)) {
		note = list_first_entry(&ctx->notes, struct pgprotect_note,
					link);
		list_del(&note->link);
		ctx->nr_notes--;
		events[nr++] = note->event;
		pgprotect_note_free(ctx, note);
	}
	if (nr < max && ctx->lost) {
		events[nr++] = (struct pgprotect_event) {
			.type = PGPROTECT_EVENT_OVERFLOW,
			.waiters = ctx->lost,
			.time_ns = ktime_get_ns(),
		};
		ctx->lost = 0;
	}
	spin_unlock(&ctx->lock);
	return nr;
}

static void pgprotect_unfetch_stall(struct pgprotect_context *ctx, u64 id)
{
	struct pgprotect_stall *stall;

	spin_lock(&ctx->lock);
	stall = pgprotect_stall_find(ctx, id);
	if (stall && stall->fetched) {
		stall->fetched = false;
		list_move(&stall->queue, &ctx->queued);
		ctx->nr_queued++;
	}
	spin_unlock(&ctx->lock);
}

/**
 * pgprotect_unfetch - put events back that could not be handed out
 * @ctx: The context.
 * @events: As pgprotect_fetch() gave them.
 * @nr: How many.
 *
 * They are delivered again before all others, and other handlers, who may sleep
 * since they were taken, are told; a note for which there is no memory counts as
 * lost.
 *
 * Context: does not sleep.
 */
void pgprotect_unfetch(struct pgprotect_context *ctx,
		       const struct pgprotect_event *events, unsigned int nr)
{
	struct pgprotect_note *note;

	while (nr--) {
		const struct pgprotect_event *event = &events[nr];

		if (event->type == PGPROTECT_EVENT_STALL) {
			pgprotect_unfetch_stall(ctx, event->id);
			continue;
		}
		note = NULL;
		if (event->type != PGPROTECT_EVENT_OVERFLOW)
			note = pgprotect_note_alloc(ctx);
		spin_lock(&ctx->lock);
		if (note) {
			note->event = *event;
			list_add(&note->link, &ctx->notes);
			ctx->nr_notes++;
		} else if (event->type == PGPROTECT_EVENT_OVERFLOW) {
			ctx->lost += event->waiters;
		} else {
			ctx->lost++;
			ctx->lost_total++;
		}
		spin_unlock(&ctx->lock);
	}
	wake_up_interruptible_poll(&ctx->wait, EPOLLIN | EPOLLRDNORM);
}
