// SPDX-License-Identifier: GPL-2.0
/*
 * Output that never makes its writer wait. A reader may stop reading, as a
 * terminal does at Ctrl-S; the writers that watch would then keep waiting must
 * not be made to wait for that. So one thread fills a buffer, and another
 * empties it.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"

/*
 * @lock protects everything below it. @text: @size bytes that wait; the thread
 * takes them all at once. @taken: bytes the thread is writing now.
 */
struct output {
	FILE *stream;
	pthread_t thread;
	int fd;
	size_t room;

	pthread_mutex_t lock;
	pthread_cond_t filled;
	pthread_cond_t emptied;
	char *text;
	size_t size;
	size_t allocated;
	size_t taken;
	uint64_t dropped;
	int error;
	bool patient;
	bool closing;
};

static int write_all(int fd, const char *text, size_t size)
{
	while (size) {
		ssize_t done = write(fd, text, size);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		text += done;
		size -= done;
	}
	return 0;
}

static void *empty(void *arg)
{
	struct output *output = arg;

	pthread_mutex_lock(&output->lock);
	for (;;) {
		int error = output->error;
		char *text;

		while (!output->size && !output->closing)
			pthread_cond_wait(&output->filled, &output->lock);
		text = output->text;
		output->taken = output->size;
		if (!output->taken)
			break;
		output->text = NULL;
		output->size = output->allocated = 0;
		pthread_mutex_unlock(&output->lock);

		if (!error)
			error = write_all(output->fd, text, output->taken);
		free(text);

		pthread_mutex_lock(&output->lock);
		output->taken = 0;
		output->error = error;
		pthread_cond_signal(&output->emptied);
	}
	pthread_mutex_unlock(&output->lock);
	return NULL;
}

/* What is larger than the room itself is let in alone. */
static bool is_full(const struct output *output, size_t size)
{
	size_t there = output->size + output->taken;

	return there && there + size > output->room;
}

/* Room for @size more bytes, or false. */
static bool make_room(struct output *output, size_t size)
{
	size_t bigger = output->allocated ? output->allocated : 65536;
	char *text;

	while (output->patient && is_full(output, size))
		pthread_cond_wait(&output->emptied, &output->lock);
	if (is_full(output, size))
		return false;
	while (bigger < output->size + size)
		bigger *= 2;
	if (bigger == output->allocated)
		return true;
	text = realloc(output->text, bigger);
	if (!text)
		return false;
	output->text = text;
	output->allocated = bigger;
	return true;
}

/* The stream is line-buffered: this gets a line. */
static ssize_t fill(void *cookie, const char *text, size_t size)
{
	struct output *output = cookie;

	pthread_mutex_lock(&output->lock);
	if (make_room(output, size)) {
		memcpy(output->text + output->size, text, size);
		/* Otherwise the thread is awake, or has been told. */
		if (!output->size)
			pthread_cond_signal(&output->filled);
		output->size += size;
	} else {
		output->dropped++;
	}
	pthread_mutex_unlock(&output->lock);
	return size;
}

static bool start_thread(struct output *output)
{
	sigset_t all, before;
	int ret;

	/* Signals are the other thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ret = pthread_create(&output->thread, NULL, empty, output);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return !ret;
}

struct output *output_open(int fd, size_t room)
{
	static const cookie_io_functions_t functions = { .write = fill };
	struct output *output = calloc(1, sizeof(*output));

	if (!output)
		return NULL;
	output->fd = fd;
	output->room = room;
	pthread_mutex_init(&output->lock, NULL);
	pthread_cond_init(&output->filled, NULL);
	pthread_cond_init(&output->emptied, NULL);
	output->stream = fopencookie(output, "w", functions);
	if (!output->stream || setvbuf(output->stream, NULL, _IOLBF, 65536) ||
	    !start_thread(output)) {
		if (output->stream)
			fclose(output->stream);
		free(output);
		return NULL;
	}
	return output;
}

FILE *output_stream(struct output *output)
{
	return output->stream;
}

uint64_t output_dropped(struct output *output)
{
	uint64_t dropped;

	pthread_mutex_lock(&output->lock);
	dropped = output->dropped;
	pthread_mutex_unlock(&output->lock);
	return dropped;
}

int output_error(struct output *output)
{
	struct pollfd reader = { .fd = output->fd };
	int error;

	pthread_mutex_lock(&output->lock);
	error = output->error;
	pthread_mutex_unlock(&output->lock);
	/* The next write would find out, and may be far away. */
	if (!error && poll(&reader, 1, 0) > 0 && reader.revents & (POLLERR | POLLHUP))
		error = -EPIPE;
	return error;
}

void output_patient(struct output *output)
{
	pthread_mutex_lock(&output->lock);
	output->patient = true;
	pthread_mutex_unlock(&output->lock);
}

int output_close(struct output *output)
{
	int error;

	fclose(output->stream);
	pthread_mutex_lock(&output->lock);
	output->closing = true;
	pthread_cond_signal(&output->filled);
	pthread_mutex_unlock(&output->lock);
	pthread_join(output->thread, NULL);
	error = output->error;
	pthread_mutex_destroy(&output->lock);
	pthread_cond_destroy(&output->filled);
	pthread_cond_destroy(&output->emptied);
	free(output->text);
	free(output);
	return error;
}
