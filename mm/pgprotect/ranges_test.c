// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit: the range set in a real kernel
 *
 * What a set should contain after any operations is tests/unit's to find out.
 * Here are the cases that a newcomer would want to see spelled out, and those
 * that need the kernel: lockdep on the lock and on RCU, readers with a spinlock
 * held, and a second CPU.
 */
#include <kunit/test.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

#include "ranges.h"

#define CHUNK	512UL

/* The set of a test. */
struct ranges_fixture {
	struct mutex lock;	/* the writers' lock of @set */
	struct pgprotect_ranges set;
};

static int ranges_init(struct kunit *test)
{
	struct ranges_fixture *f;

	f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	if (!f)
		return -ENOMEM;
	mutex_init(&f->lock);
	pgprotect_ranges_init(&f->set, &f->lock);
	test->priv = f;
	return 0;
}

static void ranges_exit(struct kunit *test)
{
	struct ranges_fixture *f = test->priv;

	if (!f)
		return;
	mutex_lock(&f->lock);
	pgprotect_ranges_destroy(&f->set);
	mutex_unlock(&f->lock);
	/* The fixture goes next. */
	synchronize_rcu();
	mutex_destroy(&f->lock);
}

static void ranges_add(struct kunit *test, pgoff_t first, pgoff_t last)
{
	struct ranges_fixture *f = test->priv;
	int ret;

	mutex_lock(&f->lock);
	ret = pgprotect_ranges_add(&f->set, first, last, GFP_KERNEL_ACCOUNT);
	mutex_unlock(&f->lock);
	KUNIT_EXPECT_EQ(test, ret, 0);
}

static void ranges_remove(struct kunit *test, pgoff_t first, pgoff_t last)
{
	struct ranges_fixture *f = test->priv;
	int ret;

	mutex_lock(&f->lock);
	ret = pgprotect_ranges_remove(&f->set, first, last, GFP_KERNEL_ACCOUNT);
	mutex_unlock(&f->lock);
	KUNIT_EXPECT_EQ(test, ret, 0);
}

static bool is_set(struct kunit *test, pgoff_t pgoff)
{
	struct ranges_fixture *f = test->priv;
	bool ret;

	rcu_read_lock();
	ret = pgprotect_ranges_test(&f->set, pgoff);
	rcu_read_unlock();
	return ret;
}

static bool intersects(struct kunit *test, pgoff_t first, pgoff_t last)
{
	struct ranges_fixture *f = test->priv;
	bool ret;

	rcu_read_lock();
	ret = pgprotect_ranges_intersects(&f->set, first, last);
	rcu_read_unlock();
	return ret;
}

static void expect_run(struct kunit *test, pgoff_t from, pgoff_t to,
		       pgoff_t want_first, pgoff_t want_last)
{
	struct ranges_fixture *f = test->priv;
	pgoff_t first = from, last = to;
	bool ret;

	rcu_read_lock();
	ret = pgprotect_ranges_next_run(&f->set, &first, &last);
	rcu_read_unlock();
	KUNIT_EXPECT_TRUE(test, ret);
	KUNIT_EXPECT_EQ(test, first, want_first);
	KUNIT_EXPECT_EQ(test, last, want_last);
}

static void expect_pages(struct kunit *test, unsigned long want)
{
	struct ranges_fixture *f = test->priv;
	unsigned long weight;

	rcu_read_lock();
	weight = pgprotect_ranges_weight(&f->set, 0, ULONG_MAX);
	rcu_read_unlock();
	KUNIT_EXPECT_EQ(test, weight, want);
	KUNIT_EXPECT_EQ(test, READ_ONCE(f->set.nr_pages), want);
}

static void new_set_is_empty(struct kunit *test)
{
	struct ranges_fixture *f = test->priv;
	pgoff_t first = 3, last = 9;

	KUNIT_EXPECT_FALSE(test, is_set(test, 0));
	KUNIT_EXPECT_FALSE(test, intersects(test, 0, ULONG_MAX));
	rcu_read_lock();
	KUNIT_EXPECT_FALSE(test, pgprotect_ranges_next_run(&f->set, &first,
							   &last));
	rcu_read_unlock();
	/* Left alone, as promised. */
	KUNIT_EXPECT_EQ(test, first, 3);
	KUNIT_EXPECT_EQ(test, last, 9);
	expect_pages(test, 0);
}

static void one_page(struct kunit *test)
{
	ranges_add(test, 700, 700);
	KUNIT_EXPECT_FALSE(test, is_set(test, 699));
	KUNIT_EXPECT_TRUE(test, is_set(test, 700));
	KUNIT_EXPECT_FALSE(test, is_set(test, 701));
	/* Page 700 is bit 188: not to be mistaken for page 188. */
	KUNIT_EXPECT_FALSE(test, is_set(test, 700 % CHUNK));
	expect_pages(test, 1);
}

static void added_twice_counts_once(struct kunit *test)
{
	ranges_add(test, 10, 2000);
	ranges_add(test, 10, 2000);
	ranges_add(test, 1500, 2100);
	expect_pages(test, 2100 - 10 + 1);
	ranges_remove(test, 3000, 9000);
	expect_pages(test, 2100 - 10 + 1);
}

static void page_released_in_the_middle(struct kunit *test)
{
	const pgoff_t hole = 1000 * CHUNK + 77;

	ranges_add(test, 0, 5000 * CHUNK - 1);
	ranges_remove(test, hole, hole);
	KUNIT_EXPECT_TRUE(test, is_set(test, hole - 1));
	KUNIT_EXPECT_FALSE(test, is_set(test, hole));
	KUNIT_EXPECT_TRUE(test, is_set(test, hole + 1));
	expect_pages(test, 5000 * CHUNK - 1);
	expect_run(test, 0, ULONG_MAX, 0, hole - 1);
	expect_run(test, hole, ULONG_MAX, hole + 1, 5000 * CHUNK - 1);

	/* And back: one run again. */
	ranges_add(test, hole, hole);
	expect_run(test, 0, ULONG_MAX, 0, 5000 * CHUNK - 1);
}

static void run_crosses_entries(struct kunit *test)
{
	/* End of a bitmap, a span, start of a bitmap: one run to the caller. */
	ranges_add(test, CHUNK - 1, 3 * CHUNK);
	expect_run(test, 0, ULONG_MAX, CHUNK - 1, 3 * CHUNK);
	expect_run(test, CHUNK + 5, 2 * CHUNK, CHUNK + 5, 2 * CHUNK);
	expect_run(test, 3 * CHUNK, 3 * CHUNK, 3 * CHUNK, 3 * CHUNK);
	KUNIT_EXPECT_FALSE(test, intersects(test, 0, CHUNK - 2));
	KUNIT_EXPECT_TRUE(test, intersects(test, 0, CHUNK - 1));
	KUNIT_EXPECT_TRUE(test, intersects(test, 3 * CHUNK, ULONG_MAX));
	KUNIT_EXPECT_FALSE(test, intersects(test, 3 * CHUNK + 1, ULONG_MAX));
}

static void largest_file(struct kunit *test)
{
	const pgoff_t max = MAX_LFS_FILESIZE >> PAGE_SHIFT;

	ranges_add(test, 0, max);
	KUNIT_EXPECT_TRUE(test, is_set(test, max));
	KUNIT_EXPECT_TRUE(test, intersects(test, max, max));
	expect_pages(test, max + 1);
	ranges_remove(test, max, max);
	KUNIT_EXPECT_FALSE(test, is_set(test, max));
	expect_pages(test, max);
	ranges_remove(test, 0, max);
	expect_pages(test, 0);
}

static void merged(struct kunit *test)
{
	struct ranges_fixture *f = test->priv;
	struct pgprotect_ranges other;
	int ret;

	ranges_add(test, 100, 199);
	pgprotect_ranges_init(&other, &f->lock);

	mutex_lock(&f->lock);
	ret = pgprotect_ranges_add(&other, 150, 3 * CHUNK - 1, GFP_KERNEL);
	if (!ret)
		ret = pgprotect_ranges_merge(&f->set, &other,
					     GFP_KERNEL | __GFP_NOFAIL);
	pgprotect_ranges_destroy(&other);
	mutex_unlock(&f->lock);
	synchronize_rcu();

	KUNIT_EXPECT_EQ(test, ret, 0);
	expect_pages(test, 3 * CHUNK - 100);
	expect_run(test, 0, ULONG_MAX, 100, 3 * CHUNK - 1);
}

static void empty_after_destroy(struct kunit *test)
{
	struct ranges_fixture *f = test->priv;

	ranges_add(test, 5, 4 * CHUNK + 5);
	mutex_lock(&f->lock);
	pgprotect_ranges_destroy(&f->set);
	mutex_unlock(&f->lock);
	KUNIT_EXPECT_FALSE(test, intersects(test, 0, ULONG_MAX));
	expect_pages(test, 0);
	ranges_add(test, 1, 1);
	expect_pages(test, 1);
}

/* As the fault path reads it: a sleep or an allocation would be reported. */
static void read_under_spinlock(struct kunit *test)
{
	static DEFINE_SPINLOCK(ptl);
	struct ranges_fixture *f = test->priv;
	pgoff_t first = 0, last = 9 * CHUNK;
	unsigned long weight;
	bool hit, run, set;

	ranges_add(test, 5, 4 * CHUNK + 5);
	rcu_read_lock();
	spin_lock(&ptl);
	set = pgprotect_ranges_test(&f->set, 2 * CHUNK);
	hit = pgprotect_ranges_intersects(&f->set, 0, 9 * CHUNK);
	run = pgprotect_ranges_next_run(&f->set, &first, &last);
	weight = pgprotect_ranges_weight(&f->set, 0, 9 * CHUNK);
	spin_unlock(&ptl);
	rcu_read_unlock();
	KUNIT_EXPECT_TRUE(test, set && hit && run);
	KUNIT_EXPECT_EQ(test, weight, 4 * CHUNK + 1);
}

/* The lock does for RCU: writers look before they change. */
static void read_under_the_lock(struct kunit *test)
{
	struct ranges_fixture *f = test->priv;

	ranges_add(test, 5, 5);
	mutex_lock(&f->lock);
	KUNIT_EXPECT_TRUE(test, pgprotect_ranges_test(&f->set, 5));
	KUNIT_EXPECT_TRUE(test, pgprotect_ranges_intersects(&f->set, 0, 9));
	KUNIT_EXPECT_EQ(test, pgprotect_ranges_weight(&f->set, 0, 9), 1);
	mutex_unlock(&f->lock);
}

struct ranges_watch {
	struct pgprotect_ranges *set;
	unsigned long reads;
	unsigned long missed;
};

#define WATCHED		(40 * CHUNK)
#define WATCHED_LAST	(48 * CHUNK - 1)

static int watch_thread(void *data)
{
	struct ranges_watch *w = data;
	pgoff_t first, last;

	while (!kthread_should_stop()) {
		first = WATCHED + w->reads % (8 * CHUNK);
		last = WATCHED_LAST;
		rcu_read_lock();
		if (!pgprotect_ranges_test(w->set, first) ||
		    !pgprotect_ranges_intersects(w->set, 0, ULONG_MAX) ||
		    !pgprotect_ranges_next_run(w->set, &first, &last) ||
		    last != WATCHED_LAST)
			w->missed++;
		rcu_read_unlock();
		w->reads++;
		cond_resched();
	}
	return 0;
}

/* Pages to both sides come and go, joined to the watched ones and cut off. */
static void no_flicker_on_another_cpu(struct kunit *test)
{
	struct ranges_fixture *f = test->priv;
	struct ranges_watch w = { .set = &f->set };
	struct task_struct *task;
	unsigned long end;
	pgoff_t low, high;
	int i;

	ranges_add(test, WATCHED, WATCHED_LAST);
	task = kthread_run(watch_thread, &w, "pgprotect-ranges");
	KUNIT_ASSERT_FALSE(test, IS_ERR(task));

	end = jiffies + HZ / 2;
	for (i = 0; time_before(jiffies, end); i++) {
		low = WATCHED - 1 - i * 37UL % (4 * CHUNK);
		high = WATCHED_LAST + 1 + i * 53UL % (4 * CHUNK);
		ranges_add(test, low, high);
		ranges_remove(test, low, WATCHED - 1);
		ranges_remove(test, WATCHED_LAST + 1, high);
		cond_resched();
	}
	kthread_stop(task);
	kunit_info(test, "%lu reads, %d changes", w.reads, 3 * i);
	KUNIT_EXPECT_EQ(test, w.missed, 0);
	expect_pages(test, 8 * CHUNK);
}

static struct kunit_case ranges_cases[] = {
	KUNIT_CASE(new_set_is_empty),
	KUNIT_CASE(one_page),
	KUNIT_CASE(added_twice_counts_once),
	KUNIT_CASE(page_released_in_the_middle),
	KUNIT_CASE(run_crosses_entries),
	KUNIT_CASE(largest_file),
	KUNIT_CASE(merged),
	KUNIT_CASE(empty_after_destroy),
	KUNIT_CASE(read_under_spinlock),
	KUNIT_CASE(read_under_the_lock),
	KUNIT_CASE(no_flicker_on_another_cpu),
	{}
};

static struct kunit_suite ranges_suite = {
	.name = "pgprotect-ranges",
	.init = ranges_init,
	.exit = ranges_exit,
	.test_cases = ranges_cases,
};

kunit_test_suite(ranges_suite);

MODULE_DESCRIPTION("KUnit tests of the pgprotect range set");
MODULE_LICENSE("GPL");
