// SPDX-License-Identifier: GPL-2.0
/* pgprotect device: contexts, and the way of each call to its function */
#include <linux/anon_inodes.h>
#include <linux/compat.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/io_uring/cmd.h>
#include <linux/memcontrol.h>
#include <linux/miscdevice.h>
#include <linux/pid_namespace.h>
#include <linux/poll.h>
#include <linux/ptshare.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <asm/ioctls.h>

#include "internal.h"

/*
 * A file that nobody uses, of an inode that security modules label for whoever
 * opens the context, as they do for userfaultfd, and whose creation they may
 * forbid. Calls, also by io_uring, and reads are checked against it, besides the
 * device's own label.
 */
static const struct file_operations context_label_fops = {
	.owner	= THIS_MODULE,
};

static int context_label(struct pgprotect_context *ctx)
{
	struct file *label;

	label = anon_inode_create_getfile("[pgprotect]", &context_label_fops,
					  NULL, O_RDWR, NULL);
	if (IS_ERR(label))
		return PTR_ERR(label);
	ctx->label = label;
	return 0;
}

/* Count the context for its opener, until it is closed. */
static int context_charge(struct pgprotect_context *ctx)
{
	ctx->user = pgprotect_user_get(current_cred());
	if (!ctx->user)
		return -ENOMEM;
	if (pgprotect_charge(ctx->user, PGPROTECT_LIMIT_CONTEXTS))
		return 0;
	pgprotect_user_put(ctx->user);
	return -EMFILE;
}

/* Return: a context with one reference, or an ERR_PTR. */
static struct pgprotect_context *context_alloc(void)
{
	struct pgprotect_context *ctx =
		kvzalloc(sizeof(*ctx), GFP_KERNEL_ACCOUNT);
	int ret;

	if (!ctx)
		return ERR_PTR(-ENOMEM);
	ret = context_label(ctx);
	if (ret)
		goto free;
	ret = context_charge(ctx);
	if (ret)
		goto put_label;
	kref_init(&ctx->ref);
	mutex_init(&ctx->config);
	xa_init_flags(&ctx->files, XA_FLAGS_ALLOC1);
	xa_init(&ctx->handlers);
	init_waitqueue_head(&ctx->wait);
	init_waitqueue_head(&ctx->cut);
	spin_lock_init(&ctx->lock);
	INIT_LIST_HEAD(&ctx->queued);
	INIT_LIST_HEAD(&ctx->fetched);
	INIT_LIST_HEAD(&ctx->notes);
	hash_init(ctx->stalls);
	INIT_DELAYED_WORK(&ctx->expire, pgprotect_expire);
	ctx->cred = get_current_cred();
	ctx->pid_ns = get_pid_ns(task_active_pid_ns(current));
	ctx->opener = get_pid(task_tgid(current));
	ctx->opener_exec_id = current->self_exec_id;
	ctx->privileged = pgprotect_privileged();
	ctx->memcg = get_mem_cgroup_from_mm(current->mm);
	return ctx;

put_label:
	fput(ctx->label);
free:
	kvfree(ctx);
	return ERR_PTR(ret);
}

static int pgprotect_open(struct inode *inode, struct file *file)
{
	struct pgprotect_context *ctx = context_alloc();

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	pgprotect_use();
	file->private_data = ctx;
	/* Reads honour IOCB_NOWAIT: io_uring polls instead of punting. */
	file->f_mode |= FMODE_NOWAIT;
	return stream_open(inode, file);
}

static int pgprotect_close(struct inode *inode, struct file *file)
{
	struct pgprotect_context *ctx = file->private_data;

	pgprotect_drop_all(ctx);
	pgprotect_expire_now(ctx);
	pgprotect_uncharge(ctx->user, PGPROTECT_LIMIT_CONTEXTS);
	pgprotect_context_put(ctx);
	return 0;
}

static __poll_t pgprotect_poll(struct file *file, poll_table *wait)
{
	struct pgprotect_context *ctx = file->private_data;

	poll_wait(file, &ctx->wait, wait);
	return pgprotect_queued(ctx) ? EPOLLIN | EPOLLRDNORM : 0;
}

static int pgprotect_ioc_info(struct pgprotect_context *ctx, void *arg,
			      unsigned int how)
{
	struct pgprotect_info *info = arg;

	*info = (struct pgprotect_info) {
		.size = info->size,
		.version = PGPROTECT_API_VERSION,
		.features = PGPROTECT_FEATURE_STALL | PGPROTECT_FEATURE_DENY |
			    PGPROTECT_FEATURE_SHMEM | PGPROTECT_FEATURE_PERSIST |
			    PGPROTECT_FEATURE_PINS |
			    (IS_ENABLED(CONFIG_IO_URING) ?
			     PGPROTECT_FEATURE_URING_CMD : 0) |
			    (IS_ENABLED(CONFIG_HUGETLBFS) ?
			     PGPROTECT_FEATURE_HUGETLB : 0) |
			    (IS_ENABLED(CONFIG_EXT4_FS) ||
			     IS_ENABLED(CONFIG_XFS_FS) ?
			     PGPROTECT_FEATURE_REGULAR : 0),
		.page_size = PAGE_SIZE,
		.max_ranges = PGPROTECT_MAX_RANGES,
		.max_batch = PGPROTECT_MAX_BATCH,
		.stall_ms = READ_ONCE(pgprotect_stall_ms),
		.max_notes = PGPROTECT_MAX_NOTES,
		.modes = BIT(PGPROTECT_MODE_STALL) | BIT(PGPROTECT_MODE_DENY),
		.ptshare_align = ptshare_alignment(),
	};
	return 0;
}

/**
 * struct pgprotect_op - an ioctl
 * @cmd: Its number, with the size of the kernel's structure.
 * @min_size: Size of the structure as first published, bytes.
 * @call: Does it.
 * @uring: Also to be had as uring_cmd.
 */
struct pgprotect_op {
	unsigned int cmd;
	unsigned int min_size;
	pgprotect_call *call;
	bool uring;
};

static const struct pgprotect_op pgprotect_ops[] = {
#define OP(name, v1, fn, ...) \
	[_IOC_NR(PGPROTECT_IOC_##name)] = { PGPROTECT_IOC_##name, v1, fn, ##__VA_ARGS__ }
	OP(INFO, 48, pgprotect_ioc_info),
	OP(ATTACH, 40, pgprotect_ioc_attach),
	OP(DETACH, 8, pgprotect_ioc_detach),
	OP(PROTECT, 64, pgprotect_ioc_protect),
	OP(UNPROTECT, 32, pgprotect_ioc_unprotect, .uring = true),
	OP(NEXT, 56, pgprotect_ioc_next, .uring = true),
	OP(COPY, 48, pgprotect_ioc_copy),
	OP(LIST, 32, pgprotect_ioc_list),
#undef OP
};

union pgprotect_arg {
	u32 size;
	struct pgprotect_info info;
	struct pgprotect_attach attach;
	struct pgprotect_detach detach;
	struct pgprotect_protect protect;
	struct pgprotect_unprotect unprotect;
	struct pgprotect_next next;
	struct pgprotect_copy copy;
	struct pgprotect_list list;
};

#define OP_NUMBER(cmd)	((cmd) & ~(_IOC_SIZEMASK << _IOC_SIZESHIFT))

static const struct pgprotect_op *op_find(unsigned int cmd)
{
	unsigned int nr = _IOC_NR(cmd);

	if (nr >= ARRAY_SIZE(pgprotect_ops) || !pgprotect_ops[nr].call ||
	    OP_NUMBER(cmd) != OP_NUMBER(pgprotect_ops[nr].cmd))
		return NULL;
	return &pgprotect_ops[nr];
}

/* Can all @size bytes at @uarg, not more than a page, be stored? */
static bool op_writable(void __user *uarg, const union pgprotect_arg *arg,
			size_t size)
{
	const u8 *bytes = (const u8 *)arg;
	u8 __user *to = uarg;

	return !put_user(bytes[0], to) &&
	       !put_user(bytes[size - 1], to + size - 1);
}

/* Copy the caller's structure in, do the call, copy it back. */
static int op_run(struct pgprotect_context *ctx, const struct pgprotect_op *op,
		  void __user *uarg, unsigned int how)
{
	size_t ksize = _IOC_SIZE(op->cmd);
	union pgprotect_arg arg;
	size_t out = 0;
	u32 size;
	int ret;

	if (get_user(size, (u32 __user *)uarg))
		return -EFAULT;
	if (size < op->min_size)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	ret = copy_struct_from_user(&arg, ksize, uarg, size);
	if (ret)
		return ret;
	/* It may have changed since it was read: what was checked counts. */
	arg.size = size;
	if (_IOC_DIR(op->cmd) & _IOC_READ)
		out = min_t(size_t, size, ksize);
	/* Before anything acts: that the answer can be stored. */
	if (out && !op_writable(uarg, &arg, out))
		return -EFAULT;
	ret = op->call(ctx, &arg, how);
	if (out && copy_to_user(uarg, &arg, out))
		return -EFAULT;
	return ret;
}

static long pgprotect_ioctl(struct file *file, unsigned int cmd,
			    unsigned long arg)
{
	struct pgprotect_context *ctx = file->private_data;
	const struct pgprotect_op *op;
	int ret;

	ret = security_file_ioctl(ctx->label, cmd, arg);
	if (ret)
		return ret;
	if (cmd == FIONREAD) {
		size_t bytes = pgprotect_queued(ctx) *
			       sizeof(struct pgprotect_event);

		return put_user((int)min_t(size_t, bytes, INT_MAX),
				(int __user *)arg);
	}
	op = op_find(cmd);
	if (!op)
		return -ENOTTY;
	return op_run(ctx, op, (void __user *)arg,
		      file->f_flags & O_NONBLOCK ? PGPROTECT_NONBLOCK : 0);
}

static int pgprotect_uring_cmd(struct io_uring_cmd *cmd,
			       unsigned int issue_flags)
{
	const struct pgprotect_uring_cmd *area = io_uring_sqe_cmd(cmd->sqe);
	struct pgprotect_context *ctx = cmd->file->private_data;
	const struct pgprotect_op *op = op_find(cmd->cmd_op);
	u64 arg = READ_ONCE(area->arg);
	unsigned int how = 0;
	int ret;

	/* An ioctl by another door. */
	ret = security_file_ioctl(ctx->label, cmd->cmd_op, arg);
	if (ret)
		return ret;
	if (!op || !op->uring)
		return -EOPNOTSUPP;
	if (READ_ONCE(area->reserved))
		return -EINVAL;
	if (cmd->file->f_flags & O_NONBLOCK)
		how |= PGPROTECT_NONBLOCK;
	if (issue_flags & IO_URING_F_NONBLOCK)
		how |= PGPROTECT_PUNT;
	ret = op_run(ctx, op, u64_to_user_ptr(arg), how);
	return ret == -ERESTARTNOHAND ? -EINTR : ret;
}

static const char * const mode_names[] = {
	[PGPROTECT_MODE_STALL]	= "stall",
	[PGPROTECT_MODE_DENY]	= "deny",
};

static void pgprotect_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct pgprotect_context *ctx = file->private_data;
	struct pgprotect_attachment *att;
	unsigned long id;

	seq_printf(m, "pgprotect-version:\t%u\n", PGPROTECT_API_VERSION);
	seq_printf(m, "queued:\t%u\n", pgprotect_queued(ctx));
	seq_printf(m, "stalled:\t%u\n", READ_ONCE(ctx->nr_waiting));
	seq_printf(m, "notes-lost:\t%llu\n", READ_ONCE(ctx->lost_total));
	/*
	 * Not under RCU: there may be many pages to count. Nor under
	 * ctx->config: a PROTECT may have it for long, and who reads this may
	 * be somebody else.
	 */
	for (id = 1; !seq_has_overflowed(m); id++) {
		att = pgprotect_attachment_next(ctx, &id);
		if (!att)
			break;
		seq_printf(m, "attachment:\tfile=%lu dev=%u:%u ino=%llu mode=%s pages=%lu stalled=%u events=%lld flags=%#llx cookie=%#llx\n",
			   id, MAJOR(att->dev), MINOR(att->dev), att->ino,
			   mode_names[att->mode], pgprotect_weight(att, 0, ULONG_MAX),
			   READ_ONCE(att->waiting),
			   atomic64_read(&att->events), att->flags,
			   att->cookie);
		pgprotect_attachment_put(att);
	}
}

static const struct file_operations pgprotect_fops = {
	.owner		= THIS_MODULE,
	.open		= pgprotect_open,
	.release	= pgprotect_close,
	.read_iter	= pgprotect_read_iter,
	.poll		= pgprotect_poll,
	.unlocked_ioctl	= pgprotect_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.uring_cmd	= pgprotect_uring_cmd,
	.show_fdinfo	= pgprotect_show_fdinfo,
};

static struct miscdevice pgprotect_device = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "pgprotect",
	.mode	= 0600,
	.fops	= &pgprotect_fops,
};

/* The ABI: sizes never change, structures have no holes. */
static void __init pgprotect_check_abi(void)
{
	BUILD_BUG_ON(sizeof(struct pgprotect_info) != 48);
	BUILD_BUG_ON(offsetof(struct pgprotect_info, ptshare_align) != 40);
	BUILD_BUG_ON(sizeof(struct pgprotect_attach) != 40);
	BUILD_BUG_ON(offsetof(struct pgprotect_attach, stall_ms) != 32);
	BUILD_BUG_ON(sizeof(struct pgprotect_detach) != 8);
	BUILD_BUG_ON(sizeof(struct pgprotect_range) != 24);
	BUILD_BUG_ON(sizeof(struct pgprotect_protect) != 64);
	BUILD_BUG_ON(offsetof(struct pgprotect_protect, duration_ns) != 56);
	BUILD_BUG_ON(sizeof(struct pgprotect_unprotect) != 32);
	BUILD_BUG_ON(sizeof(struct pgprotect_event) != 64);
	BUILD_BUG_ON(offsetof(struct pgprotect_event, type) != 56);
	BUILD_BUG_ON(sizeof(struct pgprotect_verdict) != 16);
	BUILD_BUG_ON(sizeof(struct pgprotect_next) != 56);
	BUILD_BUG_ON(offsetof(struct pgprotect_next, timeout_ns) != 32);
	BUILD_BUG_ON(sizeof(struct pgprotect_copy) != 48);
	BUILD_BUG_ON(sizeof(struct pgprotect_list_entry) != 72);
	BUILD_BUG_ON(sizeof(struct pgprotect_list) != 32);
	BUILD_BUG_ON(sizeof(struct pgprotect_uring_cmd) != 16);
}

static int __init pgprotect_device_init(void)
{
	pgprotect_check_abi();
	return misc_register(&pgprotect_device);
}
device_initcall(pgprotect_device_init);
