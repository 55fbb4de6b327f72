// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect delay points and switches, for tests only.
 *
 * /sys/kernel/debug/pgprotect/:
 *   delay_<point>_us	sleep, or spin, so long when the point is passed
 *   delayed		how many do so now
 *   disable_<fix>	leave out a protection, so that a test can see it missing
 *   unfilter		names of functions whose filters are left out
 *   hold		"FUNCTION CALLER MS": spin so long when CALLER calls FUNCTION the
 *			next time; empty: do so no more
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/uaccess.h>

#include "internal.h"

static const char * const delay_names[PGPROTECT_NR_DELAYS] = {
	[PGPROTECT_DELAY_FAULT_INSTALL]	= "delay_fault_install_us",
	[PGPROTECT_DELAY_HUGE_FILTERED] = "delay_huge_filtered_us",
	[PGPROTECT_DELAY_COPY]		= "delay_copy_us",
	[PGPROTECT_DELAY_FILL]		= "delay_fill_us",
	[PGPROTECT_DELAY_WRITE_LOCKED]	= "delay_write_locked_us",
	[PGPROTECT_DELAY_CUT]		= "delay_cut_us",
};

static const char * const fix_names[PGPROTECT_NR_FIXES] = {
	[PGPROTECT_FIX_WRITE]		= "disable_write_filter",
	[PGPROTECT_FIX_MIGRATION]	= "disable_migration",
	[PGPROTECT_FIX_FLUSH]		= "disable_flush",
	[PGPROTECT_FIX_CUT]		= "disable_cut",
	[PGPROTECT_FIX_COPY]		= "disable_copy",
	[PGPROTECT_FIX_HOLE]		= "disable_hole",
};

static u32 delays_us[PGPROTECT_NR_DELAYS];
static atomic_t delayed = ATOMIC_INIT(0);
static bool disabled[PGPROTECT_NR_FIXES];
static char unfiltered[KSYM_NAME_LEN];
static DEFINE_MUTEX(debug_lock);	/* unfiltered, hold */

static struct {
	struct kprobe probe;	/* registered if it has a name */
	char function[KSYM_NAME_LEN], caller[KSYM_NAME_LEN];
	unsigned int ms;
	atomic_t armed;
} hold;

/* Context: sleeps if the point is set; the points hold no spinlock. */
void pgprotect_delay(enum pgprotect_delay point)
{
	u32 us = READ_ONCE(delays_us[point]);

	if (!us)
		return;
	atomic_inc(&delayed);
	fsleep(us);
	atomic_dec(&delayed);
}

/* Context: any; for points under a spinlock. */
void pgprotect_spin(enum pgprotect_delay point)
{
	u32 us = READ_ONCE(delays_us[point]);

	if (!us)
		return;
	atomic_inc(&delayed);
	mdelay(us / USEC_PER_MSEC);
	atomic_dec(&delayed);
}

bool pgprotect_fixed(enum pgprotect_fix fix)
{
	return !READ_ONCE(disabled[fix]);
}

/* Whether the filter called from @caller is in force. */
bool pgprotect_filtered(unsigned long caller)
{
	char name[KSYM_SYMBOL_LEN];
	const char *at;
	int length;

	if (!READ_ONCE(unfiltered[0]))
		return true;
	length = sprint_symbol_no_offset(name, caller);
	for (at = unfiltered; at; at = strchr(at, ' ')) {
		at = skip_spaces(at);
		if (!strncmp(at, name, length) &&
		    (!at[length] || at[length] == ' '))
			return false;
	}
	return true;
}

/* Return: the length of @text, which is terminated; or an error. */
static ssize_t debug_read_text(char *text, size_t size, const char __user *buf,
			       size_t count)
{
	if (count >= size)
		return -EINVAL;
	if (copy_from_user(text, buf, count))
		return -EFAULT;
	text[count] = '\0';
	return count;
}

static ssize_t unfilter_write(struct file *file, const char __user *buf,
			      size_t count, loff_t *ppos)
{
	char name[KSYM_NAME_LEN];
	ssize_t ret = debug_read_text(name, sizeof(name), buf, count);

	if (ret < 0)
		return ret;
	mutex_lock(&debug_lock);
	WRITE_ONCE(unfiltered[0], '\0');
	strscpy(unfiltered, strim(name), sizeof(unfiltered));
	mutex_unlock(&debug_lock);
	return ret;
}

static const struct file_operations unfilter_fops = {
	.open	= simple_open,
	.write	= unfilter_write,
};

/* On the entry of a function: its caller is where it returns to. */
static int hold_handler(struct kprobe *probe, struct pt_regs *regs)
{
	char name[KSYM_SYMBOL_LEN];

	sprint_symbol_no_offset(name, regs_get_kernel_stack_nth(regs, 0));
	if (strcmp(name, hold.caller) || !atomic_xchg(&hold.armed, 0))
		return 0;
	atomic_inc(&delayed);
	mdelay(hold.ms);
	atomic_dec(&delayed);
	return 0;
}

static void hold_end(void)
{
	if (hold.probe.symbol_name)
		unregister_kprobe(&hold.probe);
	memset(&hold.probe, 0, sizeof(hold.probe));
}

static int hold_begin(const char *text)
{
	int ret;

	if (sscanf(text, "%127s %127s %u", hold.function, hold.caller, &hold.ms) != 3)
		return -EINVAL;
	hold.probe.symbol_name = hold.function;
	hold.probe.pre_handler = hold_handler;
	atomic_set(&hold.armed, 1);
	ret = register_kprobe(&hold.probe);
	if (ret)
		hold.probe.symbol_name = NULL;
	return ret;
}

static ssize_t hold_write(struct file *file, const char __user *buf,
			  size_t count, loff_t *ppos)
{
	char text[KSYM_NAME_LEN];
	ssize_t ret = debug_read_text(text, sizeof(text), buf, count);
	int error;

	if (ret < 0)
		return ret;
	mutex_lock(&debug_lock);
	hold_end();
	error = *strim(text) ? hold_begin(text) : 0;
	mutex_unlock(&debug_lock);
	return error ?: ret;
}

static const struct file_operations hold_fops = {
	.open	= simple_open,
	.write	= hold_write,
};

static int __init pgprotect_debug_init(void)
{
	struct dentry *dir = debugfs_create_dir("pgprotect", NULL);
	int i;

	for (i = 0; i < PGPROTECT_NR_DELAYS; i++)
		debugfs_create_u32(delay_names[i], 0600, dir, &delays_us[i]);
	for (i = 0; i < PGPROTECT_NR_FIXES; i++)
		debugfs_create_bool(fix_names[i], 0600, dir, &disabled[i]);
	debugfs_create_atomic_t("delayed", 0400, dir, &delayed);
	debugfs_create_file("unfilter", 0200, dir, NULL, &unfilter_fops);
	debugfs_create_file("hold", 0200, dir, NULL, &hold_fops);
	return 0;
}
late_initcall(pgprotect_debug_init);
