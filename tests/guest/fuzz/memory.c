// SPDX-License-Identifier: GPL-2.0
/* What the fuzzer does to the files besides: writes, mappings, processes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/ptshare.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND		0x20
#endif
#ifndef SYS_mseal
#define SYS_mseal		462
#endif

static long op_write(struct fuzzer *f)
{
	static const int flags[] = { 0, RWF_APPEND, RWF_NOAPPEND, RWF_NOWAIT, RWF_DSYNC };
	static char bytes[8 * 4096];
	int file = fuzz_random(f, FILES);
	struct iovec from = { bytes, 1 + fuzz_random(f, sizeof(bytes)) };

	if (fuzz_chance(f, 2))
		return pwrite(f->files[file], bytes, from.iov_len, fuzz_offset(f, file));
	return pwritev2(f->files[file], &from, 1, fuzz_offset(f, file),
			flags[fuzz_random(f, ARRAY_LEN(flags))]);
}

static long op_poke(struct fuzzer *f)
{
	char *at = fuzz_place(f);

	return at && !try_store(at, fuzz_random(f, 256)) ? 0 : -1;
}

/* All of a file at once, and let go by and by. */
static long op_snapshot(struct fuzzer *f)
{
	int ctx = ctx_open_try(O_NONBLOCK), file = fuzz_random(f, FILES);
	struct pgprotect_range range = fuzz_range(f);
	struct pgprotect_attach args = {
		.fd = f->files[file], .mode = 1 + fuzz_random(f, 2),
		.access = PGPROTECT_ACCESS_WRITE, .stall_ms = 1,
	};
	long ret = ctx_attach_try(ctx, &args);

	ret = ret ? ret : ctx_protect_all(ctx, args.file);
	range.file = args.file;
	for (int i = 0; f->maps[file] && i < 6; i++) {
		(void)try_store(f->maps[file] + fuzz_offset(f, file), 1);
		if (i == 2)
			ctx_unprotect(ctx, &range, 1);
	}
	close(ctx);
	return ret;
}

static long op_starved(struct fuzzer *f)
{
	return machine_starve(f, op_poke);
}

static long op_truncate(struct fuzzer *f)
{
	int file = fuzz_random(f, FILES), fd;
	off_t size = fuzz_chance(f, 2) ? file_size(file) : fuzz_offset(f, file);
	char path[40];

	if (file == HUGETLB)
		size = size / UNIT * UNIT;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->files[file]);
	switch (fuzz_random(f, 8)) {
	case 0:
		fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
		return fd < 0 ? -1 : close(fd);
	case 1:
		return truncate(path, size);
	default:
		return ftruncate(f->files[file], size);
	}
}

static long op_fallocate(struct fuzzer *f)
{
	static const int modes[] = {
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_COLLAPSE_RANGE,
	};
	struct fuzz_part part = fuzz_part(f);
	int fd = f->files[part.file];
	off_t offset = part.offset + (fuzz_chance(f, 3) ? fuzz_random(f, page_size()) : 0);

	/* A little, where it takes memory. */
	if (fuzz_chance(f, 3))
		return fallocate(fd, fuzz_chance(f, 2) ? FALLOC_FL_KEEP_SIZE : 0, offset,
				 1 + fuzz_random(f, 8 * page_size()));
	return fallocate(fd, modes[fuzz_random(f, ARRAY_LEN(modes))], offset, part.length);
}

static long op_splice(struct fuzzer *f)
{
	off_t from = fuzz_random(f, FILE_PAGES) * page_size();

	lseek(fuzz_file(f), 0, SEEK_SET);
	if (fuzz_chance(f, 2))
		return sendfile(fuzz_file(f), fuzz_file(f), &from, 3 * page_size());
	return copy_file_range(fuzz_file(f), &from, fuzz_file(f), &(off_t){ 0 },
			       2 * page_size(), 0);
}

/* Where the kernel wants it: so that it can be shared, if that is on. */
static long op_mmap(struct fuzzer *f)
{
	int file = fuzz_random(f, FILES);
	int prot = PROT_READ | (fuzz_chance(f, 5) ? 0 : PROT_WRITE);
	int flags = fuzz_chance(f, 8) ? MAP_PRIVATE : MAP_SHARED;
	size_t size = file_size(file);
	char *new;

	if (f->maps[file])
		munmap(f->maps[file], size);
	f->maps[file] = NULL;
	if (size < UNIT && fuzz_chance(f, 6))
		flags |= MAP_POPULATE;
	new = mmap(NULL, size, prot, flags, f->files[file], 0);
	if (new == MAP_FAILED)
		return -1;
	if (fuzz_chance(f, 2))
		madvise(new, size, MADV_PTSHARE);
	f->maps[file] = new;
	return 0;
}

static long op_mremap(struct fuzzer *f)
{
	int file = fuzz_random(f, FILES);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (fuzz_chance(f, 3) ? MREMAP_DONTUNMAP : 0);
	size_t size = file_size(file);
	char *old = f->maps[file], *new;

	if (!old)
		return -1;
	/* Shared, so that its place is as good as that of the mapping. */
	new = mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (new == MAP_FAILED)
		return -1;
	if (mremap(old, size, size, flags, new) == MAP_FAILED) {
		munmap(new, size);
		return -1;
	}
	if (flags & MREMAP_DONTUNMAP)
		munmap(old, size);
	f->maps[file] = new;
	return 0;
}

/* Leaves a hole, but in a small file. */
static long op_munmap(struct fuzzer *f)
{
	struct fuzz_part part = fuzz_part(f);

	if (!part.addr)
		return -1;
	if (part.length == file_size(part.file))
		f->maps[part.file] = NULL;
	return munmap(part.addr, part.length);
}

static long op_mprotect(struct fuzzer *f)
{
	static const int prots[] = {
		PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE | PROT_EXEC,
		PROT_EXEC, PROT_NONE,
	};
	struct fuzz_part part = fuzz_part(f);
	int pkey = fuzz_chance(f, 8) ? pkey_alloc(0, 0) : -1;
	int ret = -1;

	if (part.addr)
		ret = pkey_mprotect(part.addr, part.length,
				    prots[fuzz_random(f, ARRAY_LEN(prots))], pkey);
	if (pkey >= 0)
		pkey_free(pkey);
	return ret;
}

static long op_madvise(struct fuzzer *f)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_REMOVE, MADV_PAGEOUT, MADV_PAGEOUT, MADV_COLD, MADV_WILLNEED,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTFORK, MADV_DOFORK,
		/* These fill. */
		MADV_POPULATE_READ, MADV_POPULATE_WRITE,
	};
	unsigned int i = fuzz_random(f, ARRAY_LEN(advices));
	struct fuzz_part part = fuzz_part(f);

	if (i >= ARRAY_LEN(advices) - 2 && part.length > 16 * page_size())
		part.length = 16 * page_size();
	return part.addr ? madvise(part.addr, part.length, advices[i]) : -1;
}

/* System calls that store where they fault, or read. */
static long op_read_into(struct fuzzer *f)
{
	char *at = fuzz_place(f);

	return at ? pread(fuzz_file(f), at, 100, 0) : -1;
}

static long op_direct(struct fuzzer *f)
{
	char *page = fuzz_page(f);
	off_t at = fuzz_random(f, FILE_PAGES) * page_size();

	if (!page)
		return -1;
	return fuzz_chance(f, 2) ? pread(f->direct, page, page_size(), at) :
				   pwrite(f->direct, page, page_size(), at);
}

static long op_vm(struct fuzzer *f)
{
	char bytes[200] = "vm", *at = fuzz_place(f);
	struct iovec ours = { bytes, sizeof(bytes) }, theirs = { at, sizeof(bytes) };

	if (!at)
		return -1;
	return fuzz_chance(f, 3) ? process_vm_readv(getpid(), &ours, 1, &theirs, 1, 0) :
				   process_vm_writev(getpid(), &ours, 1, &theirs, 1, 0);
}

/* As ptrace() does, also where the mapping allows nothing. */
static long op_mem(struct fuzzer *f)
{
	char bytes[100] = "mem", *at = fuzz_place(f);
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	long ret = -1;

	if (at && fuzz_chance(f, 3))
		ret = pread(fd, bytes, sizeof(bytes), (uintptr_t)at);
	else if (at)
		ret = pwrite(fd, bytes, sizeof(bytes), (uintptr_t)at);
	close(fd);
	return ret;
}

static long op_futex(struct fuzzer *f)
{
	char *page = fuzz_page(f);

	return page ? syscall(SYS_futex, page, FUTEX_WAKE_OP, 1, 1UL, page + 64,
			      FUTEX_OP(FUTEX_OP_ADD, 1, FUTEX_OP_CMP_EQ, 0)) : -1;
}

static long op_seal(struct fuzzer *f)
{
	/* Not the seals that would end the fun; this one for a file of its own. */
	int fd = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	struct pgprotect_attach args = {
		.fd = fd, .mode = PGPROTECT_MODE_DENY, .access = PGPROTECT_ACCESS_WRITE,
	};
	long ret = fcntl(fd, F_ADD_SEALS, F_SEAL_PGPROTECT);
	int ctx = fuzz_context(f);

	if (!ret && ctx >= 0 && ctx_attach_try(ctx, &args) == 0)
		die("a sealed memfd was attached");
	close(fd);
	return ret;
}

/* What stays as long as the address space does. */
static long op_settle(struct fuzzer *f)
{
	struct fuzz_part part = fuzz_part(f);

	if (fuzz_chance(f, 2))
		return open("/dev/hmm_dmirror0", O_RDWR | O_CLOEXEC);
	return syscall(SYS_mseal, part.addr, part.length, 0);
}

static long op_fork(struct fuzzer *f)
{
	static long (*const acts[])(struct fuzzer *f) = {
		op_poke, op_poke, op_poke, op_poke, op_poke, op_poke, op_write, op_write,
		op_write, op_madvise, op_mprotect, op_settle,
	};
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (!pid) {
		for (int i = 0; i < 3; i++)
			acts[fuzz_random(f, ARRAY_LEN(acts))](f);
		_exit(0);
	}
	/* Interrupted by the alarm, as all else. */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

const struct fuzz_op memory_ops[] = {
	{ "pwrite", 40, op_write },
	{ "store", 100, op_poke },
	{ "starved_store", 3, op_starved },
	{ "snapshot", 4, op_snapshot },
	{ "truncate", 6, op_truncate },
	{ "fallocate", 8, op_fallocate },
	{ "splice", 4, op_splice },
	{ "mmap", 16, op_mmap },
	{ "mremap", 4, op_mremap },
	{ "munmap", 1, op_munmap },
	{ "mprotect", 10, op_mprotect },
	{ "madvise", 12, op_madvise },
	{ "read_into", 6, op_read_into },
	{ "direct", 3, op_direct },
	{ "vm", 6, op_vm },
	{ "mem", 4, op_mem },
	{ "futex", 4, op_futex },
	{ "seal", 1, op_seal },
	{ "fork", 1, op_fork },
	{ }
};
