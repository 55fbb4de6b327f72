/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pgprotect: the structures, who protects them, and the lock order.
 */
#ifndef _MM_PGPROTECT_INTERNAL_H
#define _MM_PGPROTECT_INTERNAL_H

#include <linux/cred.h>
#include <linux/hashtable.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/pgprotect.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "ranges.h"

/*
 * Lock order, outermost first:
 *
 *  attachment->copying			one COPY of an attachment at a time
 *  context->config			one ATTACH, DETACH or PROTECT at a time
 *    i_rwsem				PROTECT publishes; writers filter; of
 *					several files see arm_cmp_inodes()
 *    i_mmap_rwsem			PROTECT walks
 *      page-table lock			PROTECT walks; installers filter
 *    pgprotect_files_lock		attachment lists, list of files
 *    pgprotect_set->lock		who changes a range set
 *      users_lock			who is counted: limits.c
 *    context->lock			queue of stalls and notes; a leaf
 *
 * mmap_lock is never taken inside of any of these. None of them is held while a
 * writer sleeps, but @copying by a COPY that another attachment stalls.
 */

#define PGPROTECT_STALL_BITS	10
#define PGPROTECT_MAX_FILES	65536		/* attachments in a context */
#define PGPROTECT_MAX_PER_FILE	1024		/* attachments of a file, by users */
#define PGPROTECT_MAX_NOTES	1024
#define PGPROTECT_MAX_INTERRUPTED	64	/* writers of a context */
#define PGPROTECT_STALL_MS	60000		/* default of the sysctl */

/*
 * A range set behind a pointer: shared between an attachment and its readers,
 * handed over from a kept attachment to the one that adopts it.
 */
struct pgprotect_set {
	refcount_t ref;
	struct mutex lock;		/* serialises who changes @ranges */
	struct pgprotect_ranges ranges;	/* read under RCU */
	unsigned long releases;		/* counts removals; @lock to change */
	struct pgprotect_user *user;	/* whose memory it is; held, constant */
	long kb;			/* that is charged for it; @lock */
	struct rcu_work free;
};

/* An attached file; found from its address_space, freed after RCU. */
struct pgprotect_file {
	struct list_head link;		/* pgprotect_files; pgprotect_files_lock */
	struct address_space *mapping;	/* constant; not held: see evict */
	struct list_head attachments;	/* RCU; pgprotect_files_lock */
	unsigned int nr_attachments;	/* pgprotect_files_lock */
	struct rcu_head rcu;
};

/*
 * A writer that a signal took from its wait: see "Time limits" in stall.c. The
 * pointers are compared only.
 */
struct pgprotect_interrupted {
	const struct task_struct *task;	/* NULL: none */
	const struct pgprotect_attachment *att;
	pgoff_t page;
	unsigned long deadline;		/* jiffies */
	unsigned long when;		/* it happened, jiffies */
};

/*
 * One open of the device.
 *
 * Lives until the file is released and the last attachment is gone: one that
 * is kept without a context still queues its writers here.
 */
struct pgprotect_context {
	struct kref ref;
	struct mutex config;		/* serialises ATTACH, DETACH, PROTECT */
	struct xarray files;		/* id -> attachment; @config to change */
	struct pid *handler;		/* first thread that fetched events */
	struct xarray handlers;		/* pid -> struct pid of the others */
	unsigned int nr_handlers;	/* in @handlers; its lock */
	unsigned int prune_handlers;	/* when to drop the dead; likewise */
	const struct cred *cred;	/* the opener's; constant */
	struct pid_namespace *pid_ns;	/* the opener's; constant */
	struct pid *opener;		/* constant */
	u64 opener_exec_id;		/* its program, at that time; constant */
	const struct cred *refused;	/* of a writer, by a security module; xchg() */
	struct file *label;		/* what security modules know it by; constant */
	struct mem_cgroup *memcg;	/* the opener's; constant */
	struct pgprotect_user *user;	/* likewise */
	bool privileged;		/* may stall kernel-mode writes; constant */
	bool released;			/* no more attachments; @config */

	wait_queue_head_t wait;		/* who waits for events */
	wait_queue_head_t cut;		/* who waits for a PROTECT to be done */

	spinlock_t lock;		/* all below */
	u64 last_id;			/* events numbered so far */
	struct list_head queued;	/* stalls not yet fetched */
	struct list_head fetched;	/* stalls that await a verdict */
	unsigned int nr_queued;
	unsigned int nr_waiting;	/* writers asleep */
	struct list_head notes;		/* events that want no verdict */
	unsigned int nr_notes;
	unsigned int lost;		/* notes dropped since the last report */
	u64 lost_total;
	bool expiring;			/* @expire is to run at @expiry, jiffies, */
	unsigned long expiry;		/* or earlier */
	struct delayed_work expire;	/* holds a reference while it is pending */
	unsigned long last_interrupted;	/* jiffies, or 0: never */
	struct pgprotect_interrupted interrupted[PGPROTECT_MAX_INTERRUPTED];
	DECLARE_HASHTABLE(stalls, PGPROTECT_STALL_BITS);
};

/* A file in a context, with its protected pages. */
struct pgprotect_attachment {
	refcount_t ref;
	struct list_head link;		/* pgprotect_file.attachments */
	struct pgprotect_context *ctx;	/* holds a reference; constant */
	struct pgprotect_file __rcu *pfile;	/* NULL: not linked */
	struct file *file;		/* held; ctx->config, or as under RCU;
					 * NULL: detached, or kept
					 */
	struct pgprotect_set *set;	/* protected pages; constant */
	struct pgprotect_set __rcu *arming;	/* of a PROTECT under way;
						 * context->config
						 */
	struct pgprotect_set *armed;	/* the same, from when it is built */
	pgoff_t arm_first, arm_last;	/* its span; context->config */
	struct list_head arm_link;	/* what the PROTECT arms; context->config */
	struct mutex copying;
	struct task_struct *copier;	/* passes the gate; @copying */
	u64 flags;			/* PGPROTECT_ATTACH_* */
	u64 cookie;
	u32 id;				/* constant */
	u32 mode;			/* constant */
	u32 unit;			/* pages that are protected as one; constant */
	u32 stall_ms;			/* constant */
	bool gone;			/* protects nothing any more */
	bool orphan;			/* kept without a context */
	unsigned int waiting;		/* writers asleep; ctx->lock */
	atomic64_t events;		/* raised */
	dev_t dev;			/* of the file, for listing; constant */
	u64 ino;
	struct rcu_work free;
};

/*
 * One writer asleep at the gate; on its stack. All writers for one page of one
 * attachment are chained behind the first, the leader, which alone is hashed
 * and queued. When the leader leaves, the next in line takes over.
 *
 * All fields are protected by ctx->lock once the stall is enqueued. @result is
 * also read without it by the writer, which must not touch the rest before it
 * has taken the lock.
 */
struct pgprotect_stall {
	struct hlist_node hash;		/* ctx->stalls; leader only */
	struct list_head queue;		/* ctx->queued, fetched; leader only */
	struct list_head peers;		/* ring of all writers of the page */
	struct pgprotect_attachment *att;
	struct task_struct *task;
	pgoff_t first, last;		/* @first is the page waited for */
	u64 id;				/* leader only */
	ktime_t since;
	u32 pid, tid;			/* as seen by the context's opener */
	enum pgprotect_origin origin;
	bool leader;
	bool fetched;			/* leader only */
	bool limited;			/* ends at @deadline, jiffies */
	bool expired;			/* it is reached */
	unsigned long deadline;
	int result;			/* see enum pgprotect_stall_result */
};

/* pgprotect_stall.result: a negative errno refuses the write. */
enum pgprotect_stall_result {
	PGPROTECT_STALL_WAITING	= 1,
	PGPROTECT_STALL_RECHECK	= 0,
};

/* An event that wants no verdict, until it is read. */
struct pgprotect_note {
	struct list_head link;		/* ctx->notes */
	struct pgprotect_event event;
};

/* What a writer wants to do, as the gate sees it. */
struct pgprotect_request {
	struct address_space *mapping;
	pgoff_t first, last;		/* inclusive */
	enum pgprotect_origin origin;
	bool user;			/* a store from user mode */
	bool interruptible;		/* else killable */
	bool nowait;
	struct super_block *writing;	/* freeze protection the caller holds */
	bool async;			/* and lockdep does not know: kiocb */
};

/* What the gate decided; holds a reference to @att unless PASS. */
enum pgprotect_step {
	PGPROTECT_PASS,			/* nothing protects the pages */
	PGPROTECT_WAIT_CUT,		/* a PROTECT is under way: wait for it */
	PGPROTECT_WAIT,			/* stall */
	PGPROTECT_FAIL,			/* refuse with @error */
};

struct pgprotect_decision {
	enum pgprotect_step step;
	int error;			/* PGPROTECT_FAIL: negative errno */
	struct pgprotect_attachment *att;
	pgoff_t first, last;		/* first protected run */
	unsigned long releases;		/* of @att's set, before it was read */
};

/* state.c */
extern struct mutex pgprotect_files_lock;

/*
 * The state of a file, or NULL if it is not attached.
 * Context: RCU read side, or pgprotect_files_lock held.
 */
static inline struct pgprotect_file *
pgprotect_file_find(struct address_space *mapping)
{
	return rcu_dereference_check(mapping->i_pgprotect,
				     lockdep_is_held(&pgprotect_files_lock));
}

struct pgprotect_set *pgprotect_set_alloc(struct pgprotect_context *ctx);
void pgprotect_set_put(struct pgprotect_set *set);
int pgprotect_link(struct pgprotect_attachment *att,
		   struct address_space *mapping,
		   struct pgprotect_file **spare);
int pgprotect_replace(struct pgprotect_attachment *att,
		      struct pgprotect_attachment *old);
void pgprotect_unlink(struct pgprotect_attachment *att);
struct pgprotect_attachment *pgprotect_attachment_get(struct pgprotect_context *ctx, u32 id);
struct pgprotect_attachment *pgprotect_attachment_next(struct pgprotect_context *ctx,
						       unsigned long *id);
void pgprotect_attachment_put(struct pgprotect_attachment *att);
void pgprotect_context_put(struct pgprotect_context *ctx);
bool pgprotect_run(struct pgprotect_attachment *att, pgoff_t *first,
		   pgoff_t *last, bool *arming);
unsigned long pgprotect_weight(struct pgprotect_attachment *att, pgoff_t first,
			       pgoff_t last);
void pgprotect_visit_attachments(void (*fn)(struct pgprotect_attachment *att,
					    void *arg), void *arg);
loff_t pgprotect_size(struct pgprotect_attachment *att);
int pgprotect_release(struct pgprotect_attachment *att, pgoff_t first,
		      pgoff_t last, gfp_t gfp, unsigned long *pages);
void pgprotect_release_all(struct pgprotect_attachment *att);
void pgprotect_use(void);
void pgprotect_unuse(void);

/* limits.c */
enum pgprotect_limit {
	PGPROTECT_LIMIT_CONTEXTS,
	PGPROTECT_LIMIT_ATTACHMENTS,
	PGPROTECT_LIMIT_EVENTS,		/* notes; who stalls is a task */
	PGPROTECT_LIMIT_STATE_KB,	/* range sets */
	PGPROTECT_NR_LIMITS,
};

struct pgprotect_user *pgprotect_user_get(const struct cred *cred);
struct pgprotect_user *pgprotect_user_dup(struct pgprotect_user *user);
void pgprotect_user_put(struct pgprotect_user *user);
bool pgprotect_charge(struct pgprotect_user *user, enum pgprotect_limit what);
void pgprotect_uncharge(struct pgprotect_user *user, enum pgprotect_limit what);
void pgprotect_set_limit(struct pgprotect_set *set, bool release);
void pgprotect_set_account(struct pgprotect_set *set);
void pgprotect_set_unaccount(struct pgprotect_set *set);

/* stall.c */
int pgprotect_stall(struct pgprotect_attachment *att,
		    const struct pgprotect_request *req,
		    const struct pgprotect_decision *d);
void pgprotect_wake(struct pgprotect_attachment *att, pgoff_t first,
		    pgoff_t last);
void pgprotect_expire(struct work_struct *work);
void pgprotect_expire_now(struct pgprotect_context *ctx);
int pgprotect_allow(struct pgprotect_context *ctx, u64 id);
int pgprotect_refuse(struct pgprotect_context *ctx, u64 id, int error);
void pgprotect_note(struct pgprotect_attachment *att, u16 type, u64 id,
		    enum pgprotect_origin origin, pgoff_t first, pgoff_t last);
unsigned int pgprotect_fetch(struct pgprotect_context *ctx,
			     struct pgprotect_event *events, unsigned int max);
void pgprotect_unfetch(struct pgprotect_context *ctx,
		       const struct pgprotect_event *events, unsigned int nr);
long pgprotect_stall_limit(const struct pgprotect_attachment *att);
extern unsigned int pgprotect_stall_ms;

/*
 * Events there are to fetch: a hint, who fetches looks again.
 * Context: does not sleep.
 */
static inline unsigned int pgprotect_queued(struct pgprotect_context *ctx)
{
	return READ_ONCE(ctx->nr_queued) + READ_ONCE(ctx->nr_notes) +
	       !!READ_ONCE(ctx->lost);
}

void pgprotect_notes_free(struct pgprotect_context *ctx);

/* gate.c */
struct pgprotect_standing {
	bool protected;			/* by this attachment */
	bool arming;			/* by a PROTECT under way */
	bool deny;			/* attachment's mode */
	bool handler;			/* the task is a handler of the context */
	bool exiting;			/* the task exits or dumps core */
	bool may_stall;			/* by the rules of policy.c */
	bool nowait;
};

enum pgprotect_step pgprotect_judge(const struct pgprotect_standing *s,
				    int *error);

/* arm.c */
struct pgprotect_arm_range {
	struct pgprotect_attachment *att;
	pgoff_t first, last;
};

struct pgprotect_arm_result {
	struct pgprotect_range *pins;	/* the caller's */
	struct pgprotect_range last_pin;
	u32 max_pins, nr_pins;
	u32 nr_tables, nr_flushes;
	u32 nr_fences;			/* made; see arm_fence() */
	bool fenced;			/* by this or another PROTECT */
	u64 nr_pages;
	u64 duration_ns;
};

/* What a walk over one mapping has to remember. */
struct pgprotect_arm_walk {
	struct pgprotect_ranges *ranges;	/* what is to be armed */
	struct pgprotect_arm_result *res;
	struct mmu_notifier_range range;
	unsigned long flush_start, flush_end;
	bool skip;			/* nothing to do in this mapping */
	bool again;			/* an empty entry was filled meanwhile */
};

#ifdef CONFIG_HUGETLB_PAGE
void pgprotect_arm_huge(struct address_space *mapping, pgoff_t first,
			pgoff_t last, struct pgprotect_arm_walk *aw);
void pgprotect_await_huge_fills(struct address_space *mapping, pgoff_t first,
				pgoff_t last);
#else
static inline void pgprotect_arm_huge(struct address_space *mapping,
				      pgoff_t first, pgoff_t last,
				      struct pgprotect_arm_walk *aw)
{
}

static inline void pgprotect_await_huge_fills(struct address_space *mapping,
					      pgoff_t first, pgoff_t last)
{
}
#endif

extern atomic_t pgprotect_copies;

int pgprotect_arm(struct pgprotect_context *ctx,
		  const struct pgprotect_arm_range *ranges, unsigned int nr,
		  bool strict, struct pgprotect_arm_result *res);

/* fs/pgprotect/policy.c */
bool pgprotect_admin(const struct pgprotect_context *ctx);
int pgprotect_may_attach(const struct pgprotect_context *ctx,
			 struct file *file);
bool pgprotect_may_stall(struct pgprotect_context *ctx, bool user);
bool pgprotect_is_handler(struct pgprotect_context *ctx);

/* debug.c */
enum pgprotect_delay {
	PGPROTECT_DELAY_FAULT_INSTALL,	/* gate passed, entry not yet made */
	PGPROTECT_DELAY_HUGE_FILTERED,	/* filter passed, huge entry not yet made */
	PGPROTECT_DELAY_COPY,		/* filter passed, page not yet written to */
	PGPROTECT_DELAY_FILL,		/* gate passed, hole not yet filled */
	PGPROTECT_DELAY_WRITE_LOCKED,	/* gate passed, i_rwsem not yet held */
	PGPROTECT_DELAY_CUT,		/* published, no entry write-protected yet */
	PGPROTECT_NR_DELAYS,
};

enum pgprotect_fix {
	PGPROTECT_FIX_WRITE,		/* filters of system calls */
	PGPROTECT_FIX_MIGRATION,	/* migration entries made read-only */
	PGPROTECT_FIX_FLUSH,		/* flushes that others deferred */
	PGPROTECT_FIX_CUT,		/* gate closed until the last is armed */
	PGPROTECT_FIX_COPY,		/* who copies through no entry is waited for */
	PGPROTECT_FIX_HOLE,		/* empty entries are looked at under a lock */
	PGPROTECT_NR_FIXES,
};

#ifdef CONFIG_PGPROTECT_DEBUG_DELAY
void pgprotect_delay(enum pgprotect_delay point);
void pgprotect_spin(enum pgprotect_delay point);
bool pgprotect_fixed(enum pgprotect_fix fix);
bool pgprotect_filtered(unsigned long caller);
#else
static inline void pgprotect_delay(enum pgprotect_delay point)
{
}

static inline void pgprotect_spin(enum pgprotect_delay point)
{
}

static inline bool pgprotect_fixed(enum pgprotect_fix fix)
{
	return true;
}

static inline bool pgprotect_filtered(unsigned long caller)
{
	return true;
}
#endif

#endif /* _MM_PGPROTECT_INTERNAL_H */
