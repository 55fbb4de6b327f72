/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pgprotect hooks: what the rest of the kernel calls.
 *
 * Two kinds, see Documentation/mm/pgprotect.rst:
 *
 *  - A gate is called early, where the task holds nothing that the handler of
 *    an event could need. It may sleep. 0: go on.
 *  - A filter is called late, under the lock that makes the change, and never
 *    sleeps. It is the authority: what PROTECT published before the lock was
 *    taken, the filter sees.
 *
 * Each hook costs one static branch while no context is open, and the test of
 * a pointer for a file that is not attached.
 */
#ifndef _LINUX_PGPROTECT_H
#define _LINUX_PGPROTECT_H

#include <linux/jump_label.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <uapi/linux/pgprotect.h>

struct iov_iter;

/*
 * In task_struct.atomic_flags, from the top, as linux/sched.h goes from the
 * bottom: what the task said by PR_SET_PGPROTECT. Inherited over fork and exec.
 */
#define PFA_PGPROTECT_STALL	63	/* may be stalled by anybody */
#define PFA_PGPROTECT_FAIL	62	/* is never stalled */

/* How a system call may wait at the gate. */
#define PGPROTECT_GATE_NOWAIT	0x1	/* not at all */
#define PGPROTECT_GATE_KERNEL	0x2	/* with locks held that nobody knows */
#define PGPROTECT_GATE_WRITING	0x4	/* with freeze protection, from a filter */
#define PGPROTECT_GATE_ASYNC	0x8	/* that lockdep does not know of */

/*
 * In kiocb.ki_flags, far above the bits of linux/fs.h: the caller of ->write_iter() holds
 * a lock that it has to drop before it waits at the gate, and knows what -EAGAIN means.
 */
#define IOCB_PGPROTECT_NOWAIT	0x40000000

/*
 * In address_space.flags, among the bits of linux/pagemap.h: pages may be pinned
 * that no mapping tells of.
 */
#define AS_PGPROTECT_PINNED	15
static_assert(AS_PGPROTECT_PINNED > (int)AS_INACCESSIBLE &&
	      AS_PGPROTECT_PINNED < (int)AS_FOLIO_ORDER_MIN);

#ifdef CONFIG_PGPROTECT

DECLARE_STATIC_KEY_FALSE(pgprotect_used);

vm_fault_t __pgprotect_gate_fault(struct vm_fault *vmf, pgoff_t first,
				  unsigned long nr);
int __pgprotect_gate_range(struct address_space *mapping, loff_t pos,
			   loff_t len, enum pgprotect_origin origin,
			   unsigned int how);
int __pgprotect_gate_write(struct file *file, const loff_t *pos, size_t count,
			   enum pgprotect_origin origin, rwf_t flags,
			   unsigned int how);
int __pgprotect_gate_kiocb(struct kiocb *iocb, size_t count,
			   enum pgprotect_origin origin, unsigned int how);
int __pgprotect_regate_kiocb(struct kiocb *iocb, struct iov_iter *from);
int __pgprotect_gate_fallocate(struct file *file, int mode, loff_t pos,
			       loff_t len);
int __pgprotect_gate_truncate(const struct path *path, loff_t size);
bool __pgprotect_filter_range(struct address_space *mapping, loff_t pos,
			      loff_t len);
bool __pgprotect_filter_fallocate(struct address_space *mapping, int mode,
				  loff_t pos, loff_t len);
size_t __pgprotect_filter_write(struct address_space *mapping, loff_t pos,
				size_t count);
bool __pgprotect_filter_pages(struct address_space *mapping, pgoff_t first,
			      unsigned long nr);
bool __pgprotect_fill_waits(struct vm_area_struct *vma, unsigned long addr,
			    unsigned long nr);
bool __pgprotect_filter_flush(struct vm_area_struct *vma);
bool pgprotect_copy_begin(struct vm_area_struct *vma, unsigned long addr);
void pgprotect_copy_end(void);
int pgprotect_prctl(int option, unsigned long arg2, unsigned long arg3,
		    unsigned long arg4, unsigned long arg5);
void pgprotect_exec_secure(struct task_struct *task);
void __pgprotect_evict(struct address_space *mapping);

/* The file below one of overlayfs is changed with locks of that held. */
static inline unsigned int pgprotect_how(const struct file *file)
{
	return file->f_mode & FMODE_BACKING ? PGPROTECT_GATE_KERNEL : 0;
}

/* Is there a context? To be asked first: the rest is not evaluated if not. */
static __always_inline bool pgprotect_on(void)
{
	return static_branch_unlikely(&pgprotect_used);
}

/* Does @mapping belong to a file that is attached? */
static inline bool pgprotect_attached(const struct address_space *mapping)
{
	/* A plain load: asked after taking a lock, or to be asked again under it. */
	return data_race((__force void *)mapping->i_pgprotect);
}

/* Can stores through @vma reach a file that is attached? */
static inline bool pgprotect_vma_attached(const struct vm_area_struct *vma)
{
	/* What is shared has a file, anonymous memory, too. */
	return pgprotect_on() && (vma->vm_flags & VM_SHARED) &&
	       pgprotect_attached(vma->vm_file->f_mapping);
}

/**
 * pgprotect_gate_fault - let a write fault wait for its page
 * @vmf: The fault; no page-table lock is held.
 *
 * Context: holds the fault lock (VMA lock or mmap_lock), which is dropped if
 * the return value has VM_FAULT_COMPLETED, or VM_FAULT_RETRY and not
 * FAULT_FLAG_RETRY_NOWAIT.
 * Return: 0: go on; else what the fault handler shall return.
 */
static inline vm_fault_t pgprotect_gate_fault(struct vm_fault *vmf)
{
	if (!pgprotect_on() || !(vmf->flags & FAULT_FLAG_WRITE) ||
	    !pgprotect_vma_attached(vmf->vma))
		return 0;
	return __pgprotect_gate_fault(vmf, vmf->pgoff, 1);
}

/* The same for a page of hugetlbfs, which has @nr small ones. */
static inline vm_fault_t pgprotect_gate_huge_fault(struct vm_fault *vmf,
						   unsigned long nr)
{
	if (!pgprotect_on() || !(vmf->flags & FAULT_FLAG_WRITE) ||
	    !pgprotect_vma_attached(vmf->vma))
		return 0;
	return __pgprotect_gate_fault(vmf,
				      linear_page_index(vmf->vma, vmf->address),
				      nr);
}

/**
 * pgprotect_gate_range - let a system call wait for a range of a file
 * @mapping: The file's.
 * @pos: First byte, >= 0.
 * @len: Bytes; 0: to the end of the file.
 * @origin: How the write came.
 * @how: PGPROTECT_GATE_*.
 *
 * Context: holds nothing that a handler could need, or says so in @how. Sleeps.
 * Return: 0: go on; -EAGAIN (no waiting), -EPERM or a verdict's errno (refused),
 * -EDEADLK (handler thread), -ETIMEDOUT, -ERESTARTSYS.
 */
static inline int pgprotect_gate_range(struct address_space *mapping,
				       loff_t pos, loff_t len,
				       enum pgprotect_origin origin,
				       unsigned int how)
{
	if (!pgprotect_on() || !pgprotect_attached(mapping))
		return 0;
	return __pgprotect_gate_range(mapping, pos, len, origin, how);
}

/**
 * pgprotect_gate_write - let a write to a file wait
 * @file: The file.
 * @pos: Position, ignored when appending; NULL: 0.
 * @count: Bytes.
 * @origin: How the write came.
 * @flags: RWF_*.
 *
 * Context and return: as pgprotect_gate_range().
 */
static inline int pgprotect_gate_write(struct file *file, const loff_t *pos,
				       size_t count,
				       enum pgprotect_origin origin,
				       rwf_t flags)
{
	if (!pgprotect_on() || !pgprotect_attached(file->f_mapping))
		return 0;
	return __pgprotect_gate_write(file, pos, count, origin, flags,
				      pgprotect_how(file));
}

/* The same for a write by the kernel itself, on behalf of whom it may be. */
static inline int pgprotect_gate_kernel_write(struct file *file,
					      const loff_t *pos, size_t count,
					      rwf_t flags)
{
	if (!pgprotect_on() || !pgprotect_attached(file->f_mapping))
		return 0;
	return __pgprotect_gate_write(file, pos, count, PGPROTECT_ORIGIN_WRITE,
				      flags, PGPROTECT_GATE_KERNEL);
}

/* The same for a write with an iocb; @how: PGPROTECT_GATE_*. */
static inline int pgprotect_gate_kiocb(struct kiocb *iocb, size_t count,
				       enum pgprotect_origin origin,
				       unsigned int how)
{
	if (!pgprotect_on() || !pgprotect_attached(iocb->ki_filp->f_mapping))
		return 0;
	return __pgprotect_gate_kiocb(iocb, count, origin,
				      how | pgprotect_how(iocb->ki_filp));
}

/**
 * pgprotect_regate_kiocb - let a write that a filter has stopped wait
 * @iocb: The write's, as its ->write_iter() got it, at its final position.
 * @from: What is left to write.
 *
 * Waits without the freeze protection that all callers of ->write_iter() hold for
 * a system call.
 *
 * Context: has dropped the lock that the filter was under, and takes it again on
 * success. Sleeps. Return: as pgprotect_gate_range(); -EAGAIN if that must not
 * sleep.
 */
static inline int pgprotect_regate_kiocb(struct kiocb *iocb,
					 struct iov_iter *from)
{
	if (iocb->ki_flags & (IOCB_NOWAIT | IOCB_PGPROTECT_NOWAIT))
		return -EAGAIN;
	if (!pgprotect_on() || !pgprotect_attached(iocb->ki_filp->f_mapping))
		return 0;
	return __pgprotect_regate_kiocb(iocb, from);
}

/**
 * pgprotect_gate_fallocate - let a fallocate() that a filter has stopped wait
 * @file: The file.
 * @mode: FALLOC_FL_*.
 * @pos: First byte.
 * @len: Bytes.
 *
 * The gate of fallocate(), too: VFS does not know which modes a file system has.
 * Context: as pgprotect_regate_kiocb(). Return: as pgprotect_gate_range(); or
 * -EPERM, -ETXTBSY if the file has become one that must not be changed.
 */
static inline int pgprotect_gate_fallocate(struct file *file, int mode,
					   loff_t pos, loff_t len)
{
	if (!pgprotect_on() || !pgprotect_attached(file->f_mapping))
		return 0;
	return __pgprotect_gate_fallocate(file, mode, pos, len);
}

/**
 * pgprotect_gate_truncate - let a truncate by path wait
 * @path: The file; checked for write permission before anybody is told.
 * @size: The new size, bytes.
 *
 * Context: before mnt_want_write(), else as pgprotect_gate_range().
 * Return: as pgprotect_gate_range().
 */
static inline int pgprotect_gate_truncate(const struct path *path, loff_t size)
{
	if (!pgprotect_on() || !pgprotect_attached(d_inode(path->dentry)->i_mapping))
		return 0;
	return __pgprotect_gate_truncate(path, size);
}

/**
 * pgprotect_gate_ftruncate - let a truncate by file descriptor wait
 * @inode: The file's. What is attached has no mapping but its own.
 * @size: The new size, bytes.
 *
 * Context and return: as pgprotect_gate_range().
 */
static inline int pgprotect_gate_ftruncate(struct inode *inode, loff_t size)
{
	if (!pgprotect_on() || !pgprotect_attached(&inode->i_data))
		return 0;
	return __pgprotect_gate_range(&inode->i_data, size, 0,
				      PGPROTECT_ORIGIN_TRUNCATE, 0);
}

/* For a change of size that pgprotect_filter_setattr() has stopped. */
static inline int pgprotect_gate_setattr(struct inode *inode,
					 const struct iattr *attr)
{
	if (!pgprotect_on() || !pgprotect_attached(&inode->i_data))
		return 0;
	return __pgprotect_gate_range(&inode->i_data, attr->ia_size, 0,
				      PGPROTECT_ORIGIN_TRUNCATE,
				      PGPROTECT_GATE_WRITING);
}

/**
 * pgprotect_filter_range - may bytes of a file not be changed now?
 * @mapping: The file's.
 * @pos: First byte.
 * @len: Bytes; 0: to the end of the file.
 *
 * Context: holds the lock that excludes PROTECT's publication: i_rwsem. Does not
 * sleep.
 * Return: true: drop the lock and go back to the gate.
 */
static inline bool pgprotect_filter_range(struct address_space *mapping,
					  loff_t pos, loff_t len)
{
	return pgprotect_on() && pgprotect_attached(mapping) &&
	       __pgprotect_filter_range(mapping, pos, len);
}

/* The same for what a change of attributes cuts off, if it is one of size. */
static inline bool pgprotect_filter_setattr(struct inode *inode,
					    const struct iattr *attr)
{
	return pgprotect_on() && pgprotect_attached(&inode->i_data) &&
	       (attr->ia_valid & ATTR_SIZE) &&
	       __pgprotect_filter_range(&inode->i_data, attr->ia_size, 0);
}

/* The same for what a fallocate() changes. */
static inline bool pgprotect_filter_fallocate(struct address_space *mapping,
					      int mode, loff_t pos, loff_t len)
{
	return pgprotect_on() && pgprotect_attached(mapping) &&
	       __pgprotect_filter_fallocate(mapping, mode, pos, len);
}

/* The same for @count bytes of a write, at its final position. */
static inline bool pgprotect_filter_kiocb(const struct kiocb *iocb,
					  size_t count)
{
	return pgprotect_on() &&
	       pgprotect_attached(iocb->ki_filp->f_mapping) &&
	       __pgprotect_filter_range(iocb->ki_filp->f_mapping, iocb->ki_pos,
					count);
}

/**
 * pgprotect_filter_write - how much of a write may be done now?
 * @mapping: The file's.
 * @pos: First byte.
 * @count: Bytes.
 *
 * For who must not wait in the file's write path. Context: any.
 * Return: bytes before the first protected page.
 */
static inline size_t pgprotect_filter_write(struct address_space *mapping,
					    loff_t pos, size_t count)
{
	if (!pgprotect_on() || !pgprotect_attached(mapping))
		return count;
	return __pgprotect_filter_write(mapping, pos, count);
}

/**
 * pgprotect_filter_vma - is one of some pages of a mapping protected?
 * @vma: The mapping.
 * @addr: Address of the first page.
 * @nr: Number of pages.
 *
 * Context: holds the page-table lock of the entries to be installed, or the answer
 * is a hint.
 * Return: true: the entries must not be writable.
 */
static inline bool pgprotect_filter_vma(struct vm_area_struct *vma,
					unsigned long addr, unsigned long nr)
{
	return pgprotect_vma_attached(vma) &&
	       __pgprotect_filter_pages(vma->vm_file->f_mapping,
					linear_page_index(vma, addr), nr);
}

/**
 * pgprotect_fill_waits - must who fills holes go to the gate first?
 * @vma: The mapping to be filled through.
 * @addr: Address of the first page.
 * @nr: Number of pages.
 *
 * Context: may sleep in tests. Return: true: drop the locks, and go.
 */
static inline bool pgprotect_fill_waits(struct vm_area_struct *vma,
					unsigned long addr, unsigned long nr)
{
	return pgprotect_vma_attached(vma) &&
	       __pgprotect_fill_waits(vma, addr, nr);
}

/**
 * pgprotect_filter_fill - may a hole not be filled now?
 * @mapping: The file's.
 * @pgoff: The page.
 *
 * For fills that take no i_rwsem. Context: the page is in the cache already, and
 * locked: nobody has seen what is in it. Does not sleep.
 * Return: true: take it out again.
 */
static inline bool pgprotect_filter_fill(struct address_space *mapping,
					 pgoff_t pgoff)
{
	if (!pgprotect_on())
		return false;
	/*
	 * Pairs with the barrier in pgprotect_arm(): either this sees the set, or
	 * who reads after PROTECT finds the page, and waits for its lock.
	 */
	smp_mb();
	return pgprotect_filter_range(mapping, (loff_t)pgoff << PAGE_SHIFT,
				      PAGE_SIZE);
}

/**
 * pgprotect_filter_pte - drop the write bit from entries of protected pages
 * @vma: The mapping.
 * @addr: Address of the first page.
 * @nr: Number of entries that are going to be made alike.
 * @pte: The entry to be installed.
 *
 * Context: holds the page-table lock.
 * Return: the entry to install. A write to a page that lost its write bit
 * only because a neighbour is protected costs one more fault.
 */
static inline pte_t pgprotect_filter_pte(struct vm_area_struct *vma,
					 unsigned long addr, unsigned long nr,
					 pte_t pte)
{
	if (pgprotect_filter_vma(vma, addr, nr))
		return pte_wrprotect(pte);
	return pte;
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
/* pgprotect_filter_pte() for a huge entry at @addr. */
static inline pmd_t pgprotect_filter_pmd(struct vm_area_struct *vma,
					 unsigned long addr, pmd_t pmd)
{
	if (pgprotect_filter_vma(vma, addr & HPAGE_PMD_MASK, HPAGE_PMD_NR))
		return pmd_wrprotect(pmd);
	return pmd;
}
#endif

/**
 * pgprotect_filter_flush - must entries that are gone be flushed at once?
 * @vma: The mapping they were in.
 *
 * While the flush is deferred, another thread can still write through the
 * stale translation, and PROTECT finds nothing: no mapping once a zapped one is
 * unlinked, no entries once khugepaged has cleared them. Small entries are
 * flushed under the page-table lock by their zapper when they are dirty; this
 * makes huge entries and khugepaged alike. Asked for any shared file
 * mapping, attached or not: a file may be attached while the flush is pending.
 *
 * Context: holds the page-table lock, or i_mmap_rwsem for writing.
 */
static inline bool pgprotect_filter_flush(struct vm_area_struct *vma)
{
	return pgprotect_on() && __pgprotect_filter_flush(vma);
}

/**
 * pgprotect_pin - pages are going to be pinned, by no mapping
 * @mapping: The file's.
 *
 * Attached or not: PROTECT looks for pins in files that have had such, or are
 * mapped by who pins. Context: any.
 */
static inline void pgprotect_pin(struct address_space *mapping)
{
	if (!test_bit(AS_PGPROTECT_PINNED, &mapping->flags))
		set_bit(AS_PGPROTECT_PINNED, &mapping->flags);
}

/**
 * pgprotect_unmap - a mapping goes, and what was pinned through it may stay
 * @mm: Whose mapping.
 * @mapping: The file's.
 *
 * Context: its entries are gone; PROTECT can still find it.
 */
static inline void pgprotect_unmap(const struct mm_struct *mm,
				   struct address_space *mapping)
{
	if (test_bit(MMF_HAS_PINNED, &mm->flags))
		pgprotect_pin(mapping);
}

/**
 * pgprotect_evict - the inode of @mapping goes
 * @mapping: The inode's own.
 *
 * Frees attachments that were kept by PGPROTECT_ATTACH_PERSIST; others hold
 * the file open. Context: sleeps.
 */
static inline void pgprotect_evict(struct address_space *mapping)
{
	if (pgprotect_on() && pgprotect_attached(mapping))
		__pgprotect_evict(mapping);
}

#else /* !CONFIG_PGPROTECT */

static inline bool pgprotect_copy_begin(struct vm_area_struct *vma,
					unsigned long addr)
{
	return true;
}

static inline void pgprotect_copy_end(void)
{
}

static inline void pgprotect_pin(struct address_space *mapping)
{
}

static inline void pgprotect_unmap(const struct mm_struct *mm,
				   struct address_space *mapping)
{
}

static inline bool pgprotect_on(void)
{
	return false;
}

static inline bool pgprotect_attached(const struct address_space *mapping)
{
	return false;
}

static inline bool pgprotect_vma_attached(const struct vm_area_struct *vma)
{
	return false;
}

static inline unsigned int pgprotect_how(const struct file *file)
{
	return 0;
}

static inline vm_fault_t pgprotect_gate_fault(struct vm_fault *vmf)
{
	return 0;
}

static inline vm_fault_t pgprotect_gate_huge_fault(struct vm_fault *vmf,
						   unsigned long nr)
{
	return 0;
}

static inline int pgprotect_gate_range(struct address_space *mapping,
				       loff_t pos, loff_t len,
				       enum pgprotect_origin origin,
				       unsigned int how)
{
	return 0;
}

static inline int pgprotect_gate_write(struct file *file, const loff_t *pos,
				       size_t count,
				       enum pgprotect_origin origin,
				       rwf_t flags)
{
	return 0;
}

static inline int pgprotect_gate_kernel_write(struct file *file,
					      const loff_t *pos, size_t count,
					      rwf_t flags)
{
	return 0;
}

static inline int pgprotect_gate_kiocb(struct kiocb *iocb, size_t count,
				       enum pgprotect_origin origin,
				       unsigned int how)
{
	return 0;
}

static inline int pgprotect_regate_kiocb(struct kiocb *iocb,
					 struct iov_iter *from)
{
	return 0;
}

static inline int pgprotect_gate_fallocate(struct file *file, int mode,
					   loff_t pos, loff_t len)
{
	return 0;
}

static inline int pgprotect_gate_truncate(const struct path *path, loff_t size)
{
	return 0;
}

static inline int pgprotect_gate_ftruncate(struct inode *inode, loff_t size)
{
	return 0;
}

static inline int pgprotect_gate_setattr(struct inode *inode,
					 const struct iattr *attr)
{
	return 0;
}

static inline bool pgprotect_filter_setattr(struct inode *inode,
					    const struct iattr *attr)
{
	return false;
}

static inline bool pgprotect_filter_range(struct address_space *mapping,
					  loff_t pos, loff_t len)
{
	return false;
}

static inline bool pgprotect_filter_fallocate(struct address_space *mapping,
					      int mode, loff_t pos, loff_t len)
{
	return false;
}

static inline bool pgprotect_filter_kiocb(const struct kiocb *iocb,
					  size_t count)
{
	return false;
}

static inline size_t pgprotect_filter_write(struct address_space *mapping,
					    loff_t pos, size_t count)
{
	return count;
}

static inline bool pgprotect_filter_vma(struct vm_area_struct *vma,
					unsigned long addr, unsigned long nr)
{
	return false;
}

static inline bool pgprotect_fill_waits(struct vm_area_struct *vma,
					unsigned long addr, unsigned long nr)
{
	return false;
}

static inline bool pgprotect_filter_fill(struct address_space *mapping,
					 pgoff_t pgoff)
{
	return false;
}

static inline pte_t pgprotect_filter_pte(struct vm_area_struct *vma,
					 unsigned long addr, unsigned long nr,
					 pte_t pte)
{
	return pte;
}

#ifdef CONFIG_TRANSPARENT_HUGEPAGE
static inline pmd_t pgprotect_filter_pmd(struct vm_area_struct *vma,
					 unsigned long addr, pmd_t pmd)
{
	return pmd;
}
#endif

static inline bool pgprotect_filter_flush(struct vm_area_struct *vma)
{
	return false;
}

static inline int pgprotect_prctl(int option, unsigned long arg2,
				  unsigned long arg3, unsigned long arg4,
				  unsigned long arg5)
{
	return -EINVAL;
}

static inline void pgprotect_exec_secure(struct task_struct *task)
{
}

static inline void pgprotect_evict(struct address_space *mapping)
{
}

#endif /* CONFIG_PGPROTECT */

#endif /* _LINUX_PGPROTECT_H */
