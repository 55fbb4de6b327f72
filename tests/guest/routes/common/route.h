/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A route: one way to change a page of a file, tried in both modes.
 *
 * A route's op runs in a writer of its own, a thread or a process. It prepares
 * what must be there before PROTECT, calls route_ready(), and then tries to
 * change the file. The test protects the file while the op waits in between.
 *
 * In STALL the op must wait with an event that says the right thing, the file
 * must not change until the page is released, and must then be what the route
 * expects, with no more events than the route names. Meanwhile a bystander does
 * what takes locks of the file and its file system, and must not wait for the op.
 * In DENY the op must fail as the route says, with the file unchanged and no event.
 *
 * A family of routes is a source file: ROUTE_FAMILY(name) and one
 * ROUTE_ADD(name, route) for each.
 */
#ifndef ROUTE_H
#define ROUTE_H

#include "pgtest.h"

#define PAGE		4096UL
#define ROUTE_PAGES	32UL
#define ROUTE_SIZE	(ROUTE_PAGES * PAGE)
/* Where a route writes unless it says otherwise, and what. */
#define ROUTE_AT	(5 * PAGE + 7)
#define ROUTE_VALUE	((char)0xa5)
/* The op cannot be tried on this system. */
#define ROUTE_SKIP	(-20000L)

struct attempt;

/* The content of a file. */
struct image {
	char *data;		/* room for twice ROUTE_SIZE */
	size_t size;
};

struct route {
	long (*op)(struct attempt *attempt);
	long success;		/* what op returns when it was released */
	long denied;		/* what op returns in DENY */
	uint64_t at;		/* first byte changed; 0: ROUTE_AT */
	uint64_t length;	/* bytes changed; 0: one */
	/* Changes @image as the op will; NULL: ROUTE_VALUE at the above. */
	void (*expect)(struct attempt *attempt, struct image *image);
	/* The first event; zeros: a store to the page of @at. */
	uint64_t event_offset;
	uint64_t event_length;
	uint16_t origin;
	size_t events;		/* in all; 0: one */
	/* What to protect; zeros: all, to the end of the file. */
	uint64_t protect_offset;
	uint64_t protect_length;
	enum file_kind kind;
	uint64_t hole_offset;	/* a hole in the file; length 0: none */
	uint64_t hole_length;
	bool thread;		/* of the test's process, not a process */
	bool other_task;	/* not op's own thread meets the gate */
	bool many_events;	/* how many pages it takes is not ours to say */
	bool any_length;	/* nor how much it asks for at once */
	bool unchecked_content;	/* what it writes is not ours to say */
	bool sealed;		/* a memfd with F_SEAL_SHRINK */
};

struct attempt {
	const struct route *route;
	struct test_file file;	/* mapped by the test before PROTECT, all pages dirty */
	int ctx;
	uint32_t id;
	uint32_t mode;
	struct writer *writer;
	uint64_t at;
	uint64_t length;
	char path[32];		/* of a FILE_TMPFS, or on a disk */
	void *private;		/* the op's */
};

/* In the op, once: all that must precede PROTECT is done. */
void route_ready(struct attempt *attempt);

void image_read(int fd, struct image *image);
bool image_is(int fd, const struct image *image);
void image_free(struct image *image);

/* The steps of the tests below. */
void attempt_make(struct attempt *attempt, const struct route *route, uint32_t mode);
/* Starts the writer, protects; the writer stands ready. 0 or -errno. */
int attempt_begin(struct attempt *attempt);
void attempt_close(struct attempt *attempt);
/*
 * A process that protects the same pages again, changes the mode of the file, to what it
 * is, and freezes and thaws the file system, once it is let go. To be started first of
 * all. It returns 0 or -errno; what it is at now.
 */
struct writer *bystander_start(struct attempt *attempt);
const char *bystander_step(const struct writer *bystander);
void attempt_expect(struct attempt *attempt, struct image *image);
/* What the first event must say. */
struct pgprotect_event attempt_event(struct attempt *attempt);

/* Ops that many families need. */
long store_at(struct attempt *attempt, char *map);	/* 0 or GOT_SIGBUS */
char *map_file(struct attempt *attempt, int flags);	/* all of it, anew, shared */
/* A pipe, its write end closed, with so many bytes of ROUTE_VALUE in it. */
int pipe_with(size_t length);
void *value_buffer(size_t length);	/* page-aligned, full of ROUTE_VALUE */
/* A file on ext4, two pages of ROUTE_VALUE, open O_DIRECT; -1: no ext4. */
int direct_file(void);

/*
 * Includers of the harness get the two tests of a family. Macros, because each
 * family is a fixture of its own, so that results carry its name.
 */
#define ROUTE_FAMILY(family)							\
	FIXTURE(family) { struct attempt attempt; };				\
	FIXTURE_VARIANT(family) { struct route route; };			\
	FIXTURE_SETUP(family) { }						\
	FIXTURE_TEARDOWN(family) { attempt_close(&self->attempt); }		\
	TEST_F(family, waits_unchanged_until_released)				\
	{									\
		attempt_make(&self->attempt, &variant->route, PGPROTECT_MODE_STALL); \
		route_test_stall(_metadata, &self->attempt);			\
	}									\
	TEST_F(family, is_refused_unchanged_by_deny)				\
	{									\
		attempt_make(&self->attempt, &variant->route, PGPROTECT_MODE_DENY); \
		route_test_deny(_metadata, &self->attempt);			\
	}									\
	extern int route_family_ends_here

#define ROUTE_ADD(family, name, ...)						\
	FIXTURE_VARIANT_ADD(family, name) { .route = { __VA_ARGS__ } };

#ifdef TEST_HARNESS_MAIN
static inline void route_test_stall(struct __test_metadata *_metadata, struct attempt *attempt)
{
	const struct route *route = attempt->route;
	struct pgprotect_event want = attempt_event(attempt), got;
	struct writer *bystander = bystander_start(attempt);
	struct handler *handler;
	struct image image;
	long result;

	ASSERT_EQ(0, attempt_begin(attempt));
	image_read(attempt->file.fd, &image);
	handler = handler_start(attempt->ctx, HANDLER_HOLD, 0);
	writer_go(attempt->writer);
	WAIT_FOR(handler_count(handler) || writer_done(attempt->writer));
	if (writer_done(attempt->writer) && attempt->writer->result == ROUTE_SKIP)
		SKIP(goto out, "not possible on this system");
	ASSERT_NE(0, handler_count(handler)) {
		TH_LOG("no event; the op returned %ld", writer_join(attempt->writer));
	}
	got = handler_event(handler, 0);
	EXPECT_EQ(PGPROTECT_EVENT_STALL, got.type);
	EXPECT_EQ(want.origin, got.origin);
	EXPECT_EQ(want.offset, got.offset);
	if (!route->any_length)
		EXPECT_EQ(want.length, got.length);
	EXPECT_EQ(attempt->id, got.file);
	EXPECT_EQ(COOKIE(attempt->file.fd), got.cookie);
	if (!route->other_task) {
		EXPECT_EQ(attempt->writer->tid, (pid_t)got.tid);
		EXPECT_TRUE(writer_stalled(attempt->writer));
	}
	EXPECT_TRUE(ctx_wait_stalled(attempt->ctx, 1));
	writer_go(bystander);
	EXPECT_TRUE(WAIT_FOR(writer_done(bystander))) {
		TH_LOG("the bystander waits in %s", bystander_step(bystander));
	}
	EXPECT_TRUE(HOLDS_FOR(20, !writer_done(attempt->writer)));
	EXPECT_TRUE(image_is(attempt->file.fd, &image));

	handler_set(handler, HANDLER_ALLOW, 0);
	result = writer_join(attempt->writer);
	EXPECT_EQ(route->success, result);
	EXPECT_EQ(0, writer_join(bystander));
	if (!route->many_events)
		EXPECT_EQ(route->events ? route->events : 1, handler_count(handler));
	for (size_t i = 1; i < handler_count(handler); i++)
		EXPECT_EQ(want.origin, handler_event(handler, i).origin);
	attempt_expect(attempt, &image);
	if (!route->unchecked_content)
		EXPECT_TRUE(image_is(attempt->file.fd, &image));
out:
	handler_stop(handler);
	image_free(&image);
}

static inline void route_test_deny(struct __test_metadata *_metadata, struct attempt *attempt)
{
	struct image image;
	long result;

	ASSERT_EQ(0, attempt_begin(attempt));
	image_read(attempt->file.fd, &image);
	writer_go(attempt->writer);
	result = writer_join(attempt->writer);
	if (result == ROUTE_SKIP)
		SKIP(goto out, "not possible on this system");
	EXPECT_EQ(attempt->route->denied, result);
	EXPECT_TRUE(image_is(attempt->file.fd, &image));
	EXPECT_FALSE(ctx_readable(attempt->ctx, 0));
out:
	image_free(&image);
}
#endif

#endif
