// SPDX-License-Identifier: GPL-2.0
/*
 * Finding a path for a file of which only device and inode are known.
 */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libpgprotect.h"
#include "text.h"
#include "whose.h"

static void found(struct whose *file, const char *path, pid_t pid)
{
	file->path = strdup(path);
	file->pid = pid;
	if (file->path)
		text_clean(file->path);
}

static struct whose *wanted(struct whose *files, size_t nr, uint64_t dev, uint64_t ino)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (!files[i].path && files[i].dev == dev && files[i].ino == ino)
			return &files[i];
	return NULL;
}

static void look_at_maps(struct whose *files, size_t nr, pid_t pid)
{
	struct pgprotect_maps *maps;
	struct whose *file;
	size_t i;

	if (pgprotect_maps_read(&maps, pid) < 0)
		return;
	for (i = 0; i < pgprotect_maps_count(maps); i++) {
		const struct pgprotect_map *map = pgprotect_maps_get(maps, i);

		/* One file can be in the list twice: attached twice. */
		while ((file = wanted(files, nr, map->dev, map->ino)) != NULL) {
			found(file, map->path, pid);
			if (!file->path)
				break;
		}
	}
	pgprotect_maps_free(maps);
}

static void look_at_fds(struct whose *files, size_t nr, pid_t pid)
{
	char path[64], link[PATH_MAX];
	struct dirent *entry;
	struct whose *file;
	struct stat st;
	ssize_t size;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (fstatat(dirfd(dir), entry->d_name, &st, 0) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		while ((file = wanted(files, nr, st.st_dev, st.st_ino)) != NULL) {
			size = readlinkat(dirfd(dir), entry->d_name, link,
					  sizeof(link) - 1);
			if (size <= 0)
				break;
			link[size] = '\0';
			found(file, link, pid);
			if (!file->path)
				break;
		}
	}
	closedir(dir);
}

static void look_at_all(struct whose *files, size_t nr,
			void (*look)(struct whose *files, size_t nr, pid_t pid))
{
	struct dirent *entry;
	DIR *proc = opendir("/proc");

	if (!proc)
		return;
	while ((entry = readdir(proc)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]))
			look(files, nr, atoi(entry->d_name));
	closedir(proc);
}

void whose_find(struct whose *files, size_t nr)
{
	size_t i;

	if (!nr)
		return;
	/* Mappings first: they are quick to read and tell most. */
	look_at_all(files, nr, look_at_maps);
	for (i = 0; i < nr; i++)
		if (!files[i].path)
			break;
	if (i < nr)
		look_at_all(files, nr, look_at_fds);
}
