// SPDX-License-Identifier: GPL-2.0
/*
 * ptshare hosts: the hidden mm that owns the page tables of a file.
 *
 * A host has one VMA, which maps the whole file from address 0. To the memory
 * manager it is a mapping like any other: it is in i_mmap, its entries are made
 * by ordinary faults, found by the reverse map, zapped by truncation. Only that
 * nobody ever runs in it; guests borrow its tables.
 *
 * Lifetime. A table of a host is freed with the host and not before: nothing
 * unmaps a part of its VMA, and khugepaged leaves it alone. So a guest that
 * holds a reference to the host needs none for each table. When the last guest
 * drops its reference
 *
 *   - all links are gone, and flushed: a VMA drops its reference in ->close(),
 *     after its links;
 *   - the entries are zapped and the VMA taken out of i_mmap, at once: a
 *     truncation, a seal or an unmount that follows must not find the file
 *     mapped;
 *   - the tables are freed a grace period later. gup_fast, with interrupts off,
 *     and whoever is between pte_offset_map() and pte_unmap() may have read a
 *     link before it was cleared:
 *
 *	gup_fast			last munmap()
 *	interrupts off
 *	read link
 *					clear link, flush
 *					zap, unlink the host VMA
 *	read entry: none
 *	interrupts on
 *					grace period
 *					free the tables
 */
#include <linux/file.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "../internal.h"
#include "internal.h"

static DEFINE_HASHTABLE(ptshare_hosts, 8);
static DEFINE_MUTEX(ptshare_hosts_lock);

/* Taken inside of a guest's mmap_lock. */
static struct lock_class_key ptshare_mmap_lock_key;

/*
 * A file of its own: the first mapper's, held for longer than by its holders, would
 * keep their flock(), leases and advice. The files of System V shared memory have
 * none of these, and their vm_operations need them.
 */
static struct file *host_file(struct vm_area_struct *guest)
{
	struct file *file = guest->vm_file;

	if (vma_is_sysvshm(guest))
		return get_file(file);
	file = alloc_file_clone(file, O_RDWR, file->f_op);
	/* Nobody has opened it: it is not to be told that it is closed. */
	if (!IS_ERR(file))
		file->f_mode |= FMODE_NONOTIFY;
	return file;
}

/*
 * The VMA must allow all that some guest may do; what one guest may not do its
 * links say. No huge entries: a guest would have nothing to link to.
 */
static struct vm_area_struct *host_map(struct ptshare_host *host,
				       struct vm_area_struct *guest)
{
	struct mm_struct *mm = host->mm;
	struct vm_area_struct *vma = vm_area_alloc(mm);
	struct file *file;
	int ret;

	if (!vma)
		return ERR_PTR(-ENOMEM);
	file = host_file(guest);
	if (IS_ERR(file)) {
		vm_area_free(vma);
		return ERR_CAST(file);
	}
	vma_set_range(vma, 0, PTSHARE_HOST_END, 0);
	vm_flags_init(vma, VM_READ | VM_WRITE | VM_EXEC | VM_SHARED |
		      VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_MAYSHARE |
		      VM_SOFTDIRTY | VM_DONTEXPAND | VM_NOHUGEPAGE |
		      VM_PTSHARE_HOST);
	vma->vm_ops = guest->vm_ops;
	vma->vm_file = file;
	/* Before it is in i_mmap, where a PROTECT finds it. */
	vma->vm_private_data = host;
	vma_set_page_prot(vma);

	mmap_write_lock(mm);
	ret = insert_vm_struct(mm, vma);
	mmap_write_unlock(mm);
	if (ret) {
		fput(file);
		vm_area_free(vma);
		return ERR_PTR(ret);
	}
	return vma;
}

static struct mm_struct *host_mm_alloc(void)
{
	struct mm_struct *mm = mm_alloc();

	if (!mm)
		return NULL;
	lockdep_set_class(&mm->mmap_lock, &ptshare_mmap_lock_key);
	set_bit(MMF_PTSHARE_HOST, &mm->flags);
#ifdef CONFIG_MEMCG
	/* The task may be gone tomorrow; charges go to who faults. */
	WRITE_ONCE(mm->owner, NULL);
#endif
	return mm;
}

static struct ptshare_host *host_make(struct vm_area_struct *guest)
{
	struct ptshare_host *host;
	int ret = -ENOMEM;

	host = kzalloc(sizeof(*host), GFP_KERNEL_ACCOUNT);
	if (!host)
		return ERR_PTR(-ENOMEM);
	refcount_set(&host->users, 1);
	spin_lock_init(&host->lock);
	INIT_LIST_HEAD(&host->guests);
	xa_init(&host->directories);
	host->mapping = guest->vm_file->f_mapping;
	host->notifier.ops = &ptshare_notifier_ops;
	host->mm = host_mm_alloc();
	if (!host->mm)
		goto free;
	/* Before the VMA, so that no entry was ever made unheard. */
	ret = mmu_notifier_register(&host->notifier, host->mm);
	if (ret)
		goto put_mm;
	host->vma = host_map(host, guest);
	if (IS_ERR(host->vma)) {
		ret = PTR_ERR(host->vma);
		goto unregister;
	}
	atomic_long_inc(&ptshare_nr_hosts);
	return host;

unregister:
	mmu_notifier_unregister(&host->notifier, host->mm);
put_mm:
	mmput(host->mm);
free:
	kfree(host);
	return ERR_PTR(ret);
}

static struct ptshare_host *host_find(struct address_space *mapping)
{
	struct ptshare_host *host;

	lockdep_assert_held(&ptshare_hosts_lock);
	hash_for_each_possible(ptshare_hosts, host, hash, (unsigned long)mapping)
		if (host->mapping == mapping)
			return host;
	return NULL;
}

/*
 * The host of the file that @vma maps, made if there is none.
 * Context: @vma is linked in i_mmap; mmap_lock held for writing.
 * Return: with a reference; or an error.
 */
struct ptshare_host *ptshare_host_get(struct vm_area_struct *vma)
{
	struct address_space *mapping = vma->vm_file->f_mapping;
	struct ptshare_host *host;

	mutex_lock(&ptshare_hosts_lock);
	host = host_find(mapping);
	if (host) {
		refcount_inc(&host->users);
	} else {
		host = host_make(vma);
		if (!IS_ERR(host))
			hash_add(ptshare_hosts, &host->hash,
				 (unsigned long)mapping);
	}
	mutex_unlock(&ptshare_hosts_lock);
	return host;
}

static void host_free(struct work_struct *work)
{
	struct ptshare_host *host = container_of(to_rcu_work(work),
						 struct ptshare_host, free);

	mmu_notifier_unregister(&host->notifier, host->mm);
	mmput(host->mm);
	kfree(host);
}

/* Of the VMA of a host that is no longer a mapping of anything. */
static const struct vm_operations_struct host_unmapped_ops;

/* Leave empty tables behind, and no trace at the file. */
static void host_unmap(struct ptshare_host *host)
{
	struct vm_area_struct *vma = host->vma;
	struct file *file = vma->vm_file;

	mmap_write_lock(host->mm);
	zap_page_range_single(vma, 0, PTSHARE_HOST_END, NULL);
	/* No fault can come: every fault holds a guest. */
	unlink_file_vma(vma);
	/* What is shared has a file, as all who ask for it may rely on. */
	vm_flags_clear(vma, VM_SHARED | VM_MAYSHARE);
	vma->vm_file = NULL;
	vma->vm_ops = &host_unmapped_ops;
	ptshare_fence_end(host);
	mmap_write_unlock(host->mm);
	fput(file);
}

/*
 * Context: the caller's links are gone and flushed; sleeps.
 */
void ptshare_host_put(struct ptshare_host *host)
{
	if (!refcount_dec_and_mutex_lock(&host->users, &ptshare_hosts_lock))
		return;
	WARN_ON_ONCE(!list_empty(&host->guests));
	hash_del(&host->hash);
	mutex_unlock(&ptshare_hosts_lock);
	/* Who shares the file again meanwhile makes another host. */
	host_unmap(host);
	atomic_long_dec(&ptshare_nr_hosts);
	INIT_RCU_WORK(&host->free, host_free);
	queue_rcu_work(system_unbound_wq, &host->free);
}
