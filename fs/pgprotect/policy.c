// SPDX-License-Identifier: GPL-2.0
/* pgprotect policy: who may do what to whom */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/pid.h>
#include <linux/sched/coredump.h>
#include <linux/security.h>

#include "internal.h"

static bool pgprotect_capable(const struct cred *cred,
			      struct user_namespace *ns, int cap)
{
	return !security_capable(cred, ns, cap, CAP_OPT_NOAUDIT);
}

/* May the caller stall writes in kernel mode, where unknown locks are held? */
bool pgprotect_privileged(void)
{
	return pgprotect_capable(current_cred(), &init_user_ns, CAP_SYS_PTRACE);
}

/* May the context's opener leave a fence behind, or take one over? */
bool pgprotect_admin(const struct pgprotect_context *ctx)
{
	return pgprotect_capable(ctx->cred, &init_user_ns, CAP_SYS_ADMIN);
}

/**
 * pgprotect_may_attach - may a context attach a file?
 * @ctx: The context; its opener's credentials count.
 * @file: The file, open for writing.
 *
 * Context: sleeps.
 * Return: 0, -EOPNOTSUPP for a kind of file that is not supported, -EPERM.
 */
int pgprotect_may_attach(const struct pgprotect_context *ctx,
			 struct file *file)
{
	struct inode *inode = file_inode(file);
	const struct cred *old;
	bool allowed;

	if (!S_ISREG(inode->i_mode) || IS_DAX(inode) || IS_NOQUOTA(inode) ||
	    !(inode->i_fop->fop_flags & FOP_PGPROTECT) ||
	    inode->i_mapping != file->f_mapping)
		return -EOPNOTSUPP;
	old = override_creds(ctx->cred);
	allowed = inode_owner_or_capable(file_mnt_idmap(file), inode) ||
		  capable(CAP_SYS_ADMIN);
	revert_creds(old);
	return allowed ? 0 : -EPERM;
}

/*
 * The ids and dumpability of ptrace's attach check, for an opener who may be
 * gone and a tracee that is current.
 */
static bool pgprotect_may_trace(const struct cred *opener)
{
	/* Not what overlayfs or a credential file has put in place. */
	const struct cred *cred = current_real_cred();
	struct mm_struct *mm = current->mm;

	if (mm && get_dumpable(mm) != SUID_DUMP_USER &&
	    !pgprotect_capable(opener, mm->user_ns, CAP_SYS_PTRACE))
		return false;
	if (uid_eq(opener->fsuid, cred->euid) &&
	    uid_eq(opener->fsuid, cred->suid) &&
	    uid_eq(opener->fsuid, cred->uid) &&
	    gid_eq(opener->fsgid, cred->egid) &&
	    gid_eq(opener->fsgid, cred->sgid) &&
	    gid_eq(opener->fsgid, cred->gid))
		return true;
	return pgprotect_capable(opener, cred->user_ns, CAP_SYS_PTRACE);
}

/**
 * pgprotect_may_stall - may a context stall the current task?
 * @ctx: The context.
 * @user: The task is in user mode, or at the entry of a system call: it holds
 *	no locks.
 *
 * Stalling a task is no more than stopping it; whoever could not do that is
 * left with refusing the write.
 *
 * Context: does not sleep.
 */
bool pgprotect_may_stall(const struct pgprotect_context *ctx, bool user)
{
	if (current->flags & PF_KTHREAD)
		return pgprotect_capable(ctx->cred, &init_user_ns,
					 CAP_SYS_ADMIN);
	if (!user && !ctx->privileged)
		return false;
	return pgprotect_may_trace(ctx->cred);
}

/**
 * pgprotect_add_handler - the current thread fetches events
 * @ctx: The context, which does not stall the thread from now on.
 *
 * Context: sleeps. Return: 0 or -ENOMEM.
 */
int pgprotect_add_handler(struct pgprotect_context *ctx)
{
	struct pid *pid = task_pid(current);
	struct pid *old;

	/* A worker of io_uring runs what a handler submitted, and other things. */
	if ((current->flags & PF_IO_WORKER) || pgprotect_is_handler(ctx))
		return 0;
	if (!READ_ONCE(ctx->handler)) {
		if (!cmpxchg(&ctx->handler, NULL, get_pid(pid)))
			return 0;
		put_pid(pid);
	}
	old = xa_store(&ctx->handlers, pid_nr(pid), get_pid(pid),
		       GFP_KERNEL_ACCOUNT);
	if (xa_is_err(old)) {
		put_pid(pid);
		return xa_err(old);
	}
	put_pid(old);
	return 0;
}

/* Has the current thread fetched events of @ctx? Context: does not sleep. */
bool pgprotect_is_handler(struct pgprotect_context *ctx)
{
	struct pid *pid = task_pid(current);

	/* Only the thread itself adds itself: it sees its own stores. */
	if (READ_ONCE(ctx->handler) == pid)
		return true;
	if (xa_empty(&ctx->handlers))
		return false;
	/* A number that was used again belongs to another struct pid. */
	return xa_load(&ctx->handlers, pid_nr(pid)) == pid;
}
