// SPDX-License-Identifier: GPL-2.0
/* The files of a run, their shadows, and what is to be reported. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/ptshare.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../routes/common/memory.h"
#include "model.h"

#define SMALL		4096UL

const char *const failure_names[] = {
	[FAILED_NOT] = "nothing found",
	[ESCAPED] = "a write succeeded while its page was protected",
	[CHANGED] = "a page changed while it was protected",
	[CUT_OPEN] = "refused in one file and done in the other",
	[LOST] = "the file is not what was written",
	[REFUSED_DONE] = "a write failed and has changed the file",
	[STUCK] = "a writer waits though nothing is protected",
	[BROKEN] = "the run is broken",
};

void word_wait(_Atomic uint32_t *word, uint32_t seen)
{
	syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

void word_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 0x7fffffff, NULL, NULL, 0);
}

uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return random_next(state) % limit;
}

bool random_one_in(uint64_t *state, unsigned int n)
{
	return !random_below(state, n);
}

uint64_t random_seed(const struct run *run, uint64_t who)
{
	uint64_t state = run->options.seed ^ who << 48;

	return random_next(&state);
}

/* --- kinds of files --- */

static int make_memfd(size_t size)
{
	write_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "advise");
	return memfd_make(size, 0);
}

#define ADVISED	"/run/pgtest-advised"

/* Huge pages where MADV_HUGEPAGE, MADV_COLLAPSE and khugepaged want them. */
static int make_tmpfs(size_t size)
{
	char name[] = ADVISED "/file.XXXXXX";
	struct stat below, above;
	int fd;

	mkdir(ADVISED, 0700);
	if (stat(ADVISED, &below) || stat("/run", &above))
		return -1;
	if (below.st_dev == above.st_dev && mount("tmpfs", ADVISED, "tmpfs", 0, "huge=advise"))
		return -1;
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size))
		return -1;
	unlink(name);
	return fd;
}

/* The mapping that such a file begins with stays: its entries would keep pages in memory. */
static int make_shm(size_t size)
{
	struct test_file file = file_make(FILE_SYSV, size / SMALL);

	madvise(file.map, size, MADV_DONTNEED);
	return file.fd;
}

/* Without the mapping that made it: that would keep a host, and the pages in memory. */
static int make_anonymous(size_t size)
{
	struct test_file file = file_make(FILE_SHARED_ANON, size / SMALL);

	munmap(file.map, file.size);
	return file.fd;
}

static int make_ext4(size_t size)
{
	return disk_mount(FILE_EXT4) ? disk_make(FILE_EXT4, size, NULL) : -1;
}

static int make_xfs(size_t size)
{
	return disk_mount(FILE_XFS) ? disk_make(FILE_XFS, size, NULL) : -1;
}

static int make_hugetlb(size_t size)
{
	char pages[20];
	int fd = -1;

	snprintf(pages, sizeof(pages), "%lu", FILES * (size / HUGE) + 24);
	if (write_text("/proc/sys/vm/nr_hugepages", pages))
		fd = memfd_create("pgtest", MFD_HUGETLB | MFD_CLOEXEC);
	return fd >= 0 && ftruncate(fd, size) ? -1 : fd;
}

const struct file_choice file_choices[] = {
	{ "memfd", make_memfd, .resizes = true, .writes = true },
	{ "tmpfs", make_tmpfs, .resizes = true, .writes = true },
	{ "shm", make_shm, .writes = true },
	{ "anonymous", make_anonymous, .writes = true },
	{ "ext4", make_ext4, .resizes = true, .writes = true, .on_disk = true,
	  .single_pages = true },
	{ "xfs", make_xfs, .resizes = true, .writes = true, .on_disk = true },
	{ "hugetlb", make_hugetlb, .unit = HUGE },
	{ }
};

static struct file_choice by_path = {
	.name = "path", .resizes = true, .writes = true, .on_disk = true,
};

static const struct file_choice *choice_of(const char *name)
{
	for (const struct file_choice *c = file_choices; c->name; c++)
		if (!strcmp(c->name, name))
			return c;
	return &by_path;
}

static int file_open(const struct run *run, unsigned int number, size_t size)
{
	char path[400];
	int fd;

	if (run->choice->make)
		return run->choice->make(size);
	snprintf(path, sizeof(path), "%s.%u", run->options.file, number);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd >= 0 && ftruncate(fd, size) ? -1 : fd;
}

/* --- layout --- */

#define DIRECT_PAGES	64U
#define TAIL_PAGES	16U

static struct layout layout_small(unsigned int writers, bool on_disk)
{
	struct layout l = { .records = 4, .runs = 260, .run_pages = 8, .direct = 512 };

	while (l.runs + l.run_pages * writers > l.direct)
		l.run_pages--;
	l.unused = l.runs + l.run_pages * writers;
	l.direct_pages = on_disk ? DIRECT_PAGES / writers : 0;
	l.tail = l.direct + (on_disk ? DIRECT_PAGES : 0);
	l.pages = l.tail + TAIL_PAGES;
	return l;
}

static struct layout layout_directories(unsigned int writers)
{
	struct layout l = {
		.records = 512, .runs = 1024, .run_pages = 8, .direct = 1536, .tail = 1536,
		.pages = 1536 + TAIL_PAGES,
	};

	l.unused = l.runs + l.run_pages * writers;
	return l;
}

/* Too large to have many: what writers have of their own are pages to make holes of. */
static struct layout layout_huge(unsigned int writers)
{
	struct layout l = { .records = 1, .runs = 6, .run_pages = 1 };

	l.unused = l.runs + l.run_pages * writers;
	l.direct = l.tail = l.pages = l.unused + 2;
	return l;
}

static struct layout layout_of(const struct run *run)
{
	if (run->unit != SMALL)
		return layout_huge(run->options.writers);
	if (run->options.directories)
		return layout_directories(run->options.writers);
	return layout_small(run->options.writers, run->choice->on_disk);
}

bool layout_is_records(const struct layout *layout, unsigned int page)
{
	return page < layout->runs;
}

unsigned int record_page(const struct run *run, uint64_t *random)
{
	unsigned int nr = run->layout.runs - run->layout.records;
	unsigned int hot[] = { 4, 32, nr, 4 };
	unsigned int among = hot[random_below(random, 4)];

	return run->layout.records + random_below(random, among < nr ? among : nr);
}

/* --- content --- */

void pattern(unsigned char *data, size_t length, uint64_t number, uint64_t whose)
{
	uint64_t state = number * 0x2545f4914f6cdd1dULL ^ whose, word = number;

	for (size_t i = 0; i < length; i += sizeof(word)) {
		memcpy(data + i, &word, length - i < sizeof(word) ? length - i : sizeof(word));
		word = random_next(&state) | 1;
	}
}

static void shadow_fill(struct run *run, unsigned int file)
{
	const struct layout *l = &run->layout;
	unsigned char *page;

	for (unsigned int i = 0; i < l->tail; i++) {
		page = run->shadow[file] + i * run->unit;
		pattern(page, run->unit, i, file + 1);
		if (!layout_is_records(l, i))
			continue;
		for (unsigned int w = 0; w < MAX_WRITERS; w++)
			pattern(page + w * RECORD, RECORD, 0, w);
		memset(page + WORD_ADDED, 0, 24);
	}
}

/* A file of hugetlbfs, of which to map more makes it longer, is never mapped beyond its end. */
static bool by_directories(struct run *run)
{
	return run->options.directories && !run->choice->unit;
}

static void file_start(struct run *run, unsigned int file)
{
	size_t size = run->layout.pages * run->unit;
	struct test_file *f = &run->file[file];

	f->size = by_directories(run) ? GIB : size;
	f->map = map_aligned(f->fd, f->size);
	/* To begin with, shared page tables for one, huge pages for the other, if there are. */
	if (by_directories(run))
		madvise(f->map, f->size, MADV_PTSHARE);
	else if (file || run->options.without || madvise(f->map, size, MADV_PTSHARE))
		madvise(f->map, size, MADV_HUGEPAGE);
	memcpy(f->map, run->shadow[file], size);
	/* What is dirty in memory would be in the way of direct I/O. */
	if (run->choice->on_disk && fsync(f->fd))
		die("fsync");
	run->size[file] = size;
}

static void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		die("memory for a run");
	return memory;
}

struct run *run_make(const struct options *options)
{
	struct run *run = shared_memory(sizeof(*run));
	size_t size;

	run->options = *options;
	run->choice = choice_of(options->file);
	run->hurry = 1;
	run->unit = run->choice->unit ? run->choice->unit : SMALL;
	run->layout = layout_of(run);
	size = run->layout.pages * run->unit;
	run->wild_size = by_directories(run) ? GIB : size + (run->choice->unit ? 0 : 2 * HUGE);
	for (unsigned int i = 0; i < FILES; i++) {
		run->file[i].fd = file_open(run, i, size);
		if (run->file[i].fd < 0)
			return NULL;
		run->shadow[i] = shared_memory(size);
		shadow_fill(run, i);
		file_start(run, i);
	}
	return run;
}

size_t model_read(struct run *run, unsigned int file, uint64_t at, size_t length,
		  unsigned char *data, const char *map)
{
	size_t done = 0;
	ssize_t got;

	if (map) {
		memcpy(data, map + at, length);
		return length;
	}
	while (done < length) {
		got = pread(run->file[file].fd, data + done, length - done, at + done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			die("pread of file %u at %#lx", file, (unsigned long)(at + done));
		if (!got)
			break;
		done += got;
	}
	return done;
}

int64_t model_difference(struct run *run, unsigned int file, uint64_t at, size_t length,
			 const char *map)
{
	const unsigned char *want = run->shadow[file] + at;
	unsigned char data[SMALL];

	for (size_t done = 0; done < length; done += sizeof(data)) {
		size_t part = length - done < sizeof(data) ? length - done : sizeof(data);
		size_t got = model_read(run, file, at + done, part, data, map);

		for (size_t i = 0; i < part; i++)
			if (i >= got || data[i] != want[done + i])
				return at + done + i;
	}
	return -1;
}

/* --- failures --- */

void fail(struct run *run, const struct failure *failure)
{
	if (!atomic_exchange(&run->failing, true)) {
		run->failure = *failure;
		run->failure.round = run->round;
		run->failed = true;
	}
	run->stop = true;
}

void describe_owner(const struct run *run, uint64_t offset, char *text, size_t size)
{
	const struct layout *l = &run->layout;
	unsigned int page = offset / run->unit;
	size_t in = offset % run->unit;

	if (layout_is_records(l, page) && in < MAX_WRITERS * RECORD)
		snprintf(text, size, "record of writer %zu", in / RECORD);
	else if (layout_is_records(l, page) && in < WORD_ADDED + 24)
		snprintf(text, size, "a word that is added to");
	else if (page >= l->runs && page < l->unused)
		snprintf(text, size, "run of writer %u", (page - l->runs) / l->run_pages);
	else if (page >= l->direct && page < l->tail)
		snprintf(text, size, "direct page of writer %u",
			 (page - l->direct) / l->direct_pages);
	else if (page >= l->tail)
		snprintf(text, size, "tail");
	else
		snprintf(text, size, "nobody's");
}

/* --- generations --- */

void watch_begin(struct run *run, struct watch *watch, unsigned int file, uint64_t at,
		 uint64_t length)
{
	watch->file = file;
	watch->first = at / run->unit;
	watch->nr = length ? (at + length - 1) / run->unit - watch->first + 1 : 0;
	for (unsigned int i = 0; i < watch->nr; i++)
		watch->before[i] = run->generation[file][watch->first + i];
}

bool watch_found_protected(const struct watch *watch)
{
	for (unsigned int i = 0; i < watch->nr; i++)
		if (watch->before[i])
			return true;
	return false;
}

int watch_next(struct run *run, const struct watch *watch, unsigned int page)
{
	unsigned int i = page > watch->first ? page - watch->first : 0;

	for (; i < watch->nr; i++)
		if (watch->before[i] &&
		    run->generation[watch->file][watch->first + i] == watch->before[i])
			return watch->first + i;
	return -1;
}
