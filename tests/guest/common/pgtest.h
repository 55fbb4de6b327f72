/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Helpers of the guest tests: contexts, files, writers, handlers.
 *
 * A helper that cannot set a test up ends the test: it prints why and exits
 * with 1, which the harness counts as a failure. A helper named *_try, and all
 * that a test may want to see fail, returns 0 (or a count) or -errno.
 *
 * Nothing here sleeps to let time pass: WAIT_FOR polls a condition, with a
 * deadline. Children die with the test.
 */
#ifndef PGTEST_H
#define PGTEST_H

#include <linux/pgprotect.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))
#define DEADLINE_MS	20000
#define OTHER_UID	4711	/* a user who owns nothing */

void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
uint64_t now_ns(void);
void pause_briefly(void);
extern void *const nowhere;	/* cannot be read nor written */
size_t page_size(void);

/* True as soon as @cond is; false if it is not within DEADLINE_MS. */
#define WAIT_FOR(cond) ({						\
	uint64_t end_ = now_ns() + DEADLINE_MS * 1000000ULL;		\
	bool met_;							\
	while (!(met_ = (cond)) && now_ns() < end_)			\
		pause_briefly();					\
	met_;								\
})

/* True if @cond is true all of @ms: for "nothing happens". */
#define HOLDS_FOR(ms, cond) ({						\
	uint64_t end_ = now_ns() + (ms) * 1000000ULL;			\
	bool held_;							\
	while ((held_ = (cond)) && now_ns() < end_)			\
		pause_briefly();					\
	held_;								\
})

/* --- contexts: 0, a count or -errno, unless said otherwise --- */

int ctx_open(void);				/* the fd; ends the test on error */
int ctx_open_try(int flags);			/* the fd or -errno */
/*
 * A context whose opener is @uid with no capability but @cap (-1: none). The
 * caller keeps its own rights and gets the fd.
 */
int ctx_open_by(uid_t uid, int cap);
int ctx_ioctl(int ctx, unsigned long cmd, void *arg);
int ctx_attach_try(int ctx, struct pgprotect_attach *args);	/* fills size */
/* The file id; ends the test on error. The cookie is COOKIE(fd). */
uint32_t ctx_attach(int ctx, int fd, uint32_t mode, uint64_t flags);
uint32_t ctx_attach_limit(int ctx, int fd, uint32_t mode, uint64_t flags, uint32_t stall_ms);
#define COOKIE(fd)	(0xc00c1e0000000000ULL | (uint32_t)(fd))
int ctx_detach(int ctx, uint32_t file);

struct pgprotect_range range_of(uint32_t file, uint64_t offset, uint64_t length);
int ctx_protect(int ctx, const struct pgprotect_range *ranges, uint32_t nr);
int ctx_protect_args(int ctx, struct pgprotect_protect *args);	/* fills size, access */
int ctx_protect_range(int ctx, uint32_t file, uint64_t offset, uint64_t length);
int ctx_protect_all(int ctx, uint32_t file);	/* 0 to PGPROTECT_TO_EOF */
int ctx_unprotect(int ctx, const struct pgprotect_range *ranges, uint32_t nr);
int ctx_unprotect_range(int ctx, uint32_t file, uint64_t offset, uint64_t length);
int ctx_unprotect_all(int ctx, uint32_t file);

/* The next four make the calling thread a handler: see PGPROTECT_IOC_NEXT. */
int ctx_next_args(int ctx, struct pgprotect_next *args);	/* fills size */
/* Events fetched: waits for @min, DEADLINE_MS at most. */
int ctx_next(int ctx, struct pgprotect_event *events, uint32_t max, uint32_t min);
/* 0; 1 if the verdict was stale; -errno. */
int ctx_verdict(int ctx, uint64_t id, uint32_t action, int error);
/* 0, or -EAGAIN after DEADLINE_MS. */
int ctx_read_event(int ctx, struct pgprotect_event *event);

int ctx_copy(int ctx, uint32_t file, uint64_t offset, const void *source, uint64_t length,
	     uint64_t *copied);
/* Attachments there are; @entries receives @max of them. */
int ctx_list(int ctx, struct pgprotect_list_entry *entries, uint32_t max);

/* The number after "@key:" in the context's fdinfo; ends the test if absent. */
long ctx_fdinfo(int ctx, const char *key);
/* True when exactly @nr writers wait in the context; false at the deadline. */
bool ctx_wait_stalled(int ctx, long nr);
/* True when an event can be read; false after @ms. */
bool ctx_readable(int ctx, int ms);

long stall_limit_read(void);			/* sysctl vm.pgprotect_stall_ms */
void stall_limit_write(long ms);

/* --- files --- */

enum file_kind {
	FILE_MEMFD, FILE_TMPFS, FILE_SHARED_ANON, FILE_SYSV, NR_FILE_KINDS,
	FILE_EXT4 = NR_FILE_KINDS, FILE_XFS
};
extern const char *const file_kind_names[];

struct test_file {
	int fd;		/* open for reading and writing */
	char *map;	/* all of it, shared, read and write */
	size_t size;
};

/* A new file of @pages pages, all present and zero. */
struct test_file file_make(enum file_kind kind, size_t pages);
/* The same, all of it a hole. */
struct test_file file_sparse(enum file_kind kind, size_t pages);
struct test_file file_memfd(size_t pages);
void file_close(struct test_file *file);
int memfd_make(size_t size, unsigned int flags);	/* MFD_* */
/* Creates /dev/shm/pgtest.XXXXXX; @path, if given, gets its name, else it is unlinked. */
int tmpfs_make(size_t size, char path[32]);
/*
 * Where a file system of kind FILE_EXT4 or FILE_XFS is mounted, on a loop device on
 * tmpfs, from the first call of a boot on; NULL: not possible on this system.
 */
const char *disk_mount(enum file_kind kind);
/* Creates a file there, of zeros; @path as for tmpfs_make(). Ends the test on error. */
int disk_make(enum file_kind kind, size_t size, char path[32]);
/*
 * The kind that the environment wants instead of a memfd or a file on tmpfs, by
 * PGTEST_FILE=ext4 or xfs; else @kind.
 */
enum file_kind file_kind_wanted(enum file_kind kind);
/* Writes to a file of the kernel's. */
bool write_text(const char *path, const char *text);
/* Opens what is mapped at @addr through /proc/self/map_files. */
int map_files_open(const void *addr, size_t size);
char *map_shared(int fd, size_t size);			/* read and write */
/* Sets each byte of page i to i + 1, modulo 256. */
void file_fill(struct test_file *file);

/*
 * Writes one byte at the start of this page, by pwrite: 1 or -errno. A page
 * protected by DENY with NOTIFY raises an event this way, and nobody waits.
 */
long write_page(int fd, uint64_t page, char value);
char read_page(int fd, uint64_t page);		/* its first byte */

/* A file attached to a context of its own. */
struct subject {
	int ctx;
	uint32_t id;
	struct test_file file;
};

/* A memfd of @pages pages, attached; not protected yet. */
struct subject subject_attached(size_t pages, uint32_t mode, uint64_t flags);
/* The same, all of it protected. */
struct subject subject_protected(size_t pages, uint32_t mode, uint64_t flags);
void subject_close(struct subject *subject);

uint64_t checksum(const void *data, size_t size);
uint64_t checksum_fd(int fd, size_t size);		/* by pread */

/* --- accesses that a protection may refuse --- */

#define GOT_SIGBUS	(-10000L)	/* not a -errno */

/* 0 or GOT_SIGBUS. */
long store_byte(volatile char *address, char value);
long store_word(volatile uint64_t *address, uint64_t value);
/* What pwrite returns, or -errno. */
long pwrite_bytes(int fd, const void *data, size_t length, off_t offset);
/* In this thread, since the start: SIGBUS that store_byte caught; the last one's address. */
unsigned int sigbus_count(void);
void *sigbus_address(void);

/* --- writers: threads and processes that may be made to wait --- */

struct writer {
	/* Set by the test, before the writer starts; arg must stay valid. */
	long (*op)(struct writer *self);
	void *arg;
	/* Filled by the writer; shared memory. */
	pid_t pid;
	_Atomic pid_t tid;
	_Atomic long progress;	/* for the op's own use */
	_Atomic uint32_t ready;	/* checkpoints reached */
	_Atomic uint32_t go;	/* checkpoints it may pass */
	_Atomic bool done;
	long result;		/* what op returned */
	/* Private to the helpers. */
	pthread_t thread;
	bool is_thread;
	bool reaped;
	int status;
};

struct writer *writer_thread(long (*op)(struct writer *self), void *arg);
struct writer *writer_fork(long (*op)(struct writer *self), void *arg);
/* With this uid and gid, no capabilities, and dumpable (may be traced by its user). */
struct writer *writer_fork_as(uid_t uid, long (*op)(struct writer *self), void *arg);

/* In the writer: tell the test, wait for its writer_go. */
void writer_checkpoint(struct writer *self);
/* In the test: wait until the writer stands at its next checkpoint; let it pass. */
void writer_wait_ready(struct writer *writer);
void writer_go(struct writer *writer);

/* True once the writer sleeps at the gate; false if it ended or at the deadline. */
bool writer_stalled(struct writer *writer);
/* The same for any thread. */
bool task_stalled(pid_t tid);		/* at once: is it there now? */
char task_state(pid_t tid);		/* R, S, D, T, Z...; 0: gone */
bool writer_done(struct writer *writer);		/* now */
/* What op returned. Ends the test at the deadline, or if the process was killed. */
long writer_join(struct writer *writer);
/* Waits for the end of a process, however it ends: the wait status. */
int writer_wait(struct writer *writer);
void writer_kill(struct writer *writer, int sig);
/* True once it sleeps, wherever; false at the deadline. */
bool writer_sleeps(struct writer *writer);
/* Signals it until it ends: one signal may come before the call it is to interrupt. */
bool writer_interrupt(struct writer *writer, int sig);

/* Ops: arg is a struct access. */
struct access {
	int fd;
	char *map;
	uint64_t offset;
	uint64_t length;	/* for op_pwrite; 0: one byte */
	char value;
};
long op_store(struct writer *self);	/* 0 or GOT_SIGBUS */
long op_pwrite(struct writer *self);	/* the count or -errno; at most one page */

/* Runs @fn in a child with @uid (0: as is) and returns what it returned, 0 to 255. */
int run_as(uid_t uid, int (*fn)(void *arg), void *arg);
/* In a child: become @uid for good, without capabilities, yet dumpable. */
void become_user(uid_t uid);
/* The same, but for one capability; -1: none. */
void become_user_with(uid_t uid, int cap);
/* Sends @fd over the socket @sock; receives one. */
void send_fd(int sock, int fd);
int receive_fd(int sock);
/* Counts @sig in signals_seen from now on; @flags of sigaction, as SA_RESTART. */
void count_signal(int sig, int flags);
extern _Atomic unsigned int signals_seen;
/* A forked child that dies with its parent. 0 in the child. */
pid_t fork_child(void);
/* Its wait status; kills it at the deadline and ends the test. */
int wait_child(pid_t pid);

/* --- handlers: a thread that answers every event --- */

enum handler_policy {
	HANDLER_HOLD,		/* collect, do not answer */
	HANDLER_ALLOW,
	HANDLER_REFUSE,
};

struct handler;

/* @error: for HANDLER_REFUSE. */
struct handler *handler_start(int ctx, enum handler_policy policy, int error);
/* Changes the policy; events held until now are answered by it as well. */
void handler_set(struct handler *handler, enum handler_policy policy, int error);
/* True once @nr events have come since the start; false at the deadline. */
bool handler_wait(struct handler *handler, size_t nr);
size_t handler_count(struct handler *handler);
/* The event of this number, from 0, in order of arrival. */
struct pgprotect_event handler_event(struct handler *handler, size_t index);
/* Events at this page, of this type. */
size_t handler_count_at(struct handler *handler, uint64_t offset, uint16_t type);
size_t handler_stale(struct handler *handler);
/* Ends the thread, without answering what it holds. The context stays open. */
void handler_stop(struct handler *handler);

#endif
