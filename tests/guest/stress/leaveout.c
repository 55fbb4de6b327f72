// SPDX-License-Identifier: GPL-2.0
/*
 * The table of what can be left out. Each entry says which routes go there and what
 * else has to be out of the way: a run over everything finds most of them, too, but
 * takes its time. Faults (fault.c) follow: what no switch of the kernel brings about.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../regress/common/switches.h"
#include "../routes/common/memory.h"
#include "leaveout.h"

#define SWITCHES "/sys/kernel/debug/pgprotect/"

const struct leave_out leave_outs[] = {
	{ "write-shmem", .functions = { "shmem_file_write_iter" }, .delay = "write_locked",
	  .delay_us = 3000, .routes = "call" },
	{ "write-ext4", .functions = { "ext4_buffered_write_iter", "ext4_file_write_iter" },
	  .delay = "write_locked", .delay_us = 3000, .routes = "call", .file = "ext4" },
	{ "write-ext4-direct",
	  .functions = { "ext4_dio_write_checks", "ext4_dio_write_iter", "ext4_file_write_iter" },
	  .delay = "write_locked", .delay_us = 30000, .routes = "direct", .file = "ext4",
	  .writers = 4, .quiet = true, .alone = true },
	{ "write-xfs", .functions = { "xfs_file_write_checks" }, .delay = "write_locked",
	  .delay_us = 3000, .routes = "call", .file = "xfs" },
	/* By the tails. Two look, the second for who comes by another way. */
	{ "truncate", .functions = { "do_truncate" }, .and = "notify_change",
	  .delay = "write_locked", .delay_us = 100000, .routes = "store", .writers = 2,
	  .quiet = true },
	{ "fallocate-shmem", .functions = { "shmem_fallocate" },
	  .routes = "pages-punched,pages-removed", .writers = 2, .quiet = true, .alone = true },
	{ "fallocate-ext4", .functions = { "ext4_fallocate" },
	  .routes = "pages-punched,pages-zeroed,pages-removed", .file = "ext4", .writers = 2,
	  .quiet = true, .alone = true },
	{ "fallocate-xfs", .functions = { "xfs_file_fallocate" },
	  .routes = "pages-punched,pages-zeroed,pages-removed", .file = "xfs", .writers = 2,
	  .quiet = true, .alone = true },
	{ "fallocate-hugetlb", .functions = { "hugetlbfs_punch_hole", "hugetlbfs_fallocate" },
	  .routes = "pages-punched,pages-removed", .file = "hugetlb", .writers = 2,
	  .quiet = true, .alone = true },
	{ "clone", .functions = { "__generic_remap_file_range_prep",
				  "generic_remap_file_range_prep" },
	  .delay = "write_locked", .delay_us = 30000, .routes = "direct-clone", .file = "xfs",
	  .writers = 4, .quiet = true, .alone = true },
	/* By the tails: punching holes would leave holes, but few are filled. */
	{ "fill", .functions = { "shmem_mfill_atomic_pte" }, .delay = "fill",
	  .delay_us = 100000, .routes = "store", .writers = 2, .quiet = true },
	/* PROTECT has to have returned, and its pages been copied, when the fault goes on. */
	{ "hole", .fix = "hole", .delay = "huge_filtered", .delay_us = 300000,
	  .routes = "store-new-table", .writers = 2, .calm = true, .quiet = true,
	  .alone = true },
	/* Longer than who writes in pairs takes to come to a file and to the other. */
	{ "cut", .fix = "cut", .delay = "cut", .delay_us = 50000, .finds = 1 << CUT_OPEN,
	  .routes = "store", .writers = 2, .quiet = true, .alone = true, .cuts = true },
	/* A matter of luck on an emulated CPU: regress/flush does without. */
	{ "flush", .fix = "flush", .routes = "store-wild", .writers = 1,
	  .quiet = true, .alone = true, .wild_size = 256 * HUGE, .wild_way = "writeprotect",
	  .by_name_only = true },
	{ "flush-huge", .functions = { "zap_huge_pmd" },
	  .routes = "store-wild", .file = "tmpfs", .writers = 1, .quiet = true, .alone = true,
	  .wild_tables = 800, .wild_way = "replace", .by_name_only = true },
	{ "read-fault", .functions = { "set_pte_range" },
	  .routes = "store-read-first,store-new-mapping,store-discarded" },
	/* Longer than PROTECT takes. */
	{ "write-fault-upgrade",
	  .functions = { "wp_page_reuse", "do_wp_page", "wp_page_shared", "finish_mkwrite_fault" },
	  .delay = "fault_install", .delay_us = 300000, .routes = "store,add", .quiet = true,
	  .alone = true },
	{ "huge-fault", .functions = { "do_set_pmd" }, .routes = "store-huge", .file = "tmpfs" },
	{ "mprotect",
	  .functions = { "change_pte_range", "change_pmd_range", "change_pud_range",
			 "change_protection_range", "change_protection" },
	  .routes = "store-mprotected" },
	{ "mprotect-huge", .functions = { "change_huge_pmd" }, .routes = "store-kept-huge",
	  .file = "tmpfs", .writers = 2, .quiet = true, .alone = true },
	{ "migration", .functions = { "remove_migration_pte" }, .routes = "store-migrated",
	  .nodes = true },
	{ "migration-huge", .functions = { "remove_migration_pmd" },
	  .routes = "store-kept-huge", .file = "tmpfs", .writers = 2, .quiet = true,
	  .alone = true, .nodes = true },
	{ "numa-hint", .functions = { "numa_rebuild_single_mapping", "do_numa_page" },
	  .routes = "store-read-first", .writers = 2, .quiet = true, .alone = true,
	  .second = true, .hints = true, .nodes = true },
	{ "continue", .functions = { "mfill_atomic_install_pte" }, .routes = "store-continued" },
	{ "hugetlb-fault", .functions = { "hugetlb_no_page", "hugetlb_fault" },
	  .routes = "store-read-first,store-new-mapping,store-discarded", .file = "hugetlb",
	  .quiet = true, .alone = true },
	{ "hugetlb-write", .functions = { "hugetlb_wp" }, .delay = "fault_install",
	  .delay_us = 300000, .routes = "store,add", .file = "hugetlb", .quiet = true,
	  .alone = true },
	{ "hugetlb-mprotect", .functions = { "hugetlb_change_protection" },
	  .routes = "store-mprotected", .file = "hugetlb", .quiet = true, .alone = true },
	{ "hugetlb-continue", .functions = { "hugetlb_mfill_atomic_pte" },
	  .routes = "store-continued", .file = "hugetlb", .quiet = true, .alone = true },
	/* A batch of entries is copied: some of them protected, and others not. */
	{ "fork", .functions = { "copy_present_ptes", "copy_pte_range", "copy_pmd_range",
				 "copy_page_range" },
	  .routes = "store-forked", .folio_kb = 64, .second = true, .quiet = true,
	  .alone = true },
	/* Of the others in the unit, when one page of it is released and written to. */
	{ "push-down",
	  .functions = { "push_down_entries", "push_down", "ptshare_push_down" },
	  .routes = "store-read-first", .writers = 4, .quiet = true, .alone = true,
	  .directories = true },
	{ "copy", .fix = "copy", .delay = "copy", .delay_us = 300000,
	  .routes = "memory-proc-mem", .writers = 2, .calm = true, .quiet = true,
	  .alone = true },
	{ "lost", .fault = FAULT_LOST, .finds = 1 << LOST, .routes = "call", .writers = 2,
	  .quiet = true, .alone = true },
	{ "lost-in-the-end", .fault = FAULT_LOST_AT_END, .finds = 1 << LOST, .routes = "call",
	  .writers = 2, .seconds = 1, .quiet = true, .alone = true },
	{ "refused-done", .fault = FAULT_REFUSED_DONE, .finds = 1 << REFUSED_DONE,
	  .routes = "call", .writers = 2, .quiet = true, .alone = true },
	/* Both go to the pages that are written to most, and one of them is forgotten. */
	{ "stuck", .fault = FAULT_STUCK, .finds = 1 << STUCK, .routes = "call", .writers = 2,
	  .hurry = 30, .quiet = true, .alone = true },
	{ "died", .fault = FAULT_DIED, .finds = 1 << BROKEN, .routes = "call", .writers = 2,
	  .quiet = true, .alone = true },
	{ }
};

const struct leave_out *leave_out_named(const char *name)
{
	for (const struct leave_out *l = leave_outs; l->name; l++)
		if (!strcmp(l->name, name))
			return l;
	return NULL;
}

/* A function may have been cloned under a name with a suffix. */
static bool function_symbol(const char *function, char symbol[128])
{
	FILE *f = fopen("/proc/kallsyms", "re");
	size_t length = strlen(function);
	bool found = false;

	if (!f)
		return false;
	while (!found && fscanf(f, "%*s %*s %127s%*[^\n]", symbol) == 1)
		found = !strncmp(symbol, function, length) &&
			(!symbol[length] || symbol[length] == '.');
	fclose(f);
	return found;
}

static bool filter_symbol(const struct leave_out *l, char symbol[128])
{
	for (size_t i = 0; i < ARRAY_LEN(l->functions) && l->functions[i]; i++)
		if (function_symbol(l->functions[i], symbol))
			return true;
	return false;
}

static bool have_file(const char *before, const char *name, const char *after)
{
	char path[120];

	snprintf(path, sizeof(path), SWITCHES "%s%s%s", before, name, after);
	return !access(path, F_OK);
}

const char *leave_out_impossible(const struct leave_out *l)
{
	char symbol[128];

	if (l->fault)
		return NULL;
	if (!switches_present())
		return "needs CONFIG_PGPROTECT_DEBUG_DELAY";
	if ((l->fix && !have_file("disable_", l->fix, "")) ||
	    (l->delay && !have_file("delay_", l->delay, "_us")))
		return "no such switch in this kernel";
	if (!l->fix && !filter_symbol(l, symbol))
		return "no such function in this kernel";
	if (l->nodes && !have_two_nodes())
		return "needs two nodes";
	return NULL;
}

void leave_out_begin(const struct leave_out *l)
{
	char symbol[128], symbols[256];

	if (l->fault)
		return;
	switches_reset();
	if (l->fix) {
		fix_disable(l->fix);
	} else if (filter_symbol(l, symbol)) {
		snprintf(symbols, sizeof(symbols), "%s %s", symbol, l->and ? l->and : "");
		filter_disable(symbols);
	}
	if (l->delay)
		delay_set(l->delay, l->delay_us);
}

void leave_out_end(void)
{
	if (switches_present())
		switches_reset();
}

bool leave_out_finds(const struct leave_out *l, enum failure_kind kind)
{
	unsigned int finds = l->finds ? l->finds : 1 << ESCAPED | 1 << CHANGED | 1 << CUT_OPEN;

	return finds & 1 << kind;
}
