// SPDX-License-Identifier: GPL-2.0
/*
 * The fuzzer's files, one of each kind that can be attached, and where in them it is at
 * work: on few pages, so that processes meet, and so that a large file, which is sparse,
 * takes little memory.
 */
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

#define UNITS	4	/* of a large file, those used */

size_t file_size(int file)
{
	switch (file) {
	case HUGETLB:
	case SHARED:
		return UNITS * UNIT;
	case SPARSE:
		return DIRECTORY + 2 * UNIT;
	default:
		/* One more: what begins in the last that is used ends there. */
		return (FILE_PAGES + 1) * page_size();
	}
}

static int hugetlb_make(size_t size)
{
	int fd = memfd_create("fuzz", MFD_HUGETLB | MFD_CLOEXEC);

	if (fd >= 0 && !ftruncate(fd, size))
		return fd;
	close(fd);
	return memfd_make(size, 0);
}

static int file_open(int file)
{
	size_t size = file_size(file);

	switch (file) {
	case HUGETLB:
		return hugetlb_make(size);
	case TMPFS:
		return tmpfs_make(size, NULL);
	case DISK:
		if (disk_mount(FILE_EXT4))
			return disk_make(FILE_EXT4, size, NULL);
		break;
	}
	return memfd_make(size, MFD_ALLOW_SEALING);
}

void files_make(struct fuzzer *f)
{
	char path[40];

	for (int i = 0; i < FILES; i++) {
		f->files[i] = file_open(i);
		/* Of a user who has opened some of the contexts. */
		if (i % 2 == 0 && fchown(f->files[i], OTHER_UID, OTHER_UID))
			die("fchown");
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->files[DISK]);
	f->direct = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

uint64_t fuzz_offset(struct fuzzer *f, int file)
{
	uint64_t offset = fuzz_random(f, fuzz_chance(f, 2) ? 4 : FILE_PAGES) * page_size();

	if (fuzz_chance(f, 3))
		offset += fuzz_random(f, page_size());
	if (file_size(file) < UNIT)
		return offset;
	offset += fuzz_random(f, UNITS) * UNIT;
	if (file == SPARSE && fuzz_chance(f, 4))
		offset = DIRECTORY + offset % (2 * UNIT);
	return offset;
}

/* One that is, if there is any. */
static int mapped_file(struct fuzzer *f)
{
	int file = fuzz_random(f, FILES);

	for (int i = 0; i < FILES && !f->maps[file]; i++)
		file = (file + 1) % FILES;
	return file;
}

struct fuzz_part fuzz_part(struct fuzzer *f)
{
	int file = mapped_file(f);
	size_t size = file_size(file), unit = page_size();
	const size_t units[] = { unit, UNIT, size };
	struct fuzz_part part = { .file = file };

	/* Directories are fenced as long as all who share them have them as a whole. */
	if (file == SPARSE && !fuzz_chance(f, 16))
		unit = size;
	else if (size > UNIT)
		unit = units[fuzz_random(f, ARRAY_LEN(units))];
	if (file == HUGETLB && unit < UNIT)
		unit = UNIT;
	part.offset = fuzz_offset(f, file) / unit * unit;
	part.length = (1 + fuzz_random(f, 8)) * unit;
	if (part.length > size - part.offset)
		part.length = size - part.offset;
	part.addr = f->maps[file] ? f->maps[file] + part.offset : NULL;
	return part;
}

char *fuzz_place(struct fuzzer *f)
{
	int file = mapped_file(f);

	return f->maps[file] ? f->maps[file] + fuzz_offset(f, file) : NULL;
}

char *fuzz_page(struct fuzzer *f)
{
	return (char *)((uintptr_t)fuzz_place(f) & -page_size());
}
