// SPDX-License-Identifier: GPL-2.0
/* write(2) and its kin: one by one, appended, vectored, spanning pages. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

static long result_of(ssize_t done)
{
	return done < 0 ? -errno : done;
}

static long by_pwrite(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);

	route_ready(attempt);
	return result_of(pwrite(attempt->file.fd, data, attempt->length, attempt->at));
}

/* A position of its own, which must move by what was written and no further. */
static int open_again(struct attempt *attempt, int flags)
{
	char path[40];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", attempt->file.fd);
	fd = open(path, O_RDWR | O_CLOEXEC | flags);
	if (fd < 0)
		die("open %s", path);
	return fd;
}

static long by_write(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = open_again(attempt, 0);
	long result;

	lseek(fd, attempt->at, SEEK_SET);
	route_ready(attempt);
	result = result_of(write(fd, data, attempt->length));
	if (lseek(fd, 0, SEEK_CUR) != (off_t)attempt->at + (result < 0 ? 0 : result))
		die("the position is wrong");
	return result;
}

static long by_write_of_map_files(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = map_files_open(attempt->file.map, attempt->file.size);

	route_ready(attempt);
	return result_of(pwrite(fd, data, attempt->length, attempt->at));
}

static struct iovec *halves_of(struct attempt *attempt)
{
	static struct iovec iov[2];
	char *data = value_buffer(attempt->length);
	size_t half = attempt->length / 2;

	iov[0] = (struct iovec){ data, half };
	iov[1] = (struct iovec){ data + half, attempt->length - half };
	return iov;
}

static long by_writev(struct attempt *attempt)
{
	struct iovec *iov = halves_of(attempt);
	int fd = open_again(attempt, 0);

	lseek(fd, attempt->at, SEEK_SET);
	route_ready(attempt);
	return result_of(writev(fd, iov, 2));
}

static long by_pwritev(struct attempt *attempt)
{
	struct iovec *iov = halves_of(attempt);

	route_ready(attempt);
	return result_of(pwritev(attempt->file.fd, iov, 2, attempt->at));
}

static long by_pwritev2(struct attempt *attempt)
{
	struct iovec *iov = halves_of(attempt);

	route_ready(attempt);
	return result_of(pwritev2(attempt->file.fd, iov, 2, attempt->at, RWF_DSYNC));
}

/* RWF_APPEND ignores the offset. */
static long by_pwritev2_append(struct attempt *attempt)
{
	struct iovec *iov = halves_of(attempt);

	route_ready(attempt);
	return result_of(pwritev2(attempt->file.fd, iov, 2, 0, RWF_APPEND));
}

static long by_append(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = open_again(attempt, O_APPEND);

	route_ready(attempt);
	return result_of(write(fd, data, attempt->length));
}

/* On O_APPEND, pwrite appends wherever it was told to write. */
static long by_pwrite_on_append(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = open_again(attempt, O_APPEND);

	route_ready(attempt);
	return result_of(pwrite(fd, data, attempt->length, 0));
}

static long by_direct_write(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = open_again(attempt, O_DIRECT);

	route_ready(attempt);
	return result_of(pwrite(fd, data, attempt->length, attempt->at));
}

static long by_sync_write(struct attempt *attempt)
{
	void *data = value_buffer(attempt->length);
	int fd = open_again(attempt, O_SYNC);

	route_ready(attempt);
	return result_of(pwrite(fd, data, attempt->length, attempt->at));
}

static void expect_longer(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, ROUTE_VALUE, attempt->length);
	image->size = attempt->at + attempt->length;
}

/* The source lies in the same file: the data must be what it was. */
static long by_pwrite_from_itself(struct attempt *attempt)
{
	route_ready(attempt);
	return result_of(pwrite(attempt->file.fd, attempt->file.map + 20 * PAGE, attempt->length,
				attempt->at));
}

static void expect_page_21(struct attempt *attempt, struct image *image)
{
	memset(image->data + attempt->at, 21, attempt->length);
}

ROUTE_FAMILY(write);

#define WRITE(name, function, bytes, ...)					\
	ROUTE_ADD(write, name, .op = function, .length = bytes, .success = bytes,	\
		  .denied = -EPERM, .origin = PGPROTECT_ORIGIN_WRITE, ##__VA_ARGS__)
#define END	ROUTE_SIZE

WRITE(write, by_write, 100)
WRITE(pwrite, by_pwrite, 100)
WRITE(pwrite_by_thread, by_pwrite, 100, .thread = true)
WRITE(writev, by_writev, 100)
WRITE(pwritev, by_pwritev, 100)
WRITE(pwritev2, by_pwritev2, 100)
WRITE(direct_io, by_direct_write, PAGE, .at = 5 * PAGE)
WRITE(o_sync, by_sync_write, 100)
WRITE(tmpfs, by_pwrite, 100, .kind = FILE_TMPFS)
WRITE(tmpfs_write, by_write, 100, .kind = FILE_TMPFS)
WRITE(shared_anonymous_by_map_files, by_write_of_map_files, 100, .kind = FILE_SHARED_ANON)
WRITE(sysv_shm_by_map_files, by_write_of_map_files, 100, .kind = FILE_SYSV)
WRITE(whole_page, by_pwrite, PAGE, .at = 5 * PAGE)
WRITE(two_pages, by_pwrite, 200, .at = 6 * PAGE - 100)
WRITE(ten_pages, by_write, 10 * PAGE, .at = 5 * PAGE + 9)
WRITE(ten_pages_vectored, by_pwritev, 10 * PAGE, .at = 5 * PAGE + 9)
WRITE(source_in_same_file, by_pwrite_from_itself, PAGE, .at = 5 * PAGE,
      .expect = expect_page_21)

/* Nothing may be written before the gate, not even the pages ahead of it. */
WRITE(starts_before_protected_page, by_pwrite, 3 * PAGE, .at = 4 * PAGE,
      .protect_offset = 6 * PAGE, .protect_length = PAGE,
      .event_offset = 6 * PAGE, .event_length = PAGE)
WRITE(protected_page_in_the_middle, by_write, 5 * PAGE, .at = 3 * PAGE + 50,
      .protect_offset = 5 * PAGE, .protect_length = PAGE,
      .event_offset = 5 * PAGE, .event_length = PAGE)
WRITE(ends_after_protected_run, by_writev, 6 * PAGE, .at = 4 * PAGE,
      .protect_offset = 4 * PAGE, .protect_length = 2 * PAGE,
      .event_offset = 4 * PAGE, .event_length = 2 * PAGE)

/* Behind the end of the file there is no page yet, but its index is protected. */
WRITE(append, by_append, 100, .at = END, .expect = expect_longer)
WRITE(append_ignores_position, by_pwrite_on_append, 100, .at = END, .expect = expect_longer)
WRITE(rwf_append, by_pwritev2_append, 100, .at = END, .expect = expect_longer)
WRITE(append_two_pages, by_append, 2 * PAGE, .at = END, .expect = expect_longer)
WRITE(beyond_the_end, by_pwrite, 100, .at = END + 3 * PAGE + 5, .expect = expect_longer)
WRITE(across_the_end, by_pwrite, 2 * PAGE, .at = END - PAGE, .expect = expect_longer)
WRITE(into_hole, by_pwrite, 100, .hole_offset = 4 * PAGE, .hole_length = 3 * PAGE)

/* A file that ends within its last page, and grows behind that. */

#define TAIL_SIZE	(15 * PAGE + 100)
#define TAIL_END	(16 * PAGE)
#define FAR		(40 * PAGE)

static long grow_by_write(int fd, uint64_t to)
{
	return pwrite_bytes(fd, "x", 1, to) == 1 ? 0 : -errno;
}

static long grow_by_truncate(int fd, uint64_t to)
{
	return ftruncate(fd, to) ? -errno : 0;
}

static long grow_by_fallocate(int fd, uint64_t to)
{
	return fallocate(fd, 0, to, PAGE) ? -errno : 0;
}

FIXTURE(tail) {
	struct test_file file;
	char data[TAIL_END];	/* below the end, and what the last page showed behind it */
	int ctx;
	uint32_t id;
};

FIXTURE_VARIANT(tail) {
	long (*grow)(int fd, uint64_t to);
	uint64_t to;
};

#define TAIL(name, ...) FIXTURE_VARIANT_ADD(tail, name) { __VA_ARGS__ };

TAIL(write_to_the_next_page, grow_by_write, TAIL_END)
TAIL(write_within_the_next_page, grow_by_write, TAIL_END + 123)
TAIL(write_far_behind, grow_by_write, FAR)
TAIL(write_within_a_page_far_behind, grow_by_write, FAR + 123)
TAIL(truncate_far_behind, grow_by_truncate, FAR + 123)
TAIL(fallocate_far_behind, grow_by_fallocate, FAR)

FIXTURE_SETUP(tail)
{
	self->file = file_make(file_kind_wanted(FILE_TMPFS), TAIL_END / PAGE);
	file_fill(&self->file);
	ASSERT_EQ(0, ftruncate(self->file.fd, TAIL_SIZE));
	self->ctx = ctx_open();
	self->id = ctx_attach(self->ctx, self->file.fd, PGPROTECT_MODE_DENY,
			      PGPROTECT_ATTACH_NOTIFY);
}

FIXTURE_TEARDOWN(tail)
{
	close(self->ctx);
	file_close(&self->file);
}

/* From the device, if it is on one. */
static void read_anew(struct test_file *file, char *data, size_t size)
{
	if (fsync(file->fd) || madvise(file->map, file->size, MADV_DONTNEED) ||
	    !write_text("/proc/sys/vm/drop_caches", "3") ||
	    pread(file->fd, data, size, 0) != (ssize_t)size)
		die("reading a file anew");
}

TEST_F(tail, behind_which_all_is_protected_stays_the_end)
{
	static char data[TAIL_SIZE];

	if (variant->grow != grow_by_write)
		SKIP(return, "growth alone is not gated");
	memcpy(self->data, self->file.map, TAIL_SIZE);
	ASSERT_EQ(0, ctx_protect_all(self->ctx, self->id));
	EXPECT_EQ(-EPERM, variant->grow(self->file.fd, variant->to));
	EXPECT_TRUE(ctx_readable(self->ctx, 0));
	EXPECT_EQ(TAIL_SIZE, lseek(self->file.fd, 0, SEEK_END));
	read_anew(&self->file, data, TAIL_SIZE);
	EXPECT_EQ(0, memcmp(data, self->data, TAIL_SIZE));
}

/*
 * Stores behind the end are in no file. What a read finds there when the file has grown is
 * protected, and changes no more.
 */
static void tail_grows(struct __test_metadata *_metadata, struct _test_data_tail *self,
		       const struct _fixture_variant_tail *variant, char behind)
{
	static char grown[TAIL_END], anew[TAIL_END];
	size_t block_end = TAIL_SIZE;
	struct statfs fs;

	memset(self->file.map + TAIL_SIZE, behind, TAIL_END - TAIL_SIZE);
	memcpy(self->data, self->file.map, TAIL_END);
	ASSERT_EQ(0, ctx_protect_range(self->ctx, self->id, 0, TAIL_END));
	ASSERT_EQ(0, variant->grow(self->file.fd, variant->to));
	ASSERT_FALSE(ctx_readable(self->ctx, 0));
	ASSERT_EQ(TAIL_END, pread(self->file.fd, grown, TAIL_END, 0));
	ASSERT_EQ(0, memcmp(grown, self->data, TAIL_SIZE));
	for (size_t i = TAIL_SIZE; i < TAIL_END; i++)
		ASSERT_TRUE(!grown[i] || grown[i] == behind);
	ASSERT_EQ(0, memcmp(grown, self->file.map, TAIL_END));
	ASSERT_EQ(GOT_SIGBUS, store_byte(self->file.map + TAIL_SIZE, 1));
	ASSERT_EQ(-EPERM, pwrite_bytes(self->file.fd, "x", 1, TAIL_END - 1));
	ASSERT_EQ(0, memcmp(grown, self->file.map, TAIL_END));
	read_anew(&self->file, anew, TAIL_END);

	/* There is no block for what was stored behind the last: see Gaps. */
	ASSERT_EQ(0, fstatfs(self->file.fd, &fs));
	while (block_end % fs.f_bsize)
		block_end++;
	ASSERT_EQ(0, memcmp(grown, anew, block_end));
	if (block_end < TAIL_END && memcmp(grown, anew, TAIL_END))
		SKIP(return, "ext4 forgets what was stored behind its last block");
	EXPECT_EQ(0, memcmp(grown, anew, TAIL_END));
	EXPECT_EQ(0, memcmp(grown, self->file.map, TAIL_END));
}

TEST_F(tail, that_is_protected_does_not_change_when_the_file_grows)
{
	tail_grows(_metadata, self, variant, 0);
}

TEST_F(tail, that_was_stored_to_does_not_change_once_the_file_has_grown)
{
	tail_grows(_metadata, self, variant, ROUTE_VALUE);
}

/* What needs more than one event, or none, or does not wait at all. */

FIXTURE(write_call) {
	struct subject subject;
	struct image before;
};

FIXTURE_SETUP(write_call)
{
	self->subject = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_STALL, 0);
	file_fill(&self->subject.file);
	image_read(self->subject.file.fd, &self->before);
}

FIXTURE_TEARDOWN(write_call)
{
	subject_close(&self->subject);
	image_free(&self->before);
}

static long op_write_six_pages(struct writer *self)
{
	struct subject *subject = self->arg;

	return pwrite_bytes(subject->file.fd, value_buffer(6 * PAGE), 6 * PAGE, 2 * PAGE);
}

TEST_F(write_call, over_two_protected_runs_writes_nothing_before_the_last_is_released)
{
	struct subject *s = &self->subject;
	struct pgprotect_range runs[] = {
		range_of(s->id, 3 * PAGE, PAGE), range_of(s->id, 5 * PAGE, 2 * PAGE),
	};
	struct pgprotect_event event;
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect(s->ctx, runs, 2));
	writer = writer_fork(op_write_six_pages, s);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
		EXPECT_EQ(runs[i].offset, event.offset);
		EXPECT_EQ(runs[i].length, event.length);
		EXPECT_TRUE(writer_stalled(writer));
		EXPECT_TRUE(image_is(s->file.fd, &self->before));
		EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	}
	EXPECT_EQ(6 * PAGE, writer_join(writer));
	memset(self->before.data + 2 * PAGE, ROUTE_VALUE, 6 * PAGE);
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

TEST_F(write_call, refused_at_its_second_run_has_written_nothing)
{
	struct subject *s = &self->subject;
	struct pgprotect_range runs[] = {
		range_of(s->id, 3 * PAGE, PAGE), range_of(s->id, 6 * PAGE, PAGE),
	};
	struct pgprotect_event event;
	struct writer *writer;

	ASSERT_EQ(0, ctx_protect(s->ctx, runs, 2));
	writer = writer_fork(op_write_six_pages, s);
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_REFUSE, ENOSPC));
	EXPECT_EQ(-ENOSPC, writer_join(writer));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

TEST_F(write_call, that_may_not_wait_gets_eagain_and_raises_nothing)
{
	struct subject *s = &self->subject;
	struct iovec iov = { "x", 1 };

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(-EAGAIN, result_of(pwritev2(s->file.fd, &iov, 1, 0, RWF_NOWAIT)));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

TEST_F(write_call, that_may_not_wait_is_refused_by_deny)
{
	struct subject *s = &self->subject;
	struct iovec iov = { "x", 1 };
	uint32_t deny = ctx_attach(s->ctx, s->file.fd, PGPROTECT_MODE_DENY, 0);

	ASSERT_EQ(0, ctx_protect_all(s->ctx, deny));
	EXPECT_EQ(-EPERM, result_of(pwritev2(s->file.fd, &iov, 1, 0, RWF_NOWAIT)));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

TEST_F(write_call, of_no_bytes_raises_nothing)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(0, write(s->file.fd, "", 0));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
}

TEST_F(write_call, beside_the_protected_pages_raises_nothing)
{
	struct subject *s = &self->subject;
	char *data = value_buffer(PAGE);

	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 5 * PAGE, PAGE));
	EXPECT_EQ(PAGE, pwrite_bytes(s->file.fd, data, PAGE, 4 * PAGE));
	EXPECT_EQ(PAGE, pwrite_bytes(s->file.fd, data, PAGE, 6 * PAGE));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
}

/* The end moves while the append waits: it must meet the gate where it lands. */
TEST_F(write_call, appended_lands_at_the_end_of_the_time_of_release)
{
	struct subject *s = &self->subject;
	struct pgprotect_event event;
	struct writer *writer;
	struct access append = { .fd = s->file.fd };
	char byte = 0;

	ASSERT_EQ(0, fcntl(s->file.fd, F_SETFL, O_APPEND));
	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, ROUTE_SIZE, 8 * PAGE));
	append.value = 'a';
	writer = writer_thread(op_pwrite, &append);
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(ROUTE_SIZE, event.offset);
	ASSERT_EQ(0, ftruncate(s->file.fd, ROUTE_SIZE + 4 * PAGE));
	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(ROUTE_SIZE + 4 * PAGE, event.offset);
	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(1, writer_join(writer));
	EXPECT_EQ(1, pread(s->file.fd, &byte, 1, ROUTE_SIZE + 4 * PAGE));
	EXPECT_EQ('a', byte);
}

/* The writer sleeps without the inode's lock: whoever may, goes on. */
TEST_F(write_call, that_waits_does_not_block_others_on_the_file)
{
	struct subject *s = &self->subject;
	struct writer *writer;
	char *data = value_buffer(PAGE);

	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 3 * PAGE, PAGE));
	writer = writer_fork(op_write_six_pages, s);
	ASSERT_TRUE(writer_stalled(writer));
	EXPECT_EQ(PAGE, pwrite_bytes(s->file.fd, data, PAGE, 20 * PAGE));
	EXPECT_EQ(0, ftruncate(s->file.fd, ROUTE_SIZE + PAGE));
	EXPECT_EQ(0, fallocate(s->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       25 * PAGE, PAGE));
	EXPECT_EQ(0, ctx_protect_range(s->ctx, s->id, 30 * PAGE, PAGE));
	EXPECT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	EXPECT_EQ(6 * PAGE, writer_join(writer));
}

TEST_HARNESS_MAIN
