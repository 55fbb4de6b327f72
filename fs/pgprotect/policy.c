// SPDX-License-Identifier: GPL-2.0
/* pgprotect policy: who may do what to whom */
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/pid.h>
#include <linux/prctl.h>
#include <linux/ptrace.h>
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
 * pgprotect_may_attach - may a context attach a file, and protect its pages?
 * @ctx: The context; its opener's credentials count.
 * @file: The file, open for writing.
 *
 * The answer holds as long as i_rwsem is held.
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
	    inode->i_mapping != file->f_mapping ||
	    inode->i_mapping != &inode->i_data)
		return -EOPNOTSUPP;
	old = override_creds(ctx->cred);
	allowed = inode_owner_or_capable(file_mnt_idmap(file), inode) ||
		  capable(CAP_SYS_ADMIN);
	/* An owner can make writes fail by truncating; not to such a file. */
	if (IS_APPEND(inode) || IS_IMMUTABLE(inode))
		allowed = allowed && capable(CAP_LINUX_IMMUTABLE);
	revert_creds(old);
	return allowed ? 0 : -EPERM;
}

/* The ids, dumpability and capabilities of ptrace's attach check. */
static bool pgprotect_may_trace(const struct cred *opener)
{
	/* Not what overlayfs or a credential file has put in place. */
	const struct cred *cred = current_real_cred();
	struct mm_struct *mm = current->mm;

	if (pgprotect_capable(opener, cred->user_ns, CAP_SYS_PTRACE))
		return !mm || get_dumpable(mm) == SUID_DUMP_USER ||
		       pgprotect_capable(opener, mm->user_ns, CAP_SYS_PTRACE);
	return (!mm || get_dumpable(mm) == SUID_DUMP_USER) &&
	       uid_eq(opener->fsuid, cred->euid) &&
	       uid_eq(opener->fsuid, cred->suid) &&
	       uid_eq(opener->fsuid, cred->uid) &&
	       gid_eq(opener->fsgid, cred->egid) &&
	       gid_eq(opener->fsgid, cred->sgid) &&
	       gid_eq(opener->fsgid, cred->gid) &&
	       opener->user_ns == cred->user_ns &&
	       cap_issubset(cred->cap_permitted, opener->cap_effective);
}

/* Is the current task a thread of the program that opened the context? */
static bool pgprotect_is_own(const struct pgprotect_context *ctx)
{
	/* One that it has executed since may be confined otherwise. */
	return task_tgid(current) == ctx->opener &&
	       current->self_exec_id == ctx->opener_exec_id;
}

/*
 * Ask the security modules, whose hook takes the current credentials for the
 * tracer's. Those that go by the tracer's task instead (Landlock, Smack, the
 * relations of Yama) see a task that traces itself, and allow it; they cannot
 * be asked about an opener who may have ended. Like ptrace itself, this does
 * not let them keep a process from stopping its own threads.
 *
 * A refusal may be logged, whatever the mode says, and there is one for each
 * write: who was refused last is not asked about again. The reference keeps the
 * pointer from being another's.
 */
static bool pgprotect_lsm_may_trace(struct pgprotect_context *ctx)
{
	const struct cred *writer = current_real_cred();
	const struct cred *old;
	int ret;

	if (!IS_ENABLED(CONFIG_SECURITY) || pgprotect_is_own(ctx))
		return true;
	if (READ_ONCE(ctx->refused) == writer)
		return false;
	old = override_creds(ctx->cred);
	ret = security_ptrace_access_check(current, PTRACE_MODE_ATTACH_FSCREDS |
						    PTRACE_MODE_NOAUDIT);
	revert_creds(old);
	if (ret)
		put_cred(xchg(&ctx->refused, get_cred(writer)));
	return !ret;
}

/**
 * pgprotect_may_stall - may a context stall the current task?
 * @ctx: The context.
 * @user: The task is in user mode, or at the entry of a system call: it holds
 *	no locks.
 *
 * Stalling a task is no more than stopping it; whoever could not do that is
 * left with refusing the write. A task can say by prctl(2) that anybody may, or
 * that nobody may.
 *
 * Context: does not sleep.
 */
bool pgprotect_may_stall(struct pgprotect_context *ctx, bool user)
{
	if (current->flags & PF_KTHREAD)
		return pgprotect_capable(ctx->cred, &init_user_ns,
					 CAP_SYS_ADMIN);
	if (test_bit(PFA_PGPROTECT_FAIL, &current->atomic_flags) ||
	    (!user && !ctx->privileged))
		return false;
	return test_bit(PFA_PGPROTECT_STALL, &current->atomic_flags) ||
	       (pgprotect_may_trace(ctx->cred) && pgprotect_lsm_may_trace(ctx));
}

static int pgprotect_prctl_set(unsigned long how)
{
	if (how > PR_PGPROTECT_FAIL)
		return -EINVAL;
	assign_bit(PFA_PGPROTECT_FAIL, &current->atomic_flags,
		   how == PR_PGPROTECT_FAIL);
	assign_bit(PFA_PGPROTECT_STALL, &current->atomic_flags,
		   how == PR_PGPROTECT_STALL);
	return 0;
}

/**
 * pgprotect_prctl - PR_SET_PGPROTECT and PR_GET_PGPROTECT
 * @option: Which.
 * @arg2: PR_SET_PGPROTECT: PR_PGPROTECT_*; else 0.
 * @arg3: 0.
 * @arg4: 0.
 * @arg5: 0.
 *
 * Context: does not sleep. Return: 0 or PR_PGPROTECT_*; -EINVAL.
 */
int pgprotect_prctl(int option, unsigned long arg2, unsigned long arg3,
		    unsigned long arg4, unsigned long arg5)
{
	if (arg3 || arg4 || arg5)
		return -EINVAL;
	if (option == PR_SET_PGPROTECT)
		return pgprotect_prctl_set(arg2);
	if (arg2)
		return -EINVAL;
	if (test_bit(PFA_PGPROTECT_FAIL, &current->atomic_flags))
		return PR_PGPROTECT_FAIL;
	return test_bit(PFA_PGPROTECT_STALL, &current->atomic_flags) ?
	       PR_PGPROTECT_STALL : PR_PGPROTECT_DEFAULT;
}

/**
 * pgprotect_exec_secure - a program gains privileges by exec
 * @task: That executes it. It has not agreed to wait for anybody. That it must
 *	not wait at all may have been said for it by what starts services: its
 *	writes fail where they could have failed anyway.
 *
 * Context: any.
 */
void pgprotect_exec_secure(struct task_struct *task)
{
	clear_bit(PFA_PGPROTECT_STALL, &task->atomic_flags);
}

/*
 * Forget handlers that have ended, so that there are never many more than live
 * at a time. Who is about to store an entry holds a reference to its own pid.
 */
static void handlers_prune(struct pgprotect_context *ctx)
{
	unsigned long index;
	struct pid *pid;

	xa_lock(&ctx->handlers);
	if (ctx->nr_handlers >= ctx->prune_handlers) {
		xa_for_each(&ctx->handlers, index, pid) {
			if (pid_has_task(pid, PIDTYPE_PID))
				continue;
			__xa_erase(&ctx->handlers, index);
			put_pid(pid);
			ctx->nr_handlers--;
		}
		ctx->prune_handlers = 2 * ctx->nr_handlers + 64;
	}
	xa_unlock(&ctx->handlers);
}

static int handlers_store(struct pgprotect_context *ctx, struct pid *pid)
{
	struct pid *old;

	handlers_prune(ctx);
	get_pid(pid);
	xa_lock(&ctx->handlers);
	old = __xa_store(&ctx->handlers, pid_nr(pid), pid, GFP_KERNEL_ACCOUNT);
	if (!old)
		ctx->nr_handlers++;
	xa_unlock(&ctx->handlers);
	if (xa_is_err(old)) {
		put_pid(pid);
		return xa_err(old);
	}
	put_pid(old);
	return 0;
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

	/* A worker of io_uring runs what a handler submitted, and other things. */
	if ((current->flags & PF_IO_WORKER) || pgprotect_is_handler(ctx))
		return 0;
	if (!READ_ONCE(ctx->handler)) {
		if (!cmpxchg(&ctx->handler, NULL, get_pid(pid)))
			return 0;
		put_pid(pid);
	}
	return handlers_store(ctx, pid);
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
