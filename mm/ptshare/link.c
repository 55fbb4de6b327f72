// SPDX-License-Identifier: GPL-2.0
/*
 * ptshare links: the entries of a guest that point to tables of its host.
 *
 *   process A             process B             process C             host
 *   PUD                   PUD                   PUD  RW ----------.   PUD
 *    |                     |                                       \   |
 *   PMD  RW -----------.  PMD  RO -------.                          `> PMD table
 *                       \                 \                            |
 *                        `-----------------`-------------------------> PTE table
 *
 * The entries in the table allow whatever some guest may do. What this guest may
 * do is what its own link allows as well: the processor takes the strictest of
 * all levels. PROT_NONE is no link at all.
 *
 * A link is made by the first fault, and goes with the mapping. It is counted as
 * a page table of nobody but the host.
 *
 * A link of a unit is a PMD entry, protected by the PMD lock of the guest. It
 * points to a PTE table, and MADV_DONTNEED may drop it.
 *
 * A link of a directory is a PUD entry, protected by the guest's page_table_lock.
 * It points to a PMD table: the PMD lock, and all entries below, are the host's.
 * It is made where one VMA covers the whole directory, aligned to it in the
 * address space and in the file, and is there no longer than that: may_split()
 * drops it, and the next faults link units. What walks the page tables of a guest
 * relies on it that a PMD table cannot go away, and reads the PUD entry twice
 * (walk_pmd_range(), follow_pmd_mask()). Therefore such a link is dropped only
 * where the kernel could free a PMD table, too: mmap_lock and VMA are locked for
 * writing, or the VMA is detached, or its address space ends. MADV_DONTNEED does
 * not.
 *
 * A PMD table of the guest's own never gives way to a link: tables that a mapping
 * had are freed before it becomes a guest, and no guest grows.
 */
#include <linux/mm.h>
#include <linux/rmap.h>
#include <asm/tlb.h>

#include "../internal.h"
#include "internal.h"

atomic_long_t ptshare_nr_links;

/* The bits by which a link in @vma differs from a table of its own. */
static unsigned long link_flags(const struct vm_area_struct *vma)
{
	unsigned long flags = _PAGE_TABLE;

	if (!(vma->vm_flags & VM_WRITE))
		flags &= ~_PAGE_RW;
	if (!(vma->vm_flags & VM_EXEC))
		flags |= _PAGE_NX & __supported_pte_mask;
	return flags;
}

static pmd_t link_pmd(const struct vm_area_struct *vma, struct page *table)
{
	return __pmd(PFN_PHYS(page_to_pfn(table)) | link_flags(vma));
}

static pud_t link_pud(const struct vm_area_struct *vma, struct page *directory)
{
	return __pud(PFN_PHYS(page_to_pfn(directory)) | link_flags(vma) |
		     PTSHARE_PUD_LINK);
}

static void count_links(const struct vm_area_struct *vma, long units)
{
	atomic_long_add(units, &ptshare_guest(vma)->links);
	atomic_long_add(units, &ptshare_nr_links);
}

/* The PUD entry for @addr, or NULL. */
static pud_t *find_pud(struct mm_struct *mm, unsigned long addr)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;

	if (!pgd_present(*pgd))
		return NULL;
	p4d = p4d_offset(pgd, addr);
	return p4d_present(*p4d) ? pud_offset(p4d, addr) : NULL;
}

/* The PMD table of the host for @address, or NULL. It stays, once it is there. */
static struct page *host_directory(struct ptshare_host *host,
				   unsigned long address)
{
	pud_t *pudp = find_pud(host->mm, address);
	pud_t pud;

	if (!pudp)
		return NULL;
	pud = READ_ONCE(*pudp);
	if (!pud_present(pud) || WARN_ON_ONCE(pud_leaf(pud)))
		return NULL;
	return pud_page(pud);
}

/* The same for the PTE table. */
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

/* Does @vma cover all of the directory that @address is in, aligned to it? */
static bool covers_directory(const struct vm_area_struct *vma,
			     unsigned long address)
{
	const unsigned long start = address & PUD_MASK;

	return vma->vm_start <= start && vma->vm_end - start >= PUD_SIZE &&
	       IS_ALIGNED(ptshare_host_address(ptshare_guest(vma), start),
			  PUD_SIZE);
}

/*
 * Return: is there a link of the directory, or nothing to link to? The fault has
 * made no entry then, or not yet: it will come again.
 */
static bool link_directory(struct vm_area_struct *vma, pud_t *pud,
			   unsigned long address)
{
	struct ptshare_guest *guest = ptshare_guest(vma);
	struct page *directory;
	spinlock_t *ptl;		/* page_table_lock */
	bool linked;

	directory = host_directory(guest->host,
				   ptshare_host_address(guest, address));
	if (!directory)
		return true;
	ptl = pud_lock(vma->vm_mm, pud);
	if (pud_none(*pud)) {
		/* The table's content before the link: as in __pmd_alloc(). */
		smp_wmb();
		set_pud(pud, link_pud(vma, directory));
		count_links(vma, PTRS_PER_PMD);
	}
	linked = ptshare_pud(*pud);
	WARN_ON_ONCE(linked && pud_page(*pud) != directory);
	spin_unlock(ptl);
	return linked;
}

/* Link the unit that @address is in. Return: 0 or VM_FAULT_OOM. */
static vm_fault_t link_unit(struct vm_area_struct *vma, pud_t *pud,
			    unsigned long address)
{
	struct ptshare_guest *guest = ptshare_guest(vma);
	const unsigned long at = ptshare_host_address(guest, address);
	struct mm_struct *mm = vma->vm_mm;
	struct page *table;
	spinlock_t *ptl;		/* PMD lock */
	pmd_t *pmd, entry;
	bool made;

	table = host_table(guest->host, at);
	if (!table)
		return 0;
	pmd = pmd_alloc(mm, pud, address);
	if (!pmd)
		return VM_FAULT_OOM;
	/* As a rule. If it goes just now, the fault comes again. */
	entry = pmdp_get_lockless(pmd);
	if (!pmd_none(entry)) {
		WARN_ON_ONCE(pmd_leaf(entry) || pmd_page(entry) != table);
		return 0;
	}
	if (!ptshare_fence_enter(guest->host, at))
		return VM_FAULT_OOM;
	ptl = pmd_lock(mm, pmd);
	made = pmd_none(*pmd);
	if (made) {
		/* The table's content before the link: as in pmd_install(). */
		smp_wmb();
		set_pmd(pmd, link_pmd(vma, table));
		count_links(vma, 1);
	} else {
		WARN_ON_ONCE(pmd_leaf(*pmd) || pmd_page(*pmd) != table);
	}
	spin_unlock(ptl);
	if (!made)
		ptshare_fence_leave(guest->host, at);
	return 0;
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
	struct mm_struct *mm = vma->vm_mm;
	p4d_t *p4d = p4d_alloc(mm, pgd_offset(mm, address), address);
	pud_t *pud = p4d ? pud_alloc(mm, p4d, address) : NULL;
	const bool covered = covers_directory(vma, address);

	if (!pud)
		return VM_FAULT_OOM;
	if (ptshare_pud(READ_ONCE(*pud))) {
		/* Of another VMA? To go below would be to change its host. */
		return WARN_ON_ONCE(!covered) ? VM_FAULT_SIGBUS : 0;
	}
	if (covered && link_directory(vma, pud, address))
		return 0;
	return link_unit(vma, pud, address);
}

/* What is to be done to each link of a range. */
struct link_walk {
	struct vm_area_struct *vma;
	struct mmu_gather *tlb;		/* gathers the flush; may be NULL */
	unsigned long bytes;		/* covered by links that were found */
	void (*directory)(struct link_walk *walk, pud_t *pud,
			  unsigned long addr);
	void (*unit)(struct link_walk *walk, pmd_t *pmd, unsigned long addr);
};

/*
 * Context: mmap_lock held, or nobody else can. What is found may be gone when it
 * is locked, but for a link of a directory.
 */
static void walk_links(struct link_walk *walk, unsigned long addr,
		       unsigned long end)
{
	unsigned long next;

	for (; addr < end; addr = next) {
		pud_t *pud = find_pud(walk->vma->vm_mm, addr);
		pud_t entry = pud ? READ_ONCE(*pud) : __pud(0);
		pmd_t *pmd;

		next = pud_addr_end(addr, end);
		cond_resched();
		if (pud_none(entry))
			continue;
		if (ptshare_pud(entry)) {
			walk->directory(walk, pud, addr & PUD_MASK);
			continue;
		}
		pmd = pmd_offset(pud, addr);
		for (; addr < next; pmd++, addr += PMD_SIZE)
			if (!pmd_none(pmdp_get_lockless(pmd)))
				walk->unit(walk, pmd, addr);
	}
}

/*
 * The flush covers all pages, since the entries below were small ones, and says
 * that tables have been freed: a CPU that is lazily in this mm must not walk
 * through a link it remembers when the host frees them.
 */
static void flush_unlinked(struct mmu_gather *tlb, unsigned long addr,
			   unsigned long size)
{
	tlb_flush_pte_range(tlb, addr, size);
	tlb->freed_tables = 1;
}

static void unlink_directory(struct link_walk *walk, pud_t *pud,
			     unsigned long addr)
{
	spinlock_t *ptl = pud_lock(walk->vma->vm_mm, pud);

	pud_clear(pud);
	spin_unlock(ptl);
	count_links(walk->vma, -PTRS_PER_PMD);
	flush_unlinked(walk->tlb, addr, PUD_SIZE);
}

static void keep_directory(struct link_walk *walk, pud_t *pud,
			   unsigned long addr)
{
}

static void unlink_unit(struct link_walk *walk, pmd_t *pmd, unsigned long addr)
{
	spinlock_t *ptl = pmd_lock(walk->vma->vm_mm, pmd);
	bool present = !pmd_none(*pmd);

	if (present)
		pmd_clear(pmd);
	spin_unlock(ptl);
	if (!present)
		return;
	ptshare_fence_leave(ptshare_guest(walk->vma)->host,
			    ptshare_host_address(ptshare_guest(walk->vma), addr));
	count_links(walk->vma, -1);
	flush_unlinked(walk->tlb, addr, PMD_SIZE);
}

/**
 * ptshare_unmap - drop links of a guest
 * @tlb: Gathers the flush.
 * @vma: The guest.
 * @start: First address.
 * @end: Address after the last.
 * @details: What zapping has been told, or NULL.
 *
 * Entries of the host stay: they are not ours. A unit that is only in part within
 * the range keeps its link, and so does a directory if the mapping stays:
 * MADV_DONTNEED on shared memory has no effect that could be seen in its content.
 */
void ptshare_unmap(struct mmu_gather *tlb, struct vm_area_struct *vma,
		   unsigned long start, unsigned long end,
		   const struct zap_details *details)
{
	const bool final = details && (details->zap_flags & ZAP_FLAG_UNMAP);
	struct link_walk walk = {
		.vma = vma,
		.tlb = tlb,
		.directory = final ? unlink_directory : keep_directory,
		.unit = unlink_unit,
	};

	walk_links(&walk, round_up(start, PMD_SIZE), round_down(end, PMD_SIZE));
}

static void unlink_and_flush(struct vm_area_struct *vma, unsigned long start,
			     unsigned long end)
{
	struct mmu_gather tlb;
	struct link_walk walk = {
		.vma = vma,
		.tlb = &tlb,
		.directory = unlink_directory,
		.unit = unlink_unit,
	};

	mmap_assert_write_locked(vma->vm_mm);
	vma_start_write(vma);
	tlb_gather_mmu(&tlb, vma->vm_mm);
	walk_links(&walk, start, end);
	tlb_finish_mmu(&tlb);
}

/*
 * Drop all links of @vma. Context: mmap_lock held for writing; takes the VMA lock.
 */
void ptshare_unlink(struct vm_area_struct *vma)
{
	unlink_and_flush(vma, vma->vm_start, vma->vm_end);
}

/*
 * Drop the link of the directory that is to be split at @addr. Context: the same.
 */
void ptshare_before_split(struct vm_area_struct *vma, unsigned long addr)
{
	const unsigned long start = addr & PUD_MASK;
	pud_t *pud = find_pud(vma->vm_mm, addr);

	if (start != addr && pud && ptshare_pud(READ_ONCE(*pud)))
		unlink_and_flush(vma, start, start + PUD_SIZE);
}

static void protect_directory(struct link_walk *walk, pud_t *pud,
			      unsigned long addr)
{
	spinlock_t *ptl = pud_lock(walk->vma->vm_mm, pud);

	set_pud(pud, link_pud(walk->vma, pud_page(*pud)));
	spin_unlock(ptl);
	tlb_flush_pte_range(walk->tlb, addr, PUD_SIZE);
	walk->bytes += PUD_SIZE;
}

static void protect_unit(struct link_walk *walk, pmd_t *pmd, unsigned long addr)
{
	spinlock_t *ptl = pmd_lock(walk->vma->vm_mm, pmd);

	if (!pmd_none(*pmd)) {
		set_pmd(pmd, link_pmd(walk->vma, pmd_page(*pmd)));
		tlb_flush_pte_range(walk->tlb, addr, PMD_SIZE);
		walk->bytes += PMD_SIZE;
	}
	spin_unlock(ptl);
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
 * Context: mmap_lock and VMA locked for writing; the gathered flush comes before
 * they are dropped. Return: pages covered.
 */
long ptshare_protect(struct mmu_gather *tlb, struct vm_area_struct *vma,
		     unsigned long start, unsigned long end,
		     unsigned long cp_flags)
{
	struct link_walk walk = { .vma = vma, .tlb = tlb };

	if (cp_flags & MM_CP_PROT_NUMA)
		return 0;
	if (vma_is_accessible(vma)) {
		walk.directory = protect_directory;
		walk.unit = protect_unit;
	} else {
		walk.directory = unlink_directory;
		walk.unit = unlink_unit;
		walk.bytes = end - start;
	}
	walk_links(&walk, start, end);
	return walk.bytes >> PAGE_SHIFT;
}

static void count_directory(struct link_walk *walk, pud_t *pud,
			    unsigned long addr)
{
	walk->bytes += PUD_SIZE;
}

static void count_unit(struct link_walk *walk, pmd_t *pmd, unsigned long addr)
{
	walk->bytes += PMD_SIZE;
}

unsigned long __ptshare_shared(struct vm_area_struct *vma)
{
	struct link_walk walk = {
		.vma = vma,
		.directory = count_directory,
		.unit = count_unit,
	};

	walk_links(&walk, vma->vm_start, vma->vm_end);
	return walk.bytes;
}
