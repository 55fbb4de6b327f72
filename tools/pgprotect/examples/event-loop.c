// SPDX-License-Identifier: MIT
/*
 * Who writes to a file on tmpfs? The event loop of libpgprotect.
 *
 *	cc event-loop.c $(pkg-config --cflags --libs libpgprotect)
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libpgprotect.h>

static struct pgprotect_loop *loop;

static void on_signal(int sig)
{
	(void)sig;
	pgprotect_loop_stop(loop);
}

/* The writer waits until this returns; -EPERM would refuse the write. */
static int on_event(struct pgprotect_loop *self, const struct pgprotect_event *event,
		    void *data)
{
	(void)self;
	if (event->type == PGPROTECT_EVENT_STALL)
		printf("%s: process %u, %s, offset %llu, length %llu\n",
		       (const char *)data, event->pid,
		       pgprotect_origin_name(event->origin), event->offset,
		       event->length);
	return PGPROTECT_LOOP_ALLOW;
}

static int fail(const char *what, int err)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-err));
	return 1;
}

int main(int argc, char **argv)
{
	struct pgprotect_loop_options options = {
		.size = sizeof(options), .event = on_event, .data = argv[1],
	};
	struct pgprotect *ctx;
	unsigned int file;
	int fd, err;

	if (argc != 2)
		return fprintf(stderr, "usage: %s FILE\n", argv[0]), 2;
	fd = open(argv[1], O_RDWR);
	if (fd < 0)
		return perror(argv[1]), 1;

	err = pgprotect_open(&ctx, PGPROTECT_OPEN_CLOEXEC);
	if (err)
		return fail("/dev/pgprotect", err);
	err = pgprotect_attach(ctx, fd, NULL, &file);
	if (!err)
		err = pgprotect_loop_new(&loop, ctx, &options);
	if (err)
		return fail(argv[1], err);
	signal(SIGINT, on_signal);

	err = pgprotect_protect(ctx, file, 0, PGPROTECT_TO_EOF, 0, NULL);
	if (!err)
		err = pgprotect_loop_run(loop);
	pgprotect_loop_free(loop);
	pgprotect_close(ctx);
	return err ? fail(argv[1], err) : 0;
}
