// SPDX-License-Identifier: GPL-2.0
/* What the fuzzer does to the files besides: writes, mappings, processes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuzz.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

static uint64_t some_offset(struct fuzzer *f)
{
	return fuzz_random(f, FILE_PAGES) * page_size() +
	       (fuzz_chance(f, 3) ? fuzz_random(f, page_size()) : 0);
}

static char **some_map(struct fuzzer *f)
{
	return &f->maps[fuzz_random(f, FILES)];
}

static long op_write(struct fuzzer *f)
{
	static char bytes[8 * 4096];

	return pwrite(fuzz_file(f), bytes, 1 + fuzz_random(f, sizeof(bytes)), some_offset(f));
}

static long op_poke(struct fuzzer *f)
{
	char *map = *some_map(f);

	return map ? store_byte(map + some_offset(f), fuzz_random(f, 256)) : -1;
}

static long op_truncate(struct fuzzer *f)
{
	return ftruncate(fuzz_file(f), fuzz_chance(f, 2) ? FILE_PAGES * page_size() :
							 some_offset(f));
}

static long op_fallocate(struct fuzzer *f)
{
	static const int modes[] = {
		0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
		FALLOC_FL_COLLAPSE_RANGE,
	};

	return fallocate(fuzz_file(f), modes[fuzz_random(f, ARRAY_LEN(modes))], some_offset(f),
			 1 + fuzz_random(f, 8 * page_size()));
}

static long op_splice(struct fuzzer *f)
{
	off_t from = some_offset(f);

	lseek(fuzz_file(f), 0, SEEK_SET);
	if (fuzz_chance(f, 2))
		return sendfile(fuzz_file(f), fuzz_file(f), &from, 3 * page_size());
	return copy_file_range(fuzz_file(f), &from, fuzz_file(f), &(off_t){ 0 },
			       2 * page_size(), 0);
}

static long op_mmap(struct fuzzer *f)
{
	char **map = some_map(f);
	int prot = PROT_READ | (fuzz_chance(f, 5) ? 0 : PROT_WRITE);
	int flags = fuzz_chance(f, 8) ? MAP_PRIVATE : MAP_SHARED;
	void *new;

	if (*map)
		munmap(*map, FILE_PAGES * page_size());
	*map = NULL;
	if (fuzz_chance(f, 6))
		flags |= MAP_POPULATE;
	new = mmap(NULL, FILE_PAGES * page_size(), prot, flags, fuzz_file(f), 0);
	if (new == MAP_FAILED)
		return -1;
	*map = new;
	return 0;
}

static long op_mremap(struct fuzzer *f)
{
	char **map = some_map(f);
	size_t size = FILE_PAGES * page_size();
	void *new;

	if (!*map)
		return -1;
	new = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (new == MAP_FAILED)
		return -1;
	if (mremap(*map, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, new) == MAP_FAILED) {
		munmap(new, size);
		return -1;
	}
	*map = new;
	return 0;
}

static long op_mprotect(struct fuzzer *f)
{
	char *map = *some_map(f);
	size_t offset = fuzz_random(f, FILE_PAGES) * page_size();

	return map ? mprotect(map + offset, page_size(),
			      fuzz_chance(f, 3) ? PROT_READ : PROT_READ | PROT_WRITE) : -1;
}

static long op_madvise(struct fuzzer *f)
{
	static const int advices[] = {
		MADV_DONTNEED, MADV_REMOVE, MADV_POPULATE_WRITE, MADV_COLLAPSE, MADV_PAGEOUT,
		MADV_COLD, MADV_WILLNEED, MADV_HUGEPAGE,
	};
	char *map = *some_map(f);
	size_t offset = fuzz_random(f, FILE_PAGES) * page_size();

	return map ? madvise(map + offset, page_size() * (1 + fuzz_random(f, 8)),
			     advices[fuzz_random(f, ARRAY_LEN(advices))]) : -1;
}

/* A system call that stores where it faults. */
static long op_read_into(struct fuzzer *f)
{
	char *map = *some_map(f);

	return map ? pread(fuzz_file(f), map + some_offset(f), 100, 0) : -1;
}

static long op_vm_writev(struct fuzzer *f)
{
	char bytes[200] = "vm", *map = *some_map(f);
	struct iovec from = { bytes, sizeof(bytes) };
	struct iovec to = { map ? map + some_offset(f) : nowhere, sizeof(bytes) };

	return map ? process_vm_writev(getpid(), &from, 1, &to, 1, 0) : -1;
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

static long op_fork(struct fuzzer *f)
{
	pid_t pid = fork();

	if (pid < 0)
		return -1;
	if (!pid) {
		for (int i = 0; i < 5; i++)
			(fuzz_chance(f, 2) ? op_poke : op_write)(f);
		_exit(0);
	}
	/* Interrupted by the alarm, as all else. */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

const struct fuzz_op memory_ops[] = {
	{ "pwrite", 20, op_write },
	{ "store", 30, op_poke },
	{ "truncate", 3, op_truncate },
	{ "fallocate", 4, op_fallocate },
	{ "splice", 3, op_splice },
	{ "mmap", 6, op_mmap },
	{ "mremap", 2, op_mremap },
	{ "mprotect", 3, op_mprotect },
	{ "madvise", 6, op_madvise },
	{ "read_into", 3, op_read_into },
	{ "vm_writev", 2, op_vm_writev },
	{ "seal", 1, op_seal },
	{ "fork", 1, op_fork },
	{ }
};
