// SPDX-License-Identifier: LGPL-2.1 OR MIT
/*
 * The shared mappings of a process, read from /proc/PID/maps.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "internal.h"

/*
 * @maps: the mappings; their paths are allocated one by one.
 * @count, @room: used and allocated length of @maps.
 */
struct pgprotect_maps {
	struct pgprotect_map *maps;
	size_t count;
	size_t room;
};

int pgp_parse_map(char *line, struct pgprotect_map *map)
{
	unsigned int major, minor;
	char perms[5];
	int path = -1;

	memset(map, 0, sizeof(*map));
	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %x:%x %" SCNu64 "%n",
		   &map->start, &map->end, perms, &map->offset, &major, &minor,
		   &map->ino, &path) != 7 || path < 0 || strlen(perms) != 4 ||
	    map->start >= map->end)
		return -EIO;
	if (perms[3] != 's')
		return 0;

	map->dev = makedev(major, minor);
	map->writable = perms[1] == 'w';
	line += path;
	line += strspn(line, " ");
	line[strcspn(line, "\n")] = '\0';
	map->path = line;
	map->deleted = strlen(line) > 10 &&
		       !strcmp(line + strlen(line) - 10, " (deleted)");
	return 1;
}

static int maps_add(struct pgprotect_maps *maps, const struct pgprotect_map *map)
{
	char *path = strdup(map->path);

	if (!path)
		return -ENOMEM;
	if (maps->count == maps->room) {
		size_t room = maps->room ? 2 * maps->room : 16;
		struct pgprotect_map *bigger;

		bigger = reallocarray(maps->maps, room, sizeof(*bigger));
		if (!bigger) {
			free(path);
			return -ENOMEM;
		}
		maps->maps = bigger;
		maps->room = room;
	}
	maps->maps[maps->count] = *map;
	maps->maps[maps->count++].path = path;
	return 0;
}

static int maps_fill(struct pgprotect_maps *maps, FILE *file)
{
	struct pgprotect_map map;
	char *line = NULL;
	size_t size = 0;
	int ret = 0;

	errno = 0;
	while (ret >= 0 && getline(&line, &size, file) > 0) {
		ret = pgp_parse_map(line, &map);
		if (ret > 0)
			ret = maps_add(maps, &map);
		errno = 0;
	}
	if (ret >= 0)
		ret = -errno;
	free(line);
	return ret;
}

int pgprotect_maps_read(struct pgprotect_maps **maps, pid_t pid)
{
	struct pgprotect_maps *new;
	char path[64];
	FILE *file;
	int ret;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid ? pid : getpid());
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT ? -ESRCH : -errno;

	new = calloc(1, sizeof(*new));
	ret = new ? maps_fill(new, file) : -ENOMEM;
	fclose(file);
	if (ret < 0) {
		pgprotect_maps_free(new);
		return ret;
	}
	*maps = new;
	return 0;
}

size_t pgprotect_maps_count(const struct pgprotect_maps *maps)
{
	return maps->count;
}

const struct pgprotect_map *pgprotect_maps_get(const struct pgprotect_maps *maps,
					       size_t index)
{
	return index < maps->count ? &maps->maps[index] : NULL;
}

void pgprotect_maps_free(struct pgprotect_maps *maps)
{
	size_t i;

	if (!maps)
		return;
	for (i = 0; i < maps->count; i++)
		free((char *)maps->maps[i].path);
	free(maps->maps);
	free(maps);
}
