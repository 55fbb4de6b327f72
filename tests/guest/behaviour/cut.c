// SPDX-License-Identifier: GPL-2.0
/*
 * A PROTECT over several files is one point in time. Writers count in file A and
 * then in file B. Whatever instant is frozen, A has counted as far as B, or one
 * further; and nobody who was refused in A can still leave a mark in B.
 */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define THREADS		2
#define LARGE_PAGES	512	/* so that B takes a while to protect */
#define RUN_NS		2000000000ULL
#define MIN_ROUNDS	3
#define MAX_ROUNDS	300

/* Word 0 of page t in each file is thread t's. */
struct pair {
	struct test_file a, b;
	int ctx;
	struct pgprotect_range ranges[2];
	_Atomic bool stop;
	_Atomic int next_thread;
};

FIXTURE(cut) {
	struct pair pair;
	struct writer *writers[THREADS];
};

FIXTURE_SETUP(cut)
{
	struct pair *pair = &self->pair;

	pair->a = file_memfd(THREADS);
	pair->b = file_memfd(LARGE_PAGES);
	pair->ctx = ctx_open();
	pair->stop = false;
	pair->next_thread = 0;
}

FIXTURE_TEARDOWN(cut)
{
	close(self->pair.ctx);
	file_close(&self->pair.a);
	file_close(&self->pair.b);
}

static void attach_pair(struct pair *pair, uint32_t mode, bool a_first)
{
	uint32_t a = ctx_attach(pair->ctx, pair->a.fd, mode, 0);
	uint32_t b = ctx_attach(pair->ctx, pair->b.fd, mode, 0);

	pair->ranges[!a_first] = range_of(a, 0, pair->a.size);
	pair->ranges[a_first] = range_of(b, 0, pair->b.size);
}

static volatile uint64_t *word_of(struct test_file *file, int thread)
{
	return (volatile uint64_t *)(file->map + thread * page_size());
}

/* Counts on until the store goes through, or the test is over. */
static bool store_until_done(struct pair *pair, volatile uint64_t *word, uint64_t value)
{
	while (store_word(word, value) == GOT_SIGBUS) {
		if (pair->stop)
			return false;
		sched_yield();
	}
	return true;
}

static long op_count(struct writer *self)
{
	struct pair *pair = self->arg;
	int me = pair->next_thread++;

	for (uint64_t i = 1; !pair->stop; i++) {
		if (!store_until_done(pair, word_of(&pair->a, me), i) ||
		    !store_until_done(pair, word_of(&pair->b, me), i))
			break;
		self->progress = i;
	}
	return 0;
}

static bool all_progress(struct writer **writers)
{
	for (int i = 0; i < THREADS; i++) {
		long before = writers[i]->progress;

		if (!WAIT_FOR(writers[i]->progress > before))
			return false;
	}
	return true;
}

static uint64_t image(struct pair *pair)
{
	return checksum(pair->a.map, pair->a.size) * 31 + checksum(pair->b.map, pair->b.size);
}

/* One round: freeze, look, look again, thaw. What is wrong, or NULL. */
static const char *round_of(struct pair *pair)
{
	uint64_t before;

	if (ctx_protect(pair->ctx, pair->ranges, 2))
		return "PROTECT failed";
	before = image(pair);
	for (int t = 0; t < THREADS; t++) {
		uint64_t a = *word_of(&pair->a, t), b = *word_of(&pair->b, t);

		if (b > a || b + 1 < a)
			return "the image is torn";
	}
	for (int i = 0; i < 5; i++)
		sched_yield();
	if (image(pair) != before)
		return "the image has changed";
	if (ctx_unprotect(pair->ctx, pair->ranges, 2))
		return "UNPROTECT failed";
	return NULL;
}

static void run_rounds(struct __test_metadata *_metadata, struct _test_data_cut *self,
		       uint32_t mode, bool a_first)
{
	uint64_t end = now_ns() + RUN_NS;
	const char *wrong = NULL;
	int rounds = 0;

	attach_pair(&self->pair, mode, a_first);
	for (int i = 0; i < THREADS; i++)
		self->writers[i] = writer_thread(op_count, &self->pair);
	while (!wrong && (rounds < MIN_ROUNDS || (now_ns() < end && rounds < MAX_ROUNDS))) {
		ASSERT_TRUE(all_progress(self->writers));
		wrong = round_of(&self->pair);
		rounds++;
	}
	self->pair.stop = true;
	ctx_unprotect(self->pair.ctx, self->pair.ranges, 2);
	for (int i = 0; i < THREADS; i++) {
		EXPECT_EQ(0, writer_join(self->writers[i]));
	}
	EXPECT_EQ(NULL, wrong) {
		TH_LOG("round %d: %s", rounds, wrong);
	}
}

TEST_F(cut, of_two_files_is_consistent_with_stall)
{
	run_rounds(_metadata, self, PGPROTECT_MODE_STALL, true);
}

TEST_F(cut, of_two_files_is_consistent_with_deny)
{
	run_rounds(_metadata, self, PGPROTECT_MODE_DENY, true);
}

TEST_F(cut, is_consistent_in_the_other_order_with_stall)
{
	run_rounds(_metadata, self, PGPROTECT_MODE_STALL, false);
}

TEST_F(cut, is_consistent_in_the_other_order_with_deny)
{
	run_rounds(_metadata, self, PGPROTECT_MODE_DENY, false);
}

/* Writes to A until refused, and then at once leaves a mark at the end of B. */
static long op_mark_refusal(struct writer *self)
{
	struct pair *pair = self->arg;
	volatile char *mark = pair->b.map + pair->b.size - 1;

	writer_checkpoint(self);
	while (store_byte(pair->a.map, 1) != GOT_SIGBUS) {
		if (pair->stop)
			return 0;
	}
	return store_byte(mark, 'm');
}

TEST_F(cut, refusal_in_the_first_file_cannot_be_marked_in_the_last)
{
	uint64_t end = now_ns() + RUN_NS;
	struct pair *pair = &self->pair;
	struct writer *writer;

	attach_pair(pair, PGPROTECT_MODE_DENY, true);
	for (int i = 0; i < MIN_ROUNDS || (now_ns() < end && i < MAX_ROUNDS); i++) {
		writer = writer_thread(op_mark_refusal, pair);
		writer_wait_ready(writer);
		writer_go(writer);
		ASSERT_EQ(0, ctx_protect(pair->ctx, pair->ranges, 2));
		EXPECT_EQ(GOT_SIGBUS, writer_join(writer));
		ASSERT_EQ(0, pair->b.map[pair->b.size - 1]) {
			TH_LOG("round %d", i);
		}
		ASSERT_EQ(0, ctx_unprotect(pair->ctx, pair->ranges, 2));
	}
}

/* What the handler saw: where the writer stood, and in which of its rounds. */
struct passage {
	bool in_a;
	uint64_t value;
};

struct release {
	struct pair *pair;
	struct passage passages[2 * MAX_ROUNDS];
	_Atomic int nr;
};

static long op_allow_all(struct writer *self)
{
	struct release *release = self->arg;
	struct pair *pair = release->pair;
	struct pgprotect_event event;

	while (!pair->stop) {
		bool in_a;

		if (ctx_next(pair->ctx, &event, 1, 0) != 1)
			continue;
		in_a = event.file == pair->ranges[0].file;
		release->passages[release->nr] = (struct passage){
			.in_a = in_a,
			.value = *word_of(in_a ? &pair->a : &pair->b, in_a ? 0 : LARGE_PAGES - 1),
		};
		release->nr++;
		ctx_verdict(pair->ctx, event.id, PGPROTECT_ALLOW, 0);
	}
	return 0;
}

/* Counts in the first page of A and then in the last of B. */
static long op_count_far(struct writer *self)
{
	struct pair *pair = ((struct release *)self->arg)->pair;

	for (uint64_t i = 1; !pair->stop; i++) {
		store_word(word_of(&pair->a, 0), i);
		store_word(word_of(&pair->b, LARGE_PAGES - 1), i);
		self->progress = i;
	}
	return 0;
}

/*
 * The handler may release A's writer while the PROTECT is still busy with B. The
 * writer must not get through before B is protected as well: when it stood in A
 * first, it then stands in B in the same of its rounds.
 */
TEST_F(cut, release_in_the_first_file_does_not_let_through_to_the_last)
{
	static struct release release;
	uint64_t end = now_ns() + RUN_NS;
	struct pair *pair = &self->pair;
	struct writer *handler, *writer;

	release.pair = pair;
	attach_pair(pair, PGPROTECT_MODE_STALL, true);
	handler = writer_thread(op_allow_all, &release);
	writer = writer_thread(op_count_far, &release);
	for (int i = 0; i < MIN_ROUNDS || (now_ns() < end && i < MAX_ROUNDS); i++) {
		struct passage *seen = &release.passages[2 * i];
		long before = writer->progress;

		ASSERT_TRUE(WAIT_FOR(writer->progress > before));
		ASSERT_EQ(0, ctx_protect(pair->ctx, pair->ranges, 2));
		ASSERT_TRUE(WAIT_FOR(release.nr == 2 * (i + 1)));
		EXPECT_NE(seen[0].in_a, seen[1].in_a);
		EXPECT_EQ(!seen[0].in_a, seen[1].value - seen[0].value) {
			TH_LOG("round %d: stood in %s first", i, seen[0].in_a ? "A" : "B");
		}
	}
	pair->stop = true;
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(0, writer_join(handler));
}

TEST_HARNESS_MAIN
