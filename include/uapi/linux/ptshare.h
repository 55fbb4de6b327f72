/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * ptshare: advice to madvise(2) about shared page tables.
 *
 * See Documentation/mm/ptshare.rst.
 */
#ifndef _UAPI_LINUX_PTSHARE_H
#define _UAPI_LINUX_PTSHARE_H

/**
 * MADV_PTSHARE - map this range by page tables that all mappers share
 *
 * For the part of the range that consists of whole aligned units of 2 MiB, both
 * in the address space and in the file. EINVAL: there is no such part; the
 * mapping is not a writable shared one of shared memory; it is locked, sealed,
 * registered with userfaultfd, tracked for soft-dirty pages, advised
 * MADV_HUGEPAGE, or has a protection key; a mirror (KVM, HMM) is registered on
 * the address space; or /sys/kernel/mm/ptshare/enabled is "never".
 */
#define MADV_PTSHARE	104

/**
 * MADV_NOPTSHARE - map this range by page tables of its own again
 *
 * For all units of 2 MiB that the range touches. Never fails but for memory
 * (EAGAIN).
 */
#define MADV_NOPTSHARE	105

#endif /* _UAPI_LINUX_PTSHARE_H */
