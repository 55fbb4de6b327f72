// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * Opening the file behind a mapping of another process.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/*
 * Opens @path for reading and writing if it is the file of @map and regular.
 * The path is resolved once: a device must not be opened, not even by accident.
 */
static int open_same_file(const char *path, const struct pgprotect_map *map)
{
	char self[64];
	struct stat st;
	int place, fd;

	place = open(path, O_PATH | O_CLOEXEC);
	if (place < 0)
		return -errno;
	if (fstat(place, &st) < 0) {
		fd = -errno;
	} else if (st.st_dev != map->dev || st.st_ino != map->ino) {
		fd = -ESTALE;
	} else if (!S_ISREG(st.st_mode)) {
		fd = -EOPNOTSUPP;
	} else {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", place);
		fd = open(self, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	close(place);
	return fd;
}

/* The process may hold the file open too; that takes less privilege to reach. */
static int open_among_fds(pid_t pid, const struct pgprotect_map *map)
{
	char path[64 + 256];
	struct dirent *entry;
	int fd = -EPERM;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	if (!dir)
		return -errno;
	while (fd < 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, entry->d_name);
		fd = open_same_file(path, map);
	}
	closedir(dir);
	return fd;
}

int pgprotect_map_open(pid_t pid, const struct pgprotect_map *map)
{
	char path[96];
	int fd, other;

	if (!pid)
		pid = getpid();
	snprintf(path, sizeof(path), "/proc/%d/map_files/%" PRIx64 "-%" PRIx64,
		 pid, map->start, map->end);
	fd = open_same_file(path, map);
	if (fd == -ENOENT && kill(pid, 0) < 0 && errno == ESRCH)
		return -ESRCH;
	if (fd != -EPERM && fd != -EACCES && fd != -ENOENT)
		return fd;

	other = open_among_fds(pid, map);
	if (other < 0 && !map->deleted)
		other = open_same_file(map->path, map);
	return other < 0 ? fd : other;
}
