// SPDX-License-Identifier: GPL-2.0
/*
 * libpgprotect without a kernel: growing structures, maps, names, the loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fake-device.h"
#include "internal.h"
#include "tap.h"

struct v1 {
	size_t size;
	int a;
	int b;
};

struct v2 {
	struct v1 v1;
	int c[4];
};

static bool grow_older_program(void)
{
	struct v1 old = { .size = sizeof(old), .a = 1, .b = 2 };
	struct v2 known;

	memset(&known, 0xff, sizeof(known));
	CHECK(!pgp_copy_options(&known, sizeof(known), sizeof(old), &old));
	CHECK(known.v1.size == sizeof(known) && known.v1.a == 1 && known.v1.b == 2);
	CHECK(!known.c[0] && !known.c[3]);
	return true;
}

static bool grow_newer_program(void)
{
	struct v2 new = { .v1 = { .size = sizeof(new), .a = 1 } };
	struct v1 known;

	CHECK(!pgp_copy_options(&known, sizeof(known), sizeof(known), &new));
	CHECK(known.size == sizeof(known) && known.a == 1);
	new.c[3] = 1;
	CHECK(pgp_copy_options(&known, sizeof(known), sizeof(known), &new) == -E2BIG);
	return true;
}

static bool grow_bad_size(void)
{
	struct v1 zero = {}, known;

	CHECK(pgp_copy_options(&known, sizeof(known), sizeof(known), &zero) == -EINVAL);
	zero.size = sizeof(zero) - 1;
	CHECK(pgp_copy_options(&known, sizeof(known), sizeof(known), &zero) == -EINVAL);
	return true;
}

static bool grow_result(void)
{
	struct v2 known = { .v1 = { .a = 7 }, .c = { 8 } }, new = {};
	struct { struct v1 v1; int guard; } old = { .v1.size = sizeof(old.v1), .guard = 5 };

	pgp_copy_result(&old, &known, sizeof(known));
	CHECK(old.v1.size == sizeof(old.v1) && old.v1.a == 7 && old.guard == 5);
	new.v1.size = sizeof(new) + 100;
	pgp_copy_result(&new, &known, sizeof(known));
	CHECK(new.v1.size == sizeof(new) + 100 && new.c[0] == 8);
	return true;
}

static bool maps_shared(void)
{
	char line[] = "7f0a00000000-7f0a00200000 rw-s 00001000 00:01 1234 "
		      "                /dev/zero (deleted)\n";
	char plain[] = "1000-2000 r--s 00000000 fe:10 5 /dev/shm/a b\n";
	struct pgprotect_map map;

	CHECK(pgp_parse_map(line, &map) == 1);
	CHECK(map.start == 0x7f0a00000000 && map.end == 0x7f0a00200000);
	CHECK(map.offset == 0x1000 && map.dev == makedev(0, 1) && map.ino == 1234);
	CHECK(!strcmp(map.path, "/dev/zero (deleted)"));
	CHECK(map.writable && map.deleted);

	CHECK(pgp_parse_map(plain, &map) == 1);
	CHECK(map.dev == makedev(0xfe, 0x10) && !strcmp(map.path, "/dev/shm/a b"));
	CHECK(!map.writable && !map.deleted);
	return true;
}

static bool maps_other(void)
{
	char private[] = "1000-2000 rw-p 00000000 00:00 0 \n";
	char *bad[] = { strdup(""), strdup("1000 rw-s 0 0:0 0"), strdup("x-y"),
			strdup("2000-1000 rw-s 00000000 00:00 0"),
			strdup("1000-2000 rw- 0 00:00 0"),
			strdup("1000-2000 rw-s 0 00:00"), };
	struct pgprotect_map map;
	size_t i;

	CHECK(pgp_parse_map(private, &map) == 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(pgp_parse_map(bad[i], &map) == -EIO);
		free(bad[i]);
	}
	return true;
}

static const struct pgprotect_map *find_map(const struct pgprotect_maps *maps,
					    const void *address)
{
	size_t i;

	for (i = 0; i < pgprotect_maps_count(maps); i++)
		if (pgprotect_maps_get(maps, i)->start == (uintptr_t)address)
			return pgprotect_maps_get(maps, i);
	return NULL;
}

static bool maps_open(void)
{
	int fd = memfd_create("tap", MFD_CLOEXEC), other;
	const struct pgprotect_map *map;
	struct pgprotect_maps *maps;
	struct stat st, st2;
	void *memory;

	CHECK(fd >= 0 && !ftruncate(fd, 8192));
	memory = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(memory != MAP_FAILED);
	CHECK(!pgprotect_maps_read(&maps, 0));
	map = find_map(maps, memory);
	CHECK(map && !map->writable && map->deleted);
	CHECK(!fstat(fd, &st) && st.st_dev == map->dev && st.st_ino == map->ino);

	other = pgprotect_map_open(0, map);
	CHECK(other >= 0 && !fstat(other, &st2) && st2.st_ino == st.st_ino);
	CHECK((fcntl(other, F_GETFL) & O_ACCMODE) == O_RDWR);
	CHECK(fcntl(other, F_GETFD) == FD_CLOEXEC);
	CHECK(!pgprotect_maps_get(maps, pgprotect_maps_count(maps)));
	close(other);
	munmap(memory, 8192);
	close(fd);
	other = pgprotect_map_open(0, map);
	CHECK(other < 0);
	pgprotect_maps_free(maps);
	return true;
}

static bool maps_no_process(void)
{
	struct pgprotect_map map = { .start = 4096, .end = 8192, .path = "/x" };
	struct pgprotect_maps *maps;

	CHECK(pgprotect_maps_read(&maps, 1 << 23) == -ESRCH);
	CHECK(pgprotect_map_open(1 << 23, &map) == -ESRCH);
	return true;
}

static bool names(void)
{
	CHECK(!strcmp(pgprotect_mode_name(PGPROTECT_MODE_STALL), "stall"));
	CHECK(!strcmp(pgprotect_origin_name(PGPROTECT_ORIGIN_IOCTL), "ioctl"));
	CHECK(!strcmp(pgprotect_event_name(PGPROTECT_EVENT_OVERFLOW), "overflow"));
	CHECK(!strcmp(pgprotect_mode_name(0), "unknown"));
	CHECK(!strcmp(pgprotect_origin_name(10), "unknown"));
	CHECK(!strcmp(pgprotect_event_name(~0U), "unknown"));
	return true;
}

static bool open_errors(void)
{
	struct pgprotect *ctx;
	int null = open("/dev/null", O_RDONLY);

	CHECK(pgprotect_open(&ctx, 4) == -EINVAL);
	CHECK(pgprotect_open_fd(&ctx, -1) == -EBADF);
	CHECK(pgprotect_open_fd(&ctx, null) == -ENOTTY);
	CHECK(fcntl(null, F_GETFD) == 0);
	close(null);
	setenv("FAKE_FAIL", "open:13", 1);
	CHECK(pgprotect_open(&ctx, 0) == -EACCES);
	setenv("FAKE_FAIL", "0:25", 1);
	CHECK(pgprotect_open(&ctx, 0) == -ENOTTY);
	unsetenv("FAKE_FAIL");
	pgprotect_close(NULL);
	return true;
}

static bool list_grows(void)
{
	struct pgprotect_list_entry *entries;
	struct pgprotect *ctx;

	CHECK(!pgprotect_open(&ctx, PGPROTECT_OPEN_CLOEXEC));
	CHECK(pgprotect_list(ctx, &entries) == 100);
	CHECK(entries[99].file == 100);
	pgprotect_list_free(entries);
	setenv("FAKE_FAIL", "9:12", 1);
	CHECK(pgprotect_list(ctx, &entries) == -ENOMEM);
	unsetenv("FAKE_FAIL");
	pgprotect_close(ctx);
	return true;
}

/* @stop_at: events after which to stop. @ticks: likewise. */
struct counts {
	int events;
	int idles;
	int ticks;
	int stop_at;
	int answer;
	uint64_t ids[8];
};

static int count_event(struct pgprotect_loop *loop, const struct pgprotect_event *event,
		       void *data)
{
	struct counts *counts = data;

	if (counts->events < 8)
		counts->ids[counts->events] = event->id;
	if (++counts->events == counts->stop_at)
		pgprotect_loop_stop(loop);
	return counts->answer;
}

static int count_idle(struct pgprotect_loop *loop, void *data)
{
	(void)loop;
	((struct counts *)data)->idles++;
	return 0;
}

static int count_tick(struct pgprotect_loop *loop, void *data)
{
	struct counts *counts = data;

	(void)loop;
	return ++counts->ticks == 3 ? -ECHILD : 0;
}

/* How often @word begins a line of the log. */
static int logged(const char *word)
{
	char line[128];
	FILE *file = fopen(getenv("FAKE_LOG"), "r");
	int count = 0;

	while (file && fgets(line, sizeof(line), file))
		count += !strncmp(line, word, strlen(word));
	if (file)
		fclose(file);
	return count;
}

static bool run_loop(uint32_t flags, int nr)
{
	struct counts counts = { .stop_at = nr };
	struct pgprotect_loop_options options = {
		.size = sizeof(options), .flags = flags, .data = &counts,
		.event = count_event, .idle = count_idle, .batch = 16,
	};
	struct pgprotect_loop *loop;
	struct pgprotect *ctx;
	int i;

	unlink(getenv("FAKE_LOG"));
	CHECK(!pgprotect_open(&ctx, PGPROTECT_OPEN_CLOEXEC));
	CHECK(!pgprotect_loop_new(&loop, ctx, &options));
	for (i = 0; i < nr; i++)
		fake_event(PGPROTECT_EVENT_STALL, 1, 0, 4096);
	CHECK(!pgprotect_loop_run(loop));
	CHECK(counts.events == nr && counts.idles >= 1);
	CHECK(logged("verdict") == nr);
	CHECK(!strcmp(pgprotect_loop_backend(loop), "epoll"));

	/* Stopped while it does not run: the next run ends at once. */
	pgprotect_loop_stop(loop);
	CHECK(!pgprotect_loop_run(loop));
	pgprotect_loop_free(loop);
	pgprotect_close(ctx);
	return true;
}

static bool loop_epoll(void)
{
	return run_loop(PGPROTECT_LOOP_EPOLL, 100);
}

/* A pipe knows no commands: the answers move to epoll, none is lost. */
static bool loop_changes_over(void)
{
	return run_loop(0, 100);
}

static bool loop_refuses(void)
{
	struct counts counts = { .stop_at = 1, .answer = -EROFS };
	struct pgprotect_loop_options options = {
		.size = sizeof(options), .flags = PGPROTECT_LOOP_EPOLL,
		.data = &counts, .event = count_event,
	};
	struct pgprotect_loop *loop;
	struct pgprotect *ctx;

	unlink(getenv("FAKE_LOG"));
	CHECK(!pgprotect_open(&ctx, 0));
	CHECK(!pgprotect_loop_new(&loop, ctx, &options));
	fake_event(PGPROTECT_EVENT_STALL, 1, 0, 4096);
	CHECK(!pgprotect_loop_run(loop));
	CHECK(logged("verdict") == 1);
	CHECK(counts.events == 1);

	/* Notes need no answer, and an answer without meaning refuses. */
	fake_event(PGPROTECT_EVENT_DENIED, 1, 0, 4096);
	counts.stop_at = 2;
	CHECK(!pgprotect_loop_run(loop));
	CHECK(logged("verdict") == 1);
	counts.answer = 77;
	counts.stop_at = 3;
	fake_event(PGPROTECT_EVENT_STALL, 1, 0, 4096);
	CHECK(!pgprotect_loop_run(loop));
	CHECK(logged("verdict") == 2);
	CHECK(logged("verdict ") == 2);
	pgprotect_loop_free(loop);
	pgprotect_close(ctx);
	return true;
}

static void *answer_later(void *arg)
{
	struct pgprotect_loop *loop = arg;

	usleep(20000);
	pgprotect_loop_answer(loop, 1000000, PGPROTECT_LOOP_ALLOW);
	usleep(20000);
	pgprotect_loop_stop(loop);
	return NULL;
}

static bool loop_pending(void)
{
	struct counts counts = { .answer = PGPROTECT_LOOP_PENDING };
	struct pgprotect_loop_options options = {
		.size = sizeof(options), .data = &counts, .event = count_event,
	};
	struct pgprotect_loop *loop;
	struct pgprotect *ctx;
	pthread_t thread;

	unlink(getenv("FAKE_LOG"));
	CHECK(!pgprotect_open(&ctx, 0));
	CHECK(!pgprotect_loop_new(&loop, ctx, &options));
	fake_event(PGPROTECT_EVENT_STALL, 1, 0, 4096);
	CHECK(!pthread_create(&thread, NULL, answer_later, loop));
	CHECK(!pgprotect_loop_run(loop));
	pthread_join(thread, NULL);
	CHECK(counts.events == 1);
	CHECK(logged("verdict 1000000 1 0") == 1 && logged("verdict") == 1);
	CHECK(pgprotect_loop_answer(loop, 0, 0) == -EINVAL);
	CHECK(pgprotect_loop_answer(loop, 1, 1) == -EINVAL);
	CHECK(pgprotect_loop_answer(loop, 1, -134) == -EINVAL);

	/* Given while it does not run: goes out with the next run. */
	CHECK(!pgprotect_loop_answer(loop, 5, -EPERM));
	pgprotect_loop_stop(loop);
	CHECK(!pgprotect_loop_run(loop));
	CHECK(logged("verdict 5 2 1") == 1);
	pgprotect_loop_free(loop);
	pgprotect_close(ctx);
	return true;
}

static bool loop_ticks(uint32_t flags)
{
	struct counts counts = {};
	struct pgprotect_loop_options options = {
		.size = sizeof(options), .flags = flags, .data = &counts,
		.event = count_event, .tick = count_tick, .interval_ns = 5000000,
	};
	struct pgprotect_loop *loop;
	struct pgprotect *ctx;

	CHECK(!pgprotect_open(&ctx, 0));
	CHECK(!pgprotect_loop_new(&loop, ctx, &options));
	CHECK(pgprotect_loop_run(loop) == -ECHILD);
	CHECK(counts.ticks == 3);
	pgprotect_loop_free(loop);
	pgprotect_close(ctx);
	return true;
}

static bool loop_ticks_epoll(void)
{
	return loop_ticks(PGPROTECT_LOOP_EPOLL);
}

static bool loop_ticks_uring(void)
{
	return loop_ticks(0);
}

static int protect_in_tick(struct pgprotect_loop *loop, void *data)
{
	struct counts *counts = data;

	(void)loop;
	counts->ticks = logged("verdict");
	return counts->events ? -ECHILD : 0;
}

static int slow_event(struct pgprotect_loop *loop, const struct pgprotect_event *event,
		      void *data)
{
	usleep(10000);
	return count_event(loop, event, data);
}

/* A tick that is due right after an event still finds it answered. */
static bool loop_tick_after_answers(void)
{
	struct counts counts = {};
	struct pgprotect_loop_options options = {
		.size = sizeof(options), .data = &counts, .event = slow_event,
		.tick = protect_in_tick, .interval_ns = 1000000,
	};
	struct pgprotect_loop *loop;
	struct pgprotect *ctx;

	unlink(getenv("FAKE_LOG"));
	CHECK(!pgprotect_open(&ctx, 0));
	CHECK(!pgprotect_loop_new(&loop, ctx, &options));
	fake_event(PGPROTECT_EVENT_STALL, 1, 0, 4096);
	CHECK(pgprotect_loop_run(loop) == -ECHILD);
	CHECK(counts.ticks == 1);
	pgprotect_loop_free(loop);
	pgprotect_close(ctx);
	return true;
}

static bool loop_bad_options(void)
{
	struct pgprotect_loop_options options = { .size = sizeof(options) };
	struct pgprotect_loop *loop;
	struct pgprotect *ctx;

	CHECK(!pgprotect_open(&ctx, 0));
	CHECK(pgprotect_loop_new(&loop, ctx, &options) == -EINVAL);
	options.event = count_event;
	options.flags = PGPROTECT_LOOP_EPOLL | PGPROTECT_LOOP_URING;
	CHECK(pgprotect_loop_new(&loop, ctx, &options) == -EINVAL);
	options.flags = 8;
	CHECK(pgprotect_loop_new(&loop, ctx, &options) == -EINVAL);
	options.flags = 0;
	options.tick = count_tick;
	CHECK(pgprotect_loop_new(&loop, ctx, &options) == -EINVAL);
	options.tick = NULL;
	options.batch = PGPROTECT_MAX_BATCH + 1;
	CHECK(pgprotect_loop_new(&loop, ctx, &options) == -EINVAL);
	options.size = 0;
	CHECK(pgprotect_loop_new(&loop, ctx, &options) == -EINVAL);
	pgprotect_loop_free(NULL);
	pgprotect_close(ctx);
	return true;
}

static const struct tap_case cases[] = {
	{ "grow_older_program", grow_older_program },
	{ "grow_newer_program", grow_newer_program },
	{ "grow_bad_size", grow_bad_size },
	{ "grow_result", grow_result },
	{ "maps_shared", maps_shared },
	{ "maps_other", maps_other },
	{ "maps_open", maps_open },
	{ "maps_no_process", maps_no_process },
	{ "names", names },
	{ "open_errors", open_errors },
	{ "list_grows", list_grows },
	{ "loop_epoll", loop_epoll },
	{ "loop_changes_over", loop_changes_over },
	{ "loop_refuses", loop_refuses },
	{ "loop_pending", loop_pending },
	{ "loop_ticks_epoll", loop_ticks_epoll },
	{ "loop_ticks_uring", loop_ticks_uring },
	{ "loop_tick_after_answers", loop_tick_after_answers },
	{ "loop_bad_options", loop_bad_options },
	{}
};

int main(void)
{
	char log[] = "/tmp/pgprotect-log-XXXXXX";
	int fd = mkstemp(log), ret;

	close(fd);
	setenv("FAKE_LOG", log, 1);
	ret = tap_run(cases);
	unlink(log);
	return ret;
}
