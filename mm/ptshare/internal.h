/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ptshare: the structures, who protects them, and the lock order.
 */
#ifndef _MM_PTSHARE_INTERNAL_H
#define _MM_PTSHARE_INTERNAL_H

#include <linux/list.h>
#include <linux/mmu_notifier.h>
#include <linux/ptshare.h>
#include <linux/refcount.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

/*
 * Lock order, outermost first:
 *
 *  mmap_lock or VMA lock of a guest	VMAs, and with the next two their links
 *    page_table_lock of a guest	its links of directories; never with
 *					any below
 *    ptshare_hosts_lock		the table of hosts
 *      mmap_lock of a host		when the host is made, and, without the
 *					former, ends; a class of its own
 *        i_mmap_rwsem
 *          page-table lock of a table	which host and guests share: of a PMD
 *					table in a directory that is linked,
 *					then, to push a fence down, of a PTE table
 *          PMD lock of a guest		in its own PMD table: its links of units;
 *					never with the one above
 *    ptshare_host->lock		list of guests; a leaf
 *    ptshare_guests_lock		the table of guests; a leaf
 *
 * A flush goes through the list of guests under RCU: it comes with a page-table
 * lock held.
 */

/* A host's only VMA begins at 0: an address is an offset in the file. */
#define PTSHARE_HOST_END	(TASK_SIZE_MAX & PMD_MASK)

/* With more guests than this nobody looks at each. */
#define PTSHARE_MANY	32

/* 1 GiB of a file some of whose units are, or were, linked one by one. */
struct ptshare_directory {
	unsigned long units;		/* such links; PMD lock of the host */
};

/*
 * The page tables of a file.
 *
 * Lives as long as a guest; freed a grace period after the last one has dropped
 * its links, since gup_fast may still be in the tables.
 */
struct ptshare_host {
	struct hlist_node hash;		/* ptshare_hosts; ptshare_hosts_lock */
	refcount_t users;		/* guests; the last put by the same */
	struct address_space *mapping;	/* the key; constant. @vma has the file */
	struct mm_struct *mm;		/* nobody runs in it; constant */
	struct vm_area_struct *vma;	/* constant, and never changed */
	struct mmu_notifier notifier;	/* hears of each flush of @mm */
	spinlock_t lock;		/* to change the next two */
	struct list_head guests;	/* RCU */
	unsigned int nr_guests;
	struct xarray directories;	/* of ptshare_directory, by GiB; they stay */
	struct rcu_work free;
};

/*
 * A window of an address space onto a host: what was one VMA when it became a
 * guest. The VMAs it has been split into since hold a reference each. A copy by
 * fork() is a window of its own.
 */
struct ptshare_guest {
	refcount_t users;
	struct list_head link;		/* host->guests; host->lock */
	struct hlist_node hash;		/* by @mm; ptshare_guests_lock, RCU */
	atomic_long_t links;		/* those of its VMAs, in units */
	struct ptshare_host *host;	/* holds a reference; constant */
	struct mm_struct *mm;		/* holds mm_count; constant */
	unsigned long start, end;	/* in @mm; constant */
	unsigned long host_start;	/* of @start in the host; constant */
	const struct vm_operations_struct *ops;	/* without us; constant */
	struct rcu_work free;
};

static inline struct ptshare_guest *ptshare_guest(const struct vm_area_struct *vma)
{
	return vma->vm_private_data;
}

static inline unsigned long ptshare_host_address(const struct ptshare_guest *guest,
						 unsigned long address)
{
	return address - guest->start + guest->host_start;
}

/* host.c */
struct ptshare_host *ptshare_host_get(struct vm_area_struct *vma);
void ptshare_host_put(struct ptshare_host *host);

/* flush.c */
extern const struct mmu_notifier_ops ptshare_notifier_ops;

/* link.c */
vm_fault_t ptshare_link(struct vm_area_struct *vma, unsigned long address);
void ptshare_unlink(struct vm_area_struct *vma);
void ptshare_before_split(struct vm_area_struct *vma, unsigned long addr);
extern atomic_long_t ptshare_nr_links;

/* fence.c */
void ptshare_push_down(struct ptshare_host *host, unsigned long address);
bool ptshare_fence_enter(struct ptshare_host *host, unsigned long address);
void ptshare_fence_leave(struct ptshare_host *host, unsigned long address);
void ptshare_fence_end(struct ptshare_host *host);

/* control.c */
bool ptshare_may_madvise(void);
bool ptshare_always(void);
extern atomic_long_t ptshare_nr_hosts;
extern atomic_long_t ptshare_nr_guests;

#endif /* _MM_PTSHARE_INTERNAL_H */
