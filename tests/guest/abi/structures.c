// SPDX-License-Identifier: GPL-2.0
/* Rules for every ioctl structure: size, flags, reserved words, pointers. */
#include <errno.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define TAIL		64	/* what a later version may add to a structure */
#define UNKNOWN_FLAG	(1ULL << 63)

/* What the valid calls below refer to. */
struct stage {
	int ctx;
	int fd;
	uint32_t id;
	struct pgprotect_range range;
	struct pgprotect_event event;
	struct pgprotect_list_entry entry;
	char *page;
};

union args {
	uint32_t size;
	struct pgprotect_info info;
	struct pgprotect_attach attach;
	struct pgprotect_detach detach;
	struct pgprotect_protect protect;
	struct pgprotect_unprotect unprotect;
	struct pgprotect_next next;
	struct pgprotect_copy copy;
	struct pgprotect_list list;
	char bytes[256];
};

static void fill_attach(union args *args, struct stage *stage)
{
	args->attach.fd = stage->fd;
	args->attach.mode = PGPROTECT_MODE_STALL;
	args->attach.access = PGPROTECT_ACCESS_WRITE;
}

static void fill_detach(union args *args, struct stage *stage)
{
	args->detach.file = stage->id;
}

static void fill_protect(union args *args, struct stage *stage)
{
	args->protect.access = PGPROTECT_ACCESS_WRITE;
	args->protect.ranges = (uintptr_t)&stage->range;
	args->protect.nr_ranges = 1;
}

static void fill_unprotect(union args *args, struct stage *stage)
{
	args->unprotect.ranges = (uintptr_t)&stage->range;
	args->unprotect.nr_ranges = 1;
}

static void fill_next(union args *args, struct stage *stage)
{
	args->next.events = (uintptr_t)&stage->event;
	args->next.max_events = 1;
}

static void fill_copy(union args *args, struct stage *stage)
{
	args->copy.file = stage->id;
	args->copy.source = (uintptr_t)stage->page;
	args->copy.length = page_size();
}

static void fill_list(union args *args, struct stage *stage)
{
	args->list.entries = (uintptr_t)&stage->entry;
	args->list.max_entries = 1;
}

enum { INFO, ATTACH, DETACH, PROTECT, UNPROTECT, NEXT, COPY, LIST };

static const struct call {
	const char *name;
	unsigned long cmd;
	size_t size;
	void (*fill)(union args *args, struct stage *stage);	/* a valid call */
	size_t flags;		/* offset of the flags; 0: none */
} calls[] = {
	[INFO] = { "INFO", PGPROTECT_IOC_INFO, sizeof(struct pgprotect_info), NULL, 0 },
	[ATTACH] = { "ATTACH", PGPROTECT_IOC_ATTACH, sizeof(struct pgprotect_attach),
	  fill_attach, offsetof(struct pgprotect_attach, flags) },
	[DETACH] = { "DETACH", PGPROTECT_IOC_DETACH, sizeof(struct pgprotect_detach),
	  fill_detach, 0 },
	[PROTECT] = { "PROTECT", PGPROTECT_IOC_PROTECT, sizeof(struct pgprotect_protect),
	  fill_protect, offsetof(struct pgprotect_protect, flags) },
	[UNPROTECT] = { "UNPROTECT", PGPROTECT_IOC_UNPROTECT, sizeof(struct pgprotect_unprotect),
	  fill_unprotect, offsetof(struct pgprotect_unprotect, flags) },
	[NEXT] = { "NEXT", PGPROTECT_IOC_NEXT, sizeof(struct pgprotect_next),
	  fill_next, offsetof(struct pgprotect_next, flags) },
	[COPY] = { "COPY", PGPROTECT_IOC_COPY, sizeof(struct pgprotect_copy),
	  fill_copy, offsetof(struct pgprotect_copy, flags) },
	[LIST] = { "LIST", PGPROTECT_IOC_LIST, sizeof(struct pgprotect_list),
	  fill_list, offsetof(struct pgprotect_list, flags) },
};

FIXTURE(structures) {
	struct stage stage;
};

FIXTURE_SETUP(structures)
{
	self->stage.ctx = ctx_open();
	self->stage.fd = memfd_make(page_size(), 0);
	self->stage.page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->stage.page);
}

FIXTURE_TEARDOWN(structures)
{
	close(self->stage.fd);
	close(self->stage.ctx);
}

/* A valid call, freshly attached: DETACH may have taken the last one. */
static void prepare(const struct call *call, struct stage *stage, union args *args)
{
	struct pgprotect_detach last = { .size = sizeof(last), .file = stage->id };

	*args = (union args){ 0 };
	ctx_ioctl(stage->ctx, PGPROTECT_IOC_DETACH, &last);
	stage->id = ctx_attach(stage->ctx, stage->fd, PGPROTECT_MODE_STALL, 0);
	stage->range = range_of(stage->id, 0, page_size());
	if (call->fill)
		call->fill(args, stage);
	args->size = call->size;
}

static int attachments(struct stage *stage)
{
	return ctx_list(stage->ctx, NULL, 0);
}

TEST_F(structures, size_of_the_first_version_is_accepted)
{
	union args args;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		prepare(&calls[i], &self->stage, &args);
		EXPECT_EQ(0, ctx_ioctl(self->stage.ctx, calls[i].cmd, &args))
			TH_LOG("%s", calls[i].name);
	}
}

TEST_F(structures, shorter_than_the_first_version_is_invalid)
{
	union args args;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		const size_t sizes[] = { 0, 4, calls[i].size - 4, calls[i].size - 1 };

		for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
			prepare(&calls[i], &self->stage, &args);
			args.size = sizes[k];
			EXPECT_EQ(-EINVAL, ctx_ioctl(self->stage.ctx, calls[i].cmd, &args))
				TH_LOG("%s of %zu bytes", calls[i].name, sizes[k]);
		}
	}
}

TEST_F(structures, longer_with_a_zero_tail_is_accepted)
{
	union args args;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		prepare(&calls[i], &self->stage, &args);
		args.size = calls[i].size + TAIL;
		EXPECT_EQ(0, ctx_ioctl(self->stage.ctx, calls[i].cmd, &args))
			TH_LOG("%s", calls[i].name);
	}
}

TEST_F(structures, longer_with_a_nonzero_tail_is_too_big)
{
	union args args;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		for (size_t at = 0; at < TAIL; at += TAIL - 1) {
			prepare(&calls[i], &self->stage, &args);
			args.size = calls[i].size + TAIL;
			args.bytes[calls[i].size + at] = 1;
			EXPECT_EQ(-E2BIG, ctx_ioctl(self->stage.ctx, calls[i].cmd, &args))
				TH_LOG("%s, byte %zu after its end", calls[i].name, at);
		}
	}
}

/* A program built with a longer structure has its size in the command number. */
TEST_F(structures, command_number_of_a_longer_structure_is_the_same_command)
{
	union args args;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		unsigned long cmd = _IOC(_IOC_DIR(calls[i].cmd), _IOC_TYPE(calls[i].cmd),
					 _IOC_NR(calls[i].cmd), calls[i].size + TAIL);

		prepare(&calls[i], &self->stage, &args);
		args.size = calls[i].size + TAIL;
		EXPECT_EQ(0, ctx_ioctl(self->stage.ctx, cmd, &args))
			TH_LOG("%s", calls[i].name);
	}
}

TEST_F(structures, absurd_size_is_refused)
{
	union args args;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		int ret;

		prepare(&calls[i], &self->stage, &args);
		args.size = UINT32_MAX;
		ret = ctx_ioctl(self->stage.ctx, calls[i].cmd, &args);
		EXPECT_TRUE(ret == -E2BIG || ret == -EFAULT)
			TH_LOG("%s gave %d", calls[i].name, ret);
	}
}

TEST_F(structures, unknown_flag_is_invalid)
{
	union args args;

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		if (!calls[i].flags)
			continue;
		prepare(&calls[i], &self->stage, &args);
		*(uint64_t *)(args.bytes + calls[i].flags) = UNKNOWN_FLAG;
		EXPECT_EQ(-EINVAL, ctx_ioctl(self->stage.ctx, calls[i].cmd, &args))
			TH_LOG("%s", calls[i].name);
	}
}

TEST_F(structures, structure_that_cannot_be_read_is_a_fault)
{
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		EXPECT_EQ(-EFAULT, ctx_ioctl(self->stage.ctx, calls[i].cmd, NULL))
			TH_LOG("%s(NULL)", calls[i].name);
		EXPECT_EQ(-EFAULT, ctx_ioctl(self->stage.ctx, calls[i].cmd, nowhere))
			TH_LOG("%s(8)", calls[i].name);
	}
}

/* @size lies on one page, the rest on the next, which is not there. */
TEST_F(structures, structure_across_the_end_of_memory_is_a_fault)
{
	char *two = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint32_t *size = (uint32_t *)(two + page_size() - sizeof(*size));

	ASSERT_NE(MAP_FAILED, two);
	ASSERT_EQ(0, munmap(two + page_size(), page_size()));
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		*size = calls[i].size;
		EXPECT_EQ(-EFAULT, ctx_ioctl(self->stage.ctx, calls[i].cmd, size))
			TH_LOG("%s", calls[i].name);
	}
}

TEST_F(structures, arrays_that_cannot_be_read_are_a_fault)
{
	static const struct {
		int call;
		size_t pointer;
	} arrays[] = {
		{ PROTECT, offsetof(struct pgprotect_protect, ranges) },
		{ UNPROTECT, offsetof(struct pgprotect_unprotect, ranges) },
		{ COPY, offsetof(struct pgprotect_copy, source) },
		{ LIST, offsetof(struct pgprotect_list, entries) },
	};
	union args args;

	for (size_t i = 0; i < ARRAY_LEN(arrays); i++) {
		const struct call *call = &calls[arrays[i].call];

		prepare(call, &self->stage, &args);
		*(uint64_t *)(args.bytes + arrays[i].pointer) = (uintptr_t)nowhere;
		EXPECT_EQ(-EFAULT, ctx_ioctl(self->stage.ctx, call->cmd, &args))
			TH_LOG("%s", call->name);
	}
}

TEST_F(structures, pointer_beyond_user_memory_is_a_fault)
{
	union args args;

	prepare(&calls[PROTECT], &self->stage, &args);
	args.protect.ranges = 0xffff888000000000ULL;
	EXPECT_EQ(-EFAULT, ctx_ioctl(self->stage.ctx, PGPROTECT_IOC_PROTECT, &args));
	EXPECT_EQ(-EFAULT, ctx_ioctl(self->stage.ctx, PGPROTECT_IOC_INFO,
				     (void *)0xffff888000000000ULL));
}

TEST_F(structures, reserved_words_must_be_zero)
{
	union args args;

	prepare(&calls[PROTECT], &self->stage, &args);
	self->stage.range.reserved = 1;
	EXPECT_EQ(-EINVAL, ctx_ioctl(self->stage.ctx, PGPROTECT_IOC_PROTECT, &args));
	prepare(&calls[UNPROTECT], &self->stage, &args);
	self->stage.range.reserved = 1;
	EXPECT_EQ(-EINVAL, ctx_ioctl(self->stage.ctx, PGPROTECT_IOC_UNPROTECT, &args));
	prepare(&calls[LIST], &self->stage, &args);
	args.list.reserved = 1;
	EXPECT_EQ(-EINVAL, ctx_ioctl(self->stage.ctx, PGPROTECT_IOC_LIST, &args));
}

/* The answer cannot be stored: the call must not have happened. */
TEST_F(structures, attach_into_read_only_memory_attaches_nothing)
{
	struct pgprotect_attach *attach = (void *)self->stage.page;

	*attach = (struct pgprotect_attach){
		.size = sizeof(*attach),
		.fd = self->stage.fd,
		.mode = PGPROTECT_MODE_DENY,
		.access = PGPROTECT_ACCESS_WRITE,
	};
	ASSERT_EQ(0, mprotect(attach, page_size(), PROT_READ));
	EXPECT_EQ(-EFAULT, ctx_ioctl(self->stage.ctx, PGPROTECT_IOC_ATTACH, attach));
	EXPECT_EQ(0, attachments(&self->stage));
}

TEST_F(structures, protect_into_read_only_memory_protects_nothing)
{
	struct pgprotect_protect *protect = (void *)self->stage.page;
	uint32_t id = ctx_attach(self->stage.ctx, self->stage.fd, PGPROTECT_MODE_DENY, 0);
	struct pgprotect_range range = range_of(id, 0, page_size());

	*protect = (struct pgprotect_protect){
		.size = sizeof(*protect),
		.access = PGPROTECT_ACCESS_WRITE,
		.ranges = (uintptr_t)&range,
		.nr_ranges = 1,
	};
	ASSERT_EQ(0, mprotect(protect, page_size(), PROT_READ));
	EXPECT_EQ(-EFAULT, ctx_ioctl(self->stage.ctx, PGPROTECT_IOC_PROTECT, protect));
	EXPECT_EQ(1, write_page(self->stage.fd, 0, 1));
}

TEST_F(structures, output_in_a_longer_structure_leaves_the_tail_alone)
{
	union args args = { .size = sizeof(struct pgprotect_info) + TAIL };

	ASSERT_EQ(0, ctx_ioctl(self->stage.ctx, PGPROTECT_IOC_INFO, &args));
	EXPECT_EQ(PGPROTECT_API_VERSION, args.info.version);
	for (size_t i = sizeof(args.info); i < sizeof(args.bytes); i++) {
		EXPECT_EQ(0, args.bytes[i]);
	}
}

TEST_HARNESS_MAIN
