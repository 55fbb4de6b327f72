// SPDX-License-Identifier: GPL-2.0
/*
 * What ordinary work costs while nobody uses pgprotect, or who does uses it for
 * another file.
 *
 * Run once on a stock kernel and once, right after boot, on a patched one; the
 * ratio of the two is the price of the hooks. Every probe passes one or more of
 * them, except "getppid", which must come out equal and shows that the two
 * kernels can be compared at all. As "elsewhere" it first protects a file of its
 * own, so that the hooks are on: the price for all other files.
 */
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define PAGE	4096UL
#define SPAN	(16UL << 20)
#define PAGES	(SPAN / PAGE)

/* What a probe works on: a file of SPAN bytes, its pages present. */
struct target {
	int fd;
	char *page;		/* a private buffer */
	char *memory;		/* the whole file, mapped shared, for the probes that need it */
};

struct probe {
	const char *name;
	const char *where;	/* "memfd", "tmpfs" or "ext4" */
	void (*run)(struct target *t, unsigned long ops);
	unsigned long ops;	/* per sample; a multiple of PAGES for the faults */
};

static void run_getppid(struct target *t, unsigned long ops)
{
	while (ops--)
		syscall(SYS_getppid);
}

/* Map, touch and unmap the file; only touching is what varies with the ops. */
static void touch(struct target *t, unsigned long ops, bool write)
{
	for (; ops; ops -= PAGES) {
		volatile char *p = map_shared(t->fd, SPAN, 0);

		for (unsigned long i = 0; i < SPAN; i += PAGE)
			if (write)
				p[i] = 1;
			else
				(void)p[i];
		munmap((void *)p, SPAN);
	}
}

static void run_write_fault(struct target *t, unsigned long ops)
{
	touch(t, ops, true);
}

static void run_read_fault(struct target *t, unsigned long ops)
{
	touch(t, ops, false);
}

/* Pages that do not exist yet: allocation, zeroing and freeing included. */
static void run_alloc_fault(struct target *t, unsigned long ops)
{
	for (; ops; ops -= PAGES) {
		if (ftruncate(t->fd, 0) || ftruncate(t->fd, SPAN))
			fatal("ftruncate");
		touch(t, PAGES, true);
	}
}

static void run_fork_exit(struct target *t, unsigned long ops)
{
	while (ops--) {
		pid_t pid = fork();

		if (pid < 0)
			fatal("fork");
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
}

static void write_pages(struct target *t, unsigned long ops, size_t length)
{
	for (unsigned long i = 0; i < ops; i++)
		if (pwrite(t->fd, t->page, length, i % PAGES * PAGE) != (ssize_t)length)
			fatal("pwrite");
}

static void run_write_page(struct target *t, unsigned long ops)
{
	write_pages(t, ops, PAGE);
}

/* One byte: the system call alone, not the copy, which dilutes its price. */
static void run_write_byte(struct target *t, unsigned long ops)
{
	write_pages(t, ops, 1);
}

static void run_read_page(struct target *t, unsigned long ops)
{
	for (unsigned long i = 0; i < ops; i++)
		if (pread(t->fd, t->page, PAGE, i % PAGES * PAGE) != (ssize_t)PAGE)
			fatal("pread");
}

static void run_mmap_munmap(struct target *t, unsigned long ops)
{
	while (ops--)
		munmap(map_shared(t->fd, SPAN, 0), SPAN);
}

static void run_mprotect(struct target *t, unsigned long ops)
{
	if (!t->memory) {
		t->memory = map_shared(t->fd, SPAN, 0);
		memset(t->memory, 1, SPAN);
	}
	for (; ops; ops--)
		if (mprotect(t->memory, 64 * PAGE, PROT_READ) ||
		    mprotect(t->memory, 64 * PAGE, PROT_READ | PROT_WRITE))
			fatal("mprotect");
}

static void run_truncate(struct target *t, unsigned long ops)
{
	while (ops--)
		if (ftruncate(t->fd, SPAN - 1) || ftruncate(t->fd, SPAN))
			fatal("ftruncate");
}

static const struct probe probes[] = {
	{ "getppid", "memfd", run_getppid, 400000 },
	{ "write-fault", "memfd", run_write_fault, 10 * PAGES },
	{ "read-fault", "memfd", run_read_fault, 40 * PAGES },
	{ "alloc-fault", "memfd", run_alloc_fault, 5 * PAGES },
	{ "fork-exit", "memfd", run_fork_exit, 800 },
	{ "write-4k", "memfd", run_write_page, 8 * PAGES },
	{ "write-1", "memfd", run_write_byte, 16 * PAGES },
	{ "read-4k", "memfd", run_read_page, 8 * PAGES },
	{ "mmap-munmap", "memfd", run_mmap_munmap, 10000 },
	{ "mprotect", "memfd", run_mprotect, 5000 },
	{ "truncate", "memfd", run_truncate, 20000 },
	{ "write-fault", "tmpfs", run_write_fault, 10 * PAGES },
	{ "write-4k", "tmpfs", run_write_page, 8 * PAGES },
	{ "write-1", "tmpfs", run_write_byte, 16 * PAGES },
	{ "write-4k", "ext4", run_write_page, 8 * PAGES },
	{ "write-1", "ext4", run_write_byte, 8 * PAGES },
	{ "read-4k", "ext4", run_read_page, 8 * PAGES },
};

static int target_file(const char *where, const char *tmpfs, const char *ext4)
{
	const char *dir = strcmp(where, "ext4") ? tmpfs : ext4;
	char name[4096];
	int fd;

	if (!strcmp(where, "memfd"))
		return memfd_sized(SPAN);
	snprintf(name, sizeof(name), "%s/bench-idle", dir);
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, SPAN))
		fatal("%s", name);
	unlink(name);
	return fd;
}

/*
 * How many objects of a kind are free, and in which slabs, is a boot's history: what
 * an allocation costs then varies by more than a hook does.
 */
static void shrink_slabs(void)
{
	glob_t paths;

	if (glob("/sys/kernel/slab/*/shrink", 0, NULL, &paths))
		fatal("/sys/kernel/slab");
	for (size_t i = 0; i < paths.gl_pathc; i++) {
		int fd = open(paths.gl_pathv[i], O_WRONLY | O_CLOEXEC);

		if (fd < 0 || write(fd, "1", 1) != 1)
			fatal("%s", paths.gl_pathv[i]);
		close(fd);
	}
	globfree(&paths);
}

static void measure(const struct probe *probe, const char *subject, const char *tmpfs,
		    const char *ext4, unsigned int repeats)
{
	struct target t = { .fd = target_file(probe->where, tmpfs, ext4) };
	struct samples s = {};

	if (posix_memalign((void **)&t.page, PAGE, PAGE))
		fatal("posix_memalign");
	memset(t.page, 1, PAGE);
	for (unsigned long i = 0; i < SPAN; i += PAGE)
		if (pwrite(t.fd, t.page, PAGE, i) != (ssize_t)PAGE)
			fatal("pwrite");
	/* Twice uncounted: allocators and page tables settle. */
	probe->run(&t, probe->ops);
	probe->run(&t, probe->ops);
	for (unsigned int i = 0; i < repeats; i++) {
		shrink_slabs();
		sample_begin(&s);
		probe->run(&t, probe->ops);
		sample_end(&s, probe->ops);
	}
	samples_print(&s, "idle", subject, "\"probe\":\"%s\",\"file\":\"%s\"",
		      probe->name, probe->where);
	if (t.memory)
		munmap(t.memory, SPAN);
	free(t.page);
	close(t.fd);
}

static void protect_another_file(void)
{
	int fd = memfd_sized(SPAN), ctx = pgprotect_open();

	pgprotect_protect(ctx, pgprotect_attach(ctx, fd, PGPROTECT_MODE_STALL), 0, SPAN, NULL);
}

int main(int argc, char **argv)
{
	unsigned int repeats = argc > 4 ? atoi(argv[4]) : 9;

	if (argc < 4 || !repeats || repeats >= SAMPLES_MAX) {
		fprintf(stderr, "Usage: idle KERNEL|elsewhere TMPFS-DIR EXT4-DIR [REPEATS]\n");
		return 2;
	}
	if (!strcmp(argv[1], "elsewhere"))
		protect_another_file();
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++)
		measure(&probes[i], argv[1], argv[2], argv[3], repeats);
	return 0;
}
