// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect delay points and switches, for tests only.
 *
 * /sys/kernel/debug/pgprotect/:
 *   delay_<point>_us	sleep, or spin, so long when the point is passed
 *   delayed		how many do so now
 *   disable_<fix>	leave out a protection, so that a test can see it missing
 *   unfilter		name of one function whose page-table filter is left out
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/kallsyms.h>
#include <linux/uaccess.h>

#include "internal.h"

static const char * const delay_names[PGPROTECT_NR_DELAYS] = {
	[PGPROTECT_DELAY_FAULT_INSTALL]	= "delay_fault_install_us",
	[PGPROTECT_DELAY_FAULT_FILTERED] = "delay_fault_filtered_us",
	[PGPROTECT_DELAY_FILL]		= "delay_fill_us",
	[PGPROTECT_DELAY_WRITE_LOCKED]	= "delay_write_locked_us",
	[PGPROTECT_DELAY_CUT]		= "delay_cut_us",
};

static const char * const fix_names[PGPROTECT_NR_FIXES] = {
	[PGPROTECT_FIX_WRITE]		= "disable_write_filter",
	[PGPROTECT_FIX_BARRIER]		= "disable_barrier",
	[PGPROTECT_FIX_MIGRATION]	= "disable_migration",
	[PGPROTECT_FIX_FLUSH]		= "disable_flush",
	[PGPROTECT_FIX_CUT]		= "disable_cut",
};

static u32 delays_us[PGPROTECT_NR_DELAYS];
static atomic_t delayed = ATOMIC_INIT(0);
static bool disabled[PGPROTECT_NR_FIXES];
static char unfiltered[KSYM_NAME_LEN];
static DEFINE_MUTEX(unfiltered_lock);

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

	if (!READ_ONCE(unfiltered[0]))
		return true;
	sprint_symbol_no_offset(name, caller);
	return strcmp(name, unfiltered) != 0;
}

static ssize_t unfilter_write(struct file *file, const char __user *buf,
			      size_t count, loff_t *ppos)
{
	char name[KSYM_NAME_LEN];
	ssize_t ret;

	if (count >= sizeof(name))
		return -EINVAL;
	ret = simple_write_to_buffer(name, sizeof(name) - 1, ppos, buf, count);
	if (ret < 0)
		return ret;
	name[ret] = '\0';
	mutex_lock(&unfiltered_lock);
	WRITE_ONCE(unfiltered[0], '\0');
	strscpy(unfiltered, strim(name), sizeof(unfiltered));
	mutex_unlock(&unfiltered_lock);
	return ret;
}

static const struct file_operations unfilter_fops = {
	.open	= simple_open,
	.write	= unfilter_write,
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
	return 0;
}
late_initcall(pgprotect_debug_init);
