// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect arming: PROTECT, from the reservation of memory to the pins.
 *
 *   1. Build the sets of pages, unseen. All that can fail for memory fails
 *      here.
 *   2. Publish them: one store for each attachment, under the i_rwsem of all,
 *      held exclusively. A system call that got in before has done its change; one
 *      that comes later sees the set in its filter. The gate is closed to
 *      everybody from here on: att->arming.
 *   3. Write-protect through the reverse map, and flush.
 *   4. Look for pins.
 *   5. Merge the sets into the attachments' own, open the gate.
 *
 * A failure after step 2 drops the sets; entries that lost their write bit
 * cost a fault each and are harmless.
 *
 * Entries. A fault installs its entry under the page-table lock, after its
 * filter looked at the state. The walk takes the same lock, and each orders the
 * other: the walk finds the entry, or the filter sees the set.
 *
 * Empty entries. The walk looks at the entries of directories without their
 * locks. One that it finds empty may be about to be filled, by who has asked the
 * filter already:
 *
 *   fault				PROTECT
 *   page-table lock
 *   filter: not protected
 *					publish
 *					walk: pmd_none(), nothing to do
 *   install a writable huge entry		<- would escape
 *
 * or may have been emptied just now by who holds the lock still: to flush what
 * was cached of it (pmdp_huge_clear_flush()), or to put it where the walk comes
 * next (move_huge_pmd()). Taking the lock that it is filled under waits for all
 * of them. If it is empty still, who fills it later took the lock later, and
 * his filter sees the set; else it is walked now.
 *
 * Copies. ptrace writes through no entry, and holds no lock that the walk takes.
 * It says so, and then asks the filter: see pgprotect_copy_begin(). Who might
 * have missed the set is waited for, by a grace period.
 *
 * Flushes that others deferred. An entry can be gone or read-only while a
 * writable translation is still cached: reclaim clears entries and flushes
 * later (flush_tlb_batched_pending()), mprotect() and zapping gather their
 * flush (mm_tlb_flush_nested()). The walk makes up for both; what is zapped
 * and unlinked so that the walk cannot find it was flushed by its zapper (see
 * pgprotect_filter_flush()).
 */
#include <linux/fs.h>
#include <linux/hugetlb.h>
#include <linux/iopoll.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/pagewalk.h>
#include <linux/ptshare.h>
#include <linux/random.h>
#include <linux/rcupdate_wait.h>
#include <linux/rmap.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/swap.h>
#include <linux/swapops.h>
#include <linux/wait_bit.h>
#include <asm/tlbflush.h>

#include "../internal.h"
#include "internal.h"

#include <trace/events/pgprotect.h>

/* Whether a page from @start to @end is to be armed. */
static bool arm_wanted(struct mm_walk *walk, unsigned long start,
		       unsigned long end)
{
	struct pgprotect_arm_walk *aw = walk->private;
	bool wanted;

	rcu_read_lock();
	wanted = pgprotect_ranges_intersects(aw->ranges,
					     linear_page_index(walk->vma, start),
					     linear_page_index(walk->vma, end - 1));
	rcu_read_unlock();
	return wanted;
}

static void arm_touched(struct pgprotect_arm_walk *aw, unsigned long start,
			unsigned long end)
{
	aw->flush_start = min(aw->flush_start, start);
	aw->flush_end = max(aw->flush_end, end);
}

/*
 * Never stop at a mapping: walk_page_mapping() ends the whole walk when a test
 * says skip, and the next mapping may be the one that matters.
 */
static int arm_test_walk(unsigned long start, unsigned long end,
			 struct mm_walk *walk)
{
	return 0;
}

static int arm_pre_vma(unsigned long start, unsigned long end,
		       struct mm_walk *walk)
{
	struct pgprotect_arm_walk *aw = walk->private;

	aw->skip = !(walk->vma->vm_flags & VM_SHARED) ||
		   !arm_wanted(walk, start, end);
	if (aw->skip)
		return 0;
	aw->flush_start = end;
	aw->flush_end = start;
	mmu_notifier_range_init(&aw->range, MMU_NOTIFY_PROTECTION_PAGE, 0,
				walk->mm, start, end);
	mmu_notifier_invalidate_range_start(&aw->range);
	inc_tlb_flush_pending(walk->mm);
	return 0;
}

static void arm_post_vma(struct mm_walk *walk)
{
	struct pgprotect_arm_walk *aw = walk->private;

	if (aw->skip)
		return;
	/* Somebody else's flush is pending: do not trust what was read. */
	if (mm_tlb_flush_nested(walk->mm) &&
	    pgprotect_fixed(PGPROTECT_FIX_FLUSH))
		arm_touched(aw, aw->range.start, aw->range.end);
	if (aw->flush_start < aw->flush_end) {
		flush_tlb_range(walk->vma, aw->flush_start, aw->flush_end);
		aw->res->nr_flushes++;
	}
	mmu_notifier_invalidate_range_end(&aw->range);
	dec_tlb_flush_pending(walk->mm);
}

/* Are all pages from @start to @end to be armed? */
static bool arm_all_wanted(struct mm_walk *walk, unsigned long start,
			   unsigned long end)
{
	const pgoff_t base = linear_page_index(walk->vma, start);
	const pgoff_t limit = base + ((end - start) >> PAGE_SHIFT) - 1;
	struct pgprotect_arm_walk *aw = walk->private;
	pgoff_t first = base, last = limit;
	bool found;

	rcu_read_lock();
	found = pgprotect_ranges_next_run(aw->ranges, &first, &last);
	rcu_read_unlock();
	return found && first == base && last == limit;
}

/*
 * Page tables that all mappers share: 2 MiB by one entry. Who writes there first
 * does the rest: see mm/ptshare/fence.c. Return: done?
 */
static bool arm_fence(struct mm_walk *walk, pmd_t *pmd, unsigned long addr,
		      unsigned long end)
{
	struct pgprotect_arm_walk *aw = walk->private;
	long changed;

	if (!arm_all_wanted(walk, addr, end))
		return false;
	changed = ptshare_fence(walk->vma, pmd, addr, end);
	if (changed < 0)
		return false;
	if (changed)
		arm_touched(aw, addr, end);
	aw->res->nr_fences += changed;
	aw->res->fenced = true;
	return true;
}

static int arm_pud_entry(pud_t *pud, unsigned long addr, unsigned long end,
			 struct mm_walk *walk)
{
	struct pgprotect_arm_walk *aw = walk->private;

	if (aw->skip || !arm_wanted(walk, addr, end))
		walk->action = ACTION_CONTINUE;
	else if (vma_is_ptshare_host(walk->vma) && end - addr == PUD_SIZE &&
		 arm_fence(walk, pmd_offset(pud, addr), addr, end))
		walk->action = ACTION_CONTINUE;
	return 0;
}

/*
 * A migration entry remembers the write bit. The filter of its removal is what
 * counts; this keeps the entry honest for whoever reads it.
 */
static void arm_migration_pte(struct mm_walk *walk, unsigned long addr,
			      pte_t *ptep, pte_t pte)
{
	swp_entry_t entry = pte_to_swp_entry(pte);
	pte_t new;

	if (!is_writable_migration_entry(entry) ||
	    !pgprotect_fixed(PGPROTECT_FIX_MIGRATION))
		return;
	entry = make_readable_migration_entry(swp_offset(entry));
	new = swp_entry_to_pte(entry);
	if (pte_swp_soft_dirty(pte))
		new = pte_swp_mksoft_dirty(new);
	if (pte_swp_uffd_wp(pte))
		new = pte_swp_mkuffd_wp(new);
	set_pte_at(walk->mm, addr, ptep, new);
}

static void arm_ptes(struct mm_walk *walk, pte_t *ptep, unsigned long addr,
		     unsigned long end)
{
	unsigned long first = end, last = addr;	/* what has lost its write bit */

	for (; addr < end; ptep++, addr += PAGE_SIZE) {
		pte_t pte = ptep_get(ptep);

		if (pte_present(pte)) {
			if (!pte_write(pte))
				continue;
			/* Keeps the dirty bit: it may be the only one. */
			ptep_set_wrprotect(walk->mm, addr, ptep);
			if (first == end)
				first = addr;
			last = addr;
		} else if (!pte_none(pte)) {
			arm_migration_pte(walk, addr, ptep, pte);
		}
	}
	if (first < end)
		arm_touched(walk->private, first, last + PAGE_SIZE);
}

static void arm_pte_table(struct mm_walk *walk, pmd_t *pmd, unsigned long addr,
			  unsigned long end)
{
	const pgoff_t base = linear_page_index(walk->vma, addr);
	const pgoff_t limit = base + ((end - addr) >> PAGE_SHIFT) - 1;
	struct pgprotect_arm_walk *aw = walk->private;
	pgoff_t first = base, last = limit;
	spinlock_t *ptl;		/* the table's */
	pte_t *start;

	start = pte_offset_map_lock(walk->mm, pmd, addr, &ptl);
	if (!start) {
		walk->action = ACTION_AGAIN;
		return;
	}
	if (pgprotect_fixed(PGPROTECT_FIX_FLUSH))
		flush_tlb_batched_pending(walk->mm);
	rcu_read_lock();
	while (first <= limit &&
	       pgprotect_ranges_next_run(aw->ranges, &first, &last)) {
		arm_ptes(walk, start + (first - base),
			 addr + ((first - base) << PAGE_SHIFT),
			 addr + ((last + 1 - base) << PAGE_SHIFT));
		first = last + 1;
		last = limit;
	}
	rcu_read_unlock();
	pte_unmap_unlock(start, ptl);
	aw->res->nr_tables++;
}

/* All of the huge page becomes read-only: its entry has one write bit. */
static void arm_huge_pmd(struct mm_walk *walk, pmd_t *pmd, unsigned long addr)
{
	struct pgprotect_arm_walk *aw = walk->private;

	addr &= HPAGE_PMD_MASK;
	aw->res->nr_tables++;
	if (pmd_present(*pmd)) {
		if (!pmd_write(*pmd))
			return;
		pmdp_set_wrprotect(walk->mm, addr, pmd);
		arm_touched(aw, addr, addr + HPAGE_PMD_SIZE);
	} else if (thp_migration_supported() &&
		   pgprotect_fixed(PGPROTECT_FIX_MIGRATION)) {
		swp_entry_t entry = pmd_to_swp_entry(*pmd);
		pmd_t new;

		if (!is_writable_migration_entry(entry))
			return;
		entry = make_readable_migration_entry(swp_offset(entry));
		new = swp_entry_to_pmd(entry);
		if (pmd_swp_soft_dirty(*pmd))
			new = pmd_swp_mksoft_dirty(new);
		if (pmd_swp_uffd_wp(*pmd))
			new = pmd_swp_mkuffd_wp(new);
		set_pmd_at(walk->mm, addr, pmd, new);
	}
}

static int arm_pmd_entry(pmd_t *pmd, unsigned long addr, unsigned long end,
			 struct mm_walk *walk)
{
	spinlock_t *ptl;	/* of the page directory */

	if (!arm_wanted(walk, addr, end))
		return 0;
	if (vma_is_ptshare_host(walk->vma) && end - addr == PMD_SIZE &&
	    arm_fence(walk, pmd, addr, end))
		return 0;
	ptl = pmd_trans_huge_lock(pmd, walk->vma);
	if (ptl) {
		arm_huge_pmd(walk, pmd, addr);
		spin_unlock(ptl);
	} else {
		arm_pte_table(walk, pmd, addr, end);
	}
	cond_resched();
	return 0;
}

/* Depth of a hole, as the page walker counts. */
enum { ARM_DEPTH_PGD, ARM_DEPTH_P4D, ARM_DEPTH_PUD, ARM_DEPTH_PMD };

/* Is the entry of this depth empty? Tables of directories cannot go meanwhile. */
static bool arm_is_hole(struct mm_struct *mm, unsigned long addr, int depth)
{
	pgd_t *pgd = pgd_offset(mm, addr);
	p4d_t *p4d;
	pud_t *pud;

	if (pgd_none(*pgd))
		return true;
	/* A folded level counts as the one above. */
	if (depth == ARM_DEPTH_PGD && !mm_p4d_folded(mm))
		return false;
	p4d = p4d_offset(pgd, addr);
	if (p4d_none(*p4d))
		return true;
	if (depth <= ARM_DEPTH_P4D && !mm_pud_folded(mm))
		return false;
	pud = pud_offset(p4d, addr);
	if (pud_none(*pud))
		return true;
	if (depth <= ARM_DEPTH_PUD && !mm_pmd_folded(mm))
		return false;
	return pmd_none(*pmd_offset(pud, addr));
}

/* See "Empty entries" above. */
static int arm_hole(unsigned long addr, unsigned long next, int depth,
		    struct mm_walk *walk)
{
	struct pgprotect_arm_walk *aw = walk->private;
	spinlock_t *ptl;	/* under which the entry is filled */

	if (aw->skip || !arm_wanted(walk, addr, next) ||
	    !pgprotect_fixed(PGPROTECT_FIX_HOLE))
		return 0;
	if (depth == ARM_DEPTH_PMD)
		ptl = pmd_lockptr(walk->mm, pmd_off(walk->mm, addr));
	else
		ptl = &walk->mm->page_table_lock;
	for (;;) {
		bool hole;

		spin_lock(ptl);
		hole = arm_is_hole(walk->mm, addr, depth);
		spin_unlock(ptl);
		cond_resched();
		if (hole) {
			walk->action = ACTION_SUBTREE;
			return 0;
		}
		/* Directories stay once they are there: it is begun anew rarely. */
		if (depth != ARM_DEPTH_PMD) {
			aw->again = true;
			return 0;
		}
		walk->action = ACTION_SUBTREE;
		arm_pmd_entry(pmd_off(walk->mm, addr), addr, next, walk);
		if (walk->action != ACTION_AGAIN)
			return 0;
	}
}

static const struct mm_walk_ops arm_walk_ops = {
	.test_walk	= arm_test_walk,
	.pre_vma	= arm_pre_vma,
	.post_vma	= arm_post_vma,
	.pud_entry	= arm_pud_entry,
	.pmd_entry	= arm_pmd_entry,
	.pte_hole	= arm_hole,
};

/*
 * Step 3 for one attachment: every mapping once, every table once, however many
 * ranges there are. The walk goes in the order of the interval tree, as zapping
 * does: a mapping that is being moved is met where it was or where it will be.
 */
static void arm_walk(struct pgprotect_attachment *att,
		     struct pgprotect_arm_result *res)
{
	struct address_space *mapping = att->file->f_mapping;
	struct pgprotect_arm_walk aw = {
		.ranges = &att->armed->ranges,
		.res = res,
	};
	const unsigned int tables = res->nr_tables;

	if (is_file_hugepages(att->file)) {
		pgprotect_arm_huge(mapping, att->arm_first, att->arm_last, &aw);
		return;
	}
	i_mmap_lock_read(mapping);
	do {
		res->nr_tables = tables;
		aw.again = false;
		walk_page_mapping(mapping, att->arm_first,
				  att->arm_last - att->arm_first + 1,
				  &arm_walk_ops, &aw);
	} while (aw.again);
	i_mmap_unlock_read(mapping);
}

/* Add pages to the last run of pins if they continue it, or begin another. */
static void arm_pin(struct pgprotect_arm_result *res, u32 file, pgoff_t first,
		    pgoff_t last)
{
	struct pgprotect_range *run = &res->last_pin;
	u64 offset = (u64)first << PAGE_SHIFT;
	u64 length = (u64)(last - first + 1) << PAGE_SHIFT;

	if (res->nr_pins && run->file == file &&
	    run->offset + run->length == offset) {
		run->length += length;
	} else {
		*run = (struct pgprotect_range) {
			.file = file,
			.offset = offset,
			.length = length,
		};
		res->nr_pins++;
	}
	if (res->nr_pins <= res->max_pins)
		res->pins[res->nr_pins - 1] = *run;
}

/*
 * In the page cache and in page tables, and nowhere else? Says no for large
 * folios, each page of which has a reference of the cache. The folio may be gone.
 */
static bool arm_folio_plain(const struct folio *folio)
{
	return folio_ref_count(folio) == atomic_read(&folio->_mapcount) + 2;
}

/*
 * As folio_maybe_dma_pinned(), but that mappings do not look like pins. The
 * counts may change between their reads, by much less than half of a pin.
 */
static bool arm_folio_pinned(struct folio *folio)
{
	if (folio_test_large(folio))
		return folio_maybe_dma_pinned(folio);
	return folio_ref_count(folio) - folio_mapcount(folio) >=
	       GUP_PIN_COUNTING_BIAS / 2;
}

/*
 * Can any page of the file be pinned? Who pins through page tables says so in
 * mm->flags first, for as long as the mm lives, and a mapping that goes leaves it
 * with the file. Who pins by file, or through shared tables, says it there.
 */
static bool arm_may_have_pins(struct address_space *mapping)
{
	struct vm_area_struct *vma;
	bool found = false;

	/*
	 * Pairs with the reference that GUP takes between saying so and its second
	 * look at the entry: that look sees what step 3 did, or this sees the bit.
	 */
	smp_mb();
	i_mmap_lock_read(mapping);
	vma_interval_tree_foreach(vma, &mapping->i_mmap, 0, ULONG_MAX) {
		found = test_bit(MMF_HAS_PINNED, &vma->vm_mm->flags);
		if (found)
			break;
		cond_resched();
	}
	found = found || test_bit(AS_PGPROTECT_PINNED, &mapping->flags);
	i_mmap_unlock_read(mapping);
	return found;
}

/*
 * Step 4 for one run of pages. Who pinned a page before its entry lost the
 * write bit may change it still; who comes later finds no writable entry, or a
 * fence above it.
 * gup_fast takes its reference with interrupts off and looks at the entry
 * again, so that the flush of step 3 has waited for it. A small page with some
 * hundred references other than by mappings is taken for pinned.
 *
 * Return: -EBUSY as soon as a @strict search has passed the first run.
 */
static int arm_find_pins(struct pgprotect_attachment *att, pgoff_t first,
			 pgoff_t last, bool strict,
			 struct pgprotect_arm_result *res)
{
	XA_STATE(xas, &att->file->f_mapping->i_pages, first);
	struct folio *folio;

	rcu_read_lock();
	xas_for_each(&xas, folio, last) {
		pgoff_t start, end;

		if (xas_retry(&xas, folio))
			continue;
		if (xa_is_value(folio) || arm_folio_plain(folio))
			goto next;
		if (!folio_try_get(folio)) {
			xas_reset(&xas);
			continue;
		}
		if (folio != xas_reload(&xas)) {
			folio_put(folio);
			xas_reset(&xas);
			continue;
		}
		if (arm_folio_pinned(folio)) {
			start = max(folio->index, first);
			end = min(folio_next_index(folio) - 1, last);
			arm_pin(res, att->id, start, end);
		}
		folio_put(folio);
		if (strict && res->nr_pins > 1)
			break;
next:
		if (need_resched()) {
			xas_pause(&xas);
			cond_resched_rcu();
		}
	}
	rcu_read_unlock();
	return strict && res->nr_pins > 1 ? -EBUSY : 0;
}

static int arm_find_pins_of(struct pgprotect_attachment *att, bool strict,
			    struct pgprotect_arm_result *res)
{
	pgoff_t first = 0, last = ULONG_MAX;
	bool found;
	int ret = 0;

	if (!arm_may_have_pins(att->file->f_mapping))
		return 0;
	for (;; first = last + 1, last = ULONG_MAX) {
		rcu_read_lock();
		found = pgprotect_ranges_next_run(&att->armed->ranges, &first,
						  &last);
		rcu_read_unlock();
		if (!found)
			return 0;
		ret = arm_find_pins(att, first, last, strict, res);
		if (ret)
			return ret;
	}
}

/* Steps 3 and 4: all files, then all files again. */
static void arm_files(struct list_head *atts, bool strict,
		      struct pgprotect_arm_result *res)
{
	struct pgprotect_attachment *att;

	list_for_each_entry(att, atts, arm_link)
		arm_walk(att, res);
	/* Pairs with who looks at a fence under the page-table lock: GUP. */
	if (res->fenced)
		synchronize_rcu_expedited();
	list_for_each_entry(att, atts, arm_link)
		if (arm_find_pins_of(att, strict, res))
			break;
}

/* The set that @range's attachment is going to arm; made when first asked. */
static struct pgprotect_set *arm_set(const struct pgprotect_arm_range *range,
				     struct list_head *atts)
{
	struct pgprotect_attachment *att = range->att;

	if (att->armed) {
		att->arm_first = min(att->arm_first, range->first);
		att->arm_last = max(att->arm_last, range->last);
		return att->armed;
	}
	att->arm_first = range->first;
	att->arm_last = range->last;
	att->armed = pgprotect_set_alloc(att->ctx);
	if (att->armed)
		list_add_tail(&att->arm_link, atts);
	return att->armed;
}

/* Step 1. */
static int arm_build(const struct pgprotect_arm_range *ranges, unsigned int nr,
		     struct list_head *atts)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		struct pgprotect_set *set = arm_set(&ranges[i], atts);
		int ret;

		if (!set)
			return -ENOMEM;
		mutex_lock(&set->lock);
		pgprotect_set_limit(set, false);
		ret = pgprotect_ranges_add(&set->ranges, ranges[i].first,
					   ranges[i].last, GFP_KERNEL_ACCOUNT);
		pgprotect_set_account(set);
		mutex_unlock(&set->lock);
		if (ret)
			return ret;
	}
	return 0;
}

static int arm_cmp_inodes(const void *a, const void *b)
{
	const struct inode *x = *(struct inode **)a, *y = *(struct inode **)b;

	return x < y ? -1 : x > y;
}

/* The files of @atts, each once. Return: how many, or -ENOMEM. */
static int arm_inodes(struct list_head *atts, struct inode ***inodes)
{
	unsigned int nr = 0, unique = 0, i;
	struct pgprotect_attachment *att;

	*inodes = kvmalloc_array(list_count_nodes(atts), sizeof(**inodes),
				 GFP_KERNEL_ACCOUNT);
	if (!*inodes)
		return -ENOMEM;
	list_for_each_entry(att, atts, arm_link)
		(*inodes)[nr++] = file_inode(att->file);
	sort(*inodes, nr, sizeof(**inodes), arm_cmp_inodes, NULL);
	for (i = 0; i < nr; i++)
		if (!i || (*inodes)[i] != (*inodes)[i - 1])
			(*inodes)[unique++] = (*inodes)[i];
	return unique;
}

/* Owner and attributes may be others since ATTACH; they change under i_rwsem, too. */
static int arm_may_protect(struct pgprotect_context *ctx,
			   struct list_head *atts)
{
	struct pgprotect_attachment *att;
	int ret = 0;

	list_for_each_entry(att, atts, arm_link)
		ret = ret ?: pgprotect_may_attach(ctx, att->file);
	return ret;
}

/* The lock of @inode and the end of its direct I/O; no other is held. */
static int arm_lock_first(struct inode *inode)
{
	atomic_t *dio = &inode->i_dio_count;

	if (down_write_killable(&inode->i_rwsem))
		return -EINTR;
	if (!wait_var_event_killable(dio, !atomic_read(dio)))
		return 0;
	inode_unlock(inode);
	return -EINTR;
}

/* The same while others are held, for a short time. Return: is it locked? */
static bool arm_lock_more(struct inode *inode)
{
	/* Two that have each other's locks must not step back in step. */
	const u64 limit_us = get_random_u32_inclusive(10000, 30000);
	bool locked;
	int dio;

	if (read_poll_timeout(inode_trylock, locked, locked, 100, limit_us,
			      false, inode))
		return false;
	if (!read_poll_timeout(atomic_read, dio, !dio, 100, limit_us, false,
			       &inode->i_dio_count))
		return true;
	inode_unlock(inode);
	return false;
}

static void arm_unlock_files(struct inode **inodes, int nr)
{
	while (--nr >= 0)
		inode_unlock(inodes[nr]);
}

/* Attempts to lock all files without queueing for more than one. */
#define ARM_LOCK_ATTEMPTS	16

/*
 * There is no order among them: one may be the image of a loop device, and its
 * writers hold the lock of a file on it, or have direct I/O under way there. So
 * none is held while another one is waited for in earnest; the one that did not
 * come is the first to be waited for then.
 *
 * Files whose writers queue all the time do not come so. They are waited for in
 * the order of lock_two_nondirectories(), as nobody can hold two of them the
 * other way round but by a stack that was too busy for all the attempts before.
 */
static int arm_lock_files(struct inode **inodes, int nr, struct mutex *nest)
{
	int i = 0, attempt;

	for (attempt = 0; attempt < ARM_LOCK_ATTEMPTS; attempt++) {
		swap(inodes[0], inodes[i]);
		if (fatal_signal_pending(current) || arm_lock_first(inodes[0]))
			return -EINTR;
		for (i = 1; i < nr && arm_lock_more(inodes[i]); i++)
			;
		if (i == nr)
			return 0;
		arm_unlock_files(inodes, i);
	}
	sort(inodes, nr, sizeof(*inodes), arm_cmp_inodes, NULL);
	for (i = 0; i < nr; i++) {
		down_write_nest_lock(&inodes[i]->i_rwsem, nest);
		inode_dio_wait(inodes[i]);
	}
	return 0;
}

/*
 * Step 2. No set is seen before all locks are held: who reads one of the files
 * may hold its i_rwsem and fault on another, whose gate would be closed until we
 * had his lock. Return: -EINTR if killed; -ENOMEM; or what ATTACH would say now.
 */
static int arm_publish(struct pgprotect_context *ctx, struct list_head *atts)
{
	struct pgprotect_attachment *att;
	struct inode **inodes;
	int nr, ret;

	nr = arm_inodes(atts, &inodes);
	if (nr < 0)
		return nr;
	ret = nr ? arm_lock_files(inodes, nr, &ctx->config) : 0;
	if (ret) {
		kvfree(inodes);
		return ret;
	}
	ret = arm_may_protect(ctx, atts);
	list_for_each_entry(att, atts, arm_link)
		if (!ret)
			rcu_assign_pointer(att->arming, att->armed);
	arm_unlock_files(inodes, nr);
	kvfree(inodes);
	if (ret)
		return ret;
	list_for_each_entry(att, atts, arm_link)
		if (is_file_hugepages(att->file))
			pgprotect_await_huge_fills(att->file->f_mapping,
						   att->arm_first,
						   att->arm_last);
	pgprotect_delay(PGPROTECT_DELAY_CUT);
	return 0;
}

/* Pages of @set below the end of the file that @att does not protect yet. */
static u64 arm_count_new(struct pgprotect_attachment *att,
			 struct pgprotect_set *set)
{
	pgoff_t end = DIV_ROUND_UP_ULL(pgprotect_size(att), PAGE_SIZE);
	pgoff_t first = 0, last = ULONG_MAX;
	u64 pages = 0;

	while (first < end &&
	       pgprotect_ranges_next_run(&set->ranges, &first, &last) &&
	       first < end) {
		last = min(last, end - 1);
		pages += last - first + 1 -
			 pgprotect_ranges_weight(&att->set->ranges, first, last);
		first = last + 1;
		last = ULONG_MAX;
	}
	return pages;
}

/*
 * Step 5. Nothing can be undone any more, so the merge must not fail; it needs
 * a few small objects at the edges of the ranges. If it does, the gate stays
 * closed.
 */
static void arm_commit(struct list_head *atts, struct pgprotect_arm_result *res)
{
	struct pgprotect_attachment *att, *next;

	list_for_each_entry_safe(att, next, atts, arm_link) {
		int ret;

		mutex_lock(&att->set->lock);
		mutex_lock_nested(&att->armed->lock, SINGLE_DEPTH_NESTING);
		res->nr_pages += arm_count_new(att, att->armed);
		ret = pgprotect_ranges_merge(&att->set->ranges,
					     &att->armed->ranges,
					     GFP_KERNEL_ACCOUNT | __GFP_NOFAIL);
		pgprotect_set_account(att->set);
		mutex_unlock(&att->armed->lock);
		mutex_unlock(&att->set->lock);
		if (WARN_ON_ONCE(ret)) {
			list_del(&att->arm_link);
			att->armed = NULL;
		}
	}
}

/* Open the gate: after arm_commit() or instead of it. */
static void arm_finish(struct pgprotect_context *ctx, struct list_head *atts)
{
	struct pgprotect_attachment *att, *next;

	list_for_each_entry_safe(att, next, atts, arm_link) {
		/* After the merge: pairs with the acquire in pgprotect_run(). */
		smp_store_release(&att->arming, NULL);
		pgprotect_set_put(att->armed);
		att->armed = NULL;
		list_del(&att->arm_link);
	}
	wake_up_all(&ctx->cut);
}

/**
 * pgprotect_arm - protect ranges as of one point in time
 * @ctx: The context; ctx->config is held.
 * @ranges: Ranges of attachments of @ctx.
 * @nr: How many.
 * @strict: Fail if a page is pinned.
 * @res: Zeroed, but for room for pins. Filled on success, and the first pin on
 *	-EBUSY.
 *
 * Context: sleeps; holds neither mmap_lock nor a lock of the files.
 * Return: 0; -ENOMEM, -EINTR, -EBUSY, or the error of pgprotect_may_attach(),
 * with nothing protected that was not before.
 */
int pgprotect_arm(struct pgprotect_context *ctx,
		  const struct pgprotect_arm_range *ranges, unsigned int nr,
		  bool strict, struct pgprotect_arm_result *res)
{
	ktime_t start = ktime_get();
	LIST_HEAD(atts);
	int ret;

	lockdep_assert_held(&ctx->config);

	ret = arm_build(ranges, nr, &atts);
	if (!ret)
		ret = arm_publish(ctx, &atts);
	if (ret)
		goto out;

	/* Pairs with pgprotect_filter_fill() and pgprotect_copy_begin(). */
	smp_mb();
	if (atomic_read_acquire(&pgprotect_copies) &&
	    pgprotect_fixed(PGPROTECT_FIX_COPY))
		synchronize_rcu_expedited();
	arm_files(&atts, strict, res);
	if (strict && res->nr_pins) {
		res->nr_pins = 1;
		ret = -EBUSY;
		goto out;
	}
	arm_commit(&atts, res);
out:
	arm_finish(ctx, &atts);
	res->duration_ns = ktime_to_ns(ktime_sub(ktime_get(), start));
	trace_pgprotect_protect(nr, res->nr_pages, res->nr_tables,
				res->nr_flushes, res->nr_fences, res->nr_pins,
				res->duration_ns, ret);
	return ret;
}
