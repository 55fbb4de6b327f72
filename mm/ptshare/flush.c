// SPDX-License-Identifier: GPL-2.0
/*
 * ptshare flushes: from the host to the CPUs of its guests.
 *
 * No CPU runs in a host mm, so that a flush of it reaches no TLB. Whoever changes
 * its entries flushes all the same, by flush_tlb_mm_range() in the end, and that
 * calls the mmu_notifiers who asked to hear of flushes because other hardware
 * walks the page tables. A guest is just that: the notifier of the host flushes
 * the same pages in each guest.
 *
 * It is called inside of the flush, before a page can be freed or a filter or a
 * walk of PROTECT relies on it, and with page-table locks held: it must not
 * sleep.
 *
 * A guest that comes while a flush is under way:
 *
 *	flush				guest
 *	change entry
 *					list_add_rcu()
 *	inc_mm_tlb_gen(): full barrier	smp_mb()
 *	look at the list
 *					set link
 *					walk: read entry
 *
 * Either the flush finds the guest, or the walk through its first link finds the
 * changed entry. One that goes is on the list until its links are cleared and
 * flushed.
 *
 * Reclaim puts flushes off until it has unmapped a batch of pages, and those of
 * hosts are made up for by one flush of all CPUs. It is counted when that is
 * wanted, and up to which count it has been done, so that reclaimers that meet
 * need one between them:
 *
 *	reclaim				reclaim
 *	clear entry 1
 *	wanted: 1
 *					clear entry 2
 *					wanted: 2
 *	read wanted: 2
 *	flush all
 *	done: 2
 *					read wanted: 2, done: 2
 *	free page 1			free page 2
 *
 * Who reads that @done has come to the count that it has made itself knows that a
 * flush began after its entry was cleared. Who changes entries of the host before
 * the flush (zap, PROTECT) makes one first: flush_tlb_batched_pending().
 */
#include <linux/atomic.h>
#include <linux/mm.h>
#include <asm/tlbflush.h>

#include "internal.h"

static void flush_guest(const struct ptshare_guest *guest, unsigned long start,
			unsigned long end)
{
	const unsigned long host_end = ptshare_host_address(guest, guest->end);

	start = max(start, guest->host_start);
	end = min(end, host_end);
	if (start >= end)
		return;
	flush_tlb_mm_range(guest->mm, start - guest->host_start + guest->start,
			   end - guest->host_start + guest->start, PAGE_SHIFT,
			   false);
}

/*
 * With many guests one flush of all CPUs is cheaper than asking each where it
 * runs; it drops what CPUs remember of guests that they do not run, too.
 */
static void flush_guests(struct mmu_notifier *notifier, struct mm_struct *mm,
			 unsigned long start, unsigned long end)
{
	struct ptshare_host *host = container_of(notifier, struct ptshare_host,
						 notifier);
	struct ptshare_guest *guest;

	if (READ_ONCE(host->nr_guests) > PTSHARE_MANY) {
		flush_tlb_all();
		return;
	}
	rcu_read_lock();
	list_for_each_entry_rcu(guest, &host->guests, link)
		flush_guest(guest, start, end);
	rcu_read_unlock();
}

const struct mmu_notifier_ops ptshare_notifier_ops = {
	.arch_invalidate_secondary_tlbs	= flush_guests,
};

/* Flushes of all CPUs that have been asked for, and how many of those are done. */
static atomic_long_t flush_wanted;
static atomic_long_t flush_done;

/* Context: the entry has been cleared; page-table lock held. */
void __ptshare_defer_flush(void)
{
	/* Full barrier: entry before count. Pairs with that below. */
	atomic_long_inc_return(&flush_wanted);
}

/* Context: may be interrupted; no page-table lock held. */
void __ptshare_flush_deferred(void)
{
	const long wanted = atomic_long_read(&flush_wanted);
	long done = atomic_long_read_acquire(&flush_done);

	if (done >= wanted)
		return;
	/* Count before flush. Pairs with __ptshare_defer_flush(). */
	smp_mb();
	flush_tlb_all();
	/* Acquired by who need not flush. */
	while (done < wanted &&
	       !atomic_long_try_cmpxchg(&flush_done, &done, wanted))
		;
}
