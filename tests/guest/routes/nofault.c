// SPDX-License-Identifier: GPL-2.0
/*
 * Stores that the kernel makes with page faults disabled, as BPF does: they neither
 * wait nor tell anybody, and fail at the entry that is not writable.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/route.h"

#define INSN(c, dst, src, o, i) \
	{ .code = (c), .dst_reg = (dst), .src_reg = (src), .off = (o), .imm = (i) }

static long bpf(int command, union bpf_attr *attr)
{
	return syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* Stores its second argument, 8 bytes, at its first; returns what the helper did. */
static int store_program(void)
{
	static const struct bpf_insn program[] = {
		INSN(BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_6, BPF_REG_1, 0, 0),
		INSN(BPF_LDX | BPF_MEM | BPF_DW, BPF_REG_7, BPF_REG_1, 8, 0),
		INSN(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_10, BPF_REG_7, -8, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_6, 0, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -8),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, 8),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_probe_write_user),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_RAW_TRACEPOINT,
		.insns = (uintptr_t)program, .insn_cnt = ARRAY_LEN(program),
		.license = (uintptr_t)"GPL",
	};

	return bpf(BPF_PROG_LOAD, &attr);
}

/* In the calling thread: 0 or -errno. */
static long store_by_bpf(int program, char *address, uint64_t value)
{
	uint64_t args[] = { (uintptr_t)address, value };
	union bpf_attr attr = {
		.test = {
			.prog_fd = program, .ctx_in = (uintptr_t)args,
			.ctx_size_in = sizeof(args),
		},
	};

	if (bpf(BPF_PROG_TEST_RUN, &attr))
		die("run a BPF program");
	return (int)attr.test.retval;
}

FIXTURE(bpf) {
	struct subject subject;
	int program;
	char *word;
	struct image before;
};

FIXTURE_VARIANT(bpf) { uint32_t mode; };
FIXTURE_VARIANT_ADD(bpf, stall) { .mode = PGPROTECT_MODE_STALL };
FIXTURE_VARIANT_ADD(bpf, deny) { .mode = PGPROTECT_MODE_DENY };

FIXTURE_SETUP(bpf)
{
	self->program = store_program();
	if (self->program < 0)
		SKIP(return, "no BPF");
	self->subject = subject_attached(ROUTE_PAGES, variant->mode, 0);
	file_fill(&self->subject.file);
	self->word = self->subject.file.map + 5 * PAGE + 8;
	image_read(self->subject.file.fd, &self->before);
}

FIXTURE_TEARDOWN(bpf)
{
	if (self->program < 0)
		return;
	subject_close(&self->subject);
	image_free(&self->before);
}

TEST_F(bpf, store_to_an_unprotected_page_lands)
{
	uint64_t word;

	EXPECT_EQ(0, store_by_bpf(self->program, self->word, 0x123456789));
	memcpy(&word, self->word, sizeof(word));
	EXPECT_EQ(0x123456789, word);
}

TEST_F(bpf, store_to_a_protected_page_fails_and_raises_nothing)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	EXPECT_EQ(-EFAULT, store_by_bpf(self->program, self->word, 0x123456789));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
}

/* A read maps the page, and must not map it writable. */
TEST_F(bpf, store_to_a_protected_page_of_a_fresh_mapping_fails)
{
	struct subject *s = &self->subject;
	char *map;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	map = map_shared(s->file.fd, ROUTE_SIZE);
	EXPECT_EQ(6, *(volatile char *)(map + 5 * PAGE));
	EXPECT_EQ(-EFAULT, store_by_bpf(self->program, map + 5 * PAGE + 8, 1));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
}

TEST_F(bpf, store_lands_again_when_a_store_has_made_the_entry_writable)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_all(s->ctx, s->id));
	ASSERT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	ASSERT_EQ(0, store_byte(self->word + 100, 1));
	EXPECT_EQ(0, store_by_bpf(self->program, self->word, 1));
	EXPECT_EQ(1, *self->word);
}

TEST_HARNESS_MAIN
