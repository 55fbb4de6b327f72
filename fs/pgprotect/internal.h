/* SPDX-License-Identifier: GPL-2.0 */
/* pgprotect: the calls behind the device */
#ifndef _FS_PGPROTECT_INTERNAL_H
#define _FS_PGPROTECT_INTERNAL_H

#include "../../mm/pgprotect/internal.h"

struct iov_iter;
struct kiocb;

/* How a call is made. */
#define PGPROTECT_NONBLOCK	BIT(0)	/* do not wait for events */
#define PGPROTECT_PUNT		BIT(1)	/* -EAGAIN, nothing done, if it would */

/*
 * An ioctl: @arg is the kernel's copy of the caller's structure, checked for
 * size and zero tail, and is copied back when the call writes to it.
 */
typedef int pgprotect_call(struct pgprotect_context *ctx, void *arg,
			   unsigned int how);

/* attach.c */
pgprotect_call pgprotect_ioc_attach;
pgprotect_call pgprotect_ioc_detach;
pgprotect_call pgprotect_ioc_list;
void pgprotect_drop_all(struct pgprotect_context *ctx);

/* protect.c */
pgprotect_call pgprotect_ioc_protect;
pgprotect_call pgprotect_ioc_unprotect;
pgprotect_call pgprotect_ioc_copy;

/* queue.c */
pgprotect_call pgprotect_ioc_next;
ssize_t pgprotect_read_iter(struct kiocb *iocb, struct iov_iter *to);

/* policy.c */
bool pgprotect_privileged(void);
int pgprotect_add_handler(struct pgprotect_context *ctx);

#endif /* _FS_PGPROTECT_INTERNAL_H */
