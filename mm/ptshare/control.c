// SPDX-License-Identifier: GPL-2.0
/*
 * ptshare control: /sys/kernel/mm/ptshare
 *
 *   enabled	never | madvise | always: which mappings become guests from now
 *		on. Those that are stay.
 *   hosts	files with shared page tables
 *   guests	mappings that use them
 *   links	units of 2 MiB that guests are linked to, each as often as it is used
 */
#include <linux/init.h>
#include <linux/kobject.h>
#include <linux/mm.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "internal.h"

enum ptshare_mode {
	PTSHARE_NEVER,
	PTSHARE_MADVISE,
	PTSHARE_ALWAYS,
};

static const char *const mode_names[] = {
	[PTSHARE_NEVER]		= "never",
	[PTSHARE_MADVISE]	= "madvise",
	[PTSHARE_ALWAYS]	= "always",
};

static enum ptshare_mode ptshare_mode;

/* On since the first time that another mode than never was set. */
DEFINE_STATIC_KEY_FALSE(ptshare_used);

atomic_long_t ptshare_nr_hosts;
atomic_long_t ptshare_nr_guests;

bool ptshare_may_madvise(void)
{
	return READ_ONCE(ptshare_mode) != PTSHARE_NEVER;
}

bool ptshare_always(void)
{
	return READ_ONCE(ptshare_mode) == PTSHARE_ALWAYS;
}

unsigned long __ptshare_alignment(void)
{
	return ptshare_may_madvise() ? PMD_SIZE : 0;
}

static ssize_t enabled_show(struct kobject *kobj, struct kobj_attribute *attr,
			    char *buf)
{
	int mode = READ_ONCE(ptshare_mode), len = 0;

	for (int i = 0; i < ARRAY_SIZE(mode_names); i++)
		len += sysfs_emit_at(buf, len, i == mode ? "%s[%s]" : "%s%s",
				     i ? " " : "", mode_names[i]);
	return len + sysfs_emit_at(buf, len, "\n");
}

static ssize_t enabled_store(struct kobject *kobj, struct kobj_attribute *attr,
			     const char *buf, size_t count)
{
	int mode = sysfs_match_string(mode_names, buf);

	if (mode < 0)
		return mode;
	/* The hooks work before there is a guest. */
	if (mode != PTSHARE_NEVER)
		static_branch_enable(&ptshare_used);
	WRITE_ONCE(ptshare_mode, mode);
	return count;
}

static ssize_t hosts_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&ptshare_nr_hosts));
}

static ssize_t guests_show(struct kobject *kobj, struct kobj_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&ptshare_nr_guests));
}

static ssize_t links_show(struct kobject *kobj, struct kobj_attribute *attr,
			  char *buf)
{
	return sysfs_emit(buf, "%ld\n", atomic_long_read(&ptshare_nr_links));
}

static struct kobj_attribute enabled_attr = __ATTR_RW(enabled);
static struct kobj_attribute hosts_attr = __ATTR_RO(hosts);
static struct kobj_attribute guests_attr = __ATTR_RO(guests);
static struct kobj_attribute links_attr = __ATTR_RO(links);

static struct attribute *ptshare_attrs[] = {
	&enabled_attr.attr,
	&hosts_attr.attr,
	&guests_attr.attr,
	&links_attr.attr,
	NULL,
};

static const struct attribute_group ptshare_group = {
	.name = "ptshare",
	.attrs = ptshare_attrs,
};

static int __init ptshare_init(void)
{
	return sysfs_create_group(mm_kobj, &ptshare_group);
}
subsys_initcall(ptshare_init);
