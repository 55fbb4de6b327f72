// SPDX-License-Identifier: GPL-2.0
/* pgprotect ranges: PROTECT, UNPROTECT and COPY as user space calls them */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/slab.h>
#include <linux/uio.h>

#include "internal.h"

#define LAST_PAGE	((pgoff_t)(LLONG_MAX >> PAGE_SHIFT))

/* Return: 0 or -EINVAL. */
static int range_pages(const struct pgprotect_range *range, pgoff_t *first,
		       pgoff_t *last)
{
	u64 end;

	if (range->reserved || !PAGE_ALIGNED(range->offset) ||
	    range->offset > LLONG_MAX)
		return -EINVAL;
	*first = range->offset >> PAGE_SHIFT;
	*last = LAST_PAGE;
	if (range->length == PGPROTECT_TO_EOF)
		return 0;
	if (!range->length || !PAGE_ALIGNED(range->length) ||
	    check_add_overflow(range->offset, range->length - 1, &end) ||
	    end > LLONG_MAX)
		return -EINVAL;
	*last = end >> PAGE_SHIFT;
	return 0;
}

/* Huge pages are protected as a whole. */
static bool range_is_whole(const struct pgprotect_arm_range *range)
{
	u32 unit = range->att->unit;

	return range->first % unit == 0 &&
	       (range->last == LAST_PAGE || (range->last + 1) % unit == 0);
}

/* Return: the caller's vector, to be kvfreed, or an ERR_PTR. */
static struct pgprotect_range *ranges_copy(u64 from, u32 nr)
{
	if (!nr)
		return ERR_PTR(-EINVAL);
	if (nr > PGPROTECT_MAX_RANGES)
		return ERR_PTR(-E2BIG);
	return vmemdup_array_user(u64_to_user_ptr(from), nr,
				  sizeof(struct pgprotect_range));
}

/*
 * Turn the caller's vector into pages of attachments, each with a reference.
 * Return: a vector to be given to ranges_put(), or an ERR_PTR.
 */
static struct pgprotect_arm_range *
ranges_resolve(struct pgprotect_context *ctx, u64 from, u32 nr)
{
	struct pgprotect_range *ranges = ranges_copy(from, nr);
	struct pgprotect_arm_range *out;
	u32 i = 0;
	int ret = 0;

	if (IS_ERR(ranges))
		return ERR_CAST(ranges);
	out = kvcalloc(nr, sizeof(*out), GFP_KERNEL_ACCOUNT);
	if (!out)
		ret = -ENOMEM;
	for (i = 0; !ret && i < nr; i++) {
		ret = range_pages(&ranges[i], &out[i].first, &out[i].last);
		if (ret)
			break;
		out[i].att = pgprotect_attachment_get(ctx, ranges[i].file);
		if (!out[i].att)
			ret = -ENOENT;
		else if (!range_is_whole(&out[i]))
			ret = -EINVAL;
	}
	kvfree(ranges);
	if (!ret)
		return out;
	for (i = 0; out && i < nr; i++)
		if (out[i].att)
			pgprotect_attachment_put(out[i].att);
	kvfree(out);
	return ERR_PTR(ret);
}

static void ranges_put(struct pgprotect_arm_range *ranges, u32 nr)
{
	while (nr--)
		pgprotect_attachment_put(ranges[nr].att);
	kvfree(ranges);
}

/* ctx->config is held. An attachment may have been detached meanwhile. */
static int protect_locked(struct pgprotect_context *ctx,
			  const struct pgprotect_arm_range *ranges, u32 nr,
			  bool strict, struct pgprotect_arm_result *res)
{
	u32 i;

	for (i = 0; i < nr; i++)
		if (READ_ONCE(ranges[i].att->gone))
			return -ENOENT;
	return pgprotect_arm(ctx, ranges, nr, strict, res);
}

static int protect_store_pins(struct pgprotect_protect *p,
			      const struct pgprotect_arm_result *res)
{
	size_t stored = min(res->nr_pins, res->max_pins);

	p->nr_pins = res->nr_pins;
	if (stored && copy_to_user(u64_to_user_ptr(p->pins), res->pins,
				   stored * sizeof(*res->pins)))
		return -EFAULT;
	return 0;
}

int pgprotect_ioc_protect(struct pgprotect_context *ctx, void *arg, unsigned int how)
{
	struct pgprotect_protect *p = arg;
	struct pgprotect_arm_result res = {
		.max_pins = min_t(u32, p->max_pins, PGPROTECT_MAX_RANGES),
	};
	struct pgprotect_arm_range *ranges;
	int ret;

	if (p->access != PGPROTECT_ACCESS_WRITE ||
	    (p->flags & ~PGPROTECT_PROTECT_STRICT))
		return -EINVAL;
	/* Before anything acts: that the pins can be stored. */
	if (res.max_pins &&
	    clear_user(u64_to_user_ptr(p->pins),
		       res.max_pins * sizeof(struct pgprotect_range)))
		return -EFAULT;
	if (res.max_pins) {
		res.pins = kvcalloc(res.max_pins, sizeof(*res.pins),
				    GFP_KERNEL_ACCOUNT);
		if (!res.pins)
			return -ENOMEM;
	}
	ranges = ranges_resolve(ctx, p->ranges, p->nr_ranges);
	if (IS_ERR(ranges)) {
		ret = PTR_ERR(ranges);
		goto free_pins;
	}
	ret = -EINTR;
	if (!mutex_lock_killable(&ctx->config)) {
		ret = protect_locked(ctx, ranges, p->nr_ranges,
				     p->flags & PGPROTECT_PROTECT_STRICT, &res);
		mutex_unlock(&ctx->config);
	}
	ranges_put(ranges, p->nr_ranges);

	p->nr_tables = res.nr_tables;
	p->nr_pages = res.nr_pages;
	p->duration_ns = res.duration_ns;
	if (!ret || ret == -EBUSY)
		ret = protect_store_pins(p, &res) ?: ret;
free_pins:
	kvfree(res.pins);
	return ret;
}

int pgprotect_ioc_unprotect(struct pgprotect_context *ctx, void *arg,
			    unsigned int how)
{
	struct pgprotect_unprotect *u = arg;
	struct pgprotect_arm_range *ranges;
	int ret = 0;
	u32 i;

	if (u->flags)
		return -EINVAL;
	u->nr_pages = 0;
	ranges = ranges_resolve(ctx, u->ranges, u->nr_ranges);
	if (IS_ERR(ranges))
		return PTR_ERR(ranges);
	for (i = 0; !ret && i < u->nr_ranges; i++) {
		unsigned long pages = 0;

		ret = pgprotect_release(ranges[i].att, ranges[i].first,
					ranges[i].last, GFP_KERNEL_ACCOUNT,
					&pages);
		u->nr_pages += pages;
		cond_resched();
	}
	ranges_put(ranges, u->nr_ranges);
	return ret;
}

/* One write by the file's own path; its gate and filter let @att pass. */
static ssize_t copy_write(struct file *file, u64 source, loff_t pos,
			  size_t count)
{
	struct iov_iter from;
	struct kiocb kiocb;
	ssize_t ret;

	ret = import_ubuf(ITER_SOURCE, u64_to_user_ptr(source), count, &from);
	if (ret)
		return ret;
	ret = rw_verify_area(WRITE, file, &pos, iov_iter_count(&from));
	if (ret)
		return ret;
	init_sync_kiocb(&kiocb, file);
	kiocb.ki_flags &= ~(IOCB_APPEND | IOCB_DIRECT);
	kiocb.ki_pos = pos;
	ret = pgprotect_gate_kiocb(&kiocb, iov_iter_count(&from),
				   PGPROTECT_ORIGIN_IOCTL, 0);
	if (ret)
		return ret;
	file_start_write(file);
	ret = file->f_op->write_iter(&kiocb, &from);
	file_end_write(file);
	return ret;
}

/* Return: bytes copied, or an error if none. att->copying is held. */
static ssize_t copy_locked(struct pgprotect_attachment *att, struct file *file,
			   u64 source, loff_t pos, u64 length)
{
	loff_t size = i_size_read(file_inode(file));
	u64 done = 0;
	ssize_t ret = 0;

	if (pos >= size)
		return -EINVAL;
	/* It writes where it says, also through a descriptor with O_APPEND. */
	if (IS_APPEND(file_inode(file)))
		return -EPERM;
	length = min_t(u64, length, size - pos);
	WRITE_ONCE(att->copier, current);
	while (done < length) {
		ret = copy_write(file, source + done, pos + done,
				 min_t(u64, length - done, MAX_RW_COUNT));
		if (ret <= 0)
			break;
		done += ret;
		cond_resched();
	}
	WRITE_ONCE(att->copier, NULL);
	if (!done)
		return ret == -ERESTARTSYS ? -EINTR : ret;
	return done;
}

int pgprotect_ioc_copy(struct pgprotect_context *ctx, void *arg, unsigned int how)
{
	struct pgprotect_copy *c = arg;
	struct pgprotect_range range = {
		.file = c->file,
		.offset = c->offset,
		.length = c->length,
	};
	struct pgprotect_attachment *att;
	struct file *file = NULL;
	pgoff_t first, last;
	ssize_t ret;
	u64 end;

	c->copied = 0;
	if (c->flags || c->length == PGPROTECT_TO_EOF ||
	    range_pages(&range, &first, &last))
		return -EINVAL;
	att = pgprotect_attachment_get(ctx, c->file);
	if (!att)
		return -ENOENT;
	ret = -EINTR;
	if (mutex_lock_killable(&att->copying))
		goto put;
	ret = -ENOENT;
	file = get_file_active(&att->file);
	if (file && !file->f_op->write_iter)
		ret = -EOPNOTSUPP;
	else if (file)
		ret = copy_locked(att, file, c->source, c->offset, c->length);
	mutex_unlock(&att->copying);
	if (ret < 0)
		goto put;

	c->copied = ret;
	ret = 0;
	/* The page that the end of the file cuts is whole. */
	end = c->offset + c->copied;
	if (end >= pgprotect_size(att))
		end = PAGE_ALIGN(end);
	if (end >> PAGE_SHIFT > first)
		ret = pgprotect_release(att, first, (end >> PAGE_SHIFT) - 1,
					GFP_KERNEL_ACCOUNT, NULL);
put:
	if (file)
		fput(file);
	pgprotect_attachment_put(att);
	return ret;
}
