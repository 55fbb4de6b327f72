// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect limits: what one user may take of the machine
 *
 * Counted are contexts, attachments, events that wait to be read, and memory
 * for sets of protected pages: for the user who opened the context in his user
 * namespace, and for the owner of each namespace around that, so that nobody
 * gets more by making namespaces. Memory is charged to control groups besides,
 * which is what limits it where they are used; these counts hold without them.
 *
 * The sets are counted after the fact, by about what they take, so that a
 * change that needs no memory never fails. To release a page out of many takes
 * memory, too: what a user protects, in whichever process, must not keep him
 * from that. See PGPROTECT_RELEASE_FACTOR.
 */
#include <linux/cred.h>
#include <linux/hashtable.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/sysctl.h>
#include <linux/user_namespace.h>

#include "internal.h"

/* A user of a namespace who has something open. */
struct pgprotect_user {
	struct hlist_node hash;		/* users; users_lock */
	refcount_t ref;			/* becomes 0 under users_lock only */
	struct ucounts *ucounts;	/* who it is; held, constant */
	struct pgprotect_user *parent;	/* the namespace's owner; held, constant */
	atomic_long_t count[PGPROTECT_NR_LIMITS];
};

static DEFINE_HASHTABLE(users, 6);
static DEFINE_MUTEX(users_lock);

/*
 * How many times its limit the state may take before pages cannot be released
 * any more, but all of a set. PROTECT takes it once, and what it takes counts
 * twice while it merges, until a grace period has passed; the third is for
 * releases alone.
 */
#define PGPROTECT_RELEASE_FACTOR	3

/* For each user; the last is set at boot. */
static unsigned int limits[PGPROTECT_NR_LIMITS] = {
	[PGPROTECT_LIMIT_CONTEXTS]	= 256,
	[PGPROTECT_LIMIT_ATTACHMENTS]	= 65536,
	[PGPROTECT_LIMIT_EVENTS]	= 65536,
};

#define LIMIT(name, which) {				\
	.procname	= name,				\
	.data		= &limits[which],		\
	.maxlen		= sizeof(unsigned int),		\
	.mode		= 0644,				\
	.proc_handler	= proc_douintvec,		\
}

static struct ctl_table limits_sysctls[] = {
	LIMIT("pgprotect_max_contexts", PGPROTECT_LIMIT_CONTEXTS),
	LIMIT("pgprotect_max_attachments", PGPROTECT_LIMIT_ATTACHMENTS),
	LIMIT("pgprotect_max_events", PGPROTECT_LIMIT_EVENTS),
	LIMIT("pgprotect_max_state_kb", PGPROTECT_LIMIT_STATE_KB),
};

static struct pgprotect_user *user_find(const struct ucounts *ucounts)
{
	struct pgprotect_user *user;

	lockdep_assert_held(&users_lock);
	hash_for_each_possible(users, user, hash, (unsigned long)ucounts)
		if (user->ucounts == ucounts)
			return user;
	return NULL;
}

/* @user and its parents, which nobody else knows. NULL is allowed. */
static void users_free(struct pgprotect_user *user)
{
	struct pgprotect_user *parent;

	for (; user; user = parent) {
		parent = user->parent;
		if (user->ucounts)
			put_ucounts(user->ucounts);
		kfree(user);
	}
}

/* A user, and those of the namespaces around, not hashed yet. Return: or NULL. */
static struct pgprotect_user *users_alloc(struct ucounts *ucounts)
{
	struct pgprotect_user *first = NULL, **link = &first;

	for (; ucounts; ucounts = ucounts->ns->ucounts) {
		struct pgprotect_user *user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);

		if (!user)
			goto free;
		*link = user;
		link = &user->parent;
		refcount_set(&user->ref, 1);
		user->ucounts = get_ucounts(ucounts);
		if (!user->ucounts)
			goto free;
	}
	return first;
free:
	users_free(first);
	return NULL;
}

/**
 * pgprotect_user_get - find or make the counts of a user
 * @cred: The user's.
 *
 * Context: sleeps. Return: NULL: no memory; else to be put.
 */
struct pgprotect_user *pgprotect_user_get(const struct cred *cred)
{
	struct ucounts *ucounts = alloc_ucounts(cred->user_ns, cred->euid);
	struct pgprotect_user *first, *known, *spare = NULL;
	struct pgprotect_user **link = &first;

	if (!ucounts)
		return NULL;
	/* Here, since all who open or close a context wait for the lock. */
	first = users_alloc(ucounts);
	put_ucounts(ucounts);

	mutex_lock(&users_lock);
	for (; *link; link = &(*link)->parent) {
		known = user_find((*link)->ucounts);
		if (known) {
			refcount_inc(&known->ref);
			spare = *link;
			*link = known;
			break;
		}
		hash_add(users, &(*link)->hash, (unsigned long)(*link)->ucounts);
	}
	mutex_unlock(&users_lock);
	users_free(spare);
	return first;
}

/* Another reference to one that is held. Context: any. */
struct pgprotect_user *pgprotect_user_dup(struct pgprotect_user *user)
{
	refcount_inc(&user->ref);
	return user;
}

/* Context: sleeps. */
void pgprotect_user_put(struct pgprotect_user *user)
{
	/* The last reference goes under the lock: who is found there has one. */
	while (user && refcount_dec_and_mutex_lock(&user->ref, &users_lock)) {
		struct pgprotect_user *parent = user->parent;

		hash_del(&user->hash);
		mutex_unlock(&users_lock);
		put_ucounts(user->ucounts);
		kfree(user);
		user = parent;
	}
}

static bool limits_add_below(atomic_long_t *count, long max)
{
	long old = atomic_long_read(count);

	do {
		if (old >= max)
			return false;
	} while (!atomic_long_try_cmpxchg(count, &old, old + 1));
	return true;
}

/**
 * pgprotect_charge - count one more
 * @user: The user.
 * @what: Of what.
 *
 * Context: any. Return: whether the limit allows it.
 */
bool pgprotect_charge(struct pgprotect_user *user, enum pgprotect_limit what)
{
	struct pgprotect_user *iter, *undo;

	for (iter = user; iter; iter = iter->parent)
		if (!limits_add_below(&iter->count[what],
				      READ_ONCE(limits[what])))
			break;
	if (!iter)
		return true;
	for (undo = user; undo != iter; undo = undo->parent)
		atomic_long_dec(&undo->count[what]);
	return false;
}

/* One less. Context: any. */
void pgprotect_uncharge(struct pgprotect_user *user, enum pgprotect_limit what)
{
	for (; user; user = user->parent)
		WARN_ON_ONCE(atomic_long_dec_return(&user->count[what]) < 0);
}

/**
 * pgprotect_set_limit - before a set is changed: may it grow?
 * @set: The set; its lock is held.
 * @release: Pages are taken out of it.
 *
 * Context: does not sleep.
 */
void pgprotect_set_limit(struct pgprotect_set *set, bool release)
{
	long max = READ_ONCE(limits[PGPROTECT_LIMIT_STATE_KB]);
	struct pgprotect_user *iter;

	lockdep_assert_held(&set->lock);
	if (release)
		max *= PGPROTECT_RELEASE_FACTOR;
	set->ranges.full = false;
	for (iter = set->user; iter; iter = iter->parent)
		if (atomic_long_read(&iter->count[PGPROTECT_LIMIT_STATE_KB]) >= max)
			set->ranges.full = true;
}

static void set_charge_kb(struct pgprotect_set *set, long kb)
{
	struct pgprotect_user *iter;

	for (iter = set->user; iter; iter = iter->parent)
		atomic_long_add(kb - set->kb,
				&iter->count[PGPROTECT_LIMIT_STATE_KB]);
	set->kb = kb;
}

/* After a set was changed, under its lock: count what it takes. Sleeps. */
void pgprotect_set_account(struct pgprotect_set *set)
{
	long kb;

	lockdep_assert_held(&set->lock);
	kb = DIV_ROUND_UP(pgprotect_ranges_bytes(&set->ranges), SZ_1K);
	if (kb != set->kb)
		set_charge_kb(set, kb);
}

/* The set goes. Context: sleeps. */
void pgprotect_set_unaccount(struct pgprotect_set *set)
{
	set_charge_kb(set, 0);
	pgprotect_user_put(set->user);
}

static int __init pgprotect_limits_init(void)
{
	/* As inotify: a hundredth of the memory. */
	limits[PGPROTECT_LIMIT_STATE_KB] =
		clamp(totalram_pages() / 100 * (PAGE_SIZE / SZ_1K), 1024UL,
		      (unsigned long)INT_MAX);
	register_sysctl_init("vm", limits_sysctls);
	return 0;
}
core_initcall(pgprotect_limits_init);
