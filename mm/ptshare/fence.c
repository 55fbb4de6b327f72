// SPDX-License-Identifier: GPL-2.0
/*
 * ptshare fences: the protection of a unit by one entry of the host's PMD table.
 *
 * Where every guest hangs on the host's PMD table, by a link of the directory, the
 * entries in there are non-leaf entries of them all. PROTECT of a whole unit takes
 * the write bit of its entry, instead of 512 below, and for a whole directory that of
 * 512 entries instead of 262,144. The first write fault pushes
 * the protection down: entries of protected pages become read-only, then the unit
 * gets its write bit back. UNPROTECT leaves the fence; what is pushed down then is
 * nothing.
 *
 *   PMD table of the host			PMD table of the host
 *   | RO |---> PTE table, 512 x RW		| RW |---> PTE table, RO where
 *   | RO |---> PTE table, 512 x RW		| RO |--->	a page is protected
 *        fenced				     the first one pushed down
 *
 * A link of a unit goes past the entry. The directory counts them, under the PMD
 * lock of the host, and is fenced only if there is none:
 *
 *	PROTECT				fault
 *					PMD lock: count the link, push down
 *	PMD lock: there is a link				<- this order
 *	walk the entries
 *					link
 *
 *	PMD lock: no link, fence				<- or this
 *					PMD lock: count the link, push down
 *					link
 *
 * PROTECT has published what is protected before it comes here. Who pushes down
 * after a fence, which the PMD lock says, sees that in the filter.
 *
 *	push-down			PROTECT of more pages
 *	PMD lock
 *	filter: not protected
 *					publish
 *	write bit back
 *	PMD unlock
 *					PMD lock: not fenced: fence, flush
 *
 * Nobody flushes for a push-down. Since the fence was flushed no writable entry
 * of the unit can have come into a TLB; if that flush is still to come, it will do
 * for both.
 *
 * Who goes by the write bit of a leaf looks at the entry above as well. gup_fast
 * reads it before the leaf, and again when it has its reference; the flush waits for
 * it, since it keeps interrupts off:
 *
 *	gup_fast			PROTECT
 *	interrupts off
 *	PMD entry: writable
 *					fence
 *	leaf: writable, take reference
 *	PMD entry: changed, drop it
 *	interrupts on
 *					flush, look for pins
 *
 * Slow GUP looks at it under the page-table lock, an RCU read-side section, in which
 * it takes its reference. PROTECT waits for a grace period between fences and its
 * look for pins: it finds the reference, or GUP finds the fence.
 */
#include <linux/mm.h>
#include <linux/pagewalk.h>
#include <linux/pgprotect.h>
#include <linux/rmap.h>
#include <linux/slab.h>

#include "../internal.h"
#include "internal.h"

static bool fenced(pmd_t pmd)
{
	return pmd_present(pmd) && !pmd_leaf(pmd) && !pmd_write(pmd);
}

/* Atomic: the processor may set the accessed bit. Context: PMD lock of the host. */
static void fence_set(pmd_t *pmd)
{
	clear_bit(_PAGE_BIT_RW, (unsigned long *)pmd);
}

static void fence_clear(pmd_t *pmd)
{
	set_bit(_PAGE_BIT_RW, (unsigned long *)pmd);
}

static struct ptshare_directory *directory_find(struct ptshare_host *host,
						unsigned long address)
{
	return xa_load(&host->directories, address >> PUD_SHIFT);
}

static struct ptshare_directory *directory_get(struct ptshare_host *host,
					       unsigned long address)
{
	struct ptshare_directory *dir = directory_find(host, address), *old;

	if (dir)
		return dir;
	dir = kzalloc(sizeof(*dir), GFP_KERNEL_ACCOUNT);
	if (!dir)
		return NULL;
	old = xa_cmpxchg(&host->directories, address >> PUD_SHIFT, NULL, dir,
			 GFP_KERNEL_ACCOUNT);
	if (!old)
		return dir;
	kfree(dir);
	return xa_is_err(old) ? NULL : old;
}

/**
 * ptshare_fence - protect units by their entries in the host's PMD table
 * @vma: The host's VMA.
 * @pmd: The first entry.
 * @addr: First address, of a unit of the host.
 * @end: Address after the last unit, in the same directory.
 *
 * Context: PROTECT has published all pages; i_mmap_rwsem held, so that the host
 * lives.
 * Return: entries that were writable, and whose TLB entries are to be flushed; -1
 * if tables have to be walked, since some guest goes past these entries.
 */
long ptshare_fence(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr,
		   unsigned long end)
{
	struct ptshare_host *host = vma->vm_private_data;
	spinlock_t *ptl = pmd_lock(vma->vm_mm, pmd);
	struct ptshare_directory *dir = directory_find(host, addr);
	long changed = 0;

	if (dir && dir->units) {
		spin_unlock(ptl);
		return -1;
	}
	for (; addr < end; pmd++, addr += PMD_SIZE) {
		if (pmd_none(*pmd) || fenced(*pmd))
			continue;
		fence_set(pmd);
		changed++;
	}
	spin_unlock(ptl);
	return changed;
}

/* Protect what is protected in the leaf. Context: PMD lock of the host. */
static void push_down_entries(struct vm_area_struct *vma, pmd_t *pmd,
			      unsigned long addr)
{
	spinlock_t *ptl;		/* the table's */
	pte_t *start;

	if (!pgprotect_filter_vma(vma, addr, PTRS_PER_PTE))
		return;
	start = pte_offset_map(pmd, addr);
	if (WARN_ON_ONCE(!start))
		return;
	ptl = pte_lockptr(vma->vm_mm, pmd);
	spin_lock_nested(ptl, SINGLE_DEPTH_NESTING);
	for (pte_t *pte = start; pte < start + PTRS_PER_PTE;
	     pte++, addr += PAGE_SIZE) {
		pte_t entry = ptep_get(pte);

		if (pte_present(entry) && pte_write(entry) &&
		    pgprotect_filter_vma(vma, addr, 1))
			ptep_set_wrprotect(vma->vm_mm, addr, pte);
	}
	spin_unlock(ptl);
	pte_unmap(start);
}

/* Context: PMD lock of the host. */
static void push_down(struct vm_area_struct *vma, pmd_t *pmd,
		      unsigned long addr)
{
	if (!fenced(*pmd))
		return;
	push_down_entries(vma, pmd, addr & PMD_MASK);
	fence_clear(pmd);
}

/**
 * ptshare_push_down - let writes come to the entries of a fenced unit
 * @host: The host.
 * @address: In the unit, in the host.
 *
 * Context: a write fault, past the gate; no lock of the host.
 */
void ptshare_push_down(struct ptshare_host *host, unsigned long address)
{
	pmd_t *pmd = mm_find_pmd(host->mm, address);
	spinlock_t *ptl;	/* PMD lock of the host */

	if (!pmd || !fenced(pmdp_get_lockless(pmd)))
		return;
	ptl = pmd_lock(host->mm, pmd);
	push_down(host->vma, pmd, address);
	spin_unlock(ptl);
}

/**
 * ptshare_fence_enter - a unit is going to be linked past its entry
 * @host: The host.
 * @address: In the unit, in the host.
 *
 * Return: false if there is no memory.
 */
bool ptshare_fence_enter(struct ptshare_host *host, unsigned long address)
{
	struct ptshare_directory *dir = directory_get(host, address);
	pmd_t *pmd = mm_find_pmd(host->mm, address);
	spinlock_t *ptl;	/* PMD lock of the host */

	if (!dir || WARN_ON_ONCE(!pmd))
		return false;
	ptl = pmd_lock(host->mm, pmd);
	dir->units++;
	push_down(host->vma, pmd, address);
	spin_unlock(ptl);
	return true;
}

/* The link is gone, or was not made. Flushed or not: a fence flushes its guest. */
void ptshare_fence_leave(struct ptshare_host *host, unsigned long address)
{
	struct ptshare_directory *dir = directory_find(host, address);
	pmd_t *pmd = mm_find_pmd(host->mm, address);
	spinlock_t *ptl;	/* PMD lock of the host */

	if (WARN_ON_ONCE(!dir || !pmd))
		return;
	ptl = pmd_lock(host->mm, pmd);
	if (!WARN_ON_ONCE(!dir->units))
		dir->units--;
	spin_unlock(ptl);
}

static int unfence_entry(pmd_t *pmd, unsigned long addr, unsigned long next,
			 struct mm_walk *walk)
{
	if (fenced(*pmd))
		fence_clear(pmd);
	return 0;
}

static const struct mm_walk_ops unfence_ops = {
	.pmd_entry	= unfence_entry,
	.walk_lock	= PGWALK_WRLOCK,
};

/*
 * The host ends: who frees its tables takes a fence for a bad entry. Context: no
 * guest, not in i_mmap, mmap_lock of the host.
 */
void ptshare_fence_end(struct ptshare_host *host)
{
	struct ptshare_directory *dir;
	unsigned long index;

	walk_page_vma(host->vma, &unfence_ops, NULL);
	xa_for_each(&host->directories, index, dir)
		kfree(dir);
	xa_destroy(&host->directories);
}
