// SPDX-License-Identifier: GPL-2.0
/*
 * ptshare guests: VMAs that become guests, are split, copied, and turned back.
 *
 * A guest has VM_PTSHARE, whole units of PMD_SIZE that are aligned in the address
 * space and in the file, and these vm_operations, which count it. It is not in
 * i_mmap. VM_DONTEXPAND goes with it: it keeps off, by what they test already,
 * merging, userfaultfd, mlock, khugepaged, the aging of generations and the
 * migration to devices.
 *
 * What cannot be done to the tables of others is done after the range has been
 * turned back into an ordinary mapping, whose entries come by faults. To share
 * drops entries, too: neither copies any.
 *
 * A call that splits VMAs calls ptshare_cut() first, which turns back the units
 * that are not whole on either side. Who does not gets -EINVAL of ->may_split().
 */
#include <linux/compat.h>
#include <linux/hashtable.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/mmu_notifier.h>
#include <linux/pgprotect.h>
#include <linux/pkeys.h>
#include <linux/sched/mm.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/userfaultfd_k.h>
#include <uapi/linux/ptshare.h>
#include <asm/tlb.h>

#include "../internal.h"
#include "internal.h"

static const struct vm_operations_struct ptshare_vm_ops;

/* All guests, by the address space that they are in. */
static DEFINE_HASHTABLE(ptshare_guests, 8);
static DEFINE_SPINLOCK(ptshare_guests_lock);

/* Takes over the caller's reference to @host. */
static struct ptshare_guest *guest_make(struct ptshare_host *host,
					struct vm_area_struct *vma,
					const struct vm_operations_struct *ops,
					gfp_t gfp)
{
	struct ptshare_guest *guest = kmalloc(sizeof(*guest), gfp);

	if (!guest)
		return NULL;
	refcount_set(&guest->users, 1);
	guest->host = host;
	guest->mm = vma->vm_mm;
	mmgrab(guest->mm);
	guest->start = vma->vm_start;
	guest->end = vma->vm_end;
	guest->host_start = vma->vm_pgoff << PAGE_SHIFT;
	guest->ops = ops;
	atomic_long_set(&guest->links, 0);
	/* Of earlier pins, the file is told when what becomes a guest leaves i_mmap. */
	spin_lock(&ptshare_guests_lock);
	hash_add_rcu(ptshare_guests, &guest->hash, (unsigned long)guest->mm);
	spin_unlock(&ptshare_guests_lock);
	spin_lock(&host->lock);
	list_add_rcu(&guest->link, &host->guests);
	host->nr_guests++;
	spin_unlock(&host->lock);
	/* On the list before the first link. Pairs with the flush: flush.c. */
	smp_mb();
	atomic_long_inc(&ptshare_nr_guests);
	return guest;
}

static void guest_free(struct work_struct *work)
{
	struct ptshare_guest *guest = container_of(to_rcu_work(work),
						   struct ptshare_guest, free);

	mmdrop(guest->mm);
	kfree(guest);
}

/* Context: links are gone and flushed. */
static void guest_put(struct ptshare_guest *guest)
{
	struct ptshare_host *host = guest->host;

	if (!refcount_dec_and_test(&guest->users))
		return;
	spin_lock(&host->lock);
	list_del_rcu(&guest->link);
	host->nr_guests--;
	spin_unlock(&host->lock);
	spin_lock(&ptshare_guests_lock);
	hash_del_rcu(&guest->hash);
	spin_unlock(&ptshare_guests_lock);
	WARN_ON_ONCE(atomic_long_read(&guest->links));
	atomic_long_dec(&ptshare_nr_guests);
	/* A flush may be looking at it. */
	INIT_RCU_WORK(&guest->free, guest_free);
	queue_rcu_work(system_unbound_wq, &guest->free);
	ptshare_host_put(host);
}

/**
 * ptshare_set_has_pinned - an mm pins pages for the first time
 * @mm: Which.
 *
 * Sets MMF_HAS_PINNED, for good. The files of its guests know before anyone sees
 * it set, so that PROTECT need not ask each guest: to it, the host is the only
 * mapping. Context: any but interrupts.
 */
void ptshare_set_has_pinned(struct mm_struct *mm)
{
	struct ptshare_guest *guest;

	spin_lock(&ptshare_guests_lock);
	hash_for_each_possible(ptshare_guests, guest, hash, (unsigned long)mm)
		if (guest->mm == mm)
			pgprotect_pin(guest->host->mapping);
	/* Who sees MMF_HAS_PINNED set need not come here. */
	smp_mb__before_atomic();
	set_bit(MMF_HAS_PINNED, &mm->flags);
	spin_unlock(&ptshare_guests_lock);
}

/*
 * @vma is a part of a guest that is split off, or the copy of one by fork(),
 * which has no way to fail here. The original holds its references meanwhile.
 * System V shared memory counts its mappings, too.
 */
static void guest_open(struct vm_area_struct *vma)
{
	struct ptshare_guest *guest = ptshare_guest(vma);

	if (guest->ops->open)
		guest->ops->open(vma);
	if (guest->mm == vma->vm_mm) {
		refcount_inc(&guest->users);
		return;
	}
	refcount_inc(&guest->host->users);
	vma->vm_private_data = guest_make(guest->host, vma, guest->ops,
					  GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
}

static void guest_close(struct vm_area_struct *vma)
{
	struct ptshare_guest *guest = ptshare_guest(vma);
	const struct vm_operations_struct *ops = guest->ops;

	guest_put(guest);
	if (ops->close)
		ops->close(vma);
}

static int guest_may_split(struct vm_area_struct *vma, unsigned long addr)
{
	if (!IS_ALIGNED(addr, PMD_SIZE))
		return -EINVAL;
	ptshare_before_split(vma, addr);
	return 0;
}

#ifdef CONFIG_NUMA
static int guest_set_policy(struct vm_area_struct *vma, struct mempolicy *new)
{
	return ptshare_guest(vma)->ops->set_policy(vma, new);
}

static struct mempolicy *guest_get_policy(struct vm_area_struct *vma,
					  unsigned long addr, pgoff_t *ilx)
{
	return ptshare_guest(vma)->ops->get_policy(vma, addr, ilx);
}
#endif

/*
 * Faults do not come here: see handle_mm_fault(). But what has no way to fault is
 * taken for empty by core dumps.
 */
static vm_fault_t guest_fault(struct vm_fault *vmf)
{
	WARN_ON_ONCE(1);
	return VM_FAULT_SIGBUS;
}

static const struct vm_operations_struct ptshare_vm_ops = {
	.open		= guest_open,
	.close		= guest_close,
	.may_split	= guest_may_split,
	.fault		= guest_fault,
#ifdef CONFIG_NUMA
	.set_policy	= guest_set_policy,
	.get_policy	= guest_get_policy,
#endif
};

/* The whole units in a part of a mapping. Return: are there any? */
static bool guest_units(struct vm_area_struct *vma, unsigned long *start,
			unsigned long *end)
{
	const pgoff_t limit = PTSHARE_HOST_END >> PAGE_SHIFT;
	const pgoff_t page = vma->vm_start >> PAGE_SHIFT;

	*start = round_up(max(*start, vma->vm_start), PMD_SIZE);
	*end = round_down(min(*end, vma->vm_end), PMD_SIZE);
	return *start < *end &&
	       IS_ALIGNED(page - vma->vm_pgoff, PTRS_PER_PTE) &&
	       vma->vm_pgoff < limit &&
	       vma_pages(vma) <= limit - vma->vm_pgoff;
}

/*
 * Only what can be written by somebody: the host's VMA counts as a writable
 * mapping, which a seal against writing excludes.
 */
static bool guest_suits(struct vm_area_struct *vma)
{
	const vm_flags_t needed = VM_SHARED | VM_MAYSHARE | VM_MAYWRITE;
	const vm_flags_t forbidden = VM_SPECIAL | VM_LOCKED_MASK | VM_HUGETLB |
				     VM_HUGEPAGE | VM_SEALED;

	if ((vma->vm_flags & needed) != needed ||
	    (vma->vm_flags & forbidden) ||
	    !(vma_is_shmem(vma) || vma_is_sysvshm(vma)))
		return false;
	/* What entries of our own would have to say. */
	if (userfaultfd_armed(vma) || vma_pkey(vma) ||
	    vma_soft_dirty_enabled(vma))
		return false;
	/* Who mirrors these tables would not hear of changes to the host's. */
	return !mm_has_notifiers(vma->vm_mm);
}

/* Cut [@start, @end) out of @vma. Return: 0 or -ENOMEM. */
static int guest_isolate(struct vm_area_struct *vma, unsigned long start,
			 unsigned long end)
{
	VMA_ITERATOR(vmi, vma->vm_mm, start);
	int ret = 0;

	if (start > vma->vm_start)
		ret = split_vma(&vmi, vma, start, 1);
	if (!ret && end < vma->vm_end)
		ret = split_vma(&vmi, vma, end, 0);
	return ret;
}

/*
 * Drop all that is mapped in @vma, and the tables. No fault and no walk under
 * mmap_lock or the VMA lock can be under way. Walks of the reverse map end when
 * it leaves i_mmap; gup_fast is waited for by how tables are freed.
 */
static void guest_drop_tables(struct vm_area_struct *vma)
{
	const unsigned long start = vma->vm_start, end = vma->vm_end;
	struct mmu_gather tlb;

	zap_page_range_single(vma, start, end - start, NULL);
	unlink_file_vma(vma);
	tlb_gather_mmu(&tlb, vma->vm_mm);
	free_pgd_range(&tlb, start, end, start, end);
	tlb_finish_mmu(&tlb);
}

/* Turn all of @vma into a guest. Return: 0 or an error. */
static int guest_share(struct vm_area_struct *vma)
{
	struct ptshare_host *host = ptshare_host_get(vma);
	struct ptshare_guest *guest;

	if (IS_ERR(host))
		return PTR_ERR(host);
	guest = guest_make(host, vma, vma->vm_ops, GFP_KERNEL_ACCOUNT);
	if (!guest) {
		ptshare_host_put(host);
		return -ENOMEM;
	}
	vma_start_write(vma);
	guest_drop_tables(vma);
	vma->vm_private_data = guest;
	vma->vm_ops = &ptshare_vm_ops;
	vm_flags_set(vma, VM_PTSHARE | VM_DONTEXPAND);
	return 0;
}

/* Turn all of the guest @vma back. Cannot fail. */
static void guest_unshare(struct vm_area_struct *vma)
{
	struct ptshare_guest *guest = ptshare_guest(vma);

	ptshare_unlink(vma);
	vma->vm_private_data = NULL;
	vma->vm_ops = guest->ops;
	vm_flags_clear(vma, VM_PTSHARE | VM_DONTEXPAND);
	/* Before the host may go: the file stays mapped all the time. */
	vma_link_file(vma);
	guest_put(guest);
}

/*
 * Undo the splits that made @vma a guest: the mapping is to be one again for those
 * who asked for one. Without memory for that it stays in parts.
 */
static void guest_rejoin(struct vm_area_struct *vma)
{
	VMA_ITERATOR(vmi, vma->vm_mm, vma->vm_start);
	struct vm_area_struct *prev;

	find_vma_prev(vma->vm_mm, vma->vm_start, &prev);
	vma_modify_flags(&vmi, prev, vma, vma->vm_start, vma->vm_end,
			 vma->vm_flags);
}

/*
 * The same for the part of @vma that [@start, @end) touches. On success @vma may
 * be gone, joined to a neighbour.
 */
static int guest_unshare_part(struct vm_area_struct *vma, unsigned long start,
			      unsigned long end)
{
	int ret;

	start = max(vma->vm_start, round_down(start, PMD_SIZE));
	end = min(vma->vm_end, round_up(end, PMD_SIZE));
	ret = guest_isolate(vma, start, end);
	if (ret)
		return ret;
	guest_unshare(vma);
	guest_rejoin(vma);
	return 0;
}

static int guest_cut(struct mm_struct *mm, unsigned long addr)
{
	struct vm_area_struct *vma = vma_lookup(mm, addr);
	int ret;

	if (!vma || !vma_is_ptshare(vma) || IS_ALIGNED(addr, PMD_SIZE))
		return 0;
	ret = guest_unshare_part(vma, addr, addr + 1);
	if (ret != -ENOMEM)
		return ret;
	/* Who is at the limit of mappings can still have less: all of it needs no split. */
	vma = vma_lookup(mm, addr);
	return guest_unshare_part(vma, vma->vm_start, vma->vm_end);
}

int __ptshare_cut(struct mm_struct *mm, unsigned long start, unsigned long end)
{
	int ret;

	mmap_assert_write_locked(mm);
	ret = guest_cut(mm, start);
	return ret ?: guest_cut(mm, end);
}

int __ptshare_unshare(struct mm_struct *mm, unsigned long start,
		      unsigned long end)
{
	struct vm_area_struct *vma;
	unsigned long addr = start;
	int ret;

	mmap_assert_write_locked(mm);
	end = min(end, TASK_SIZE_MAX);
	while ((vma = find_vma_intersection(mm, addr, end))) {
		addr = vma->vm_end;
		if (!vma_is_ptshare(vma))
			continue;
		ret = guest_unshare_part(vma, max(start, vma->vm_start),
					 min(end, vma->vm_end));
		if (ret)
			return ret;
	}
	return 0;
}

/*
 * All of @mm, for a caller who may be amid a change of its VMA tree: none is split
 * or joined. What has been closed already is in the tree a little longer.
 */
void __ptshare_unshare_whole(struct mm_struct *mm)
{
	VMA_ITERATOR(vmi, mm, 0);
	struct vm_area_struct *vma;

	mmap_assert_write_locked(mm);
	for_each_vma(vmi, vma)
		if (vma_is_ptshare(vma) && vma->vm_ops == &ptshare_vm_ops)
			guest_unshare(vma);
}

int __ptshare_before_mprotect(struct mm_struct *mm, unsigned long start,
			      unsigned long end, unsigned long prot, int pkey)
{
	/* Execute-only memory is made by a key as well. */
	if (pkey > 0 || (prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) == PROT_EXEC)
		return __ptshare_unshare(mm, start, end);
	return __ptshare_cut(mm, start, end);
}

int __ptshare_before_madvise(struct mm_struct *mm, unsigned long start,
			     unsigned long end, int behavior)
{
	switch (behavior) {
	case MADV_PTSHARE:
	case MADV_NOPTSHARE:
		return 0;
	case MADV_HUGEPAGE:
		/* Huge entries are not for tables of others. */
		return __ptshare_unshare(mm, start, end);
	default:
		return __ptshare_cut(mm, start, end);
	}
}

int __ptshare_before_collapse(struct mm_struct *mm, unsigned long start,
			      unsigned long len, int behavior)
{
	int ret;

	if (behavior != MADV_COLLAPSE)
		return 0;
	if (mmap_write_lock_killable(mm))
		return -EINTR;
	start = untagged_addr_remote(mm, start);
	ret = __ptshare_unshare(mm, start, start + len);
	mmap_write_unlock(mm);
	return ret;
}

const struct vm_operations_struct *
__ptshare_ops(const struct vm_area_struct *vma)
{
	return ptshare_guest(vma)->ops;
}

bool __ptshare_has_others(const struct vm_area_struct *vma,
			  unsigned long address)
{
	const struct ptshare_guest *guest = ptshare_guest(vma);
	const unsigned long at = ptshare_host_address(guest, address);
	const struct ptshare_guest *other;
	bool found = false;

	/* Called for each entry, with its table locked: no long walk. */
	if (READ_ONCE(guest->host->nr_guests) > PTSHARE_MANY)
		return true;
	rcu_read_lock();
	list_for_each_entry_rcu(other, &guest->host->guests, link) {
		found = other != guest && at >= other->host_start &&
			at < ptshare_host_address(other, other->end);
		if (found)
			break;
	}
	rcu_read_unlock();
	return found;
}

unsigned long __ptshare_mm_pages(const struct mm_struct *mm)
{
	const struct ptshare_guest *guest;
	unsigned long links = 0;

	rcu_read_lock();
	hash_for_each_possible_rcu(ptshare_guests, guest, hash,
				   (unsigned long)mm) {
		if (guest->mm == mm)
			links += atomic_long_read(&guest->links);
	}
	rcu_read_unlock();
	return links * PTRS_PER_PTE;
}

unsigned long ptshare_pages(void)
{
	return atomic_long_read(&ptshare_nr_links) * PTRS_PER_PTE;
}

static int advise_share(struct vm_area_struct *vma, unsigned long start,
			unsigned long end)
{
	int ret;

	if (vma_is_ptshare(vma))
		return 0;
	if (!ptshare_may_madvise() || !guest_suits(vma) ||
	    !guest_units(vma, &start, &end))
		return -EINVAL;
	ret = guest_isolate(vma, start, end);
	return ret ?: guest_share(vma);
}

/**
 * ptshare_madvise - MADV_PTSHARE and MADV_NOPTSHARE for one VMA
 * @vma: The VMA.
 * @prev: The last VMA of the range, when it is done.
 * @start: First address, in @vma.
 * @end: Address after the last, in @vma or its end.
 * @behavior: Which of both.
 *
 * Context: mmap_lock held for writing. Return: 0, -EINVAL, -ENOMEM.
 */
int ptshare_madvise(struct vm_area_struct *vma, struct vm_area_struct **prev,
		    unsigned long start, unsigned long end, int behavior)
{
	struct mm_struct *mm = vma->vm_mm;
	int ret;

	if (behavior == MADV_PTSHARE)
		ret = advise_share(vma, start, end);
	else
		ret = ptshare_unshare(mm, start, end);
	*prev = vma_lookup(mm, end - 1);
	return ret == -ENOMEM ? -EAGAIN : ret;
}

/* Huge pages need fewer tables than can be saved by sharing them. */
static bool guest_gets_huge(struct vm_area_struct *vma)
{
	return shmem_allowable_huge_orders(file_inode(vma->vm_file), vma,
					   vma->vm_pgoff, 0, false) &
	       BIT(PMD_ORDER);
}

/* System V counts the VMAs of a segment: who looks would see that it was cut. */
static bool guest_shows_cut(struct vm_area_struct *vma, unsigned long start,
			    unsigned long end)
{
	return vma_is_sysvshm(vma) &&
	       (start != vma->vm_start || end != vma->vm_end);
}

/* A mapping that does not suit stays as it is, and nobody is told. */
void __ptshare_mmap(struct mm_struct *mm, unsigned long start,
		    unsigned long len)
{
	struct vm_area_struct *vma;
	unsigned long end = start + len;

	if (!ptshare_always())
		return;
	vma = vma_lookup(mm, start);
	if (vma && !vma_is_ptshare(vma) && guest_suits(vma) &&
	    !guest_gets_huge(vma) && guest_units(vma, &start, &end) &&
	    !guest_shows_cut(vma, start, end) &&
	    !guest_isolate(vma, start, end))
		guest_share(vma);
}

bool __ptshare_aligns(struct file *file, unsigned long addr, unsigned long len,
		      unsigned long flags)
{
	if (!ptshare_may_madvise() || addr || len < PMD_SIZE ||
	    !(flags & MAP_SHARED) || (flags & (MAP_HUGETLB | MAP_FIXED)))
		return false;
	return file ? shmem_mapping(file->f_mapping) : true;
}

/* A place where address and offset agree modulo @align, if that is of use; or 0. */
static unsigned long aligned_area(struct file *file, unsigned long len,
				  unsigned long pgoff, unsigned long flags,
				  vm_flags_t vm_flags, unsigned long align)
{
	const unsigned long offset = pgoff << PAGE_SHIFT;
	const unsigned long head = -offset & (align - 1);
	unsigned long addr, shift;

	if (len < head || len - head < align || len + align < len)
		return 0;
	addr = mm_get_unmapped_area_vmflags(current->mm, file, 0, len + align,
					    pgoff, flags, vm_flags);
	if (IS_ERR_VALUE(addr))
		return 0;
	shift = (offset - addr) & (align - 1);
	/* Searched from the top: leave below what is too much. */
	if (!shift && test_bit(MMF_TOPDOWN, &current->mm->flags))
		shift = align;
	return addr + shift;
}

unsigned long ptshare_get_unmapped_area(struct file *file, unsigned long len,
					unsigned long pgoff,
					unsigned long flags,
					vm_flags_t vm_flags)
{
	unsigned long addr = 0;

	/* 32-bit tasks have few addresses. */
	if (!in_compat_syscall())
		addr = aligned_area(file, len, pgoff, flags, vm_flags, PUD_SIZE) ?:
		       aligned_area(file, len, pgoff, flags, vm_flags, PMD_SIZE);
	return addr ?: mm_get_unmapped_area_vmflags(current->mm, file, 0, len,
						    pgoff, flags, vm_flags);
}
