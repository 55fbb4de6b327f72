/* SPDX-License-Identifier: GPL-2.0 */
/* Who attacks: users, user namespaces, programs that gain privileges by exec. */
#ifndef USERS_H
#define USERS_H

#include "pgtest.h"

#ifndef PR_SET_PGPROTECT
#define PR_SET_PGPROTECT	0x50475053
#define PR_GET_PGPROTECT	0x50475047
# define PR_PGPROTECT_DEFAULT	0
# define PR_PGPROTECT_STALL	1
# define PR_PGPROTECT_FAIL	2
#endif

#define USER	OTHER_UID

/* In a child: become root of a new user namespace that maps only the caller. */
void enter_userns(void);
/* A context that @uid opened as root of a namespace of his own. */
int ctx_open_in_userns(uid_t uid);
/* A memfd of USER's, of @pages pages. */
struct test_file file_of_user(size_t pages);
/* Attaches by @ctx, protects all of it; the file id. Ends the test on error. */
uint32_t protect_by(int ctx, int fd, uint32_t mode, uint64_t flags);
/* What ATTACH says: 0 or -errno. */
int attach_by(int ctx, int fd, uint32_t mode, uint64_t flags);

/*
 * This program again, in a child of @uid that has set @how by PR_SET_PGPROTECT,
 * with the owner's rights if @setuid: what program_main() makes of @word and @fd,
 * as its exit status.
 */
int exec_program(uid_t uid, int how, bool setuid, const char *word, int fd);

/*
 * Before the kernel's memory is measured: KASAN keeps objects that have been freed, megabytes
 * of them, until their cache is shrunk.
 */
void forget_freed(void);
/* Of one cache: its name, or a pattern. */
void forget_freed_of(const char *cache);

/* Reads or writes a number below /proc/sys/vm. */
long sysctl_read(const char *name);
void sysctl_write(const char *name, long value);

#endif
