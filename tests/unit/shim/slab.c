// SPDX-License-Identifier: GPL-2.0
/*
 * user-space stand-in: the slab allocator
 *
 * Every object comes from malloc() and goes back at once, so that the sanitizer
 * knows each one, and every allocation can be made to fail.
 */
#include <stdlib.h>
#include <string.h>
#include <urcu.h>
#include <urcu/uatomic.h>

#include <linux/gfp.h>
#include <linux/slab.h>

#include "slab.h"

struct kmem_cache {
	size_t size;
	size_t align;
};

static __thread unsigned long nr_calls;
static __thread unsigned long fail_nth;
static __thread bool fail_stay;
static __thread bool failing;
static __thread bool failed;
static long nr_live;

void shim_slab_fail(unsigned long nth, bool stay)
{
	nr_calls = 0;
	fail_nth = nth;
	fail_stay = stay;
	failing = true;
	failed = false;
}

bool shim_slab_heal(void)
{
	failing = false;
	return failed;
}

unsigned long shim_slab_count(void)
{
	return nr_calls;
}

long shim_slab_live(void)
{
	return uatomic_read(&nr_live);
}

static bool should_fail(gfp_t gfp)
{
	unsigned long call = nr_calls++;

	if (!failing || (gfp & __GFP_NOFAIL))
		return false;
	if (call != fail_nth && !(fail_stay && call > fail_nth))
		return false;
	failed = true;
	return true;
}

static void *get(size_t size, size_t align, gfp_t gfp)
{
	void *object;

	if (posix_memalign(&object, align, size))
		abort();
	/* Stale content must not pass for zeros. */
	memset(object, gfp & __GFP_ZERO ? 0 : 0xa5, size);
	uatomic_inc(&nr_live);
	return object;
}

static void put(void *object)
{
	if (!object)
		return;
	uatomic_dec(&nr_live);
	free(object);
}

void *kmalloc(size_t size, gfp_t gfp)
{
	return should_fail(gfp) ? NULL : get(size, sizeof(void *), gfp);
}

void kfree(void *object)
{
	put(object);
}

/* The head is outside the object, so that the object stays readable until then. */
struct deferred {
	struct rcu_head rcu;
	void *object;
};

static void deferred_put(struct rcu_head *rcu)
{
	struct deferred *d = caa_container_of(rcu, struct deferred, rcu);

	put(d->object);
	free(d);
}

void shim_kfree_rcu(void *object)
{
	struct deferred *d = malloc(sizeof(*d));

	if (!d)
		abort();
	d->object = object;
	call_rcu(&d->rcu, deferred_put);
}

struct kmem_cache *kmem_cache_create(const char *name, unsigned int size,
				     unsigned int align, unsigned int flags,
				     void (*ctor)(void *))
{
	static struct kmem_cache caches[4];
	static unsigned int nr;
	struct kmem_cache *cache = &caches[nr++];

	if (nr > 4 || ctor)
		abort();
	cache->size = size;
	cache->align = align > sizeof(void *) ? align : sizeof(void *);
	return cache;
}

void *kmem_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru,
			   int gfp)
{
	return should_fail(gfp) ? NULL : get(cache->size, cache->align, gfp);
}

void kmem_cache_free(struct kmem_cache *cache, void *object)
{
	put(object);
}

int kmem_cache_alloc_bulk(struct kmem_cache *cache, gfp_t gfp, size_t size,
			  void **list)
{
	size_t i;

	if (should_fail(gfp))
		return 0;
	for (i = 0; i < size; i++)
		list[i] = get(cache->size, cache->align, gfp);
	return size;
}

void kmem_cache_free_bulk(struct kmem_cache *cache, size_t size, void **list)
{
	size_t i;

	for (i = 0; i < size; i++)
		put(list[i]);
}
