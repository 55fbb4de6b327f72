// SPDX-License-Identifier: GPL-2.0
/* What one user may take: he is stopped at the limit, and others are not harmed. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

#define CHUNK	(512 * 4096UL)		/* what a bitmap is for */
#define NODE	"/dev/pgprotect-limits"

static const char *const knobs[] = {
	"pgprotect_max_contexts", "pgprotect_max_attachments", "pgprotect_max_events",
	"pgprotect_max_state_kb",
};

FIXTURE(limits) {
	long before[ARRAY_LEN(knobs)];
	struct test_file file;
};

FIXTURE_SETUP(limits)
{
	struct stat device;

	for (size_t i = 0; i < ARRAY_LEN(knobs); i++)
		self->before[i] = sysctl_read(knobs[i]);
	self->file = file_of_user(2);
	ASSERT_EQ(0, stat("/dev/pgprotect", &device));
	/* A test that dies leaves it. */
	unlink(NODE);
	ASSERT_EQ(0, mknod(NODE, S_IFCHR | 0600, device.st_rdev));
	ASSERT_EQ(0, chmod(NODE, 0666));
}

FIXTURE_TEARDOWN(limits)
{
	for (size_t i = 0; i < ARRAY_LEN(knobs); i++)
		sysctl_write(knobs[i], self->before[i]);
	file_close(&self->file);
	unlink(NODE);
}

/* Opens up to 9 contexts. Return: how many until EMFILE; 100: another error. */
static int open_many(void *unused)
{
	int fds[9], nr = 0;

	while (nr < 9 && (fds[nr] = open(NODE, O_RDWR | O_CLOEXEC)) >= 0)
		nr++;
	if (nr < 9 && errno != EMFILE)
		return 100;
	for (int i = 0; i < nr; i++)
		close(fds[i]);
	return nr;
}

static int open_many_in_userns(void *unused)
{
	enter_userns();
	return open_many(NULL);
}

TEST_F(limits, contexts_of_a_user_end_with_emfile_and_are_free_when_closed)
{
	sysctl_write("pgprotect_max_contexts", 3);
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(3, run_as(USER, open_many, NULL));
	sysctl_write("pgprotect_max_contexts", 0);
	EXPECT_EQ(0, run_as(USER, open_many, NULL));
}

static long op_hold_contexts(struct writer *self)
{
	long nr = 0;

	while (nr < 9 && open(NODE, O_RDWR | O_CLOEXEC) >= 0)
		nr++;
	writer_checkpoint(self);
	return nr;
}

TEST_F(limits, contexts_that_one_user_holds_leave_others_theirs)
{
	struct writer *holder;

	sysctl_write("pgprotect_max_contexts", 5);
	holder = writer_fork_as(USER, op_hold_contexts, NULL);
	writer_wait_ready(holder);
	EXPECT_EQ(0, run_as(USER, open_many, NULL));
	/* His own namespaces do not make him another. */
	EXPECT_EQ(0, run_as(USER, open_many_in_userns, NULL));
	EXPECT_EQ(5, run_as(USER + 1, open_many, NULL));
	EXPECT_EQ(5, run_as(USER + 1, open_many_in_userns, NULL));
	EXPECT_EQ(5, run_as(0, open_many, NULL));
	writer_go(holder);
	EXPECT_EQ(5, writer_join(holder));
	EXPECT_EQ(5, run_as(USER, open_many_in_userns, NULL));
}

/* How often @fd can be attached, to one context after the other; 9 at most. */
static int attach_many(const int ctx[2], int fd)
{
	int nr = 0, ret = 0;

	while (nr < 9 && !(ret = attach_by(ctx[nr & 1], fd, PGPROTECT_MODE_DENY, 0)))
		nr++;
	return nr < 9 && ret != -ENOSPC ? ret : nr;
}

TEST_F(limits, attachments_count_over_all_contexts_of_a_user)
{
	int mine[2] = { ctx_open_by(USER, -1), ctx_open_by(USER, -1) };
	int roots[2] = { ctx_open(), ctx_open() };

	sysctl_write("pgprotect_max_attachments", 5);
	EXPECT_EQ(5, attach_many(mine, self->file.fd));
	EXPECT_EQ(0, attach_many(mine, self->file.fd));
	EXPECT_EQ(5, attach_many(roots, self->file.fd));
	EXPECT_EQ(0, ctx_detach(mine[0], 1));
	EXPECT_EQ(1, attach_many(mine, self->file.fd) + attach_many(mine, self->file.fd));
	close(mine[0]);
	EXPECT_LT(0, attach_many((int[]){ mine[1], mine[1] }, self->file.fd));
	close(mine[1]);
	close(roots[0]);
	close(roots[1]);
}

TEST_F(limits, fence_that_was_kept_is_adopted_by_who_can_attach_no_more)
{
	struct test_file file = file_memfd(1);
	int ctx = ctx_open();

	protect_by(ctx, file.fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_PERSIST);
	close(ctx);
	sysctl_write("pgprotect_max_attachments", 1);
	ctx = ctx_open();
	EXPECT_EQ(-ENOSPC, attach_by(ctx, self->file.fd, PGPROTECT_MODE_DENY, 0));
	EXPECT_EQ(0, attach_by(ctx, file.fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_ADOPT));
	EXPECT_EQ(-EPERM, write_page(file.fd, 0, 'x'));
	/* There is one, as before. */
	EXPECT_EQ(-ENOSPC, attach_by(ctx, self->file.fd, PGPROTECT_MODE_DENY, 0));
	close(ctx);
	EXPECT_EQ(1, write_page(file.fd, 0, 'x'));
	ctx = ctx_open();
	EXPECT_EQ(0, attach_by(ctx, self->file.fd, PGPROTECT_MODE_DENY, 0));
	close(ctx);
	file_close(&file);
}

TEST_F(limits, events_beyond_the_limit_are_counted_as_lost)
{
	int mine = ctx_open_by(USER, -1), roots = ctx_open();
	struct pgprotect_event events[32];
	int nr, lost = 0;

	sysctl_write("pgprotect_max_events", 8);
	protect_by(mine, self->file.fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(-EPERM, write_page(self->file.fd, 0, 'x'));
	/* The user's limit is reached; root still hears of his own. */
	EXPECT_EQ(0, ctx_unprotect_all(mine, 1));
	protect_by(roots, self->file.fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);
	EXPECT_EQ(-EPERM, write_page(self->file.fd, 0, 'x'));
	ASSERT_EQ(1, ctx_next(roots, events, 32, 1));
	EXPECT_EQ(PGPROTECT_EVENT_DENIED, events[0].type);

	nr = ctx_next(mine, events, 32, 1);
	ASSERT_EQ(9, nr);
	for (int i = 0; i < nr; i++)
		if (events[i].type == PGPROTECT_EVENT_OVERFLOW)
			lost += events[i].waiters;
	EXPECT_EQ(12, lost);
	/* What was read counts no more. */
	ASSERT_EQ(0, ctx_protect_all(mine, 1));
	for (int i = 0; i < 8; i++)
		EXPECT_EQ(-EPERM, write_page(self->file.fd, 0, 'x'));
	EXPECT_EQ(8, ctx_next(mine, events, 32, 8));
	close(mine);
	close(roots);
}

/* Protects one page of each of @nr chunks from chunk @from on. */
static int protect_scattered(int ctx, uint32_t id, unsigned int from, unsigned int nr)
{
	struct pgprotect_range *ranges = calloc(nr, sizeof(*ranges));
	int ret;

	if (!ranges)
		die("memory for ranges");
	for (unsigned int i = 0; i < nr; i++)
		ranges[i] = range_of(id, (from + i) * CHUNK, page_size());
	ret = ctx_protect(ctx, ranges, nr);
	free(ranges);
	return ret;
}

static long pages_of(int ctx, uint32_t id)
{
	struct pgprotect_list_entry entries[16];
	int nr = ctx_list(ctx, entries, 16);

	for (int i = 0; i < nr; i++)
		if (entries[i].file == id)
			return entries[i].pages;
	return -1;
}

TEST_F(limits, state_of_a_user_ends_with_enomem_and_leaves_what_there_was)
{
	int mine = ctx_open_by(USER, -1), roots = ctx_open();
	int fd = memfd_make(20000 * CHUNK, 0);
	unsigned int from = 0;
	uint32_t id;
	int ret = 0;

	ASSERT_EQ(0, fchown(fd, USER, USER));
	sysctl_write("pgprotect_max_state_kb", 256);
	id = ctx_attach(mine, fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(-ENOMEM, protect_scattered(mine, id, 0, 20000));
	EXPECT_EQ(1, write_page(fd, 0, 'x'));
	/* What was tried is freed a moment after. */
	EXPECT_TRUE(WAIT_FOR(protect_scattered(mine, id, 0, 200) == 0));
	/* Sets that were merged are freed late, too: only the end counts. */
	for (from = 200; from < 6000; from += 200) {
		ret = protect_scattered(mine, id, from, 200);
		if (ret)
			break;
	}
	EXPECT_EQ(-ENOMEM, ret);
	/* 256 KiB are not 6000 bitmaps. */
	EXPECT_LE(200, pages_of(roots, id));
	EXPECT_EQ(-EPERM, write_page(fd, 0, 'x'));

	/* Nobody else is at his limit. */
	id = ctx_attach(roots, fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(0, protect_scattered(roots, id, 0, 200));
	close(roots);

	/* All can be released, and is free again. */
	EXPECT_EQ(0, ctx_unprotect_all(mine, 1));
	EXPECT_EQ(1, write_page(fd, 0, 'x'));
	EXPECT_TRUE(WAIT_FOR(protect_scattered(mine, 1, 0, 200) == 0));
	close(mine);
	close(fd);
}

TEST_F(limits, state_counts_spans_without_bitmaps_too)
{
	int mine = ctx_open_by(USER, -1);
	int fd = memfd_make(200000 * CHUNK, 0);
	unsigned int i, nr = 65536;
	struct pgprotect_range *ranges = calloc(nr, sizeof(*ranges));
	uint32_t id;

	ASSERT_NE(NULL, ranges);
	ASSERT_EQ(0, fchown(fd, USER, USER));
	sysctl_write("pgprotect_max_state_kb", 256);
	id = ctx_attach(mine, fd, PGPROTECT_MODE_DENY, 0);
	for (i = 0; i < nr; i++)
		ranges[i] = range_of(id, 2 * i * CHUNK, CHUNK);
	EXPECT_EQ(-ENOMEM, ctx_protect(mine, ranges, nr));
	/* As one span it is nothing. */
	EXPECT_TRUE(WAIT_FOR(ctx_protect_all(mine, id) == 0));
	/* Nor may holes be made in it without end. */
	EXPECT_EQ(-ENOMEM, ctx_unprotect(mine, ranges, nr));
	EXPECT_EQ(0, ctx_unprotect_all(mine, id));
	free(ranges);
	close(mine);
	close(fd);
}

TEST_F(limits, verdict_that_needs_more_state_fails_and_the_writer_waits_on)
{
	int ctx = ctx_open(), fd = memfd_make(4 * CHUNK, 0);
	struct access access = { .fd = fd, .value = 'v' };
	struct pgprotect_event event;
	struct writer *writer;
	uint32_t id = protect_by(ctx, fd, PGPROTECT_MODE_STALL, 0);

	writer = writer_thread(op_pwrite, &access);
	ASSERT_EQ(0, ctx_read_event(ctx, &event));
	sysctl_write("pgprotect_max_state_kb", 0);
	EXPECT_EQ(-ENOMEM, ctx_verdict(ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_FALSE(writer_done(writer));
	EXPECT_EQ(0, ctx_fdinfo(ctx, "queued"));
	EXPECT_EQ(1, ctx_fdinfo(ctx, "stalled"));
	/* The whole needs none. */
	EXPECT_EQ(0, ctx_unprotect_all(ctx, id));
	EXPECT_EQ(1, writer_join(writer));
	close(ctx);
	close(fd);
}

/* Another process of his, or he himself, has used it up. */
TEST_F(limits, user_at_the_limit_of_his_state_can_release_a_page_out_of_many)
{
	int mine = ctx_open_by(USER, -1), other = ctx_open_by(USER, -1);
	int fd = memfd_make(1000 * CHUNK, 0), others = memfd_make(1000 * CHUNK, 0);
	struct access access = { .fd = fd, .offset = 500 * CHUNK, .value = 'v' };
	struct pgprotect_event event;
	struct writer *writer;
	uint32_t id;

	ASSERT_EQ(0, fchown(fd, USER, USER));
	ASSERT_EQ(0, fchown(others, USER, USER));
	protect_by(mine, fd, PGPROTECT_MODE_STALL, 0);
	writer = writer_fork_as(USER, op_pwrite, &access);
	ASSERT_EQ(0, ctx_read_event(mine, &event));

	/* Some 30 KiB. */
	id = ctx_attach(other, others, PGPROTECT_MODE_DENY, 0);
	ASSERT_EQ(0, protect_scattered(other, id, 0, 200));
	sysctl_write("pgprotect_max_state_kb", 16);
	EXPECT_EQ(-ENOMEM, protect_scattered(other, id, 500, 1));
	/* What was merged counts twice for a moment. */
	EXPECT_TRUE(WAIT_FOR(ctx_verdict(mine, event.id, PGPROTECT_ALLOW, 0) == 0));
	EXPECT_EQ(1, writer_join(writer));
	EXPECT_EQ(-ENOMEM, protect_scattered(other, id, 500, 1));
	close(mine);
	close(other);
	close(fd);
	close(others);
}

TEST_F(limits, release_at_the_time_limit_that_needs_more_state_fails_the_write)
{
	int ctx = ctx_open(), fd = memfd_make(4 * CHUNK, 0);
	struct access access = { .fd = fd, .map = map_shared(fd, page_size()), .value = 'v' };
	uint32_t id = ctx_attach_limit(ctx, fd, PGPROTECT_MODE_STALL,
				       PGPROTECT_ATTACH_TIMEOUT_RELEASE, 50);

	ASSERT_EQ(0, ctx_protect_all(ctx, id));
	sysctl_write("pgprotect_max_state_kb", 0);
	/* Not ENOMEM: the memory is none of the writer's. */
	EXPECT_EQ(-ETIMEDOUT, writer_join(writer_thread(op_pwrite, &access)));
	EXPECT_EQ(GOT_SIGBUS, writer_join(writer_thread(op_store, &access)));
	EXPECT_EQ(0, access.map[0]);
	close(ctx);
	close(fd);
}

#define GROUP	"/sys/fs/cgroup/pgprotect-limits"

/* The number after @key in a file of the control group. */
static long group_number(const char *name, const char *key)
{
	char path[80], line[128];
	size_t length = strlen(key);
	long value = -1;
	FILE *in;

	snprintf(path, sizeof(path), GROUP "/%s", name);
	in = fopen(path, "re");
	if (!in)
		die("open %s", path);
	while (fgets(line, sizeof(line), in))
		if (!strncmp(line, key, length))
			value = atol(line + length);
	fclose(in);
	return value;
}

static void set_group(const char *dir, const char *name, const char *text)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (!write_text(path, text))
		die("write %s to %s", text, path);
}

static void group_make(void)
{
	set_group("/sys/fs/cgroup", "cgroup.subtree_control", "+memory");
	mkdir(GROUP, 0755);
}

#define STATE_CHUNKS	8192
#define STATE_STEP	1024

static long op_take_state(struct writer *self)
{
	int fd = memfd_make(STATE_CHUNKS * CHUNK, 0), ctx;
	uint32_t id;

	set_group(GROUP, "cgroup.procs", "0");
	ctx = ctx_open();
	id = ctx_attach(ctx, fd, PGPROTECT_MODE_DENY, 0);
	for (unsigned int nr = 0; nr < STATE_CHUNKS; nr += STATE_STEP) {
		writer_checkpoint(self);
		if (protect_scattered(ctx, id, nr, STATE_STEP))
			return -1;
	}
	writer_checkpoint(self);
	return 0;
}

TEST_F(limits, state_is_charged_to_the_control_group)
{
	const long most = STATE_CHUNKS * 64;	/* bytes; the bits alone */
	struct writer *writer;
	long before, after;

	group_make();
	writer = writer_fork(op_take_state, NULL);
	writer_wait_ready(writer);
	before = group_number("memory.stat", "kernel ");
	for (int i = 0; i < STATE_CHUNKS / STATE_STEP; i++) {
		writer_go(writer);
		writer_wait_ready(writer);
	}
	after = group_number("memory.stat", "kernel ");
	EXPECT_LE(most, after - before) {
		TH_LOG("kernel memory %ld before, %ld after", before, after);
	}
	writer_go(writer);
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_TRUE(WAIT_FOR(rmdir(GROUP) == 0));
}

#define CONTEXTS	8

static long op_send_contexts(struct writer *self)
{
	int sock = *(int *)self->arg;

	set_group(GROUP, "cgroup.procs", "0");
	for (int i = 0; i < CONTEXTS; i++)
		send_fd(sock, ctx_open());
	return 0;
}

/* Refused writes, until an event of one was lost. Return: was one? */
static bool write_until_lost(int ctx)
{
	int fd = memfd_make(page_size(), 0);

	protect_by(ctx, fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);
	for (int i = 0; i < 1000 && !ctx_fdinfo(ctx, "notes-lost"); i++)
		if (write_page(fd, 0, 'x') != -EPERM)
			die("write was not refused");
	close(fd);
	return ctx_fdinfo(ctx, "notes-lost");
}

/* Contexts that the control group pays for; nobody is left in it. */
static void contexts_of_group(int contexts[CONTEXTS])
{
	int pair[2];

	group_make();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) ||
	    writer_join(writer_fork(op_send_contexts, &pair[1])))
		die("contexts of a control group");
	for (int i = 0; i < CONTEXTS; i++)
		contexts[i] = receive_fd(pair[0]);
	close(pair[0]);
	close(pair[1]);
}

TEST_F(limits, writer_makes_no_room_for_an_event_in_the_control_group_of_the_opener)
{
	int contexts[CONTEXTS];
	bool lost = false;
	char max[24];

	contexts_of_group(contexts);
	for (int i = 0; i < CONTEXTS && !lost; i++) {
		/* Anew each time: who has left the group is freed a little later. */
		snprintf(max, sizeof(max), "%ld", group_number("memory.current", ""));
		set_group(GROUP, "memory.max", max);
		/* What is left is in the stocks of the CPUs. */
		lost = write_until_lost(contexts[i]);
	}
	EXPECT_TRUE(lost);
	EXPECT_EQ(0, group_number("memory.events", "max "));
	for (int i = 0; i < CONTEXTS; i++)
		close(contexts[i]);
	EXPECT_TRUE(WAIT_FOR(rmdir(GROUP) == 0));
}

struct listing {
	int ctx, uffd;
	struct pgprotect_list_entry *entries;
};

/* A LIST that comes to a page that nobody fills. */
static struct listing listing_prepare(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct listing l = { .ctx = ctx_open(), .uffd = syscall(SYS_userfaultfd, O_CLOEXEC) };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	l.entries = mmap(NULL, page_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (l.entries == MAP_FAILED)
		die("mmap");
	reg.range.start = (uintptr_t)l.entries;
	reg.range.len = page_size();
	if (l.uffd < 0 || ioctl(l.uffd, UFFDIO_API, &api) || ioctl(l.uffd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	return l;
}

static long op_list(struct writer *self)
{
	struct listing *l = self->arg;

	return ctx_list(l->ctx, l->entries, page_size() / sizeof(*l->entries));
}

static long kernel_memory(void)
{
	forget_freed();
	return group_number("memory.stat", "kernel ");
}

TEST_F(limits, what_is_closed_is_freed_though_a_list_of_it_waits_for_the_reader)
{
	const long least = CONTEXTS * 8192L;	/* bytes; their tables alone */
	struct listing listing = listing_prepare();
	struct uffdio_range range = { (uintptr_t)listing.entries, page_size() };
	int contexts[CONTEXTS];
	struct writer *lister;
	struct uffd_msg msg;
	long before;

	contexts_of_group(contexts);
	for (int i = 0; i < CONTEXTS; i++)
		ctx_attach(contexts[i], self->file.fd, PGPROTECT_MODE_DENY, 0);
	/* What a group's statistics say may be some seconds old. */
	EXPECT_TRUE(WAIT_FOR((before = kernel_memory()) >= least + least / 2));
	lister = writer_thread(op_list, &listing);
	ASSERT_EQ(sizeof(msg), read(listing.uffd, &msg, sizeof(msg)));
	for (int i = 0; i < CONTEXTS; i++)
		close(contexts[i]);
	EXPECT_TRUE(WAIT_FOR(kernel_memory() <= before - least)) {
		TH_LOG("kernel memory %ld before, %ld after", before,
		       kernel_memory());
	}
	EXPECT_FALSE(writer_done(lister));
	EXPECT_EQ(0, ioctl(listing.uffd, UFFDIO_UNREGISTER, &range));
	EXPECT_EQ(CONTEXTS, writer_join(lister));
	EXPECT_EQ(PGPROTECT_MODE_DENY, listing.entries[CONTEXTS - 1].mode);
	munmap(listing.entries, page_size());
	close(listing.uffd);
	close(listing.ctx);
	EXPECT_TRUE(WAIT_FOR(rmdir(GROUP) == 0));
}

TEST_HARNESS_MAIN
