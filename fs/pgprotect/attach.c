// SPDX-License-Identifier: GPL-2.0
/* pgprotect attachments: ATTACH, DETACH, LIST, and what close leaves behind */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/kdev_t.h>
#include <linux/memfd.h>
#include <linux/pid_namespace.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>

#include "internal.h"

#include <trace/events/pgprotect.h>

#define ATTACH_FLAGS	(PGPROTECT_ATTACH_TIMEOUT_RELEASE |	\
			 PGPROTECT_ATTACH_NOTIFY |		\
			 PGPROTECT_ATTACH_PERSIST |		\
			 PGPROTECT_ATTACH_ADOPT)

static int attach_check(const struct pgprotect_context *ctx,
			const struct pgprotect_attach *a)
{
	if (a->access != PGPROTECT_ACCESS_WRITE || (a->flags & ~ATTACH_FLAGS))
		return -EINVAL;
	switch (a->mode) {
	case PGPROTECT_MODE_STALL:
		if (a->flags & PGPROTECT_ATTACH_NOTIFY)
			return -EINVAL;
		break;
	case PGPROTECT_MODE_DENY:
		if (a->flags & PGPROTECT_ATTACH_TIMEOUT_RELEASE)
			return -EINVAL;
		break;
	case PGPROTECT_MODE_TRACK:
	case PGPROTECT_MODE_PRESERVE:
		return -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
	if ((a->flags & (PGPROTECT_ATTACH_PERSIST | PGPROTECT_ATTACH_ADOPT)) &&
	    !pgprotect_admin(ctx))
		return -EPERM;
	return 0;
}

static struct pgprotect_attachment *
attach_alloc(struct pgprotect_context *ctx, const struct pgprotect_attach *a,
	     struct file *file)
{
	struct inode *inode = file_inode(file);
	struct pgprotect_attachment *att;

	att = kzalloc(sizeof(*att), GFP_KERNEL_ACCOUNT);
	if (!att)
		return NULL;
	refcount_set(&att->ref, 1);
	mutex_init(&att->copying);
	att->file = get_file(file);
	att->flags = a->flags & ~PGPROTECT_ATTACH_ADOPT;
	att->cookie = a->cookie;
	att->mode = a->mode;
	att->unit = 1;
	if (is_file_hugepages(file))
		att->unit = pages_per_huge_page(hstate_file(file));
	att->stall_ms = a->stall_ms;
	att->dev = inode->i_sb->s_dev;
	att->ino = inode->i_ino;
	kref_get(&ctx->ref);
	att->ctx = ctx;
	return att;
}

/* No hook ever found @att, or none finds it any more. */
static void attach_drop(struct pgprotect_attachment *att)
{
	/* A COPY under way has its own reference. */
	struct file *file = xchg(&att->file, NULL);

	if (file)
		fput(file);
	pgprotect_attachment_put(att);
}

static struct pgprotect_attachment *
attach_find_orphan(struct address_space *mapping, u32 mode)
{
	struct pgprotect_attachment *att;
	struct pgprotect_file *pfile;

	lockdep_assert_held(&pgprotect_files_lock);
	pfile = pgprotect_file_find(mapping);
	if (!pfile)
		return NULL;
	list_for_each_entry(att, &pfile->attachments, link)
		if (att->orphan && att->mode == mode)
			return att;
	return NULL;
}

/*
 * Let @att take over the pages of an orphan. Writers that wait for the orphan
 * look again and find @att.
 */
static int attach_adopt(struct pgprotect_attachment *att)
{
	struct pgprotect_attachment *orphan;
	int ret = -ENOENT;

	mutex_lock(&pgprotect_files_lock);
	orphan = attach_find_orphan(att->file->f_mapping, att->mode);
	if (!orphan)
		goto unlock;
	refcount_inc(&orphan->set->ref);
	att->set = orphan->set;
	refcount_inc(&orphan->ref);
	ret = pgprotect_replace(att, orphan);
	if (ret)
		pgprotect_attachment_put(orphan);
unlock:
	mutex_unlock(&pgprotect_files_lock);
	if (!ret) {
		pgprotect_release_all(orphan);
		pgprotect_attachment_put(orphan);
	}
	return ret;
}

static int attach_new(struct pgprotect_attachment *att)
{
	struct pgprotect_file *spare;
	int ret = -ENOMEM;

	att->set = pgprotect_set_alloc(att->ctx);
	/* Here, since all who attach or detach wait for the lock. */
	spare = kzalloc(sizeof(*spare), GFP_KERNEL_ACCOUNT);
	if (att->set && spare) {
		mutex_lock(&pgprotect_files_lock);
		ret = pgprotect_link(att, att->file->f_mapping, &spare);
		mutex_unlock(&pgprotect_files_lock);
	}
	kfree(spare);
	return ret;
}

/* ctx->config is held, and i_rwsem: what is attached does not become swap. */
static int attach_file(struct pgprotect_context *ctx,
		       struct pgprotect_attach *a, struct file *file)
{
	struct pgprotect_attachment *att;
	int ret;

	att = attach_alloc(ctx, a, file);
	if (!att)
		return -ENOMEM;
	/* The id first: it must be there when the first writer is met. */
	ret = xa_alloc(&ctx->files, &att->id, NULL,
		       XA_LIMIT(1, PGPROTECT_MAX_FILES), GFP_KERNEL_ACCOUNT);
	if (ret) {
		ret = ret == -EBUSY ? -ENOSPC : ret;
		goto drop;
	}
	ret = a->flags & PGPROTECT_ATTACH_ADOPT ? attach_adopt(att) :
						  attach_new(att);
	if (ret) {
		xa_erase(&ctx->files, att->id);
		goto drop;
	}
	/* The slot is reserved: this does not allocate. */
	xa_store(&ctx->files, att->id, att, GFP_KERNEL_ACCOUNT);
	a->file = att->id;
	trace_pgprotect_attach(att);
	return 0;
drop:
	attach_drop(att);
	return ret;
}

/* What may change until i_rwsem is held. */
static int attach_check_locked(struct file *file)
{
	long seals = memfd_fcntl(file, F_GET_SEALS, 0);

	if (IS_SWAPFILE(file_inode(file)))
		return -EOPNOTSUPP;
	return seals > 0 && (seals & F_SEAL_PGPROTECT) ? -EPERM : 0;
}

int pgprotect_ioc_attach(struct pgprotect_context *ctx, void *arg, unsigned int how)
{
	struct pgprotect_attach *a = arg;
	struct file *file;
	int ret;

	ret = attach_check(ctx, a);
	if (ret)
		return ret;
	file = fget(a->fd);
	if (!file)
		return -EBADF;
	ret = -EBADF;
	if (!(file->f_mode & FMODE_WRITE))
		goto put;
	ret = pgprotect_may_attach(ctx, file);
	if (ret)
		goto put;
	/* Other file systems forget an inode that nobody has open. */
	ret = -EOPNOTSUPP;
	if ((a->flags & PGPROTECT_ATTACH_PERSIST) &&
	    !shmem_mapping(file->f_mapping) && !is_file_hugepages(file))
		goto put;
	ret = -EINTR;
	if (mutex_lock_killable(&ctx->config))
		goto put;
	if (down_write_killable(&file_inode(file)->i_rwsem))
		goto unlock;
	ret = attach_check_locked(file);
	if (!ret)
		ret = attach_file(ctx, a, file);
	inode_unlock(file_inode(file));
unlock:
	mutex_unlock(&ctx->config);
put:
	fput(file);
	return ret;
}

/* Hide @att from its context and the hooks, and release its writers. */
static void attach_end(struct pgprotect_context *ctx,
		       struct pgprotect_attachment *att)
{
	lockdep_assert_held(&ctx->config);
	trace_pgprotect_detach(att);
	xa_erase(&ctx->files, att->id);
	mutex_lock(&pgprotect_files_lock);
	pgprotect_unlink(att);
	mutex_unlock(&pgprotect_files_lock);
	pgprotect_release_all(att);
	attach_drop(att);
}

int pgprotect_ioc_detach(struct pgprotect_context *ctx, void *arg, unsigned int how)
{
	struct pgprotect_detach *d = arg;
	struct pgprotect_attachment *att;

	if (mutex_lock_killable(&ctx->config))
		return -EINTR;
	att = xa_load(&ctx->files, d->file);
	if (att)
		attach_end(ctx, att);
	mutex_unlock(&ctx->config);
	return att ? 0 : -ENOENT;
}

/* Leave @att protecting without a context, until its inode goes. */
static void attach_orphan(struct pgprotect_context *ctx,
			  struct pgprotect_attachment *att)
{
	xa_erase(&ctx->files, att->id);
	mutex_lock(&pgprotect_files_lock);
	att->orphan = true;
	mutex_unlock(&pgprotect_files_lock);
	/* The list's reference stays; the file's goes, and with it the pin. */
	attach_drop(att);
}

/**
 * pgprotect_drop_all - the last reference to a context's file is closed
 * @ctx: The context.
 *
 * Context: sleeps.
 */
void pgprotect_drop_all(struct pgprotect_context *ctx)
{
	struct pgprotect_attachment *att;
	unsigned long id;

	mutex_lock(&ctx->config);
	xa_for_each(&ctx->files, id, att) {
		if (att->flags & PGPROTECT_ATTACH_PERSIST)
			attach_orphan(ctx, att);
		else
			attach_end(ctx, att);
	}
	mutex_unlock(&ctx->config);
}

struct list_visit {
	struct pgprotect_attachment **found;	/* each with a reference */
	u32 max, nr;
	bool all;			/* the caller may see them all */
};

static void list_one(struct pgprotect_attachment *att, void *arg)
{
	struct list_visit *v = arg;

	if (!v->all && !uid_eq(att->ctx->cred->euid, current_euid()))
		return;
	if (v->nr < v->max) {
		refcount_inc(&att->ref);
		v->found[v->nr] = att;
	}
	v->nr++;
}

static void list_entry_fill(struct pgprotect_attachment *att,
			    struct pgprotect_list_entry *entry)
{
	*entry = (struct pgprotect_list_entry) {
		.dev = new_encode_dev(att->dev),
		.ino = att->ino,
		.cookie = att->cookie,
		.pages = pgprotect_weight(att, 0, ULONG_MAX),
		.events = atomic64_read(&att->events),
		.flags = att->flags,
		.mode = att->mode,
		.state = att->orphan ? PGPROTECT_LIST_ORPHAN : 0,
		.pid = pid_vnr(att->ctx->opener),
		.uid = from_kuid_munged(current_user_ns(), att->ctx->cred->euid),
		.stalled = READ_ONCE(att->waiting),
		.file = att->orphan ? 0 : att->id,
	};
}

/*
 * Describe what @v found. The references go before anything is copied to the
 * caller, who can make that take for ever: what is detached or closed meanwhile
 * is counted for nobody, and would stay. Return: to be kvfreed; NULL: no memory.
 */
static struct pgprotect_list_entry *list_describe(const struct list_visit *v,
						  u32 nr)
{
	struct pgprotect_list_entry *entries =
		kvcalloc(nr, sizeof(*entries), GFP_KERNEL_ACCOUNT);
	u32 i;

	for (i = 0; i < nr; i++) {
		if (entries && !fatal_signal_pending(current))
			list_entry_fill(v->found[i], &entries[i]);
		pgprotect_attachment_put(v->found[i]);
	}
	return entries;
}

int pgprotect_ioc_list(struct pgprotect_context *ctx, void *arg, unsigned int how)
{
	struct pgprotect_list *l = arg;
	struct list_visit v = {
		.max = min_t(u32, l->max_entries, PGPROTECT_MAX_FILES),
		.all = capable(CAP_SYS_ADMIN),
	};
	struct pgprotect_list_entry *entries;
	int ret = 0;
	u32 nr;

	if (l->flags || l->reserved)
		return -EINVAL;
	if (v.max) {
		v.found = kvcalloc(v.max, sizeof(*v.found), GFP_KERNEL_ACCOUNT);
		if (!v.found)
			return -ENOMEM;
	}
	/* To count their pages takes time, in which others want the lock. */
	pgprotect_visit_attachments(list_one, &v);
	l->nr_entries = v.nr;
	nr = min(v.nr, v.max);
	if (nr) {
		entries = list_describe(&v, nr);
		if (!entries)
			ret = -ENOMEM;
		else if (copy_to_user(u64_to_user_ptr(l->entries), entries,
				      nr * sizeof(*entries)))
			ret = -EFAULT;
		kvfree(entries);
	}
	kvfree(v.found);
	return ret;
}
