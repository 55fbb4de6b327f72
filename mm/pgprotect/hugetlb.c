// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect arming of hugetlbfs: as in arm.c, for entries that the page walker
 * cannot be used for. It takes the hugetlb VMA lock, which is outside of
 * i_mmap_rwsem. The latter alone is enough: page tables are unshared and freed
 * only by who holds it for writing, and shared by who holds it for reading. It is
 * held for writing here, lest a process come to share a table after its own
 * mapping was walked, and cache an entry before that of the others is.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmu_notifier.h>
#include <linux/swapops.h>
#include <asm/tlbflush.h>

#include "internal.h"

/* Return: is there anything to flush? */
static bool arm_huge_pte(struct vm_area_struct *vma, struct hstate *h,
			 unsigned long addr, pte_t *ptep)
{
	struct mm_struct *mm = vma->vm_mm;
	spinlock_t *ptl = huge_pte_lock(h, mm, ptep);
	pte_t pte = huge_ptep_get(mm, addr, ptep);
	bool present = false;

	if (is_hugetlb_entry_migration(pte)) {
		swp_entry_t entry = pte_to_swp_entry(pte);
		pte_t new;

		if (is_writable_migration_entry(entry) &&
		    pgprotect_fixed(PGPROTECT_FIX_MIGRATION)) {
			entry = make_readable_migration_entry(swp_offset(entry));
			new = swp_entry_to_pte(entry);
			if (pte_swp_soft_dirty(pte))
				new = pte_swp_mksoft_dirty(new);
			if (pte_swp_uffd_wp(pte))
				new = pte_swp_mkuffd_wp(new);
			set_huge_pte_at(mm, addr, ptep, new, huge_page_size(h));
		}
	} else if (pte_present(pte)) {
		/*
		 * Where processes share the table, another's walk may have
		 * cleared the bit: what this one has cached is still to be
		 * flushed.
		 */
		present = true;
		if (huge_pte_write(pte))
			huge_ptep_set_wrprotect(mm, addr, ptep);
	}
	spin_unlock(ptl);
	return present;
}

static void arm_huge_range(struct vm_area_struct *vma, unsigned long start,
			   unsigned long end, struct pgprotect_arm_walk *aw)
{
	struct hstate *h = hstate_vma(vma);
	unsigned long size = huge_page_size(h);
	unsigned long addr;

	for (addr = start; addr < end; addr += size) {
		bool wanted;
		pte_t *ptep;

		rcu_read_lock();
		wanted = pgprotect_ranges_test(aw->ranges,
					       linear_page_index(vma, addr));
		rcu_read_unlock();
		ptep = wanted ? hugetlb_walk(vma, addr, size) : NULL;
		if (!ptep)
			continue;
		aw->res->nr_tables++;
		if (arm_huge_pte(vma, h, addr, ptep)) {
			aw->flush_start = min(aw->flush_start, addr);
			aw->flush_end = max(aw->flush_end, addr + size);
		}
		cond_resched();
	}
}

static void arm_huge_vma(struct vm_area_struct *vma, unsigned long start,
			 unsigned long end, struct pgprotect_arm_walk *aw)
{
	struct mm_struct *mm = vma->vm_mm;

	aw->flush_start = end;
	aw->flush_end = start;
	mmu_notifier_range_init(&aw->range, MMU_NOTIFY_PROTECTION_PAGE, 0, mm,
				start, end);
	adjust_range_if_pmd_sharing_possible(vma, &aw->range.start,
					     &aw->range.end);
	mmu_notifier_invalidate_range_start(&aw->range);
	inc_tlb_flush_pending(mm);
	arm_huge_range(vma, start, end, aw);
	/* Somebody else's flush is pending: do not trust what was read. */
	if (mm_tlb_flush_nested(mm) && pgprotect_fixed(PGPROTECT_FIX_FLUSH)) {
		aw->flush_start = start;
		aw->flush_end = end;
	}
	if (aw->flush_start < aw->flush_end) {
		flush_hugetlb_tlb_range(vma, aw->flush_start, aw->flush_end);
		aw->res->nr_flushes++;
	}
	mmu_notifier_invalidate_range_end(&aw->range);
	dec_tlb_flush_pending(mm);
}

/**
 * pgprotect_arm_huge - write-protect the entries of a file of hugetlbfs
 * @mapping: The file's.
 * @first: First page of the span of what is to be armed.
 * @last: Its last page.
 * @aw: What is to be armed, and where to count.
 *
 * Context: sleeps.
 */
void pgprotect_arm_huge(struct address_space *mapping, pgoff_t first,
			pgoff_t last, struct pgprotect_arm_walk *aw)
{
	struct vm_area_struct *vma;

	/*
	 * Where there is no table no lock is taken. A fault holds the lock of its
	 * table from its filter to the entry, which is an RCU read-side section:
	 * what it made, with the state of before, is found after this.
	 */
	synchronize_rcu_expedited();
	i_mmap_lock_write(mapping);
	vma_interval_tree_foreach(vma, &mapping->i_mmap, first, last) {
		pgoff_t from = max(first, vma->vm_pgoff);
		pgoff_t to = min(last, vma->vm_pgoff + vma_pages(vma) - 1);
		bool wanted;

		rcu_read_lock();
		wanted = (vma->vm_flags & VM_SHARED) &&
			 pgprotect_ranges_intersects(aw->ranges, from, to);
		rcu_read_unlock();
		if (wanted)
			arm_huge_vma(vma,
				     vma->vm_start + ((from - vma->vm_pgoff) << PAGE_SHIFT),
				     vma->vm_start + ((to + 1 - vma->vm_pgoff) << PAGE_SHIFT),
				     aw);
	}
	i_mmap_unlock_write(mapping);
}

/**
 * pgprotect_await_huge_fills - wait for fills that may have missed a publication
 * @mapping: The file's.
 * @first: First page.
 * @last: Last page.
 *
 * UFFDIO_COPY filters and adds its page under the fault mutex. Context: sleeps.
 */
void pgprotect_await_huge_fills(struct address_space *mapping, pgoff_t first,
				pgoff_t last)
{
	struct hstate *h = hstate_inode(mapping->host);
	loff_t end = i_size_read(mapping->host) >> huge_page_shift(h);
	pgoff_t idx;

	last = min_t(pgoff_t, last >> huge_page_order(h), end - 1);
	for (idx = first >> huge_page_order(h); end && idx <= last; idx++) {
		u32 hash = hugetlb_fault_mutex_hash(mapping, idx);

		mutex_lock(&hugetlb_fault_mutex_table[hash]);
		mutex_unlock(&hugetlb_fault_mutex_table[hash]);
		cond_resched();
	}
}
