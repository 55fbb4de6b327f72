// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect state: attached files, their attachments, and their protected
 * pages.
 *
 * The mapping of a file that is attached points at a struct pgprotect_file; any
 * other file costs the test of a pointer. Everything below is read under RCU,
 * also under a page-table lock, and changed under the locks that internal.h
 * names.
 *
 * A page is protected by an attachment if it is in its set, or in the set that
 * a PROTECT under way is arming. The second makes PROTECT one step for all its
 * ranges: it is built before anybody can see it, published by one store, and
 * either merged or dropped.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/memcontrol.h>
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <asm/tlbflush.h>

#include "internal.h"

/* Changes to pgprotect_files and to every list of attachments. */
DEFINE_MUTEX(pgprotect_files_lock);

/* All attached files; pgprotect_files_lock. */
static LIST_HEAD(pgprotect_files);

/* Each context holds a reference, and so does pgprotect_unuse_work. */
DEFINE_STATIC_KEY_FALSE(pgprotect_used);
EXPORT_SYMBOL_GPL(pgprotect_used);

/* The hooks must not go off between pgprotect_use()'s look and its flush. */
static DEFINE_MUTEX(pgprotect_used_lock);

static void pgprotect_unuse_late(struct work_struct *unused)
{
	mutex_lock(&pgprotect_used_lock);
	static_branch_dec(&pgprotect_used);
	mutex_unlock(&pgprotect_used_lock);
}

static DECLARE_DELAYED_WORK(pgprotect_unuse_work, pgprotect_unuse_late);

/**
 * pgprotect_use - a context is opened: turn the hooks on
 *
 * A huge entry that was zapped while the hooks were off may still wait for its
 * flush (see pgprotect_filter_flush()). One flush of everything ends that:
 * whoever zaps from now on flushes in time.
 *
 * Context: sleeps.
 */
void pgprotect_use(void)
{
	bool first;

	/* Who comes second has to wait for the flush of the first. */
	mutex_lock(&pgprotect_used_lock);
	first = !static_key_enabled(&pgprotect_used);
	static_branch_inc(&pgprotect_used);
	if (first)
		flush_tlb_all();
	mutex_unlock(&pgprotect_used_lock);
}

/**
 * pgprotect_unuse - a context is gone
 *
 * Turning the hooks on and off stops all CPUs: they stay on for a minute after
 * the last context, so that a command run now and then does not do it often.
 * The work takes over the reference, unless it has one and is only put off.
 *
 * Context: sleeps.
 */
void pgprotect_unuse(void)
{
	if (!mod_delayed_work(system_wq, &pgprotect_unuse_work, 60 * HZ))
		return;
	/* Should the work have run already, these are the hooks going off. */
	mutex_lock(&pgprotect_used_lock);
	static_branch_dec(&pgprotect_used);
	mutex_unlock(&pgprotect_used_lock);
}

/* Return: an empty set, charged to the opener of @ctx, or NULL. Context: sleeps. */
struct pgprotect_set *pgprotect_set_alloc(struct pgprotect_context *ctx)
{
	struct pgprotect_set *set = kmalloc(sizeof(*set), GFP_KERNEL_ACCOUNT);

	if (!set)
		return NULL;
	set->user = pgprotect_user_dup(ctx->user);
	set->kb = 0;
	refcount_set(&set->ref, 1);
	mutex_init(&set->lock);
	pgprotect_ranges_init(&set->ranges, &set->lock);
	set->releases = 0;
	return set;
}

static void pgprotect_set_free_work(struct work_struct *work)
{
	struct pgprotect_set *set = container_of(to_rcu_work(work),
						 struct pgprotect_set, free);

	mutex_lock(&set->lock);
	pgprotect_ranges_destroy(&set->ranges);
	pgprotect_set_unaccount(set);
	mutex_unlock(&set->lock);
	kfree(set);
}

/* Drop a reference to @set; the last frees it after RCU. NULL is allowed. */
void pgprotect_set_put(struct pgprotect_set *set)
{
	if (!set || !refcount_dec_and_test(&set->ref))
		return;
	INIT_RCU_WORK(&set->free, pgprotect_set_free_work);
	queue_rcu_work(system_unbound_wq, &set->free);
}

static void pgprotect_file_add(struct pgprotect_file *pfile,
			       struct pgprotect_attachment *att)
{
	rcu_assign_pointer(att->pfile, pfile);
	refcount_inc(&att->ref);
	pfile->nr_attachments++;
	list_add_tail_rcu(&att->link, &pfile->attachments);
}

/* The last one takes the file's state along. */
static void pgprotect_file_del(struct pgprotect_attachment *att)
{
	struct pgprotect_file *pfile;

	pfile = rcu_dereference_protected(att->pfile,
					  lockdep_is_held(&pgprotect_files_lock));
	RCU_INIT_POINTER(att->pfile, NULL);
	list_del_rcu(&att->link);
	pfile->nr_attachments--;
	if (list_empty(&pfile->attachments)) {
		RCU_INIT_POINTER(pfile->mapping->i_pgprotect, NULL);
		list_del(&pfile->link);
		kfree_rcu(pfile, rcu);
	}
	pgprotect_attachment_put(att);
}

/**
 * pgprotect_link - let the hooks find an attachment
 * @att: Complete, but for @att->pfile.
 * @mapping: The file's.
 * @spare: Zeroed, becomes the file's state if this is its first attachment, and
 *	NULL then.
 *
 * Context: holds pgprotect_files_lock.
 * Return: 0; -ENOSPC: the user, or the file, has too many.
 */
int pgprotect_link(struct pgprotect_attachment *att,
		   struct address_space *mapping,
		   struct pgprotect_file **spare)
{
	struct pgprotect_user *user = att->ctx->user;
	struct pgprotect_file *pfile;

	pfile = pgprotect_file_find(mapping);
	/*
	 * All writers to the file ask each of them. Nobody keeps the
	 * administrator from his fence by taking them all.
	 */
	if (pfile && pfile->nr_attachments >= PGPROTECT_MAX_PER_FILE &&
	    !pgprotect_admin(att->ctx))
		return -ENOSPC;
	if (!pgprotect_charge(user, PGPROTECT_LIMIT_ATTACHMENTS))
		return -ENOSPC;
	if (!pfile) {
		swap(pfile, *spare);
		pfile->mapping = mapping;
		INIT_LIST_HEAD(&pfile->attachments);
		list_add_tail(&pfile->link, &pgprotect_files);
		rcu_assign_pointer(mapping->i_pgprotect, pfile);
	}
	pgprotect_file_add(pfile, att);
	return 0;
}

/**
 * pgprotect_replace - let the hooks find an attachment instead of another
 * @att: Complete, but for @att->pfile.
 * @old: Linked. The list's reference is dropped.
 *
 * Both protect their pages for a moment, so that there is none in which nobody
 * does.
 *
 * Context: holds pgprotect_files_lock.
 * Return: 0; -ENOSPC: the user has too many, and @old is not his.
 */
int pgprotect_replace(struct pgprotect_attachment *att,
		      struct pgprotect_attachment *old)
{
	struct pgprotect_user *user = att->ctx->user;
	struct pgprotect_user *old_user = old->ctx->user;

	if (user != old_user &&
	    !pgprotect_charge(user, PGPROTECT_LIMIT_ATTACHMENTS))
		return -ENOSPC;
	pgprotect_file_add(rcu_dereference_protected(old->pfile,
						     lockdep_is_held(&pgprotect_files_lock)),
			   att);
	pgprotect_file_del(old);
	if (user != old_user)
		pgprotect_uncharge(old_user, PGPROTECT_LIMIT_ATTACHMENTS);
	return 0;
}

/**
 * pgprotect_unlink - hide an attachment from the hooks
 * @att: Linked. The list's reference is dropped.
 *
 * Context: holds pgprotect_files_lock.
 */
void pgprotect_unlink(struct pgprotect_attachment *att)
{
	pgprotect_uncharge(att->ctx->user, PGPROTECT_LIMIT_ATTACHMENTS);
	pgprotect_file_del(att);
}

/* Find attachment @id of @ctx. Return: NULL, or with a reference. */
struct pgprotect_attachment *
pgprotect_attachment_get(struct pgprotect_context *ctx, u32 id)
{
	struct pgprotect_attachment *att;

	rcu_read_lock();
	att = xa_load(&ctx->files, id);
	if (att && !refcount_inc_not_zero(&att->ref))
		att = NULL;
	rcu_read_unlock();
	return att;
}

/* The first attachment of @ctx from *@id on. Return: NULL, or with a reference. */
struct pgprotect_attachment *
pgprotect_attachment_next(struct pgprotect_context *ctx, unsigned long *id)
{
	struct pgprotect_attachment *att;

	rcu_read_lock();
	for (;; (*id)++) {
		att = xa_find(&ctx->files, id, ULONG_MAX, XA_PRESENT);
		if (!att || refcount_inc_not_zero(&att->ref))
			break;
	}
	rcu_read_unlock();
	return att;
}

static void pgprotect_attachment_free(struct work_struct *work)
{
	struct pgprotect_attachment *att =
		container_of(to_rcu_work(work), struct pgprotect_attachment,
			     free);

	WARN_ON_ONCE(att->file);
	pgprotect_set_put(att->set);
	pgprotect_context_put(att->ctx);
	kfree(att);
}

/* Drop a reference. Context: does not sleep. */
void pgprotect_attachment_put(struct pgprotect_attachment *att)
{
	if (!refcount_dec_and_test(&att->ref))
		return;
	INIT_RCU_WORK(&att->free, pgprotect_attachment_free);
	queue_rcu_work(system_unbound_wq, &att->free);
}

static void pgprotect_context_free(struct kref *ref)
{
	struct pgprotect_context *ctx =
		container_of(ref, struct pgprotect_context, ref);
	unsigned long index;
	struct pid *pid;

	WARN_ON_ONCE(!list_empty(&ctx->queued) || !list_empty(&ctx->fetched));
	pgprotect_notes_free(ctx);
	xa_for_each(&ctx->handlers, index, pid)
		put_pid(pid);
	put_pid(ctx->handler);
	xa_destroy(&ctx->handlers);
	xa_destroy(&ctx->files);
	fput(ctx->label);
	mem_cgroup_put(ctx->memcg);
	pgprotect_user_put(ctx->user);
	put_pid(ctx->opener);
	put_pid_ns(ctx->pid_ns);
	put_cred(ctx->refused);
	put_cred(ctx->cred);
	kvfree(ctx);
	pgprotect_unuse();
}

void pgprotect_context_put(struct pgprotect_context *ctx)
{
	kref_put(&ctx->ref, pgprotect_context_free);
}

static bool pgprotect_set_run(struct pgprotect_set *set, pgoff_t *first,
			      pgoff_t *last)
{
	if (*first == *last)
		return pgprotect_ranges_test(&set->ranges, *first);
	return pgprotect_ranges_next_run(&set->ranges, first, last);
}

/**
 * pgprotect_run - first run of protected pages in a range
 * @att: The attachment.
 * @first: First page to look at; on success the first of the run.
 * @last: Last page to look at; on success the last of the run.
 * @arming: Set if a PROTECT under way protects pages of the range; the run is
 *	then the whole range that it covers.
 *
 * Context: RCU read side. Does not sleep; legal under a page-table lock.
 * Return: whether there is one.
 */
bool pgprotect_run(struct pgprotect_attachment *att, pgoff_t *first,
		   pgoff_t *last, bool *arming)
{
	struct pgprotect_set *set;

	*arming = false;
	if (READ_ONCE(att->gone))
		return false;
	/* Pairs with the release in arm_finish(): not there, but merged. */
	set = unrcu_pointer(smp_load_acquire(&att->arming));
	if (unlikely(set) && pgprotect_set_run(set, first, last)) {
		*arming = true;
		return true;
	}
	return pgprotect_set_run(att->set, first, last);
}

/**
 * pgprotect_size - size of an attached file
 * @att: The attachment.
 *
 * Context: does not sleep. Return: bytes; 0 if it is attached no more.
 */
loff_t pgprotect_size(struct pgprotect_attachment *att)
{
	struct pgprotect_file *pfile;
	loff_t size = 0;

	/* An inode goes a grace period after its attachments are unlinked. */
	rcu_read_lock();
	pfile = rcu_dereference(att->pfile);
	if (pfile)
		size = i_size_read(pfile->mapping->host);
	rcu_read_unlock();
	return size;
}

/* Entries of a set that are looked at without a break. */
#define WEIGHT_PIECES	1024

/**
 * pgprotect_weight - number of protected pages of a range of a file
 * @att: The attachment.
 * @first: First page.
 * @last: Last page; what is beyond the end of the file does not count.
 *
 * Context: sleeps.
 */
unsigned long pgprotect_weight(struct pgprotect_attachment *att, pgoff_t first,
			       pgoff_t last)
{
	loff_t size = pgprotect_size(att);
	unsigned long pages = 0;

	if (!size || (size - 1) >> PAGE_SHIFT < first)
		return 0;
	last = min_t(pgoff_t, last, (size - 1) >> PAGE_SHIFT);
	do {
		rcu_read_lock();
		pages += pgprotect_ranges_weight_some(&att->set->ranges, &first,
						      last, WEIGHT_PIECES);
		rcu_read_unlock();
		cond_resched();
	} while (first);
	return pages;
}

/**
 * pgprotect_visit_attachments - visit all attachments in the system
 * @fn: Called with pgprotect_files_lock held; may sleep for memory.
 * @arg: Passed on.
 *
 * Context: sleeps.
 */
void pgprotect_visit_attachments(void (*fn)(struct pgprotect_attachment *att,
					    void *arg), void *arg)
{
	struct pgprotect_attachment *att;
	struct pgprotect_file *pfile;

	mutex_lock(&pgprotect_files_lock);
	list_for_each_entry(pfile, &pgprotect_files, link)
		list_for_each_entry(att, &pfile->attachments, link)
			fn(att, arg);
	mutex_unlock(&pgprotect_files_lock);
}

/**
 * pgprotect_release - drop protection of some pages and wake their writers
 * @att: The attachment.
 * @first: First page.
 * @last: Last page.
 * @gfp: How to allocate what a range that is cut needs.
 * @pages: If not NULL, 0; receives how many pages were protected.
 *
 * Page tables are left alone: a write to a page whose entry is read-only
 * faults once more and finds the page released.
 *
 * Context: sleeps. Return: 0, or -ENOMEM, -EINTR (killed) with nothing changed.
 */
int pgprotect_release(struct pgprotect_attachment *att, pgoff_t first,
		      pgoff_t last, gfp_t gfp, unsigned long *pages)
{
	struct pgprotect_set *set = att->set;
	int ret;

	/* Who holds it may wait for memory; a writer at its limit can be killed. */
	if (mutex_lock_killable(&set->lock))
		return -EINTR;
	/* The set may be somebody else's by now. */
	if (READ_ONCE(att->gone)) {
		mutex_unlock(&set->lock);
		return 0;
	}
	if (pages)
		*pages = pgprotect_weight(att, first, last);
	pgprotect_set_limit(set, true);
	ret = pgprotect_ranges_remove(&set->ranges, first, last, gfp);
	if (ret && pages)
		*pages = 0;
	pgprotect_set_account(set);
	/* After the bits: pairs with the acquire in pgprotect_ask(). */
	smp_store_release(&set->releases, set->releases + 1);
	mutex_unlock(&set->lock);
	if (!ret)
		pgprotect_wake(att, first, last);
	return ret;
}

/**
 * pgprotect_release_all - release every writer of an attachment that goes
 * @att: Unlinked: the hooks do not find it any more.
 *
 * A writer that found it before looks at @att->gone again when it has queued
 * itself, under the lock that the waker takes, and so does not sleep. Who adopts
 * the set loses no page to a release by @att after that.
 *
 * Context: sleeps.
 */
void pgprotect_release_all(struct pgprotect_attachment *att)
{
	mutex_lock(&att->set->lock);
	WRITE_ONCE(att->gone, true);
	mutex_unlock(&att->set->lock);
	pgprotect_wake(att, 0, ULONG_MAX);
}

void __pgprotect_evict(struct address_space *mapping)
{
	struct pgprotect_attachment *att, *next;
	struct pgprotect_file *pfile;

	mutex_lock(&pgprotect_files_lock);
	pfile = pgprotect_file_find(mapping);
	/* The last one takes @pfile along. */
	rcu_read_lock();
	if (pfile) {
		list_for_each_entry_safe(att, next, &pfile->attachments, link) {
			WARN_ON_ONCE(att->file);
			refcount_inc(&att->ref);
			/* Nobody can release it any more: who waits looks again. */
			WRITE_ONCE(att->gone, true);
			pgprotect_unlink(att);
			pgprotect_wake(att, 0, ULONG_MAX);
			pgprotect_attachment_put(att);
		}
	}
	rcu_read_unlock();
	mutex_unlock(&pgprotect_files_lock);
}
