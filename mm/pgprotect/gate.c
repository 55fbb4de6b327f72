// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect gate and filters: what a would-be writer meets.
 *
 * The gate is early, holds nothing, and may sleep. For each attachment of the
 * file it asks pgprotect_judge() what is to happen; the strictest answer of
 * all counts. A writer that waited starts again, so that it meets all of them.
 *
 * The filters are late, under the lock that makes the change, and only say
 * that it must not be made now. They look at the same state, so that whatever
 * the gate let through a moment before PROTECT is caught here:
 *
 *   writer                        PROTECT (arm.c)
 *   gate: not protected
 *                                 publish under i_rwsem
 *                                 write-protect the page tables
 *   filter: protected -> gate
 *
 * A fault's filter runs under the page-table lock, which the walk of PROTECT
 * takes too; for a table that did not exist when the walk passed, see
 * "Empty entries" in arm.c. A system call's filter runs under i_rwsem, under which
 * PROTECT publishes.
 */
#include <linux/fs.h>
#include <linux/falloc.h>
#include <linux/namei.h>
#include <linux/rculist.h>
#include <linux/sched/signal.h>

#include "internal.h"

#include <trace/events/pgprotect.h>

/**
 * pgprotect_judge - what one attachment wants of one writer
 * @s: How things stand.
 * @error: Set for PGPROTECT_FAIL; a negative errno.
 *
 * Context: any; pure.
 */
enum pgprotect_step pgprotect_judge(const struct pgprotect_standing *s,
				    int *error)
{
	if (!s->protected)
		return PGPROTECT_PASS;
	*error = -EPERM;
	if (s->deny && !s->arming)
		return PGPROTECT_FAIL;
	/* Who exits or dumps core, or may not be stopped, must not wait. */
	if (s->exiting || !s->may_stall)
		return PGPROTECT_FAIL;
	if (s->handler) {
		*error = s->deny ? -EPERM : -EDEADLK;
		return PGPROTECT_FAIL;
	}
	if (s->nowait) {
		*error = -EAGAIN;
		return PGPROTECT_FAIL;
	}
	/* Until the last range is armed nobody gets through, in any mode. */
	return s->arming ? PGPROTECT_WAIT_CUT : PGPROTECT_WAIT;
}

static enum pgprotect_step
pgprotect_ask(struct pgprotect_attachment *att,
	      const struct pgprotect_request *req,
	      struct pgprotect_decision *d)
{
	struct pgprotect_standing s = {
		.deny = att->mode == PGPROTECT_MODE_DENY,
		.nowait = req->nowait,
	};

	/* Huge pages of hugetlbfs are released as a whole, too. */
	d->first = round_down(req->first, att->unit);
	d->last = round_up(req->last + 1, att->unit) - 1;
	/* Pairs with the release in pgprotect_release(). */
	d->releases = smp_load_acquire(&att->set->releases);
	if (READ_ONCE(att->copier) == current ||
	    !pgprotect_run(att, &d->first, &d->last, &s.arming))
		return PGPROTECT_PASS;
	s.protected = true;
	s.arming = s.arming && pgprotect_fixed(PGPROTECT_FIX_CUT);
	if (!s.deny || s.arming) {
		s.exiting = current->flags & (PF_EXITING | PF_DUMPCORE);
		s.handler = pgprotect_is_handler(att->ctx);
		s.may_stall = pgprotect_may_stall(att->ctx, req->user);
	}
	return pgprotect_judge(&s, &d->error);
}

/*
 * Ask all attachments of the file. FAIL beats WAIT_CUT beats WAIT, but for
 * the -EAGAIN of a writer that may not wait, which any refusal beats.
 */
static void pgprotect_decide(const struct pgprotect_request *req,
			     struct pgprotect_decision *d)
{
	struct pgprotect_attachment *att;
	struct pgprotect_file *pfile;

	d->step = PGPROTECT_PASS;
	d->att = NULL;
	rcu_read_lock();
	pfile = pgprotect_file_find(req->mapping);
	if (!pfile)
		goto unlock;
	list_for_each_entry_rcu(att, &pfile->attachments, link) {
		struct pgprotect_decision one;

		one.step = pgprotect_ask(att, req, &one);
		if (one.step == PGPROTECT_PASS)
			continue;
		if (d->att && one.step != PGPROTECT_FAIL &&
		    (d->step == PGPROTECT_WAIT_CUT || one.step == d->step))
			continue;
		if (d->step == PGPROTECT_FAIL && one.error == -EAGAIN)
			continue;
		if (!refcount_inc_not_zero(&att->ref))
			continue;
		if (d->att)
			pgprotect_attachment_put(d->att);
		*d = one;
		d->att = att;
		if (d->step == PGPROTECT_FAIL && d->error != -EAGAIN)
			break;
	}
unlock:
	rcu_read_unlock();
}

/*
 * Short in general: PROTECT waits for no writer that met the gate. But one that
 * has passed it may hold i_rwsem for as long as its source takes to be read.
 */
static int pgprotect_wait_cut(struct pgprotect_attachment *att)
{
	long left = wait_event_killable_timeout(att->ctx->cut,
						!rcu_access_pointer(att->arming),
						pgprotect_stall_limit(att));

	if (left < 0)
		return left;
	return left ? 0 : -ETIMEDOUT;
}

/*
 * Who comes from a filter of a file system holds freeze protection, as all who
 * call ->write_iter() or ->fallocate() do for a task's system call. Not to keep
 * the file system from freezing, they wait without it.
 */
static void pgprotect_let_freeze(const struct pgprotect_request *req)
{
	if (!req->writing)
		return;
	if (req->async)
		__sb_writers_acquired(req->writing, SB_FREEZE_WRITE);
	sb_end_write(req->writing);
}

static void pgprotect_stop_freeze(const struct pgprotect_request *req)
{
	if (!req->writing)
		return;
	sb_start_write(req->writing);
	if (req->async)
		__sb_writers_release(req->writing, SB_FREEZE_WRITE);
}

/* Carry out @d, and drop its reference. Return: 0: look again; or an error. */
static int pgprotect_carry_out(const struct pgprotect_request *req,
			       struct pgprotect_decision *d)
{
	struct pgprotect_attachment *att = d->att;
	int ret = d->error;

	switch (d->step) {
	case PGPROTECT_WAIT_CUT:
		pgprotect_let_freeze(req);
		ret = pgprotect_wait_cut(att);
		pgprotect_stop_freeze(req);
		break;
	case PGPROTECT_WAIT:
		pgprotect_let_freeze(req);
		ret = pgprotect_stall(att, req, d);
		pgprotect_stop_freeze(req);
		break;
	case PGPROTECT_FAIL:
		trace_pgprotect_event(att, PGPROTECT_EVENT_DENIED, d->first,
				      d->last, req->origin);
		if (att->mode == PGPROTECT_MODE_DENY &&
		    (att->flags & PGPROTECT_ATTACH_NOTIFY))
			pgprotect_note(att, PGPROTECT_EVENT_DENIED, 0,
				       req->origin, d->first, d->last);
		break;
	case PGPROTECT_PASS:
		ret = 0;
		break;
	}
	if (att)
		pgprotect_attachment_put(att);
	d->att = NULL;
	return ret;
}

#ifdef CONFIG_PER_VMA_LOCK
/* A fault that holds the VMA lock is about to drop it. */
static bool pgprotect_fault_mark(struct vm_fault *vmf, unsigned int *seq)
{
	if (!(vmf->flags & FAULT_FLAG_VMA_LOCK))
		return false;
	*seq = raw_read_seqcount(&vmf->vma->vm_mm->mm_lock_seq);
	return !(*seq & 1);
}

/*
 * Take the VMA lock again. Return: whether the fault has it, and nobody has held
 * mmap_lock for writing since the mark: the VMA is the same, unchanged.
 */
static bool pgprotect_fault_relock(struct vm_fault *vmf, struct mm_struct *mm,
				   unsigned int seq)
{
	bool same = false;

	/* A VMA is freed a grace period after a writer detached it. */
	rcu_read_lock();
	if (!read_seqcount_retry(&mm->mm_lock_seq, seq) &&
	    vma_start_read(vmf->vma)) {
		same = !read_seqcount_retry(&mm->mm_lock_seq, seq);
		if (!same)
			vma_end_read(vmf->vma);
	}
	rcu_read_unlock();
	return same;
}
#else
static bool pgprotect_fault_mark(struct vm_fault *vmf, unsigned int *seq)
{
	return false;
}

static bool pgprotect_fault_relock(struct vm_fault *vmf, struct mm_struct *mm,
				   unsigned int seq)
{
	return false;
}
#endif

/*
 * Wait with the fault lock dropped. Return: what the fault handler shall
 * return; 0: the lock is held again, look again.
 *
 * With VM_FAULT_RETRY the fault starts afresh. A refusal cannot be told that
 * way. Who faults under the VMA lock is told by VM_FAULT_COMPLETED that it is
 * dropped. For all others mmap_lock is taken again: it is what the caller holds
 * in its own view, and no caller looks at the VMA after an error.
 */
static vm_fault_t pgprotect_fault_wait(struct vm_fault *vmf,
				       const struct pgprotect_request *req,
				       struct pgprotect_decision *d)
{
	struct mm_struct *mm = vmf->vma->vm_mm;
	unsigned int seq;
	bool marked;
	int ret;

	marked = pgprotect_fault_mark(vmf, &seq);
	release_fault_lock(vmf);
	ret = pgprotect_carry_out(req, d);
	if (!ret && marked && pgprotect_fault_relock(vmf, mm, seq))
		return 0;
	if (!ret || ret == -ERESTARTSYS)
		return VM_FAULT_RETRY;
	if (vmf->flags & FAULT_FLAG_VMA_LOCK)
		return VM_FAULT_SIGBUS | VM_FAULT_COMPLETED;
	mmap_read_lock(mm);
	return VM_FAULT_SIGBUS;
}

/* Return: 0: look again; or what the fault handler shall return. */
static vm_fault_t pgprotect_fault_carry_out(struct vm_fault *vmf,
					    const struct pgprotect_request *req,
					    struct pgprotect_decision *d)
{
	if (d->step != PGPROTECT_FAIL) {
		if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT) {
			pgprotect_attachment_put(d->att);
			return VM_FAULT_RETRY;
		}
		if (vmf->flags & FAULT_FLAG_ALLOW_RETRY)
			return pgprotect_fault_wait(vmf, req, d);
		/* Nobody to retry: stay protected. */
		d->step = PGPROTECT_FAIL;
		d->error = -EPERM;
	}
	pgprotect_carry_out(req, d);
	return VM_FAULT_SIGBUS;
}

vm_fault_t __pgprotect_gate_fault(struct vm_fault *vmf, pgoff_t first,
				  unsigned long nr)
{
	bool user = vmf->flags & FAULT_FLAG_USER;
	struct pgprotect_request req = {
		.mapping = vmf->vma->vm_file->f_mapping,
		.first = first,
		.last = first + nr - 1,
		.origin = PGPROTECT_ORIGIN_STORE,
		.user = user,
		/*
		 * GUP on behalf of KVM wants to be interrupted. A fault of
		 * kernel mode does not end for a signal: no spinning.
		 */
		.interruptible = (vmf->flags & FAULT_FLAG_INTERRUPTIBLE) &&
				 (user || !signal_pending(current)),
	};
	struct pgprotect_decision d;
	vm_fault_t ret;
	loff_t size;

	do {
		/* Beyond the end is nothing to change: SIGBUS will follow. */
		size = i_size_read(req.mapping->host);
		if (first >= DIV_ROUND_UP_ULL(size, PAGE_SIZE))
			return 0;
		pgprotect_decide(&req, &d);
		if (d.step == PGPROTECT_PASS) {
			pgprotect_delay(PGPROTECT_DELAY_FAULT_INSTALL);
			return 0;
		}
		ret = pgprotect_fault_carry_out(vmf, &req, &d);
	} while (!ret);
	return ret;
}

/* Threads of the kernel, and what works for vhost, have their own ways. */
static bool pgprotect_in_syscall(void)
{
	if (current->flags & PF_USER_WORKER)
		return current->flags & PF_IO_WORKER;
	return !(current->flags & PF_KTHREAD);
}

/* Bytes to pages. @len 0: to the end of the file. Return: are there any? */
static bool pgprotect_pages_of(struct address_space *mapping, loff_t pos,
			       loff_t len, pgoff_t *first, pgoff_t *last)
{
	if (!len)
		len = i_size_read(mapping->host) - pos;
	if (len <= 0)
		return false;
	*first = pos >> PAGE_SHIFT;
	*last = (pos + min(len, LLONG_MAX - pos) - 1) >> PAGE_SHIFT;
	return true;
}

int __pgprotect_gate_range(struct address_space *mapping, loff_t pos,
			   loff_t len, enum pgprotect_origin origin,
			   unsigned int how)
{
	struct pgprotect_request req = {
		.mapping = mapping,
		.origin = origin,
		.user = !(how & PGPROTECT_GATE_KERNEL),
		/* A caller in the kernel may not know how to restart. */
		.interruptible = !(how & PGPROTECT_GATE_KERNEL),
		.nowait = how & PGPROTECT_GATE_NOWAIT,
		.async = how & PGPROTECT_GATE_ASYNC,
	};
	struct pgprotect_decision d;
	int ret;

	if ((how & PGPROTECT_GATE_WRITING) && pgprotect_in_syscall())
		req.writing = mapping->host->i_sb;

	do {
		if (!pgprotect_pages_of(mapping, pos, len, &req.first,
					&req.last))
			return 0;
		pgprotect_decide(&req, &d);
		ret = pgprotect_carry_out(&req, &d);
	} while (d.step != PGPROTECT_PASS && !ret);
	if (!ret)
		pgprotect_delay(PGPROTECT_DELAY_WRITE_LOCKED);
	/* What io_uring delegates is not started again. */
	if (ret == -ERESTARTSYS && (current->flags & PF_IO_WORKER))
		return -EINTR;
	return ret;
}
EXPORT_SYMBOL_GPL(__pgprotect_gate_range);

static int pgprotect_gate_at(struct file *file, loff_t pos, size_t count,
			     enum pgprotect_origin origin, int iocb_flags,
			     unsigned int how)
{
	/* Where it will land is known under i_rwsem only: the filter's job. */
	if (iocb_flags & IOCB_APPEND)
		pos = i_size_read(file->f_mapping->host);
	if (!count || pos < 0)
		return 0;
	if (iocb_flags & IOCB_NOWAIT)
		how |= PGPROTECT_GATE_NOWAIT;
	return __pgprotect_gate_range(file->f_mapping, pos,
				      min_t(size_t, count, MAX_RW_COUNT),
				      origin, how);
}

int __pgprotect_gate_write(struct file *file, const loff_t *pos, size_t count,
			   enum pgprotect_origin origin, rwf_t flags,
			   unsigned int how)
{
	int iocb_flags = file->f_iocb_flags | (__force int)flags;

	if (flags & RWF_NOAPPEND)
		iocb_flags &= ~IOCB_APPEND;
	return pgprotect_gate_at(file, pos ? *pos : 0, count, origin,
				 iocb_flags, how);
}

int __pgprotect_gate_kiocb(struct kiocb *iocb, size_t count,
			   enum pgprotect_origin origin, unsigned int how)
{
	return pgprotect_gate_at(iocb->ki_filp, iocb->ki_pos, count, origin,
				 iocb->ki_flags, how);
}
EXPORT_SYMBOL_GPL(__pgprotect_gate_kiocb);

int __pgprotect_regate_kiocb(struct kiocb *iocb, struct iov_iter *from)
{
	unsigned int how = PGPROTECT_GATE_WRITING | pgprotect_how(iocb->ki_filp);

	/* Who writes from the kernel's memory may hold locks. */
	if (!user_backed_iter(from))
		how |= PGPROTECT_GATE_KERNEL;
	if (!is_sync_kiocb(iocb))
		how |= PGPROTECT_GATE_ASYNC;
	return __pgprotect_gate_kiocb(iocb, iov_iter_count(from),
				      PGPROTECT_ORIGIN_WRITE, how);
}
EXPORT_SYMBOL_GPL(__pgprotect_regate_kiocb);

/*
 * Does fallocate() change content? Preallocation and unsharing do not. @len
 * becomes 0, to the end of the file, if it shifts what follows.
 */
static bool pgprotect_falloc_range(int mode, loff_t *len)
{
	switch (mode & FALLOC_FL_MODE_MASK) {
	case FALLOC_FL_PUNCH_HOLE:
	case FALLOC_FL_ZERO_RANGE:
		return true;
	case FALLOC_FL_COLLAPSE_RANGE:
	case FALLOC_FL_INSERT_RANGE:
		*len = 0;
		return true;
	default:
		return false;
	}
}

int __pgprotect_gate_fallocate(struct file *file, int mode, loff_t pos,
			       loff_t len)
{
	struct inode *inode = file_inode(file);
	int ret;

	if (!pgprotect_falloc_range(mode, &len))
		return 0;
	ret = __pgprotect_gate_range(file->f_mapping, pos, len,
				     PGPROTECT_ORIGIN_FALLOCATE,
				     PGPROTECT_GATE_WRITING | pgprotect_how(file));
	if (ret)
		return ret;
	/* VFS has looked before the wait. */
	if (IS_IMMUTABLE(inode) || IS_APPEND(inode))
		return -EPERM;
	return IS_SWAPFILE(inode) ? -ETXTBSY : 0;
}
EXPORT_SYMBOL_GPL(__pgprotect_gate_fallocate);

int __pgprotect_gate_truncate(const struct path *path, loff_t size)
{
	struct inode *inode = d_inode(path->dentry);
	int ret;

	if (size < 0 || size >= i_size_read(inode))
		return 0;
	ret = inode_permission(mnt_idmap(path->mnt), inode, MAY_WRITE);
	if (ret)
		return ret;
	return __pgprotect_gate_range(inode->i_mapping, size, 0,
				      PGPROTECT_ORIGIN_TRUNCATE, 0);
}

/*
 * First protected page of a range, for one who holds the lock of the change.
 * A COPY passes its own attachment.
 */
static bool pgprotect_first(struct address_space *mapping, pgoff_t *first,
			    pgoff_t last)
{
	struct pgprotect_attachment *att;
	struct pgprotect_file *pfile;
	pgoff_t nearest = last;
	bool found = false;

	rcu_read_lock();
	pfile = pgprotect_file_find(mapping);
	if (!pfile)
		goto unlock;
	list_for_each_entry_rcu(att, &pfile->attachments, link) {
		pgoff_t start = *first, end = nearest;
		bool arming;

		if (READ_ONCE(att->copier) == current)
			continue;
		if (pgprotect_run(att, &start, &end, &arming)) {
			nearest = start;
			found = true;
		}
	}
unlock:
	rcu_read_unlock();
	if (found)
		*first = nearest;
	return found;
}

/* @caller: in the function whose filter this is. */
static bool pgprotect_stops(struct address_space *mapping, loff_t pos,
			    loff_t len, unsigned long caller)
{
	pgoff_t first, last;

	return pgprotect_pages_of(mapping, pos, len, &first, &last) &&
	       pgprotect_first(mapping, &first, last) &&
	       pgprotect_fixed(PGPROTECT_FIX_WRITE) && pgprotect_filtered(caller);
}

bool __pgprotect_filter_range(struct address_space *mapping, loff_t pos,
			      loff_t len)
{
	return pgprotect_stops(mapping, pos, len, _RET_IP_);
}
EXPORT_SYMBOL_GPL(__pgprotect_filter_range);

bool __pgprotect_filter_fallocate(struct address_space *mapping, int mode,
				  loff_t pos, loff_t len)
{
	return pgprotect_falloc_range(mode, &len) &&
	       pgprotect_stops(mapping, pos, len, _RET_IP_);
}
EXPORT_SYMBOL_GPL(__pgprotect_filter_fallocate);

size_t __pgprotect_filter_write(struct address_space *mapping, loff_t pos,
				size_t count)
{
	pgoff_t first, last;
	loff_t stop;

	if (!count || !pgprotect_pages_of(mapping, pos, count, &first, &last) ||
	    !pgprotect_first(mapping, &first, last))
		return count;
	stop = (loff_t)first << PAGE_SHIFT;
	return stop > pos ? stop - pos : 0;
}

bool __pgprotect_filter_pages(struct address_space *mapping, pgoff_t first,
			      unsigned long nr)
{
	struct pgprotect_attachment *att;
	struct pgprotect_file *pfile;
	bool found = false;

	rcu_read_lock();
	pfile = pgprotect_file_find(mapping);
	if (!pfile)
		goto unlock;
	list_for_each_entry_rcu(att, &pfile->attachments, link) {
		pgoff_t start = first, end = first + nr - 1;
		bool arming;

		found = pgprotect_run(att, &start, &end, &arming);
		if (found)
			break;
	}
unlock:
	rcu_read_unlock();
	if (!found && nr == PTRS_PER_PTE)
		pgprotect_spin(PGPROTECT_DELAY_HUGE_FILTERED);
	return found && pgprotect_filtered(_RET_IP_);
}

/* How many are between pgprotect_copy_begin() and pgprotect_copy_end(). */
atomic_t pgprotect_copies = ATOMIC_INIT(0);

/**
 * pgprotect_copy_begin - write to a page of a mapping through no entry
 * @vma: The mapping.
 * @addr: Address of the page.
 *
 * For who has the page by a reference, as ptrace does, and holds no lock that
 * PROTECT takes. It counts, attached or not: that may change during the copy.
 *
 * Context: does not sleep until pgprotect_copy_end().
 * Return: false: the page is protected, nothing has begun.
 */
bool pgprotect_copy_begin(struct vm_area_struct *vma, unsigned long addr)
{
	rcu_read_lock();
	atomic_inc(&pgprotect_copies);
	/* Pairs with pgprotect_arm(): this sees the set, or it that we are here. */
	smp_mb__after_atomic();
	if (pgprotect_filter_vma(vma, addr, 1)) {
		pgprotect_copy_end();
		return false;
	}
	pgprotect_spin(PGPROTECT_DELAY_COPY);
	return true;
}

void pgprotect_copy_end(void)
{
	/* The copy is over for who sees this: pgprotect_arm(). */
	atomic_dec_return_release(&pgprotect_copies);
	rcu_read_unlock();
}

bool __pgprotect_fill_waits(struct vm_area_struct *vma, unsigned long addr,
			    unsigned long nr)
{
	if (__pgprotect_filter_pages(vma->vm_file->f_mapping,
				     linear_page_index(vma, addr), nr))
		return true;
	pgprotect_delay(PGPROTECT_DELAY_FILL);
	return false;
}

bool __pgprotect_filter_flush(struct vm_area_struct *vma)
{
	return (vma->vm_flags & VM_SHARED) && vma->vm_file &&
	       pgprotect_filtered(_RET_IP_);
}
