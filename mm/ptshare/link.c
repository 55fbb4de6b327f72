// SPDX-License-Identifier: GPL-2.0
/*
 * ptshare links: the entries of a guest that point to tables of its host.
 *
 *   process A             process B             host
 *   PMD  RW -----------.  PMD  RO -------.      PMD
 *                       \                 \      |
 *                        `-----------------`-->  PTE table
 *
 * The entries in the table allow whatever some guest may do. What this guest may
 * do is what its own link allows as well: the processor takes the strictest of
 * all levels. PROT_NONE is no link at all.
 *
 * A link is made by the first fault, and goes with the mapping, or by
 * MADV_DONTNEED. It is protected by the PMD lock of the guest, and counted as a
 * page table of nobody but the host.
 */
#include <linux/mm.h>
#include <linux/rmap.h>
#include <asm/tlb.h>

#include "../internal.h"
#include "internal.h"

atomic_long_t ptshare_nr_links;

static pmd_t link_entry(const struct vm_area_struct *vma, struct page *table)
{
	pmdval_t entry = PFN_PHYS(page_to_pfn(table)) | _PAGE_TABLE;

	if (!(vma->vm_flags & VM_WRITE))
		entry &= ~_PAGE_RW;
	if (!(vma->vm_flags & VM_EXEC))
		entry |= _PAGE_NX & __supported_pte_mask;
	return __pmd(entry);
}

/* The table of the host for @address, or NULL. It stays, once it is there. */
static struct page *host_table(struct ptshare_host *host, unsigned long address)
{
	pmd_t *pmdp = mm_find_pmd(host->mm, address);
	pmd_t pmd;

	if (!pmdp)
		return NULL;
	pmd = pmdp_get_lockless(pmdp);
	if (!pmd_present(pmd) || WARN_ON_ONCE(pmd_leaf(pmd)))
		return NULL;
	return pmd_page(pmd);
}

static pmd_t *link_alloc(struct mm_struct *mm, unsigned long address)
{
	p4d_t *p4d = p4d_alloc(mm, pgd_offset(mm, address), address);
	pud_t *pud = p4d ? pud_alloc(mm, p4d, address) : NULL;

	return pud ? pmd_alloc(mm, pud, address) : NULL;
}

/**
 * ptshare_link - link a guest to the table for an address
 * @vma: The guest.
 * @address: The address, in @vma.
 *
 * Context: a fault: VMA lock or mmap_lock held, so that @vma is as it was when
 * other links of it were made, and keeps its host.
 * Return: 0 or VM_FAULT_OOM.
 */
vm_fault_t ptshare_link(struct vm_area_struct *vma, unsigned long address)
{
	struct ptshare_guest *guest = ptshare_guest(vma);
	struct mm_struct *mm = vma->vm_mm;
	struct page *table;
	spinlock_t *ptl;		/* PMD lock */
	pmd_t *pmd;

	table = host_table(guest->host, ptshare_host_address(guest, address));
	/* The fault has made no entry, or not yet: it will come again. */
	if (!table)
		return 0;
	pmd = link_alloc(mm, address);
	if (!pmd)
		return VM_FAULT_OOM;
	ptl = pmd_lock(mm, pmd);
	if (pmd_none(*pmd)) {
		/* The table's content before the link: as in pmd_install(). */
		smp_wmb();
		set_pmd(pmd, link_entry(vma, table));
		atomic_long_inc(&guest->links);
		atomic_long_inc(&ptshare_nr_links);
	} else {
		WARN_ON_ONCE(pmd_leaf(*pmd) || pmd_page(*pmd) != table);
	}
	spin_unlock(ptl);
	return 0;
}

/* Where the next entry may be if there is no directory for @addr. */
static unsigned long next_directory(unsigned long addr)
{
	return (addr & PUD_MASK) + PUD_SIZE;
}

/* Clear one link. Return: was there one? */
static bool unlink_one(struct vm_area_struct *vma, pmd_t *pmd)
{
	spinlock_t *ptl = pmd_lock(vma->vm_mm, pmd);
	bool present = !pmd_none(*pmd);

	if (present) {
		pmd_clear(pmd);
		atomic_long_dec(&ptshare_guest(vma)->links);
		atomic_long_dec(&ptshare_nr_links);
	}
	spin_unlock(ptl);
	return present;
}

/**
 * ptshare_unmap - drop links of a guest
 * @tlb: Gathers the flush.
 * @vma: The guest.
 * @start: First address.
 * @end: Address after the last.
 *
 * Entries of the host stay: they are not ours. A unit that is only in part within
 * the range keeps its link: MADV_DONTNEED on shared memory has no effect that
 * could be seen in its content.
 *
 * The flush covers all pages, since the entries below were small ones, and says
 * that tables have been freed: a CPU that is lazily in this mm must not walk
 * through a link it remembers when the host frees them.
 */
void ptshare_unmap(struct mmu_gather *tlb, struct vm_area_struct *vma,
		   unsigned long start, unsigned long end)
{
	unsigned long addr = round_up(start, PMD_SIZE);

	end = round_down(end, PMD_SIZE);
	while (addr < end) {
		pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);

		if (!pmd) {
			addr = next_directory(addr);
			continue;
		}
		if (unlink_one(vma, pmd)) {
			tlb_flush_pte_range(tlb, addr, PMD_SIZE);
			tlb->freed_tables = 1;
		}
		addr += PMD_SIZE;
	}
	cond_resched();
}

/**
 * ptshare_protect - let the links of a guest say what its VMA says
 * @tlb: Gathers the flush.
 * @vma: The guest; its flags have been changed.
 * @start: First address.
 * @end: Address after the last.
 * @cp_flags: MM_CP_*.
 *
 * A hint of NUMA balancing is not given: it would be one for all mappers.
 * Permissions that were added are flushed like those that were taken: a stale
 * no-execute bit is a SIGSEGV.
 *
 * Context: mmap_lock held for writing; the gathered flush comes before it is
 * dropped. Return: pages covered.
 */
long ptshare_protect(struct mmu_gather *tlb, struct vm_area_struct *vma,
		     unsigned long start, unsigned long end,
		     unsigned long cp_flags)
{
	const bool accessible = vma_is_accessible(vma);
	unsigned long addr = start;
	long pages = 0;

	if (cp_flags & MM_CP_PROT_NUMA)
		return 0;
	if (!accessible) {
		ptshare_unmap(tlb, vma, start, end);
		return (end - start) >> PAGE_SHIFT;
	}
	while (addr < end) {
		pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);
		spinlock_t *ptl;	/* PMD lock */

		if (!pmd) {
			addr = next_directory(addr);
			continue;
		}
		ptl = pmd_lock(vma->vm_mm, pmd);
		if (!pmd_none(*pmd)) {
			set_pmd(pmd, link_entry(vma, pmd_page(*pmd)));
			tlb_flush_pte_range(tlb, addr, PMD_SIZE);
			pages += PMD_SIZE >> PAGE_SHIFT;
		}
		spin_unlock(ptl);
		addr += PMD_SIZE;
	}
	return pages;
}

unsigned long __ptshare_shared(struct vm_area_struct *vma)
{
	unsigned long addr = vma->vm_start, bytes = 0;

	while (addr < vma->vm_end) {
		pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);

		if (!pmd) {
			addr = next_directory(addr);
			continue;
		}
		if (!pmd_none(pmdp_get_lockless(pmd)))
			bytes += PMD_SIZE;
		addr += PMD_SIZE;
	}
	return bytes;
}
