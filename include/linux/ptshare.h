/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ptshare hooks: what the rest of the kernel asks about shared page tables.
 *
 * A guest is a VMA whose page-table entries at the PMD or PUD level point to
 * tables of a host mm, which belongs to the file: see Documentation/mm/ptshare.rst. Until
 * /sys/kernel/mm/ptshare/enabled is changed for the first time there is none,
 * and each hook costs one static branch.
 */
#ifndef _LINUX_PTSHARE_H
#define _LINUX_PTSHARE_H

#include <linux/jump_label.h>
#include <linux/mm.h>
#include <linux/sched/coredump.h>

struct mmu_gather;
struct vma_iterator;
struct zap_details;

#ifdef CONFIG_PTSHARE

#define VM_PTSHARE_BIT		41
#define VM_PTSHARE		BIT(VM_PTSHARE_BIT)	/* a guest */
#define VM_PTSHARE_HOST_BIT	42
#define VM_PTSHARE_HOST		BIT(VM_PTSHARE_HOST_BIT) /* owns the tables */

/* A flag of a mm_struct, above those that linux/sched/coredump.h has. */
#define MMF_PTSHARE_HOST	32

DECLARE_STATIC_KEY_FALSE(ptshare_used);

vm_fault_t ptshare_fault(struct vm_area_struct *vma, unsigned long address,
			 unsigned int flags);
void ptshare_unmap(struct mmu_gather *tlb, struct vm_area_struct *vma,
		   unsigned long start, unsigned long end,
		   const struct zap_details *details);
long ptshare_protect(struct mmu_gather *tlb, struct vm_area_struct *vma,
		     unsigned long start, unsigned long end,
		     unsigned long cp_flags);
int ptshare_madvise(struct vm_area_struct *vma, struct vm_area_struct **prev,
		    unsigned long start, unsigned long end, int behavior);
int __ptshare_cut(struct mm_struct *mm, unsigned long start,
		  unsigned long end);
int __ptshare_unshare(struct mm_struct *mm, unsigned long start,
		      unsigned long end);
void __ptshare_unshare_whole(struct mm_struct *mm);
int __ptshare_before_mprotect(struct mm_struct *mm, unsigned long start,
			      unsigned long end, unsigned long prot, int pkey);
int __ptshare_before_madvise(struct mm_struct *mm, unsigned long start,
			     unsigned long end, int behavior);
int __ptshare_before_collapse(struct mm_struct *mm, unsigned long start,
			      unsigned long len, int behavior);
const struct vm_operations_struct *
__ptshare_ops(const struct vm_area_struct *vma);
bool __ptshare_has_others(const struct vm_area_struct *vma,
			  unsigned long address);
void __ptshare_mmap(struct mm_struct *mm, unsigned long start,
		    unsigned long len);
bool __ptshare_aligns(struct file *file, unsigned long addr, unsigned long len,
		      unsigned long flags);
unsigned long ptshare_get_unmapped_area(struct file *file, unsigned long len,
					unsigned long pgoff,
					unsigned long flags,
					vm_flags_t vm_flags);
unsigned long __ptshare_alignment(void);
unsigned long __ptshare_shared(struct vm_area_struct *vma);
unsigned long __ptshare_mm_pages(const struct mm_struct *mm);
unsigned long ptshare_pages(void);
long ptshare_fence(struct vm_area_struct *vma, pmd_t *pmd, unsigned long addr,
		   unsigned long end);
void ptshare_set_has_pinned(struct mm_struct *mm);
void __ptshare_defer_flush(void);
void __ptshare_flush_deferred(void);

/* Has it ever been enabled? */
static __always_inline bool ptshare_on(void)
{
	return static_branch_unlikely(&ptshare_used);
}

/* Does @vma borrow the page tables of a host? */
static inline bool vma_is_ptshare(const struct vm_area_struct *vma)
{
	return ptshare_on() && (vma->vm_flags & VM_PTSHARE);
}

/*
 * Is @vma a host's? Its page tables must neither be freed nor replaced, and no
 * task or cgroup belongs to its mm.
 */
static inline bool vma_is_ptshare_host(const struct vm_area_struct *vma)
{
	return ptshare_on() && (vma->vm_flags & VM_PTSHARE_HOST);
}

/*
 * The file in whose i_mmap @vma is, or NULL. A guest is in none: the reverse map
 * finds its host, once for all.
 */
static inline struct file *ptshare_rmap_file(const struct vm_area_struct *vma)
{
	return vma_is_ptshare(vma) ? NULL : vma->vm_file;
}

/*
 * Is @pmd, which pmd_bad() says no to, the entry of a guest that may not write
 * or execute? Such an entry differs from others by these two bits.
 */
static inline bool ptshare_pmd(pmd_t pmd)
{
	return ptshare_on() &&
	       !pmd_bad(__pmd((pmd_val(pmd) | _PAGE_RW) & ~_PAGE_NX));
}

/*
 * A PUD entry of a guest that points to a table of its host has this bit, and
 * pud_bad() says no to it: who does not know of it neither fills nor frees the
 * table.
 */
#define PTSHARE_PUD_LINK	_PAGE_SOFTW1

static inline bool ptshare_pud(pud_t pud)
{
	const pudval_t link = PTSHARE_PUD_LINK | _PAGE_PRESENT;

	return ptshare_on() &&
	       (pud_val(pud) & (link | _PAGE_PSE)) == link;
}

/*
 * May GUP with @gup_flags go through @pmd, which points to a table? The
 * entries in there are as writable as the most privileged mapper may write, and
 * as if there were no fence.
 */
static inline bool ptshare_may_gup(pmd_t pmd, unsigned int gup_flags)
{
	return !ptshare_on() || !(gup_flags & FOLL_WRITE) || pmd_write(pmd);
}

/* The same for @pud. */
static inline bool ptshare_may_gup_pud(pud_t pud, unsigned int gup_flags)
{
	return !ptshare_on() || !(gup_flags & FOLL_WRITE) || pud_write(pud);
}

/**
 * ptshare_cut - let mappings be split at two addresses
 * @mm: Their address space; mmap_lock held for writing.
 * @start: One address.
 * @end: The other.
 *
 * A guest is made of whole units: the unit that such an address is within gets
 * page tables of its own again. To be called before the first VMA is looked up.
 *
 * Return: 0 or -ENOMEM.
 */
static inline int ptshare_cut(struct mm_struct *mm, unsigned long start,
			      unsigned long end)
{
	return ptshare_on() ? __ptshare_cut(mm, start, end) : 0;
}

/**
 * ptshare_unshare - turn guests back into ordinary mappings
 * @mm: Their address space; mmap_lock held for writing.
 * @start: First address.
 * @end: Address after the last.
 *
 * For what cannot be done to tables of others. To be called before the first VMA
 * is looked up. Does not fail where it does not split a VMA.
 *
 * Return: 0 or -ENOMEM.
 */
static inline int ptshare_unshare(struct mm_struct *mm, unsigned long start,
				  unsigned long end)
{
	return ptshare_on() ? __ptshare_unshare(mm, start, end) : 0;
}

/**
 * ptshare_unshare_whole - turn all guests back as they are
 * @mm: The address space; mmap_lock held for writing.
 *
 * No VMA is split or joined: the caller may be amid a change of their tree, such as
 * an mmap() by a driver.
 */
static inline void ptshare_unshare_whole(struct mm_struct *mm)
{
	if (ptshare_on())
		__ptshare_unshare_whole(mm);
}

/* Prepare for mprotect(): a protection key is in the entries that are shared. */
static inline int ptshare_before_mprotect(struct mm_struct *mm,
					  unsigned long start,
					  unsigned long end,
					  unsigned long prot, int pkey)
{
	if (!ptshare_on())
		return 0;
	return __ptshare_before_mprotect(mm, start, end, prot, pkey);
}

/* Prepare for madvise(): what changes a VMA may have to split it. */
static inline int ptshare_before_madvise(struct mm_struct *mm,
					 unsigned long start,
					 unsigned long end, int behavior)
{
	if (!ptshare_on())
		return 0;
	return __ptshare_before_madvise(mm, start, end, behavior);
}

/*
 * The same for MADV_COLLAPSE, which wants huge entries. Context: no lock, since
 * it is done under one for reading. Who shares again meanwhile gets -EINVAL.
 */
static inline int ptshare_before_collapse(struct mm_struct *mm,
					  unsigned long start,
					  unsigned long len, int behavior)
{
	if (!ptshare_on())
		return 0;
	return __ptshare_before_collapse(mm, start, len, behavior);
}

/* The operations of @vma, without those of a guest over them. */
static inline const struct vm_operations_struct *
ptshare_ops(const struct vm_area_struct *vma)
{
	return vma_is_ptshare(vma) ? __ptshare_ops(vma) : vma->vm_ops;
}

/*
 * Do other mappings use the entry that @vma has for @address? If it is a guest,
 * the page's mapcount does not tell.
 */
static inline bool ptshare_has_others(const struct vm_area_struct *vma,
				      unsigned long address)
{
	return vma_is_ptshare(vma) && __ptshare_has_others(vma, address);
}

/* Is @mm a host's? Flushes of it can be put off though no CPU runs in it. */
static inline bool ptshare_defers_flush(const struct mm_struct *mm)
{
	return ptshare_on() && test_bit(MMF_PTSHARE_HOST, &mm->flags);
}

/*
 * Put a flush for an entry of @mm off, which has been cleared, until
 * ptshare_flush_deferred(). Return: false if @mm is no host's.
 */
static inline bool ptshare_defer_flush(const struct mm_struct *mm)
{
	if (!ptshare_defers_flush(mm))
		return false;
	__ptshare_defer_flush();
	return true;
}

/* Make up for all flushes that were put off before. */
static inline void ptshare_flush_deferred(void)
{
	if (ptshare_on())
		__ptshare_flush_deferred();
}

/* Share what has just been mapped, if that is to be done unasked. */
static inline void ptshare_mmap(struct mm_struct *mm, unsigned long start,
				unsigned long len)
{
	if (ptshare_on())
		__ptshare_mmap(mm, start, len);
}

/* Is such a mapping to be placed where it can be shared? */
static inline bool ptshare_aligns(struct file *file, unsigned long addr,
				  unsigned long len, unsigned long flags)
{
	return ptshare_on() && __ptshare_aligns(file, addr, len, flags);
}

/*
 * Modulo this, bytes, address and offset of a mapping must agree for it to be
 * shared; 0: no mapping is.
 */
static inline unsigned long ptshare_alignment(void)
{
	return ptshare_on() ? __ptshare_alignment() : 0;
}

/* Bytes of @vma that are mapped by tables of its host. */
static inline unsigned long ptshare_shared(struct vm_area_struct *vma)
{
	return vma_is_ptshare(vma) ? __ptshare_shared(vma) : 0;
}

/* Pages of @mm that are mapped by tables of hosts. */
static inline unsigned long ptshare_mm_pages(const struct mm_struct *mm)
{
	return ptshare_on() ? __ptshare_mm_pages(mm) : 0;
}

#else /* !CONFIG_PTSHARE */

#define VM_PTSHARE	VM_NONE
#define VM_PTSHARE_HOST	VM_NONE

static inline vm_fault_t ptshare_fault(struct vm_area_struct *vma,
				       unsigned long address,
				       unsigned int flags)
{
	return VM_FAULT_SIGBUS;
}

static inline void ptshare_unmap(struct mmu_gather *tlb,
				 struct vm_area_struct *vma,
				 unsigned long start, unsigned long end,
				 const struct zap_details *details)
{
}

static inline long ptshare_protect(struct mmu_gather *tlb,
				   struct vm_area_struct *vma,
				   unsigned long start, unsigned long end,
				   unsigned long cp_flags)
{
	return 0;
}

static inline long ptshare_fence(struct vm_area_struct *vma, pmd_t *pmd,
				 unsigned long addr, unsigned long end)
{
	return -1;
}

static inline void ptshare_set_has_pinned(struct mm_struct *mm)
{
	set_bit(MMF_HAS_PINNED, &mm->flags);
}

static inline int ptshare_madvise(struct vm_area_struct *vma,
				  struct vm_area_struct **prev,
				  unsigned long start, unsigned long end,
				  int behavior)
{
	return -EINVAL;
}

static inline bool vma_is_ptshare(const struct vm_area_struct *vma)
{
	return false;
}

static inline bool vma_is_ptshare_host(const struct vm_area_struct *vma)
{
	return false;
}

static inline struct file *ptshare_rmap_file(const struct vm_area_struct *vma)
{
	return vma->vm_file;
}

static inline bool ptshare_pmd(pmd_t pmd)
{
	return false;
}

static inline bool ptshare_pud(pud_t pud)
{
	return false;
}

static inline bool ptshare_may_gup(pmd_t pmd, unsigned int gup_flags)
{
	return true;
}

static inline bool ptshare_may_gup_pud(pud_t pud, unsigned int gup_flags)
{
	return true;
}

static inline int ptshare_cut(struct mm_struct *mm, unsigned long start,
			      unsigned long end)
{
	return 0;
}

static inline int ptshare_unshare(struct mm_struct *mm, unsigned long start,
				  unsigned long end)
{
	return 0;
}

static inline void ptshare_unshare_whole(struct mm_struct *mm)
{
}

static inline int ptshare_before_mprotect(struct mm_struct *mm,
					  unsigned long start,
					  unsigned long end,
					  unsigned long prot, int pkey)
{
	return 0;
}

static inline int ptshare_before_madvise(struct mm_struct *mm,
					 unsigned long start,
					 unsigned long end, int behavior)
{
	return 0;
}

static inline int ptshare_before_collapse(struct mm_struct *mm,
					  unsigned long start,
					  unsigned long len, int behavior)
{
	return 0;
}

static inline const struct vm_operations_struct *
ptshare_ops(const struct vm_area_struct *vma)
{
	return vma->vm_ops;
}

static inline bool ptshare_has_others(const struct vm_area_struct *vma,
				      unsigned long address)
{
	return false;
}

static inline bool ptshare_defers_flush(const struct mm_struct *mm)
{
	return false;
}

static inline bool ptshare_defer_flush(const struct mm_struct *mm)
{
	return false;
}

static inline void ptshare_flush_deferred(void)
{
}

static inline void ptshare_mmap(struct mm_struct *mm, unsigned long start,
				unsigned long len)
{
}

static inline bool ptshare_aligns(struct file *file, unsigned long addr,
				  unsigned long len, unsigned long flags)
{
	return false;
}

static inline unsigned long
ptshare_get_unmapped_area(struct file *file, unsigned long len,
			  unsigned long pgoff, unsigned long flags,
			  vm_flags_t vm_flags)
{
	return -ENOMEM;
}

static inline unsigned long ptshare_alignment(void)
{
	return 0;
}

static inline unsigned long ptshare_shared(struct vm_area_struct *vma)
{
	return 0;
}

static inline unsigned long ptshare_mm_pages(const struct mm_struct *mm)
{
	return 0;
}

static inline unsigned long ptshare_pages(void)
{
	return 0;
}

#endif /* CONFIG_PTSHARE */

/* ipc/shm.c: is @vma an attachment of System V shared memory? */
#ifdef CONFIG_SYSVIPC
bool vma_is_sysvshm(const struct vm_area_struct *vma);
#else
static inline bool vma_is_sysvshm(const struct vm_area_struct *vma)
{
	return false;
}
#endif

#endif /* _LINUX_PTSHARE_H */
