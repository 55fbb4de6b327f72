// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect state: attached files, their attachments, and their protected
 * pages.
 *
 * A file that is attached has AS_PGPROTECT set in its mapping and a struct
 * pgprotect_file in a hash table; any other file costs a bit test. Everything
 * below is read under RCU, also under a page-table lock, and changed under the
 * locks that internal.h names.
 *
 * A page is protected by an attachment if it is in its set, or in the set that
 * a PROTECT under way is arming. The second makes PROTECT one step for all its
 * ranges: it is built before anybody can see it, published by one store, and
 * either merged or dropped.
 */
#include <linux/fs.h>
#include <linux/pid_namespace.h>
#include <linux/rhashtable.h>
#include <linux/slab.h>
#include <asm/tlbflush.h>

#include "internal.h"

/*
 * Turning the hooks on and off stops all CPUs: they stay on for a minute after
 * the last context, so that a command run now and then does not do it often.
 */
DEFINE_STATIC_KEY_DEFERRED_FALSE(pgprotect_used, 60 * HZ);

/* Changes to pgprotect_files and to every list of attachments. */
DEFINE_MUTEX(pgprotect_files_lock);

static const struct rhashtable_params pgprotect_files_params = {
	.key_len = sizeof(struct address_space *),
	.key_offset = offsetof(struct pgprotect_file, mapping),
	.head_offset = offsetof(struct pgprotect_file, node),
	.automatic_shrinking = true,
};

static struct rhashtable pgprotect_files;

static int __init pgprotect_state_init(void)
{
	return rhashtable_init(&pgprotect_files, &pgprotect_files_params);
}
core_initcall(pgprotect_state_init);

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
	static_branch_inc(&pgprotect_used.key);
	flush_tlb_all();
}

/**
 * pgprotect_unuse - a context is gone
 *
 * Context: sleeps.
 */
void pgprotect_unuse(void)
{
	static_branch_slow_dec_deferred(&pgprotect_used);
}

/**
 * pgprotect_file_find - the state of an attached file
 * @mapping: The file's.
 *
 * Context: RCU read side.
 * Return: NULL if the file is not attached.
 */
struct pgprotect_file *pgprotect_file_find(struct address_space *mapping)
{
	return rhashtable_lookup(&pgprotect_files, &mapping,
				 pgprotect_files_params);
}

/* Return: an empty set, or NULL. Context: sleeps. */
struct pgprotect_set *pgprotect_set_alloc(void)
{
	struct pgprotect_set *set = kmalloc(sizeof(*set), GFP_KERNEL_ACCOUNT);

	if (!set)
		return NULL;
	refcount_set(&set->ref, 1);
	mutex_init(&set->lock);
	pgprotect_ranges_init(&set->ranges, &set->lock);
	return set;
}

static void pgprotect_set_free_work(struct work_struct *work)
{
	struct pgprotect_set *set = container_of(to_rcu_work(work),
						 struct pgprotect_set, free);

	mutex_lock(&set->lock);
	pgprotect_ranges_destroy(&set->ranges);
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

/**
 * pgprotect_link - let the hooks find an attachment
 * @att: Complete, but for @att->pfile.
 * @mapping: The file's.
 *
 * Context: sleeps. Holds pgprotect_files_lock.
 * Return: 0 or -ENOMEM.
 */
int pgprotect_link(struct pgprotect_attachment *att,
		   struct address_space *mapping)
{
	struct pgprotect_file *pfile;

	lockdep_assert_held(&pgprotect_files_lock);

	rcu_read_lock();
	pfile = pgprotect_file_find(mapping);
	rcu_read_unlock();
	if (!pfile) {
		pfile = kzalloc(sizeof(*pfile), GFP_KERNEL_ACCOUNT);
		if (!pfile)
			return -ENOMEM;
		pfile->mapping = mapping;
		INIT_LIST_HEAD(&pfile->attachments);
		if (rhashtable_insert_fast(&pgprotect_files, &pfile->node,
					   pgprotect_files_params)) {
			kfree(pfile);
			return -ENOMEM;
		}
		set_bit(AS_PGPROTECT, &mapping->flags);
	}
	att->pfile = pfile;
	refcount_inc(&att->ref);
	list_add_tail_rcu(&att->link, &pfile->attachments);
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
	struct pgprotect_file *pfile = att->pfile;

	lockdep_assert_held(&pgprotect_files_lock);

	list_del_rcu(&att->link);
	if (list_empty(&pfile->attachments)) {
		clear_bit(AS_PGPROTECT, &pfile->mapping->flags);
		rhashtable_remove_fast(&pgprotect_files, &pfile->node,
				       pgprotect_files_params);
		kfree_rcu(pfile, rcu);
	}
	pgprotect_attachment_put(att);
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
	struct pgprotect_note *note, *next;
	unsigned long index;
	struct pid *pid;

	WARN_ON_ONCE(!list_empty(&ctx->queued) || !list_empty(&ctx->fetched));
	list_for_each_entry_safe(note, next, &ctx->notes, link)
		kfree(note);
	xa_for_each(&ctx->handlers, index, pid)
		put_pid(pid);
	xa_destroy(&ctx->handlers);
	xa_destroy(&ctx->files);
	put_pid(ctx->opener);
	put_pid_ns(ctx->pid_ns);
	put_cred(ctx->cred);
	kvfree(ctx);
	pgprotect_unuse();
}

void pgprotect_context_put(struct pgprotect_context *ctx)
{
	kref_put(&ctx->ref, pgprotect_context_free);
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
	set = rcu_dereference(att->arming);
	if (unlikely(set) &&
	    pgprotect_ranges_next_run(&set->ranges, first, last)) {
		*arming = true;
		return true;
	}
	return pgprotect_ranges_next_run(&att->set->ranges, first, last);
}

/**
 * pgprotect_weight - number of protected pages of a range of a file
 * @att: The attachment, whose file cannot go.
 * @first: First page.
 * @last: Last page; what is beyond the end of the file does not count.
 *
 * Context: may take time; does not sleep.
 */
unsigned long pgprotect_weight(struct pgprotect_attachment *att, pgoff_t first,
			       pgoff_t last)
{
	loff_t size = i_size_read(att->pfile->mapping->host);
	unsigned long pages;

	if (!size || (size - 1) >> PAGE_SHIFT < first)
		return 0;
	last = min_t(pgoff_t, last, (size - 1) >> PAGE_SHIFT);
	rcu_read_lock();
	pages = pgprotect_ranges_weight(&att->set->ranges, first, last);
	rcu_read_unlock();
	return pages;
}

struct pgprotect_visit {
	void (*fn)(struct pgprotect_attachment *att, void *arg);
	void *arg;
};

/**
 * pgprotect_visit_attachments - visit all attachments in the system
 * @fn: Called with pgprotect_files_lock held; may sleep for memory.
 * @arg: Passed on.
 *
 * Context: sleeps. An attachment of a file that is attached or goes meanwhile
 * may be missed, or met twice if the table grows.
 */
void pgprotect_visit_attachments(void (*fn)(struct pgprotect_attachment *att,
					    void *arg), void *arg)
{
	struct pgprotect_attachment *att;
	struct rhashtable_iter iter;
	struct pgprotect_file *pfile;

	mutex_lock(&pgprotect_files_lock);
	rhashtable_walk_enter(&pgprotect_files, &iter);
	rhashtable_walk_start(&iter);
	while ((pfile = rhashtable_walk_next(&iter))) {
		if (IS_ERR(pfile))
			continue;
		/* Only the lock's holder removes files: @pfile stays. */
		rhashtable_walk_stop(&iter);
		list_for_each_entry(att, &pfile->attachments, link)
			fn(att, arg);
		rhashtable_walk_start(&iter);
	}
	rhashtable_walk_stop(&iter);
	rhashtable_walk_exit(&iter);
	mutex_unlock(&pgprotect_files_lock);
}

/**
 * pgprotect_release - drop protection of some pages and wake their writers
 * @att: The attachment.
 * @first: First page.
 * @last: Last page.
 * @pages: If not NULL, receives how many pages were protected.
 *
 * Page tables are left alone: a write to a page whose entry is read-only
 * faults once more and finds the page released.
 *
 * Context: sleeps. Return: 0, or -ENOMEM with nothing changed.
 */
int pgprotect_release(struct pgprotect_attachment *att, pgoff_t first,
		      pgoff_t last, unsigned long *pages)
{
	struct pgprotect_set *set = att->set;
	int ret;

	mutex_lock(&set->lock);
	if (pages)
		*pages = pgprotect_weight(att, first, last);
	ret = pgprotect_ranges_remove(&set->ranges, first, last,
				      GFP_KERNEL_ACCOUNT);
	if (ret && pages)
		*pages = 0;
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
 * itself, under the lock that the waker takes, and so does not sleep.
 *
 * Context: does not sleep.
 */
void pgprotect_release_all(struct pgprotect_attachment *att)
{
	WRITE_ONCE(att->gone, true);
	pgprotect_wake(att, 0, ULONG_MAX);
}

void __pgprotect_evict(struct address_space *mapping)
{
	struct pgprotect_attachment *att, *next;
	struct pgprotect_file *pfile;

	mutex_lock(&pgprotect_files_lock);
	rcu_read_lock();
	pfile = pgprotect_file_find(mapping);
	rcu_read_unlock();
	if (pfile) {
		list_for_each_entry_safe(att, next, &pfile->attachments, link) {
			WARN_ON_ONCE(att->file);
			pgprotect_unlink(att);
		}
	}
	mutex_unlock(&pgprotect_files_lock);
}
