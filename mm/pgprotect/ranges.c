// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect range set: which page indexes of one file are protected
 *
 * A maple tree over chunks of 512 pages (2 MiB with 4 KiB pages). A chunk is
 * absent (no page is in the set), within an ALL entry (every page is), or has
 * a bitmap of its own:
 *
 *   chunk    0         1         2         3         4 ...... 2^19-1
 *        |  none   |       ALL         | bitmap  |       ALL          | none
 *                    one entry           1 chunk      one entry
 *
 * ALL entries that touch are one entry, so a whole file is one entry however
 * large it is, and a page taken out of its middle costs one bitmap and a split.
 *
 * A bitmap that is all zeros or all ones is legal and means what it says. It
 * is how a change that needs memory is made in steps that can stop anywhere:
 *
 *   1. A chunk that is touched in part and has no bitmap gets one that says
 *	what the chunk says already. May fail; nothing has changed.
 *   2. The chunks touched as a whole become ALL or none in one store of the
 *	tree. The store has all its nodes before it begins. May fail; nothing
 *	has changed.
 *   3. The bits of the partly touched chunks are changed in place. Cannot fail.
 *   4. Bitmaps that say ALL or none are replaced by that, as far as memory
 *	allows without trying hard. No page changes.
 *
 * So there is no undo: -ENOMEM from 1 or 2 goes straight to 4.
 *
 * What a reader sees
 *
 * Readers take no lock. For each page a reader sees the state before or after
 * a concurrent change, and for a page that the change does not touch always
 * its state. Taking page 5 out of an ALL entry, with page 6 watched:
 *
 *   writer                                  reader of page 6
 *   ------                                  ----------------
 *   map = 512 ones
 *   store map in the tree [a]               load entry [b]
 *     (rcu_assign_pointer)                    ALL: set
 *   map->bits[0] &= ~bit 5 [c]                map: READ_ONCE(bits[0]) [d]
 *     (WRITE_ONCE)                              bit 6 is one in every value
 *                                               that bits[0] ever has: set
 *
 * [a] pairs with the rcu_dereference() in [b]: a reader that finds the map
 * finds it filled. [c] writes a whole word, in which only bit 5 differs from
 * what it was, and [d] reads a whole word. The lock keeps other writers out, so
 * a plain read-modify-write loses nothing. Adding is the mirror image. Step 4
 * swaps a map for an entry that says the same; the map is freed a grace period
 * after it left the tree.
 *
 * A writer keeps a pointer to the map that it changed last, which saves readers
 * the way through the tree. It takes the pointer back before the map leaves the
 * tree, so that a reader who starts later does not find it.
 *
 * That leaves the tree's own stores. Those that rebuild nodes publish a copy
 * and mark the old node dead, and readers walk again. Two kinds work in place
 * on a leaf that is being read:
 *
 *   - An exact fit replaces one slot: old or new.
 *   - When one of two neighbours is replaced and the other is shortened, the
 *     slot of the first is written, then the pivot between them. No barrier
 *     orders these two, so a page in the part that changes owner may be looked
 *     up with the old or new pivot and the old or new slot. The page is one
 *     that changes as long as the shortened neighbour says something different
 *     from what is stored. It does: neighbouring entries of the same uniform
 *     state never exist, ALL is always stored over the full width of the ALL
 *     entries that it meets, see pgprotect_ranges_store(), and the tree widens
 *     the store of NULL in the same way. A bitmap is one chunk: it cannot be
 *     shortened, and is stored within one entry. A page outside the part that
 *     changes owner has the same slot by either pivot.
 *
 *     In the mixed case a bitmap may appear to span several chunks. Readers
 *     therefore trust its range no further than the chunk they asked for.
 *
 * Readers that look at a span walk from the root to each next index, and
 * do not use mas_find() or mas_next(). These continue after the *entry* that
 * holds the last index seen. If the leaf dies in between, that entry may have
 * been joined to its neighbour:
 *
 *   writer                                  reader of chunks 5 to 15
 *   ------                                  ------------------------
 *   (none 5..9, ALL 10..20)                 finds none up to 9
 *   add chunk 9: stores ALL 9..20
 *                                           leaf is dead, looks up 9 again,
 *                                           steps over 9..20: "nothing there"
 *
 * Walking to 10 finds what holds 10.
 */

#include <linux/bitmap.h>
#include <linux/bitops.h>
#include <linux/lockdep.h>
#include <linux/maple_tree.h>
#include <linux/minmax.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/xarray.h>

#include "ranges.h"

#define CHUNK_SHIFT	9
#define CHUNK_PAGES	BIT(CHUNK_SHIFT)
#define CHUNK_MASK	(CHUNK_PAGES - 1)

/* Entry for chunks of which every page is in the set. */
#define CHUNK_ALL	xa_mk_value(1)

/*
 * struct chunk_map - the pages of chunk number @chunk, one bit each
 *
 * @bits is written under the lock, and read under RCU once published. @chunk is
 * constant. @next is under the lock only, and used between finding a map in the
 * tree and giving it to kfree_rcu().
 */
struct chunk_map {
	unsigned long chunk;
	unsigned long bits[BITS_TO_LONGS(CHUNK_PAGES)];
	union {
		struct rcu_head rcu;
		struct chunk_map *next;
	};
};

static bool entry_is_map(const void *entry)
{
	return entry && entry != CHUNK_ALL;
}

/* Must an operation that takes memory for good fail? */
static bool pgprotect_ranges_is_full(const struct pgprotect_ranges *r, gfp_t gfp)
{
	return r->full && !(gfp & __GFP_NOFAIL);
}

static struct chunk_map *chunk_map_alloc(struct pgprotect_ranges *r,
					 unsigned long chunk, bool full,
					 gfp_t gfp)
{
	struct chunk_map *map;

	if (pgprotect_ranges_is_full(r, gfp))
		return NULL;
	map = kmalloc(sizeof(*map), gfp);
	if (map) {
		map->chunk = chunk;
		memset(map->bits, full ? 0xff : 0, sizeof(map->bits));
		r->nr_maps++;
	}
	return map;
}

static void chunk_map_free_list(struct pgprotect_ranges *r,
				struct chunk_map *map)
{
	struct chunk_map *next;

	for (; map; map = next) {
		next = map->next;
		r->nr_maps--;
		kfree_rcu(map, rcu);
		cond_resched();
	}
}

/* The bits of word number @word that lie within bits @from to @to. */
static unsigned long chunk_word_mask(unsigned int word, unsigned int from,
				     unsigned int to)
{
	unsigned long mask = ~0UL;

	if (word == BIT_WORD(from))
		mask &= BITMAP_FIRST_WORD_MASK(from);
	if (word == BIT_WORD(to))
		mask &= BITMAP_LAST_WORD_MASK(to + 1);
	return mask;
}

/* First bit at or after @from that is one (or zero), CHUNK_PAGES if none. */
static unsigned int chunk_map_find(const struct chunk_map *map,
				   unsigned int from, bool one)
{
	unsigned long flip = one ? 0 : ~0UL;
	unsigned int word = BIT_WORD(from);
	unsigned long bits;

	bits = (READ_ONCE(map->bits[word]) ^ flip) & BITMAP_FIRST_WORD_MASK(from);
	while (!bits) {
		if (++word == ARRAY_SIZE(map->bits))
			return CHUNK_PAGES;
		bits = READ_ONCE(map->bits[word]) ^ flip;
	}
	return word * BITS_PER_LONG + __ffs(bits);
}

static unsigned long chunk_map_weight(const struct chunk_map *map,
				      unsigned int from, unsigned int to)
{
	unsigned long weight = 0;
	unsigned int word;

	for (word = BIT_WORD(from); word <= BIT_WORD(to); word++)
		weight += hweight_long(READ_ONCE(map->bits[word]) &
				       chunk_word_mask(word, from, to));
	return weight;
}

static void nr_pages_add(struct pgprotect_ranges *r, unsigned long delta)
{
	WRITE_ONCE(r->nr_pages, r->nr_pages + delta);
}

static void chunk_word_write(struct pgprotect_ranges *r, unsigned long *word,
			     unsigned long bits)
{
	nr_pages_add(r, hweight_long(bits) - hweight_long(*word));
	WRITE_ONCE(*word, bits);
}

/*
 * The entry of one chunk, for readers and writers.
 *
 * KCSAN reports races of mtree_load() against writers of the tree (mas_walk() against
 * mas_wr_node_store() and the call_rcu() of a node). They are the tree's own: a reader
 * without the lock meets a node that has been replaced, sees that it is dead, and starts
 * again. Its accesses are not marked for KCSAN.
 */
static void *pgprotect_ranges_load(struct pgprotect_ranges *r,
				   unsigned long chunk)
{
	struct chunk_map *map =
		rcu_dereference_check(r->recent, mt_lock_is_held(&r->mt));

	if (map && map->chunk == chunk)
		return map;
	return mtree_load(&r->mt, chunk);
}

static void pgprotect_ranges_assert_writer(struct pgprotect_ranges *r)
{
	lockdep_assert(mt_write_lock_is_held(&r->mt));
}

/**
 * pgprotect_ranges_init() - make an empty set
 * @r: the set
 * @lock: what writers of @r will hold; may be shared by several sets, and must
 *	outlive them
 *
 * Context: any. Nobody else may know of @r yet.
 */
void pgprotect_ranges_init(struct pgprotect_ranges *r, struct mutex *lock)
{
	mt_init_flags(&r->mt, MT_FLAGS_USE_RCU | MT_FLAGS_LOCK_EXTERN);
	mt_set_external_lock(&r->mt, lock);
	RCU_INIT_POINTER(r->recent, NULL);
	r->nr_pages = 0;
	r->nr_maps = 0;
	r->nr_entries = 0;
	r->nr_stores = 0;
	r->full = false;
}

/**
 * pgprotect_ranges_destroy() - empty a set and give back all its memory
 * @r: the set
 *
 * Cannot fail. Readers may still be at work on @r: they see each page as set
 * or as unset until a grace period has passed, so the memory that holds @r
 * itself must stay for that long. The set is empty and may be used again.
 *
 * Context: process context, may sleep. The lock must be held.
 */
void pgprotect_ranges_destroy(struct pgprotect_ranges *r)
{
	MA_STATE(mas, &r->mt, 0, 0);
	struct chunk_map *dead = NULL;
	struct chunk_map *map;
	void *entry;

	pgprotect_ranges_assert_writer(r);

	RCU_INIT_POINTER(r->recent, NULL);
	mas_for_each(&mas, entry, ULONG_MAX) {
		if (!entry_is_map(entry))
			continue;
		map = entry;
		map->next = dead;
		dead = map;
		cond_resched();
	}

	__mt_destroy(&r->mt);
	WRITE_ONCE(r->nr_pages, 0);
	r->nr_entries = 0;
	r->nr_stores = 0;
	chunk_map_free_list(r, dead);
}

/* Slots that an entry of the tree takes, and the gap beside it, as nodes are filled. */
#define ENTRY_BYTES	(4 * 2 * sizeof(void *))

/**
 * pgprotect_ranges_bytes() - about how much memory a set takes
 * @r: the set
 *
 * The entries of the tree are counted anew when so many changes were made that
 * they may be half as many again, or none; the cost is spread over those changes.
 *
 * Context: process context, may sleep. The lock must be held.
 * Return: bytes; 0 only if the set is empty.
 */
unsigned long pgprotect_ranges_bytes(struct pgprotect_ranges *r)
{
	MA_STATE(mas, &r->mt, 0, 0);
	void *entry;

	pgprotect_ranges_assert_writer(r);
	if (mtree_empty(&r->mt) || r->nr_stores > 16 + r->nr_entries / 2) {
		r->nr_stores = 0;
		r->nr_entries = 0;
		mas_for_each(&mas, entry, ULONG_MAX) {
			r->nr_entries++;
			cond_resched();
		}
	}
	return r->nr_maps * sizeof(struct chunk_map) +
	       (r->nr_entries + r->nr_stores) * ENTRY_BYTES;
}

/*
 * Make @entry, ALL or NULL, the state of chunks @first to @last. ALL is stored
 * over the ALL entries that it meets at either end as well, so that they are
 * one: readers rely on it, see the top of the file. The tree does the same for
 * NULL. Maps in the way are the caller's to free afterwards.
 */
static int pgprotect_ranges_store(struct pgprotect_ranges *r,
				  unsigned long first, unsigned long last,
				  void *entry, gfp_t gfp)
{
	MA_STATE(mas, &r->mt, 0, 0);
	int ret;

	if (entry) {
		mas_set(&mas, first ? first - 1 : first);
		if (mas_walk(&mas) == entry)
			first = min(first, mas.index);
		mas_set(&mas, last + 1);
		if (mas_walk(&mas) == entry)
			last = max(last, mas.last);
	}

	/*
	 * Not mas_store_gfp(): it takes its nodes with GFP_NOWAIT first, which
	 * would leave them uncharged.
	 */
	mas_set_range(&mas, first, last);
	ret = mas_preallocate(&mas, entry, gfp);
	if (ret)
		return ret;
	mas_store_prealloc(&mas, entry);
	r->nr_stores++;
	return 0;
}

/* Step 2: all pages of chunks @first to @last, which become ALL or none. */
static int pgprotect_ranges_change_whole(struct pgprotect_ranges *r,
					 unsigned long first,
					 unsigned long last, bool set,
					 gfp_t gfp)
{
	MA_STATE(mas, &r->mt, first, first);
	unsigned long want = set ? (last - first + 1) << CHUNK_SHIFT : 0;
	struct chunk_map *dead = NULL;
	struct chunk_map *map;
	unsigned long had = 0;
	bool grows = set;
	void *entry;
	int ret;

	/* More entries than before: a span of its own, or a hole in one. */
	mas_for_each(&mas, entry, last) {
		grows = !set && mas.index < first && mas.last > last;
		if (entry_is_map(entry)) {
			map = entry;
			map->next = dead;
			dead = map;
			had += chunk_map_weight(map, 0, CHUNK_MASK);
			cond_resched();
		} else {
			had += (min(mas.last, last) - max(mas.index, first) + 1)
				<< CHUNK_SHIFT;
		}
	}
	if (had == want && !dead)
		return 0;
	if (grows && pgprotect_ranges_is_full(r, gfp))
		return -ENOMEM;

	RCU_INIT_POINTER(r->recent, NULL);
	ret = pgprotect_ranges_store(r, first, last, set ? CHUNK_ALL : NULL,
				     gfp);
	if (ret)
		return ret;

	nr_pages_add(r, want - had);
	chunk_map_free_list(r, dead);
	return 0;
}

/*
 * Step 1: see to it that chunk @chunk has a map in which bits can be set (or
 * cleared). *@map stays NULL if all of the chunk has the wanted state.
 */
static int pgprotect_ranges_open_chunk(struct pgprotect_ranges *r,
				       unsigned long chunk, bool set,
				       struct chunk_map **map, gfp_t gfp)
{
	MA_STATE(mas, &r->mt, chunk, chunk);
	void *entry = pgprotect_ranges_load(r, chunk);
	struct chunk_map *new;
	int ret;

	if (entry_is_map(entry)) {
		*map = entry;
		return 0;
	}
	if (!!entry == set)
		return 0;

	new = chunk_map_alloc(r, chunk, !set, gfp);
	if (!new)
		return -ENOMEM;

	ret = mas_preallocate(&mas, new, gfp);
	if (ret) {
		r->nr_maps--;
		kfree(new);
		return ret;
	}
	mas_store_prealloc(&mas, new);
	r->nr_stores++;
	*map = new;
	return 0;
}

/*
 * Step 4: replace a map that says ALL or none. It saves memory and no more than
 * that, so it does not wait for memory, and the map stays if there is none.
 */
static void pgprotect_ranges_close_chunk(struct pgprotect_ranges *r,
					 unsigned long chunk,
					 struct chunk_map *map, gfp_t gfp)
{
	void *entry;

	if (chunk_map_find(map, 0, true) == CHUNK_PAGES)
		entry = NULL;
	else if (chunk_map_find(map, 0, false) == CHUNK_PAGES)
		entry = CHUNK_ALL;
	else
		return;

	if (rcu_access_pointer(r->recent) == map)
		RCU_INIT_POINTER(r->recent, NULL);
	gfp = GFP_NOWAIT | __GFP_NOWARN | (gfp & __GFP_ACCOUNT);
	if (pgprotect_ranges_store(r, chunk, chunk, entry, gfp))
		return;
	r->nr_maps--;
	kfree_rcu(map, rcu);
}

/* A chunk at one end of a span, of which the span holds @from to @to only. */
struct chunk_edge {
	unsigned long chunk;
	unsigned int from;
	unsigned int to;
	struct chunk_map *map;
};

/*
 * Cut pages @first to @last into whole chunks *@start to *@end, exclusive,
 * and up to two edges. Returns the number of edges.
 */
static unsigned int pgprotect_ranges_cut(pgoff_t first, pgoff_t last,
					 unsigned long *start,
					 unsigned long *end,
					 struct chunk_edge *edge)
{
	unsigned int from = first & CHUNK_MASK;
	unsigned int to = last & CHUNK_MASK;
	unsigned int nr = 0;

	*start = first >> CHUNK_SHIFT;
	*end = (last >> CHUNK_SHIFT) + 1;

	if (*end - *start == 1) {
		if (!from && to == CHUNK_MASK)
			return 0;
		edge[nr++] = (struct chunk_edge){
			.chunk = --*end, .from = from, .to = to,
		};
		return nr;
	}
	if (from)
		edge[nr++] = (struct chunk_edge){
			.chunk = (*start)++, .from = from, .to = CHUNK_MASK,
		};
	if (to != CHUNK_MASK)
		edge[nr++] = (struct chunk_edge){
			.chunk = --*end, .to = to,
		};
	return nr;
}

/* Step 3. */
static void pgprotect_ranges_change_edge(struct pgprotect_ranges *r,
					 const struct chunk_edge *edge,
					 bool set)
{
	unsigned long *bits = edge->map->bits;
	unsigned long mask;
	unsigned int word;

	for (word = BIT_WORD(edge->from); word <= BIT_WORD(edge->to); word++) {
		mask = chunk_word_mask(word, edge->from, edge->to);
		chunk_word_write(r, &bits[word],
				 set ? bits[word] | mask : bits[word] & ~mask);
	}
	rcu_assign_pointer(r->recent, edge->map);
}

/*
 * The common change: one page of a chunk that has a bitmap and keeps it. All of
 * step 3, and no other. Return: whether it was that.
 */
static bool pgprotect_ranges_change_page(struct pgprotect_ranges *r,
					 pgoff_t pgoff, bool set)
{
	struct chunk_map *map = pgprotect_ranges_load(r, pgoff >> CHUNK_SHIFT);
	unsigned long *word, bits;

	if (!entry_is_map(map))
		return false;
	word = &map->bits[BIT_WORD(pgoff & CHUNK_MASK)];
	bits = set ? *word | BIT_MASK(pgoff) : *word & ~BIT_MASK(pgoff);
	/* Maybe the last page of the chunk to change. */
	if (bits == (set ? ~0UL : 0))
		return false;
	chunk_word_write(r, word, bits);
	rcu_assign_pointer(r->recent, map);
	return true;
}

static int pgprotect_ranges_change(struct pgprotect_ranges *r, pgoff_t first,
				   pgoff_t last, bool set, gfp_t gfp)
{
	struct chunk_edge edge[2];
	unsigned long start, end;
	unsigned int i, nr;
	int ret = 0;

	pgprotect_ranges_assert_writer(r);
	if (WARN_ON_ONCE(first > last))
		return -EINVAL;
	if (first == last && pgprotect_ranges_change_page(r, first, set))
		return 0;

	nr = pgprotect_ranges_cut(first, last, &start, &end, edge);

	for (i = 0; i < nr && !ret; i++)
		ret = pgprotect_ranges_open_chunk(r, edge[i].chunk, set,
						  &edge[i].map, gfp);
	if (!ret && start < end)
		ret = pgprotect_ranges_change_whole(r, start, end - 1, set,
						    gfp);

	/* Nothing fails from here on, and nothing has changed if it did. */
	for (i = 0; i < nr; i++) {
		if (!edge[i].map)
			continue;
		if (!ret)
			pgprotect_ranges_change_edge(r, &edge[i], set);
		pgprotect_ranges_close_chunk(r, edge[i].chunk, edge[i].map,
					     gfp);
	}
	return ret;
}

/**
 * pgprotect_ranges_add() - put pages into a set
 * @r: the set
 * @first: first page index
 * @last: last page index, inclusive
 * @gfp: how to allocate; cannot fail with __GFP_NOFAIL
 *
 * Pages that are in the set already are fine.
 *
 * Context: process context, may sleep as @gfp allows. The lock must be held.
 * Return: 0, or -ENOMEM with exactly the pages in the set that were in it
 * before; readers have seen no change either.
 */
int pgprotect_ranges_add(struct pgprotect_ranges *r, pgoff_t first,
			 pgoff_t last, gfp_t gfp)
{
	return pgprotect_ranges_change(r, first, last, true, gfp);
}

/**
 * pgprotect_ranges_remove() - take pages out of a set
 * @r: the set
 * @first: first page index
 * @last: last page index, inclusive
 * @gfp: how to allocate; cannot fail with __GFP_NOFAIL
 *
 * Pages that are not in the set are fine. Taking a part out of a large span
 * needs memory. It needs none when the pages share a bitmap with others. A set
 * that is full can be emptied, and whole chunks cut off the ends of its spans.
 *
 * Context: process context, may sleep as @gfp allows. The lock must be held.
 * Return: 0, or -ENOMEM with exactly the pages in the set that were in it
 * before; readers have seen no change either.
 */
int pgprotect_ranges_remove(struct pgprotect_ranges *r, pgoff_t first,
			    pgoff_t last, gfp_t gfp)
{
	return pgprotect_ranges_change(r, first, last, false, gfp);
}

static int pgprotect_ranges_merge_map(struct pgprotect_ranges *dst,
				      unsigned long chunk,
				      const struct chunk_map *from, gfp_t gfp)
{
	struct chunk_map *map = NULL;
	unsigned int word;
	int ret;

	ret = pgprotect_ranges_open_chunk(dst, chunk, true, &map, gfp);
	if (ret || !map)
		return ret;

	for (word = 0; word < ARRAY_SIZE(map->bits); word++)
		chunk_word_write(dst, &map->bits[word],
				 map->bits[word] | from->bits[word]);
	pgprotect_ranges_close_chunk(dst, chunk, map, gfp);
	return 0;
}

/**
 * pgprotect_ranges_merge() - put all pages of one set into another
 * @dst: the set that grows
 * @src: the set that is read
 * @gfp: how to allocate; cannot fail with __GFP_NOFAIL
 *
 * Context: process context, may sleep as @gfp allows. The locks of both sets
 * must be held.
 * Return: 0, or -ENOMEM. @dst may then have got some of the pages of @src, from
 * the lowest up; it has lost none. The caller who cannot have that passes
 * __GFP_NOFAIL.
 */
int pgprotect_ranges_merge(struct pgprotect_ranges *dst,
			   struct pgprotect_ranges *src, gfp_t gfp)
{
	MA_STATE(mas, &src->mt, 0, 0);
	void *entry;
	int ret;

	pgprotect_ranges_assert_writer(dst);
	pgprotect_ranges_assert_writer(src);
	if (dst == src)
		return 0;

	mas_for_each(&mas, entry, ULONG_MAX) {
		if (entry_is_map(entry))
			ret = pgprotect_ranges_merge_map(dst, mas.index, entry,
							 gfp);
		else
			ret = pgprotect_ranges_change_whole(dst, mas.index,
							    mas.last, true,
							    gfp);
		if (ret)
			return ret;
		cond_resched();
	}
	return 0;
}

/**
 * pgprotect_ranges_test() - is a page in the set?
 * @r: the set
 * @pgoff: page index
 *
 * Context: any, also under a page-table lock. rcu_read_lock() or the lock must
 * be held.
 * Return: true if it is. During a change of this page, either.
 */
bool pgprotect_ranges_test(struct pgprotect_ranges *r, pgoff_t pgoff)
{
	const void *entry = pgprotect_ranges_load(r, pgoff >> CHUNK_SHIFT);
	const struct chunk_map *map = entry;

	/* The tree takes RCU itself, but lets go while the map is used. */
	RCU_LOCKDEP_WARN(!rcu_read_lock_held() && !mt_lock_is_held(&r->mt),
			 "range set read without protection");
	if (entry_is_map(entry))
		return test_bit(pgoff & CHUNK_MASK, map->bits);
	return entry;
}

/*
 * The entry that holds page @pos, and in *@end up to where, but not beyond
 * @last, the answer holds: one chunk for a map, any number for ALL and none.
 */
static void *pgprotect_ranges_piece(struct ma_state *mas, pgoff_t pos,
				    pgoff_t last, pgoff_t *end)
{
	unsigned long chunk = pos >> CHUNK_SHIFT;
	void *entry;

	mas_set(mas, chunk);
	entry = mas_walk(mas);
	if (!entry_is_map(entry))
		chunk = min(mas->last, last >> CHUNK_SHIFT);
	*end = min(last, (chunk << CHUNK_SHIFT) | CHUNK_MASK);
	return entry;
}

/* First page within @pos to @end of one piece that is set (or unset). */
static bool pgprotect_ranges_piece_find(const void *entry, pgoff_t pos,
					pgoff_t end, bool set, pgoff_t *found)
{
	unsigned int bit;

	if (!entry_is_map(entry)) {
		*found = pos;
		return !!entry == set;
	}
	bit = chunk_map_find(entry, pos & CHUNK_MASK, set);
	*found = (pos & ~CHUNK_MASK) + bit;
	return bit <= (end & CHUNK_MASK);
}

/**
 * pgprotect_ranges_intersects() - is any page of a span in the set?
 * @r: the set
 * @first: first page index
 * @last: last page index, inclusive
 *
 * Context: any, also under a page-table lock. rcu_read_lock() or the lock must
 * be held. Takes a walk of the tree for each entry until the first hit.
 * Return: true if one is. A page that is set throughout is never missed.
 */
bool pgprotect_ranges_intersects(struct pgprotect_ranges *r, pgoff_t first,
				 pgoff_t last)
{
	MA_STATE(mas, &r->mt, 0, 0);
	pgoff_t end, found;
	const void *entry;

	/* Most spans are a folio. Half the price of the walk below. */
	if (first >> CHUNK_SHIFT == last >> CHUNK_SHIFT) {
		entry = pgprotect_ranges_load(r, first >> CHUNK_SHIFT);
		return pgprotect_ranges_piece_find(entry, first, last, true,
						   &found);
	}

	for (;; first = end + 1) {
		entry = pgprotect_ranges_piece(&mas, first, last, &end);
		if (pgprotect_ranges_piece_find(entry, first, end, true,
						&found))
			return true;
		if (end == last)
			return false;
	}
}

/**
 * pgprotect_ranges_next_run() - find the first run of pages in the set
 * @r: the set
 * @first: in: where to begin; out: first page of the run
 * @last: in: where to end, inclusive; out: last page of the run
 *
 * The run ends at an unset page or at the end of the span. To go on, call again
 * from the page after the run. During changes, each page was in the state
 * reported when it was looked at; two pages need not have been at one time.
 *
 * Context: any, also under a page-table lock. rcu_read_lock() or the lock must
 * be held; it may be dropped between calls.
 * Return: true if there is one, else false with *@first and *@last as they were.
 */
bool pgprotect_ranges_next_run(struct pgprotect_ranges *r, pgoff_t *first,
			       pgoff_t *last)
{
	MA_STATE(mas, &r->mt, 0, 0);
	pgoff_t pos = *first, start = 0;
	pgoff_t end, found;
	bool in_run = false;
	bool ended;
	void *entry;

	for (;; pos = end + 1) {
		entry = pgprotect_ranges_piece(&mas, pos, *last, &end);
		if (in_run) {
			ended = pgprotect_ranges_piece_find(entry, pos, end,
							    false, &found);
		} else {
			in_run = pgprotect_ranges_piece_find(entry, pos, end,
							     true, &start);
			/* Not @start again: it may have been cleared since. */
			ended = in_run && start < end &&
				pgprotect_ranges_piece_find(entry, start + 1,
							    end, false, &found);
		}
		if (ended) {
			*last = found - 1;
			break;
		}
		if (end == *last)
			break;
	}
	if (in_run)
		*first = start;
	return in_run;
}

/**
 * pgprotect_ranges_weight() - count the pages of a span that are in the set
 * @r: the set
 * @first: first page index
 * @last: last page index, inclusive
 *
 * Context: any, also under a page-table lock. rcu_read_lock() or the lock must
 * be held.
 * Return: the number of pages; exact if the lock is held.
 */
unsigned long pgprotect_ranges_weight(struct pgprotect_ranges *r,
				      pgoff_t first, pgoff_t last)
{
	return pgprotect_ranges_weight_some(r, &first, last, UINT_MAX);
}

/**
 * pgprotect_ranges_weight_some() - count pages in steps that do not take long
 * @r: the set
 * @first: in: first page index; out: where to go on, 0 when all are counted
 * @last: last page index, inclusive
 * @pieces: entries of the tree to look at
 *
 * Context: as pgprotect_ranges_weight(); RCU may be dropped between calls.
 * Return: the number of pages in the part that was looked at.
 */
unsigned long pgprotect_ranges_weight_some(struct pgprotect_ranges *r,
					   pgoff_t *first, pgoff_t last,
					   unsigned int pieces)
{
	MA_STATE(mas, &r->mt, 0, 0);
	unsigned long weight = 0;
	pgoff_t pos = *first;
	pgoff_t end;
	void *entry;

	for (; pieces--; pos = end + 1) {
		entry = pgprotect_ranges_piece(&mas, pos, last, &end);
		if (entry_is_map(entry))
			weight += chunk_map_weight(entry, pos & CHUNK_MASK,
						   end & CHUNK_MASK);
		else if (entry)
			weight += end - pos + 1;
		if (end == last) {
			*first = 0;
			return weight;
		}
	}
	*first = pos;
	return weight;
}
