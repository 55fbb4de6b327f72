/* SPDX-License-Identifier: LGPL-2.1 OR MIT */
/*
 * libpgprotect: the pgprotect device for C and C++ programs.
 *
 * What holds for every function, unless its comment says otherwise:
 *  - It returns 0 or a useful non-negative value, or -errno. It leaves errno
 *    undefined, never prints, never exits, and installs no signal handler.
 *  - Offsets and lengths are bytes and multiples of the page size that
 *    pgprotect_info() tells; a length may be PGPROTECT_TO_EOF.
 *  - Different handles can be used by different threads at once. One context
 *    can be used by several threads at once too, except in pgprotect_close().
 *  - It is not async-signal-safe. pgprotect_loop_stop() and pgprotect_fd() are.
 *  - It is no cancellation point to rely on.
 *
 * Structures that begin with @size can grow: set it to sizeof the structure
 * that you were compiled with, and every member you do not use to zero. A
 * library that is older than your structure accepts it as long as what it does
 * not know is zero, and fails with -E2BIG otherwise; -EINVAL means that @size
 * was not set.
 */
#ifndef LIBPGPROTECT_H
#define LIBPGPROTECT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/pgprotect.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- contexts ---------------------------------------------------------- */

/* One context: an open of /dev/pgprotect. */
struct pgprotect;

/* pgprotect_next() and read(2) of the descriptor do not wait. */
#define PGPROTECT_OPEN_NONBLOCK	(1U << 0)
/* The descriptor does not survive execve(2). */
#define PGPROTECT_OPEN_CLOEXEC	(1U << 1)

/**
 * pgprotect_open() - open a context
 * @ctx: Receives the context; pgprotect_close() frees it.
 * @flags: PGPROTECT_OPEN_*.
 *
 * Errors: ENOENT (no /dev/pgprotect: the kernel lacks pgprotect, or /dev is
 * not populated), ENODEV or ENXIO (a node without its driver), EACCES or EPERM
 * (the device's mode, or a policy), ENOTTY (something else has that name),
 * EMFILE, ENFILE, ENOMEM, EINVAL (unknown flag).
 */
int pgprotect_open(struct pgprotect **ctx, unsigned int flags);

/**
 * pgprotect_open_fd() - make a context of a descriptor that was passed here
 * @ctx: Receives the context.
 * @fd: An open context. On success it belongs to @ctx and is closed with it;
 *	on failure it stays the caller's.
 *
 * Errors: EBADF, ENOTTY (@fd is no pgprotect context), ENOMEM.
 */
int pgprotect_open_fd(struct pgprotect **ctx, int fd);

/**
 * pgprotect_close() - close a context; NULL is allowed
 *
 * If no other descriptor refers to it, every page it protects is released and
 * every writer goes on, but for attachments with PGPROTECT_ATTACH_PERSIST. Free
 * the loops that use @ctx first.
 */
void pgprotect_close(struct pgprotect *ctx);

/**
 * pgprotect_fd() - the descriptor, for poll(2) and for passing it on
 *
 * Never fails. It stays @ctx's: do not close it. Async-signal-safe.
 */
int pgprotect_fd(const struct pgprotect *ctx);

/**
 * pgprotect_info() - what the kernel supports
 * @info: @info->size is set by the caller; the rest is filled in, and zero
 *	where the kernel knows less.
 *
 * Errors: EINVAL (size), E2BIG.
 */
int pgprotect_info(struct pgprotect *ctx, struct pgprotect_info *info);

/* --- files ------------------------------------------------------------- */

/**
 * struct pgprotect_attach_options - how a file is attached
 * @size: sizeof(struct pgprotect_attach_options).
 * @mode: enum pgprotect_mode; 0: PGPROTECT_MODE_STALL.
 * @access: 0: PGPROTECT_ACCESS_WRITE.
 * @flags: PGPROTECT_ATTACH_*.
 * @cookie: Comes back in every event of the file.
 * @stall_ms: Longest stall of a writer, milliseconds; 0: the administrator's
 *	limit.
 * @reserved: Zero.
 */
struct pgprotect_attach_options {
	size_t size;
	uint32_t mode;
	uint32_t access;
	uint64_t flags;
	uint64_t cookie;
	uint32_t stall_ms;
	uint32_t reserved;
};

/**
 * pgprotect_attach() - attach a file; nothing is protected yet
 * @fd: The file, open for writing. It can be closed afterwards.
 * @options: NULL: STALL, no flags, cookie 0.
 * @file: Receives the id that the other calls take; never 0.
 *
 * Errors: EBADF (no file, or not open for writing), EOPNOTSUPP (kind of file
 * or mode not supported), EPERM (neither owner nor privileged, or a flag that
 * needs privilege), EINVAL, E2BIG, ENOMEM, ENOSPC (too many attachments),
 * ENOENT (nothing to adopt).
 */
int pgprotect_attach(struct pgprotect *ctx, int fd,
		     const struct pgprotect_attach_options *options,
		     uint32_t *file);

/**
 * pgprotect_detach() - drop an attachment and release all its writers
 *
 * Errors: ENOENT. Waits for a pgprotect_protect() under way in @ctx.
 */
int pgprotect_detach(struct pgprotect *ctx, uint32_t file);

/**
 * struct pgprotect_result - what protecting did
 * @size: sizeof(struct pgprotect_result).
 * @pins: In: an array for the runs of pages that were pinned, so that a device
 *	may still change them; may be NULL.
 * @max_pins: In: its length.
 * @nr_pins: Out: runs there are; more than @max_pins: the first are stored.
 * @nr_tables: Out: last-level page tables visited.
 * @reserved: Zero.
 * @nr_pages: Out: pages protected now and not before.
 * @duration_ns: Out: time in the kernel, nanoseconds.
 */
struct pgprotect_result {
	size_t size;
	struct pgprotect_range *pins;
	uint32_t max_pins;
	uint32_t nr_pins;
	uint32_t nr_tables;
	uint32_t reserved;
	uint64_t nr_pages;
	uint64_t duration_ns;
};

/**
 * pgprotect_protectv() - protect ranges of any files of @ctx at one point in time
 * @ranges: Array; may overlap.
 * @nr_ranges: 1 to PGPROTECT_MAX_RANGES.
 * @flags: PGPROTECT_PROTECT_*.
 * @result: May be NULL. Filled in also on EBUSY.
 *
 * On error nothing is protected that was not before. Sleeps for memory and for
 * system calls that are writing to the files. No argument may lie in a
 * protected file.
 *
 * Errors: EINVAL (unaligned, empty or overflowing), E2BIG (too many ranges),
 * ENOENT (no such file id), ENOMEM, EINTR (being killed), EBUSY
 * (PGPROTECT_PROTECT_STRICT and a page is pinned).
 */
int pgprotect_protectv(struct pgprotect *ctx,
		       const struct pgprotect_range *ranges,
		       unsigned int nr_ranges, uint64_t flags,
		       struct pgprotect_result *result);

/**
 * pgprotect_protect() - pgprotect_protectv() with one range
 */
int pgprotect_protect(struct pgprotect *ctx, uint32_t file, uint64_t offset,
		      uint64_t length, uint64_t flags,
		      struct pgprotect_result *result);

/**
 * pgprotect_unprotectv() - release ranges and wake exactly their writers
 * @nr_pages: Receives the number of pages that were protected; may be NULL.
 *
 * Errors: as pgprotect_protectv(); after ENOMEM @nr_pages tells how much was
 * released, in the order given, and the call can be repeated.
 */
int pgprotect_unprotectv(struct pgprotect *ctx,
			 const struct pgprotect_range *ranges,
			 unsigned int nr_ranges, uint64_t *nr_pages);

/**
 * pgprotect_unprotect() - pgprotect_unprotectv() with one range
 */
int pgprotect_unprotect(struct pgprotect *ctx, uint32_t file, uint64_t offset,
			uint64_t length, uint64_t *nr_pages);

/**
 * pgprotect_copy() - write through the protection, and release what is written
 * @offset: First byte; a multiple of the page size, below the end of the file.
 * @source: Bytes to write; not in a protected file.
 * @length: A multiple of the page size.
 * @copied: Receives the bytes written, also on error; may be NULL.
 *
 * Succeeds if anything was written. Errors: EINVAL, ENOENT, EFAULT, ENOMEM,
 * ENOSPC, EPERM (sealed, or refused by another attachment), EINTR.
 */
int pgprotect_copy(struct pgprotect *ctx, uint32_t file, uint64_t offset,
		   const void *source, size_t length, size_t *copied);

/* --- events ------------------------------------------------------------ */

/**
 * struct pgprotect_batch - answers that go in and events that come out
 * @size: sizeof(struct pgprotect_batch).
 * @verdicts: In: answers to earlier events.
 * @nr_verdicts: In: their number, at most PGPROTECT_MAX_BATCH. Out, after
 *	ENOMEM: how many have been taken.
 * @max_events: In: length of @events, at most PGPROTECT_MAX_BATCH.
 * @events: Out: the events.
 * @min_events: In: wait for so many; 0: do not wait.
 * @nr_events: Out: events stored.
 * @timeout_ns: In: longest wait, nanoseconds; negative: no limit.
 * @nr_stale: Out: verdicts whose event was gone; no error.
 * @reserved: Zero.
 */
struct pgprotect_batch {
	size_t size;
	const struct pgprotect_verdict *verdicts;
	struct pgprotect_event *events;
	uint32_t nr_verdicts;
	uint32_t max_events;
	uint32_t min_events;
	uint32_t nr_events;
	int64_t timeout_ns;
	uint32_t nr_stale;
	uint32_t reserved;
};

/**
 * pgprotect_next() - answer a batch of events and fetch the next: one call
 *
 * Returns the number of events. The calling thread becomes a handler of @ctx:
 * @ctx never stalls it; its own writes to protected pages fail with EDEADLK or
 * SIGBUS, and pgprotect_copy() is the way to write.
 *
 * Errors: EINVAL, E2BIG, EFAULT, EINTR (nothing to return; the verdicts may
 * have been taken, giving them again does no harm), ENOMEM (see @nr_verdicts).
 * A non-blocking context never waits; 0 events is no error.
 */
int pgprotect_next(struct pgprotect *ctx, struct pgprotect_batch *batch);

/**
 * pgprotect_list() - the attachments in the system that the caller may see
 * @entries: Receives an array; pgprotect_list_free() frees it.
 *
 * Returns its length. Errors: ENOMEM, EINVAL.
 */
int pgprotect_list(struct pgprotect *ctx, struct pgprotect_list_entry **entries);

/** pgprotect_list_free() - free what pgprotect_list() gave; NULL is allowed */
void pgprotect_list_free(struct pgprotect_list_entry *entries);

/* "stall", "write", "timeout" and so on; "unknown" for other values. Constant
 * strings; async-signal-safe.
 */
const char *pgprotect_mode_name(unsigned int mode);
const char *pgprotect_origin_name(unsigned int origin);
const char *pgprotect_event_name(unsigned int type);

/* --- another process's shared mappings --------------------------------- */

/**
 * struct pgprotect_map - a shared mapping of a process
 * @start, @end: Its addresses there.
 * @offset: Offset in the file of @start, bytes.
 * @dev, @ino: The file, as st_dev and st_ino.
 * @path: As /proc/PID/maps says it, for example "/dev/zero (deleted)" for
 *	memory that is shared and anonymous.
 * @writable: Whether the process has mapped it for writing.
 * @deleted: Whether @path ends in " (deleted)", so that it opens nothing.
 */
struct pgprotect_map {
	uint64_t start;
	uint64_t end;
	uint64_t offset;
	uint64_t dev;
	uint64_t ino;
	const char *path;
	uint8_t writable;
	uint8_t deleted;
	uint8_t reserved[6];
};

/* The shared mappings of one process at one time. */
struct pgprotect_maps;

/**
 * pgprotect_maps_read() - read the shared mappings of a process
 * @pid: The process; 0: the caller.
 *
 * Errors: ESRCH (no such process), EACCES or EPERM (the caller may not look),
 * ENOMEM, EIO (the file cannot be understood).
 */
int pgprotect_maps_read(struct pgprotect_maps **maps, pid_t pid);

/** pgprotect_maps_count() - how many there are, in order of address */
size_t pgprotect_maps_count(const struct pgprotect_maps *maps);

/**
 * pgprotect_maps_get() - one of them
 *
 * Valid until pgprotect_maps_free(); NULL if @index is not below the count.
 */
const struct pgprotect_map *pgprotect_maps_get(const struct pgprotect_maps *maps,
					       size_t index);

/** pgprotect_maps_free() - free what pgprotect_maps_read() gave; NULL is allowed */
void pgprotect_maps_free(struct pgprotect_maps *maps);

/**
 * pgprotect_map_open() - open the file behind a mapping, for pgprotect_attach()
 * @pid: The process, as given to pgprotect_maps_read().
 *
 * Goes through /proc/PID/map_files, and if that is not permitted through the
 * descriptors of the process. Opens regular files only.
 *
 * Returns a descriptor, O_RDWR and O_CLOEXEC. Errors: EPERM (map_files needs
 * CAP_CHECKPOINT_RESTORE), EACCES, ENOENT (the mapping is gone, or the kernel
 * has no map_files), ESRCH (the process is gone), ESTALE (another file is
 * mapped there now), EOPNOTSUPP (no regular file), EROFS, ETXTBSY, EMFILE.
 */
int pgprotect_map_open(pid_t pid, const struct pgprotect_map *map);

/* --- event loop -------------------------------------------------------- */

/*
 * A loop waits for the events of one context, hands each to a callback and
 * gives the callback's answers back, a batch at a time:
 *
 *	io_uring: one system call for each batch. A multishot read brings the
 *	events, the answers ride along in the call that waits.
 *	epoll: one call for each batch while events keep coming (NEXT answers
 *	and fetches), two when the queue has run dry.
 */
struct pgprotect_loop;

/* Values that the event callback returns. */
#define PGPROTECT_LOOP_ALLOW	0	/* release the pages, the writers go on */
#define PGPROTECT_LOOP_PENDING	1	/* pgprotect_loop_answer() will say */
/* -errno: the writers that wait now fail with it, the pages stay protected. */

#define PGPROTECT_LOOP_URING	(1U << 0)	/* io_uring or nothing */
#define PGPROTECT_LOOP_EPOLL	(1U << 1)	/* do not try io_uring */

/**
 * struct pgprotect_loop_options - what a loop does
 * @size: sizeof(struct pgprotect_loop_options).
 * @flags: PGPROTECT_LOOP_URING or PGPROTECT_LOOP_EPOLL; 0: io_uring if it
 *	works here, else epoll.
 * @batch: Events to fetch at once, 1 to PGPROTECT_MAX_BATCH; 0: 256.
 * @interval_ns: Time between two calls of @tick, nanoseconds.
 * @data: Given to the callbacks.
 * @event: Called for each event of any type. Returns PGPROTECT_LOOP_ALLOW,
 *	PGPROTECT_LOOP_PENDING or -errno (-1 to -133); what it returns for an
 *	event with id 0 or of a type that needs no answer is ignored. The event
 *	is the loop's and gone when the callback returns.
 * @idle: May be NULL. Called when all events that were there have been handed
 *	out, their answers given, and the loop is about to wait. On io_uring it
 *	costs a second system call for each batch. Negative:
 *	pgprotect_loop_run() returns it.
 * @tick: May be NULL. Called every @interval_ns, under load too, when the
 *	answers to all events handed out have been given. Negative:
 *	pgprotect_loop_run() returns it.
 *
 * Callbacks run in the thread that runs the loop. They may call everything
 * but pgprotect_loop_run(), pgprotect_loop_free() of this loop and
 * pgprotect_close() of its context. That thread is a handler of the context
 * (see pgprotect_next()).
 */
struct pgprotect_loop_options {
	size_t size;
	uint32_t flags;
	uint32_t batch;
	int64_t interval_ns;
	void *data;
	int (*event)(struct pgprotect_loop *loop,
		     const struct pgprotect_event *event, void *data);
	int (*idle)(struct pgprotect_loop *loop, void *data);
	int (*tick)(struct pgprotect_loop *loop, void *data);
};

/**
 * pgprotect_loop_new() - make a loop for a context
 *
 * Errors: EINVAL, E2BIG, ENOMEM, EMFILE, and with PGPROTECT_LOOP_URING what
 * io_uring_setup(2) says: ENOSYS, EPERM (disabled), EOPNOTSUPP (too old).
 */
int pgprotect_loop_new(struct pgprotect_loop **loop, struct pgprotect *ctx,
		       const struct pgprotect_loop_options *options);

/**
 * pgprotect_loop_free() - free a loop; NULL is allowed
 *
 * The context stays. Events that were handed out and not answered stay
 * unanswered: release their pages, or close the context.
 */
void pgprotect_loop_free(struct pgprotect_loop *loop);

/**
 * pgprotect_loop_run() - run until stopped
 *
 * Returns 0 after pgprotect_loop_stop(), every event that was fetched having
 * been handed out and every answer so far given; or what a callback returned;
 * or -errno. After any of these it can be called again, in the same thread.
 *
 * Errors: ENOMEM (a page could not be released; its answer is kept), EMFILE,
 * EBUSY (it runs already), those of pgprotect_next().
 */
int pgprotect_loop_run(struct pgprotect_loop *loop);

/**
 * pgprotect_loop_stop() - make pgprotect_loop_run() return
 *
 * Async-signal-safe, from any thread, keeps errno. Called while the loop does
 * not run, it ends the next run at once.
 */
void pgprotect_loop_stop(struct pgprotect_loop *loop);

/**
 * pgprotect_loop_answer() - answer an event that was PENDING
 * @id: pgprotect_event.id.
 * @answer: PGPROTECT_LOOP_ALLOW or -errno (-1 to -133).
 *
 * From any thread and from callbacks. An answer to an event that is gone or
 * answered is ignored. Errors: EINVAL, ENOMEM.
 */
int pgprotect_loop_answer(struct pgprotect_loop *loop, uint64_t id, int answer);

/** pgprotect_loop_backend() - "io_uring" or "epoll"; may change in the first run */
const char *pgprotect_loop_backend(const struct pgprotect_loop *loop);

#ifdef __cplusplus
}
#endif

#endif /* LIBPGPROTECT_H */
