// SPDX-License-Identifier: GPL-2.0
/*
 * The files a command works on: named, or found in a process's mappings.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "message.h"
#include "number.h"
#include "target.h"
#include "text.h"

bool selection_option(struct selection *selection, int key, const char *arg)
{
	enum which_maps which = MAPS_ALL;
	uint64_t pid;

	switch (key) {
	case 'p':
		if (!parse_count(arg, 1, 1 << 22, &pid)) {
			usage_error("'%s' is no process number", arg);
			return false;
		}
		selection->pid = pid;
		return true;
	case OPT_MAP:
		if (!parse_addresses(arg, &selection->start, &selection->end)) {
			usage_error("'%s' is no ADDR-ADDR as in /proc/PID/maps", arg);
			return false;
		}
		which = MAPS_ONE;
		break;
	case OPT_LARGEST:
		which = MAPS_LARGEST;
		break;
	}
	if (selection->which != MAPS_DEFAULT) {
		usage_error("only one of --map, --largest and --all");
		return false;
	}
	selection->which = which;
	return true;
}

bool selection_check(const struct selection *selection)
{
	if (!selection->nr_files && !selection->pid)
		usage_error("which FILE, or --pid PID?");
	else if (selection->nr_files && selection->pid)
		usage_error("either FILE or --pid, not both");
	else if (selection->which != MAPS_DEFAULT && !selection->pid)
		usage_error("--map, --largest and --all need --pid");
	else
		return true;
	return false;
}

static struct target *target_new(struct targets *targets)
{
	struct target *new;

	new = reallocarray(targets->list, targets->nr + 1, sizeof(*new));
	if (!new)
		return NULL;
	targets->list = new;
	new += targets->nr;
	*new = (struct target) { .fd = -1 };
	return new;
}

static void target_free(struct target *target)
{
	if (target->fd >= 0)
		close(target->fd);
	free(target->name);
	free(target->path);
}

static bool is_target(const struct targets *targets, uint64_t dev, uint64_t ino)
{
	size_t i;

	for (i = 0; i < targets->nr; i++)
		if (targets->list[i].dev == dev && targets->list[i].ino == ino)
			return true;
	return false;
}

/* Takes @fd, @name and @path over in any case. -errno. */
static int target_attach(struct targets *targets, struct pgprotect *ctx, int fd,
			 char *name, char *path,
			 const struct pgprotect_attach_options *options)
{
	struct pgprotect_attach_options opts = *options;
	struct target *new = target_new(targets);
	struct target failed = { .fd = fd, .name = name, .path = path };
	struct stat st;
	int ret = -ENOMEM;

	opts.cookie = targets->nr;
	if (!new || !name || !path)
		goto out;
	*new = failed;
	if (fstat(fd, &st) < 0) {
		ret = -errno;
		goto out;
	}
	new->dev = st.st_dev;
	new->ino = st.st_ino;
	new->size = st.st_size;
	text_clean(name);
	ret = pgprotect_attach(ctx, fd, &opts, &new->file);
	if (ret < 0)
		goto out;
	targets->nr++;
	return 0;
out:
	target_free(&failed);
	return ret;
}

static int explain(const char *name, int err)
{
	switch (-err) {
	case EOPNOTSUPP:
		failure("%s: this kind of file cannot be protected", name);
		remedy("name a file on tmpfs (as in /dev/shm), ext4 or xfs, a memfd, or shared memory of a process");
		break;
	case EPERM:
		failure("%s: protecting it is not permitted", name);
		remedy("be the owner of the file, or root (CAP_FOWNER or CAP_SYS_ADMIN)");
		break;
	case EACCES:
		failure("%s: no permission to write", name);
		remedy("only who may write to a file may protect it: run as its owner or as root");
		break;
	case ENOSPC:
		failure("%s: too many files for one context", name);
		remedy("name fewer files");
		break;
	default:
		failure_errno(name, err);
	}
	return STATUS_FAILED;
}

static int explain_map(const char *name, int err, pid_t pid)
{
	switch (-err) {
	case EPERM:
		failure("%s: opening memory of process %d is not permitted", name, pid);
		remedy("run as root, or with CAP_CHECKPOINT_RESTORE");
		return STATUS_FAILED;
	case ESRCH:
		return failure("process %d has ended", pid);
	case ENOENT:
	case ESTALE:
		failure("%s: process %d has unmapped it", name, pid);
		remedy("try again");
		return STATUS_FAILED;
	default:
		return explain(name, err);
	}
}

/* Opens what is a regular file; a device or a pipe is not touched. */
static int open_file(const char *path)
{
	char self[40];
	struct stat st;
	int place, fd;

	place = open(path, O_PATH | O_CLOEXEC);
	if (place < 0)
		return -errno;
	if (fstat(place, &st) < 0) {
		fd = -errno;
	} else if (!S_ISREG(st.st_mode)) {
		fd = S_ISDIR(st.st_mode) ? -EISDIR : -EOPNOTSUPP;
	} else {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", place);
		fd = open(self, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	close(place);
	return fd;
}

static int attach_files(struct targets *targets, struct pgprotect *ctx,
			const struct selection *selection,
			const struct pgprotect_attach_options *options)
{
	struct stat st;
	int i, fd, ret;

	for (i = 0; i < selection->nr_files; i++) {
		const char *path = selection->files[i];

		fd = open_file(path);
		if (fd < 0)
			return explain(path, fd);
		if (!fstat(fd, &st) && is_target(targets, st.st_dev, st.st_ino)) {
			close(fd);
			continue;
		}
		ret = target_attach(targets, ctx, fd, strdup(path),
				    realpath(path, NULL), options);
		if (ret < 0)
			return explain(path, ret);
	}
	return 0;
}

/* Bytes that the process has mapped of the file of @map. */
static uint64_t mapped_bytes(const struct pgprotect_maps *maps,
			     const struct pgprotect_map *map)
{
	uint64_t bytes = 0;
	size_t i;

	for (i = 0; i < pgprotect_maps_count(maps); i++) {
		const struct pgprotect_map *other = pgprotect_maps_get(maps, i);

		if (other->dev == map->dev && other->ino == map->ino)
			bytes += other->end - other->start;
	}
	return bytes;
}

static int attach_map(struct targets *targets, struct pgprotect *ctx, pid_t pid,
		      const struct pgprotect_map *map,
		      const struct pgprotect_attach_options *options)
{
	char *name = NULL, *path = NULL;
	int fd;

	fd = pgprotect_map_open(pid, map);
	if (fd < 0)
		return fd;
	if (asprintf(&name, "%" PRIx64 "-%" PRIx64 " %s", map->start, map->end,
		     map->path) < 0)
		name = NULL;
	if (asprintf(&path, "/proc/%d/map_files/%" PRIx64 "-%" PRIx64, pid,
		     map->start, map->end) < 0)
		path = NULL;
	return target_attach(targets, ctx, fd, name, path, options);
}

/* Of the files not yet tried that can be protected, the one mapped most. */
static int attach_largest(struct targets *targets, struct pgprotect *ctx,
			  pid_t pid, const struct pgprotect_maps *maps,
			  const struct pgprotect_attach_options *options)
{
	size_t i, at = 0, last = 0, count = pgprotect_maps_count(maps);
	uint64_t below = UINT64_MAX;
	int ret = -EOPNOTSUPP;

	while (ret == -EOPNOTSUPP) {
		const struct pgprotect_map *map, *best = NULL;
		uint64_t bytes, most = 0;

		for (i = 0; i < count; i++) {
			map = pgprotect_maps_get(maps, i);
			bytes = mapped_bytes(maps, map);
			if (bytes > most &&
			    (bytes < below || (bytes == below && i > last))) {
				best = map;
				most = bytes;
				at = i;
			}
		}
		if (!best)
			break;
		below = most;
		last = at;
		ret = attach_map(targets, ctx, pid, best, options);
		if (ret < 0 && ret != -EOPNOTSUPP)
			return explain_map(best->path, ret, pid);
	}
	return 0;
}

/* Errors of one file that are no reason to give up the others. */
static bool can_leave_out(int err)
{
	switch (-err) {
	case EOPNOTSUPP:
	case EACCES:
	case EROFS:
	case ETXTBSY:
	case ENOENT:
	case ESTALE:
		return true;
	default:
		return false;
	}
}

static int attach_all(struct targets *targets, struct pgprotect *ctx, pid_t pid,
		      const struct pgprotect_maps *maps,
		      const struct pgprotect_attach_options *options)
{
	size_t i;
	int ret;

	for (i = 0; i < pgprotect_maps_count(maps); i++) {
		const struct pgprotect_map *map = pgprotect_maps_get(maps, i);

		if (is_target(targets, map->dev, map->ino))
			continue;
		ret = attach_map(targets, ctx, pid, map, options);
		if (ret < 0 && !can_leave_out(ret))
			return explain_map(map->path, ret, pid);
		if (ret < 0 && map->writable)
			warning("leaving out %" PRIx64 "-%" PRIx64 " %s: %s",
				map->start, map->end, map->path, strerror(-ret));
	}
	return 0;
}

static int attach_one(struct targets *targets, struct pgprotect *ctx,
		      const struct selection *selection,
		      const struct pgprotect_maps *maps,
		      const struct pgprotect_attach_options *options)
{
	size_t i;
	int ret;

	for (i = 0; i < pgprotect_maps_count(maps); i++) {
		const struct pgprotect_map *map = pgprotect_maps_get(maps, i);

		if (selection->start < map->start || selection->end > map->end)
			continue;
		ret = attach_map(targets, ctx, selection->pid, map, options);
		return ret < 0 ? explain_map(map->path, ret, selection->pid) : 0;
	}
	failure("process %d has no shared mapping that holds %" PRIx64 "-%" PRIx64,
		selection->pid, selection->start, selection->end);
	remedy("see the mappings with 's' in their permissions in /proc/%d/maps",
	       selection->pid);
	return STATUS_FAILED;
}

static int attach_process(struct targets *targets, struct pgprotect *ctx,
			  const struct selection *selection,
			  const struct pgprotect_attach_options *options)
{
	struct pgprotect_maps *maps;
	pid_t pid = selection->pid;
	int ret;

	targets->pidfd = pidfd_open(pid, 0);
	if (targets->pidfd < 0 && errno == ESRCH)
		return failure("there is no process %d", pid);
	ret = pgprotect_maps_read(&maps, pid);
	if (ret == -ESRCH)
		return failure("there is no process %d", pid);
	if (ret == -EACCES || ret == -EPERM) {
		failure("looking at the memory of process %d is not permitted", pid);
		remedy("run as its user or as root");
		return STATUS_FAILED;
	}
	if (ret < 0)
		return failure_errno("reading the mappings", ret);

	if (selection->which == MAPS_ONE)
		ret = attach_one(targets, ctx, selection, maps, options);
	else if (selection->which == MAPS_LARGEST)
		ret = attach_largest(targets, ctx, pid, maps, options);
	else
		ret = attach_all(targets, ctx, pid, maps, options);
	pgprotect_maps_free(maps);
	if (!ret && !targets->nr)
		ret = failure("process %d has no shared memory that can be protected", pid);
	return ret;
}

int targets_attach(struct targets *targets, struct pgprotect *ctx,
		   const struct selection *selection,
		   const struct pgprotect_attach_options *options)
{
	*targets = (struct targets) { .pidfd = -1 };
	if (selection->pid)
		return attach_process(targets, ctx, selection, options);
	return attach_files(targets, ctx, selection, options);
}

int targets_protect(const struct targets *targets, struct pgprotect *ctx,
		    uint64_t flags, struct pgprotect_result *result)
{
	struct pgprotect_range *ranges = calloc(targets->nr, sizeof(*ranges));
	size_t i;
	int ret;

	if (!ranges)
		return -ENOMEM;
	for (i = 0; i < targets->nr; i++) {
		ranges[i].file = targets->list[i].file;
		ranges[i].length = PGPROTECT_TO_EOF;
	}
	ret = pgprotect_protectv(ctx, ranges, targets->nr, flags, result);
	free(ranges);
	return ret;
}

bool targets_gone(const struct targets *targets)
{
	struct pollfd poll_fd = { .fd = targets->pidfd, .events = POLLIN };

	return targets->pidfd >= 0 && poll(&poll_fd, 1, 0) > 0;
}

void targets_clip(struct targets *targets, struct pgprotect_event *event,
		  uint32_t page_size)
{
	struct target *target;
	struct stat st;
	uint64_t end;

	if (event->cookie >= targets->nr)
		return;
	target = &targets->list[event->cookie];
	if (event->offset + event->length <= target->size)
		return;
	if (!fstat(target->fd, &st))
		target->size = st.st_size;
	end = (target->size + page_size - 1) / page_size * page_size;
	/* An append: the page that it begins with. */
	if (end <= event->offset)
		end = event->offset + page_size;
	if (event->length > end - event->offset)
		event->length = end - event->offset;
}

const struct target *targets_find(const struct targets *targets, uint32_t file)
{
	size_t i;

	for (i = 0; i < targets->nr; i++)
		if (targets->list[i].file == file)
			return &targets->list[i];
	return NULL;
}

void targets_free(struct targets *targets)
{
	size_t i;

	for (i = 0; i < targets->nr; i++)
		target_free(&targets->list[i]);
	free(targets->list);
	if (targets->pidfd >= 0)
		close(targets->pidfd);
	*targets = (struct targets) { .pidfd = -1 };
}
