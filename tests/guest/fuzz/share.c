// SPDX-License-Identifier: GPL-2.0
/* Page tables that the fuzzer shares, and calls that end that for mappings, or cut them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/ptshare.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "fuzz.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define RW	(PROT_READ | PROT_WRITE)
#define CROWD	34	/* guests: more than are flushed one by one */

static long op_share(struct fuzzer *f)
{
	struct fuzz_part part = fuzz_part(f);
	int advice = fuzz_chance(f, 4) ? MADV_NOPTSHARE : MADV_PTSHARE;

	return part.addr ? madvise(part.addr, part.length, advice) : -1;
}

static char *fresh;	/* of a file that nobody shares yet */

static long share_fresh(struct fuzzer *f)
{
	if (madvise(fresh, UNIT, MADV_PTSHARE))
		return -1;
	return try_store(fresh + fuzz_random(f, UNIT), 1) ? -1 : 0;
}

static long op_starved(struct fuzzer *f)
{
	int fd = memfd_make(UNIT, 0);
	long ret;

	fresh = map_shared(fd, UNIT);
	ret = machine_starve(f, fuzz_chance(f, 3) ? op_share : share_fresh);
	munmap(fresh, UNIT);
	close(fd);
	return ret;
}

/*
 * Not for long: it makes all slow. All are of the first unit, so that neighbours are not
 * merged.
 */
static long op_crowd(struct fuzzer *f)
{
	char *crowd = mmap(NULL, CROWD * UNIT, PROT_NONE,
			   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (crowd == MAP_FAILED)
		return -1;
	for (int i = 0; i < CROWD; i++)
		mmap(crowd + i * UNIT, UNIT, RW, MAP_SHARED | MAP_FIXED, f->files[SHARED], 0);
	madvise(crowd, CROWD * UNIT, MADV_PTSHARE);
	for (int i = 0; i < CROWD; i += 16)
		(void)try_store(crowd + i * UNIT, 1);
	madvise(crowd, UNIT, MADV_PAGEOUT);
	fallocate(f->files[SHARED], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, page_size());
	return munmap(crowd, CROWD * UNIT);
}

/* A huge page, in a file of its own, where nobody is in the way; protected. */
static long op_huge(struct fuzzer *f)
{
	int fd = memfd_make(UNIT, 0), ctx = ctx_open_try(O_NONBLOCK);
	struct pgprotect_attach args = {
		.fd = fd, .mode = PGPROTECT_MODE_DENY, .access = PGPROTECT_ACCESS_WRITE,
	};
	char *map = map_shared(fd, UNIT);
	long ret;

	(void)try_store(map, 1);
	ret = madvise(map, UNIT, MADV_COLLAPSE);
	if (!ctx_attach_try(ctx, &args))
		ctx_protect_range(ctx, args.file, 0, fuzz_chance(f, 2) ? UNIT : page_size());
	(void)try_store(map + fuzz_random(f, UNIT), 1);
	close(ctx);
	(void)try_store(map + fuzz_random(f, UNIT), 1);
	munmap(map, UNIT);
	close(fd);
	return ret;
}

/* System V shared memory counts its mappings. */
static long op_sysv(struct fuzzer *f)
{
	int id = shmget(IPC_PRIVATE, 4 * UNIT, IPC_CREAT | 0600);
	char *map = shmat(id, NULL, 0);

	shmctl(id, IPC_RMID, NULL);
	if (map == (char *)-1)
		return -1;
	madvise(map, 4 * UNIT, MADV_PTSHARE);
	(void)try_store(map + fuzz_random(f, 4 * UNIT), 1);
	if (fuzz_chance(f, 2))
		munmap(map + fuzz_random(f, 4) * UNIT, fuzz_chance(f, 2) ? UNIT : page_size());
	return shmdt(map);
}

static long op_mlock(struct fuzzer *f)
{
	struct fuzz_part part = fuzz_part(f);
	long ret;

	if (!part.addr)
		return -1;
	/* It fills what it locks. */
	if (part.length > 16 * page_size() && part.file != HUGETLB)
		part.length = 16 * page_size();
	ret = mlock(part.addr, part.length);
	if (fuzz_chance(f, 2))
		munlock(part.addr, part.length);
	return ret;
}

static long op_mbind(struct fuzzer *f)
{
	static const int modes[] = { MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE };
	unsigned long nodes = 1 + fuzz_random(f, 3);
	struct fuzz_part part = fuzz_part(f);
	void *pages[1] = { part.addr };
	int node = fuzz_random(f, 2), status;

	if (!part.addr)
		return -1;
	syscall(SYS_get_mempolicy, NULL, NULL, 0, part.addr, MPOL_F_ADDR);
	if (fuzz_chance(f, 3))
		return syscall(SYS_move_pages, 0, 1UL, pages, &node, &status, MPOL_MF_MOVE);
	return syscall(SYS_mbind, part.addr, part.length, modes[fuzz_random(f, ARRAY_LEN(modes))],
		       &nodes, 64, fuzz_chance(f, 2) ? MPOL_MF_MOVE : 0);
}

static long op_remap(struct fuzzer *f)
{
	char *page = fuzz_page(f);

	return page ? remap_file_pages(page, page_size(), 0, fuzz_random(f, FILE_PAGES), 0) : -1;
}

static long fill_hole(struct fuzzer *f, int uffd, char *to, size_t length)
{
	static char source[UNIT];
	struct uffdio_range range = { .start = (uintptr_t)to, .len = length };
	struct uffdio_copy copy = {
		.dst = (uintptr_t)to, .src = (uintptr_t)source, .len = length,
	};
	struct uffdio_zeropage zero = { .range = range };
	struct uffdio_continue cont = { .range = range };
	struct uffdio_writeprotect protect = {
		.range = range, .mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	switch (fuzz_random(f, 6)) {
	case 0:
		return ioctl(uffd, UFFDIO_ZEROPAGE, &zero);
	case 1:
		return ioctl(uffd, UFFDIO_CONTINUE, &cont);
	case 2:
		return ioctl(uffd, UFFDIO_WRITEPROTECT, &protect);
	default:
		return ioctl(uffd, UFFDIO_COPY, &copy);
	}
}

/* Closed before anything faults there: nobody would answer. */
static long op_uffd(struct fuzzer *f)
{
	struct fuzz_part part = fuzz_part(f);
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_MINOR_SHMEM | UFFD_FEATURE_MINOR_HUGETLBFS |
			    UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)part.addr, .len = part.length },
		.mode = UFFDIO_REGISTER_MODE_MISSING | fuzz_random(f, 8),
	};
	size_t length = part.file == HUGETLB ? UNIT : page_size();
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	long ret = -1;

	if (part.addr && !ioctl(uffd, UFFDIO_API, &api) && !ioctl(uffd, UFFDIO_REGISTER, &reg)) {
		ftruncate(f->files[part.file], file_size(part.file));
		if (fuzz_chance(f, 2))
			fallocate(f->files[part.file], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				  part.offset, length);
		ret = fill_hole(f, uffd, part.addr, length);
	}
	close(uffd);
	return ret;
}

static long op_clear_refs(struct fuzzer *f)
{
	return write_text("/proc/self/clear_refs", fuzz_chance(f, 4) ? "4" : "1") ? 0 : -1;
}

const struct fuzz_op share_ops[] = {
	{ "share", 16, op_share },
	{ "starved_share", 3, op_starved },
	{ "crowd", 1, op_crowd },
	{ "huge", 2, op_huge },
	{ "sysv", 1, op_sysv },
	{ "mlock", 2, op_mlock },
	{ "mbind", 4, op_mbind },
	{ "remap", 3, op_remap },
	{ "uffd", 5, op_uffd },
	{ "clear_refs", 1, op_clear_refs },
	{ }
};
