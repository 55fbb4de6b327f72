/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * pgprotect: write protection that belongs to a file. The whole user ABI.
 *
 * Each open of /dev/pgprotect is a context. A context attaches files, protects
 * ranges of them, and hears of every attempt to change a protected page, by
 * whichever process and route. All structures have the same layout for 32-bit
 * and 64-bit callers; pointers travel as 64-bit integers.
 *
 * Rules for every ioctl structure:
 *  - @size is set by the caller to the size of the structure it was compiled
 *    with. A structure longer than the kernel's is accepted if the part the
 *    kernel does not know is zero, else the call fails with E2BIG. A structure
 *    shorter than the first published version fails with EINVAL.
 *  - Unknown flag bits and non-zero reserved words fail with EINVAL.
 *  - A pointer that cannot be accessed fails with EFAULT.
 *  - A call that fails has changed nothing, unless its comment says otherwise.
 */
#ifndef _UAPI_LINUX_PGPROTECT_H
#define _UAPI_LINUX_PGPROTECT_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Version of this interface, as returned by PGPROTECT_IOC_INFO. */
#define PGPROTECT_API_VERSION		1

/* Ranges in one PROTECT or UNPROTECT call. More fail with E2BIG. */
#define PGPROTECT_MAX_RANGES		65536
/* Verdicts, and events, in one NEXT call. More fail with E2BIG. */
#define PGPROTECT_MAX_BATCH		4096

/*
 * As pgprotect_range.length: to the end of the file, wherever that is and will
 * be. Protects what a later append would add.
 */
#define PGPROTECT_TO_EOF		(~0ULL)

/**
 * enum pgprotect_mode - what the first write to a protected page meets
 * @PGPROTECT_MODE_STALL: An event is queued, the writer sleeps until the page
 *	is released or the write is refused by a verdict.
 * @PGPROTECT_MODE_DENY: The writer fails at once: SIGBUS for a store, EPERM
 *	for a system call.
 * @PGPROTECT_MODE_TRACK: Reserved. ATTACH fails with EOPNOTSUPP.
 * @PGPROTECT_MODE_PRESERVE: Reserved. ATTACH fails with EOPNOTSUPP.
 */
enum pgprotect_mode {
	PGPROTECT_MODE_STALL	= 1,
	PGPROTECT_MODE_DENY	= 2,
	PGPROTECT_MODE_TRACK	= 3,
	PGPROTECT_MODE_PRESERVE	= 4,
};

/*
 * Besides the seals of <linux/fcntl.h>: the memfd cannot be attached. A file
 * that is attached, also by an attachment that was kept without a context, cannot
 * be sealed (EBUSY).
 */
#ifndef F_SEAL_PGPROTECT
#define F_SEAL_PGPROTECT		0x0040
#endif

/* Kinds of access that a protection can forbid. Only write, so far. */
#define PGPROTECT_ACCESS_WRITE		(1U << 0)

/* Feature bits of PGPROTECT_IOC_INFO. */
#define PGPROTECT_FEATURE_STALL		(1ULL << 0)
#define PGPROTECT_FEATURE_DENY		(1ULL << 1)
#define PGPROTECT_FEATURE_TRACK		(1ULL << 2)
#define PGPROTECT_FEATURE_PRESERVE	(1ULL << 3)
#define PGPROTECT_FEATURE_SCAN		(1ULL << 4)
#define PGPROTECT_FEATURE_SHMEM		(1ULL << 5)
#define PGPROTECT_FEATURE_URING_CMD	(1ULL << 6)
#define PGPROTECT_FEATURE_PERSIST	(1ULL << 7)
#define PGPROTECT_FEATURE_PINS		(1ULL << 8)
#define PGPROTECT_FEATURE_HUGETLB	(1ULL << 9)	/* files of hugetlbfs */
#define PGPROTECT_FEATURE_REGULAR	(1ULL << 10)	/* files of ext4 and xfs */

/**
 * struct pgprotect_info - what this kernel supports
 * @size: Size of this structure, bytes.
 * @version: Out: PGPROTECT_API_VERSION of the kernel.
 * @features: Out: PGPROTECT_FEATURE_* bits.
 * @page_size: Out: granularity of protection but for hugetlbfs, bytes. Offsets and lengths of
 *	all calls are multiples of it.
 * @max_ranges: Out: ranges accepted by one PROTECT or UNPROTECT.
 * @max_batch: Out: verdicts or events accepted by one NEXT.
 * @stall_ms: Out: longest stall the administrator allows, milliseconds
 *	(sysctl vm.pgprotect_stall_ms); 0: no limit.
 * @max_notes: Out: events without a waiting writer that a context queues
 *	before it reports PGPROTECT_EVENT_OVERFLOW.
 * @modes: Out: bit (1 << mode) is set for each supported enum pgprotect_mode.
 * @ptshare_align: Out: alignment of address and offset at which a shared
 *	mapping can share page tables, bytes; 0: page tables are not shared.
 *
 * Errors: only those of every call. Context: does not sleep for long.
 */
struct pgprotect_info {
	__u32 size;
	__u32 version;
	__aligned_u64 features;
	__u32 page_size;
	__u32 max_ranges;
	__u32 max_batch;
	__u32 stall_ms;
	__u32 max_notes;
	__u32 modes;
	__aligned_u64 ptshare_align;
};

/* STALL: at the time limit the writer goes on, its page released, not failed. */
#define PGPROTECT_ATTACH_TIMEOUT_RELEASE	(1ULL << 0)
/* DENY: queue an event for each refused write. */
#define PGPROTECT_ATTACH_NOTIFY			(1ULL << 1)
/*
 * Keep the protection when the context is closed, until the file's inode goes
 * or another context adopts the attachment. Needs CAP_SYS_ADMIN (EPERM), and a
 * file in memory (EOPNOTSUPP): others lose their inode when nobody uses it.
 */
#define PGPROTECT_ATTACH_PERSIST		(1ULL << 2)
/*
 * Take over an attachment that was kept by PGPROTECT_ATTACH_PERSIST, with its
 * protected pages; @mode must be its mode. ENOENT: the file has none. Needs
 * CAP_SYS_ADMIN (EPERM).
 */
#define PGPROTECT_ATTACH_ADOPT			(1ULL << 3)

/**
 * struct pgprotect_attach - attach a file to the context
 * @size: Size of this structure, bytes.
 * @fd: The file, open for writing.
 * @mode: enum pgprotect_mode.
 * @access: PGPROTECT_ACCESS_WRITE.
 * @flags: PGPROTECT_ATTACH_* bits.
 * @cookie: Any value; comes back in every event of this file.
 * @stall_ms: Longest stall of one writer, milliseconds; 0, or more than the
 *	administrator's limit: that limit.
 * @file: Out: the file's id in this context, never 0.
 *
 * A file can be attached any number of times, to one context or to several:
 * protections add up. Nothing is protected yet.
 *
 * Kinds of file: shmem (memfd, tmpfs, shared anonymous memory, SysV shm),
 * hugetlbfs, and regular files of ext4 and xfs, but no swap file and no DAX.
 *
 * Errors: EBADF (@fd is no file, or not open for writing), EOPNOTSUPP (kind of
 * file or mode not supported), EINTR (killed while waiting for a write in
 * progress), EPERM (the context's opener neither owns the file nor has
 * CAP_FOWNER or CAP_SYS_ADMIN; the file is append-only or immutable and he has
 * no CAP_LINUX_IMMUTABLE; it is sealed by F_SEAL_PGPROTECT), EINVAL, ENOMEM,
 * ENOSPC (too many attachments of this context, of this file, or of the opener:
 * sysctl vm.pgprotect_max_attachments), ENOENT (see PGPROTECT_ATTACH_ADOPT).
 * Context: may sleep for memory.
 */
struct pgprotect_attach {
	__u32 size;
	__s32 fd;
	__u32 mode;
	__u32 access;
	__aligned_u64 flags;
	__aligned_u64 cookie;
	__u32 stall_ms;
	__u32 file;
};

/**
 * struct pgprotect_detach - drop an attachment
 * @size: Size of this structure, bytes.
 * @file: The id that ATTACH returned.
 *
 * Drops all protection of this attachment and releases every writer that waits
 * for it. Also drops an attachment with PGPROTECT_ATTACH_PERSIST.
 *
 * Errors: ENOENT (no such id). Context: waits for a PROTECT under way.
 */
struct pgprotect_detach {
	__u32 size;
	__u32 file;
};

/**
 * struct pgprotect_range - a range of an attached file
 * @file: The file's id. In the @pins of PROTECT: likewise.
 * @reserved: Zero.
 * @offset: First byte; a multiple of the page size, which for a file of
 *	hugetlbfs is that of its huge pages (st_blksize).
 * @length: Bytes; a multiple of the page size, not 0, or PGPROTECT_TO_EOF.
 *	May reach beyond the end of the file: what is written there later is
 *	protected too.
 */
struct pgprotect_range {
	__u32 file;
	__u32 reserved;
	__aligned_u64 offset;
	__aligned_u64 length;
};

/* Fail with EBUSY if a page of the ranges is pinned for DMA or GUP. */
#define PGPROTECT_PROTECT_STRICT	(1ULL << 0)

/**
 * struct pgprotect_protect - protect ranges
 * @size: Size of this structure, bytes.
 * @access: PGPROTECT_ACCESS_WRITE.
 * @flags: PGPROTECT_PROTECT_* bits.
 * @ranges: Pointer to an array of struct pgprotect_range.
 * @nr_ranges: Its length, 1 to PGPROTECT_MAX_RANGES. Ranges may overlap.
 * @max_pins: Length of the array at @pins; may be 0. What is above
 *	PGPROTECT_MAX_RANGES is not used.
 * @pins: Pointer to an array of struct pgprotect_range that receives runs of
 *	pages that were pinned when protection was complete, so that a device
 *	or another holder of the pin may still change them; sorted per file.
 * @nr_pins: Out: runs found. With PGPROTECT_PROTECT_STRICT at most 1.
 * @nr_tables: Out: last-level page tables (or huge entries) visited.
 * @nr_pages: Out: pages below the end of the file that are protected now and
 *	were not before.
 * @duration_ns: Out: time the call took, nanoseconds.
 *
 * When the call returns 0, no byte of the ranges below the end of the file can
 * change before its writer has met the gate, but for the reported pins. All
 * ranges, over all files, are protected as of one point in time: until the
 * last is protected, no writer that met the first gets through.
 *
 * Errors: EINVAL (unaligned, empty or overflowing range, no range), E2BIG (too
 * many), ENOENT (no such file id), EPERM (as ATTACH), ENOMEM (also for what the
 * sysctl vm.pgprotect_max_state_kb allows the opener), EINTR (killed while waiting
 * for a write in progress), EBUSY (strict, and a page is pinned: @pins[0] and
 * @nr_pins tell the first run). On error nothing is protected that was not
 * before. Context: sleeps for memory and for system calls that are writing to
 * the files; must not be called with a buffer inside a protected file.
 */
struct pgprotect_protect {
	__u32 size;
	__u32 access;
	__aligned_u64 flags;
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__u32 max_pins;
	__aligned_u64 pins;
	__u32 nr_pins;
	__u32 nr_tables;
	__aligned_u64 nr_pages;
	__aligned_u64 duration_ns;
};

/**
 * struct pgprotect_unprotect - drop protection and wake the writers
 * @size: Size of this structure, bytes.
 * @nr_ranges: Length of the array, 1 to PGPROTECT_MAX_RANGES.
 * @flags: Zero.
 * @ranges: Pointer to an array of struct pgprotect_range.
 * @nr_pages: Out: pages below the end of the file that were protected and are
 *	not now.
 *
 * Wakes exactly the writers of the pages released.
 *
 * Errors: EINVAL, E2BIG, ENOENT as PROTECT; ENOMEM: @nr_pages tells how much
 * was released; ranges are released in the order given and the call can be
 * repeated. Context: may sleep for memory.
 */
struct pgprotect_unprotect {
	__u32 size;
	__u32 nr_ranges;
	__aligned_u64 flags;
	__aligned_u64 ranges;
	__aligned_u64 nr_pages;
};

/**
 * enum pgprotect_event_type - why an event was queued
 * @PGPROTECT_EVENT_STALL: A writer waits. Answer with a verdict for the
 *	event's id, or release its pages.
 * @PGPROTECT_EVENT_DENIED: A write was refused (DENY with ATTACH_NOTIFY).
 * @PGPROTECT_EVENT_TIMEOUT: A writer's stall ended at its time limit. The id is
 *	that of the STALL event, which needs no answer any more; 0: others
 *	still wait for it.
 * @PGPROTECT_EVENT_OVERFLOW: @waiters events of the types above, STALL
 *	excepted, were lost because nobody read them.
 */
enum pgprotect_event_type {
	PGPROTECT_EVENT_STALL		= 1,
	PGPROTECT_EVENT_DENIED		= 2,
	PGPROTECT_EVENT_TIMEOUT		= 3,
	PGPROTECT_EVENT_OVERFLOW	= 4,
};

/**
 * enum pgprotect_origin - how the write came
 * @PGPROTECT_ORIGIN_STORE: A store through a mapping, or a system call that
 *	writes to user memory or takes it for writing (GUP).
 * @PGPROTECT_ORIGIN_WRITE: write(2) and its kin, AIO, io_uring.
 * @PGPROTECT_ORIGIN_SPLICE: splice, sendfile, copy_file_range.
 * @PGPROTECT_ORIGIN_TRUNCATE: truncate, ftruncate, open with O_TRUNC.
 * @PGPROTECT_ORIGIN_FALLOCATE: fallocate, MADV_REMOVE.
 * @PGPROTECT_ORIGIN_REFLINK: FICLONE, FICLONERANGE.
 * @PGPROTECT_ORIGIN_PIN: A new long-term pin that needs no page table.
 * @PGPROTECT_ORIGIN_UFFD: A page filled by userfaultfd.
 * @PGPROTECT_ORIGIN_IOCTL: PGPROTECT_IOC_COPY of another attachment.
 */
enum pgprotect_origin {
	PGPROTECT_ORIGIN_STORE		= 1,
	PGPROTECT_ORIGIN_WRITE		= 2,
	PGPROTECT_ORIGIN_SPLICE		= 3,
	PGPROTECT_ORIGIN_TRUNCATE	= 4,
	PGPROTECT_ORIGIN_FALLOCATE	= 5,
	PGPROTECT_ORIGIN_REFLINK	= 6,
	PGPROTECT_ORIGIN_PIN		= 7,
	PGPROTECT_ORIGIN_UFFD		= 8,
	PGPROTECT_ORIGIN_IOCTL		= 9,
};

/**
 * struct pgprotect_event - one record of read(2) and of NEXT
 * @id: Names the event in a verdict; unique in the context. 0: no answer.
 * @offset: First byte of the protected pages that are to be written.
 * @length: Bytes; a multiple of the page size. A store asks for one page, a
 *	system call for the first run of protected pages in its range.
 * @cookie: As given to ATTACH.
 * @time_ns: CLOCK_MONOTONIC when the first writer met the gate, nanoseconds.
 * @file: The file's id in this context.
 * @pid: Process (thread group) of the first writer, in the pid namespace of
 *	the context's opener; 0 if it is not visible there.
 * @tid: Its thread, likewise.
 * @waiters: Writers waiting for @offset when the event was read. For
 *	PGPROTECT_EVENT_OVERFLOW: events lost.
 * @type: enum pgprotect_event_type.
 * @origin: enum pgprotect_origin of the first writer; 0 for OVERFLOW.
 * @reserved: Zero.
 *
 * There is one STALL event per page, however many writers wait for it. It is
 * delivered once.
 */
struct pgprotect_event {
	__aligned_u64 id;
	__aligned_u64 offset;
	__aligned_u64 length;
	__aligned_u64 cookie;
	__aligned_u64 time_ns;
	__u32 file;
	__u32 pid;
	__u32 tid;
	__u32 waiters;
	__u16 type;
	__u16 origin;
	__u32 reserved;
};

/**
 * enum pgprotect_action - what becomes of the writers of an event
 * @PGPROTECT_ALLOW: The event's pages are released, its writers go on.
 * @PGPROTECT_REFUSE: The writers waiting now fail; the pages stay protected.
 */
enum pgprotect_action {
	PGPROTECT_ALLOW		= 1,
	PGPROTECT_REFUSE	= 2,
};

/**
 * struct pgprotect_verdict - the answer to a STALL event
 * @id: The event's id.
 * @action: enum pgprotect_action.
 * @error: With PGPROTECT_REFUSE: what a system call returns, a positive errno,
 *	1 to 133; 0: EPERM. A store gets SIGBUS in any case.
 */
struct pgprotect_verdict {
	__aligned_u64 id;
	__u32 action;
	__s32 error;
};

/**
 * struct pgprotect_next - answer a batch of events and fetch the next
 * @size: Size of this structure, bytes.
 * @nr_verdicts: Length of the array at @verdicts, 0 to PGPROTECT_MAX_BATCH.
 *	Out: verdicts taken, stale ones included.
 * @verdicts: Pointer to an array of struct pgprotect_verdict.
 * @events: Pointer to an array of struct pgprotect_event.
 * @max_events: Its length, 0 to PGPROTECT_MAX_BATCH.
 * @min_events: Wait until so many events are there; at most @max_events. 0: do
 *	not wait.
 * @timeout_ns: Longest wait, nanoseconds, on CLOCK_MONOTONIC; negative: none.
 * @flags: Zero.
 * @nr_events: Out: events fetched.
 * @nr_stale: Out: verdicts whose event was gone: the writer was killed, was
 *	interrupted and will be back, timed out, or was answered before.
 *
 * Verdicts are checked as a whole before the first acts. With O_NONBLOCK the
 * call does not wait. A wait that ends by time or by O_NONBLOCK returns what
 * there is, which may be nothing; a wait that is interrupted by a signal fails
 * with EINTR only if there is nothing to return.
 *
 * The calling thread becomes a handler of this context: from now on the
 * context does not stall it. A store of it to a protected page is SIGBUS, a
 * system call fails with EDEADLK; PGPROTECT_IOC_COPY is the way to write.
 *
 * Errors: EINVAL, E2BIG, EFAULT (verdicts that were read have acted; events
 * that could not be stored are delivered again), EINTR, ENOMEM (a page could
 * not be released: its event and those after it are unanswered, @nr_verdicts
 * tells how many were answered). Context: sleeps as asked.
 */
struct pgprotect_next {
	__u32 size;
	__u32 nr_verdicts;
	__aligned_u64 verdicts;
	__aligned_u64 events;
	__u32 max_events;
	__u32 min_events;
	__s64 timeout_ns;
	__aligned_u64 flags;
	__u32 nr_events;
	__u32 nr_stale;
};

/**
 * struct pgprotect_copy - write through the protection, and release
 * @size: Size of this structure, bytes.
 * @file: The file's id.
 * @offset: First byte; a multiple of the page size, below the end of the file.
 * @source: Pointer to the bytes to write.
 * @length: Bytes; a multiple of the page size. Bytes that would fall beyond
 *	the end of the file are not written.
 * @flags: Zero.
 * @copied: Out: bytes written; the pages they fill are released.
 *
 * Passes this attachment only: protection by another one is met as by any
 * writer.
 *
 * Errors: EOPNOTSUPP (a file of hugetlbfs, which cannot be written to), EINVAL,
 * ENOENT, EFAULT, ENOMEM, ENOSPC, EPERM (sealed, append-only, or refused by
 * another attachment), EDEADLK (the same, in a context that the thread is a
 * handler of), ETIMEDOUT or a verdict's errno (its stall), EINTR; @copied tells
 * what was written before the error, and the call succeeds if that is not 0,
 * unless its pages could not be released (ENOMEM). Context: sleeps.
 */
struct pgprotect_copy {
	__u32 size;
	__u32 file;
	__aligned_u64 offset;
	__aligned_u64 source;
	__aligned_u64 length;
	__aligned_u64 flags;
	__aligned_u64 copied;
};

/* pgprotect_list_entry.state */
#define PGPROTECT_LIST_ORPHAN	(1U << 0)	/* kept by ATTACH_PERSIST, no context */

/**
 * struct pgprotect_list_entry - one attachment in the system
 * @dev: Device number of the file, as st_dev (encoded as by stat(2)).
 * @ino: Inode number of the file.
 * @cookie: As given to ATTACH.
 * @pages: Pages protected, below the end of the file.
 * @events: Events raised since ATTACH.
 * @flags: PGPROTECT_ATTACH_* bits.
 * @mode: enum pgprotect_mode.
 * @state: PGPROTECT_LIST_* bits.
 * @pid: Process that opened the context, in the caller's pid namespace; 0 if
 *	not visible.
 * @uid: User that opened the context, in the caller's user namespace.
 * @stalled: Writers waiting now.
 * @file: The file's id in its context; 0 for an orphan.
 */
struct pgprotect_list_entry {
	__aligned_u64 dev;
	__aligned_u64 ino;
	__aligned_u64 cookie;
	__aligned_u64 pages;
	__aligned_u64 events;
	__aligned_u64 flags;
	__u32 mode;
	__u32 state;
	__u32 pid;
	__u32 uid;
	__u32 stalled;
	__u32 file;
};

/**
 * struct pgprotect_list - attachments in the system that the caller may see
 * @size: Size of this structure, bytes.
 * @max_entries: Length of the array at @entries.
 * @entries: Pointer to an array of struct pgprotect_list_entry.
 * @flags: Zero.
 * @nr_entries: Out: attachments there are; more than @max_entries: the array
 *	was too short and holds the first @max_entries.
 * @reserved: Zero.
 *
 * A caller sees the attachments of contexts opened by its own user; with
 * CAP_SYS_ADMIN, all.
 *
 * Errors: only those of every call, and ENOMEM. Context: may sleep.
 */
struct pgprotect_list {
	__u32 size;
	__u32 max_entries;
	__aligned_u64 entries;
	__aligned_u64 flags;
	__u32 nr_entries;
	__u32 reserved;
};

#define PGPROTECT_IOC_MAGIC	0xBB

#define PGPROTECT_IOC_INFO	_IOWR(PGPROTECT_IOC_MAGIC, 0x00, struct pgprotect_info)
#define PGPROTECT_IOC_ATTACH	_IOWR(PGPROTECT_IOC_MAGIC, 0x01, struct pgprotect_attach)
#define PGPROTECT_IOC_DETACH	_IOW(PGPROTECT_IOC_MAGIC, 0x02, struct pgprotect_detach)
#define PGPROTECT_IOC_PROTECT	_IOWR(PGPROTECT_IOC_MAGIC, 0x03, struct pgprotect_protect)
#define PGPROTECT_IOC_UNPROTECT	_IOWR(PGPROTECT_IOC_MAGIC, 0x04, struct pgprotect_unprotect)
#define PGPROTECT_IOC_NEXT	_IOWR(PGPROTECT_IOC_MAGIC, 0x05, struct pgprotect_next)
#define PGPROTECT_IOC_COPY	_IOWR(PGPROTECT_IOC_MAGIC, 0x06, struct pgprotect_copy)
/* 0x07 is reserved for SCAN, 0x08 for SNAPSHOT. */
#define PGPROTECT_IOC_LIST	_IOWR(PGPROTECT_IOC_MAGIC, 0x09, struct pgprotect_list)

/**
 * struct pgprotect_uring_cmd - the command area of an IORING_OP_URING_CMD
 * @arg: Pointer to the structure of the ioctl.
 * @reserved: Zero.
 *
 * sqe->cmd_op is PGPROTECT_IOC_NEXT or PGPROTECT_IOC_UNPROTECT; any other
 * fails with EOPNOTSUPP. sqe->cmd holds this structure. The completion's res
 * is that of the ioctl.
 */
struct pgprotect_uring_cmd {
	__aligned_u64 arg;
	__aligned_u64 reserved;
};

#endif /* _UAPI_LINUX_PGPROTECT_H */
