// SPDX-License-Identifier: GPL-2.0
/* A thread that fetches every event of a context and answers it by a policy. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "pgtest.h"

#define BATCH	256

struct handler {
	int ctx;
	int wake;		/* eventfd: the policy changed */
	pthread_t thread;
	pthread_mutex_t lock;	/* all below */
	enum handler_policy policy;
	int error;
	bool stop;
	struct pgprotect_event *events;
	size_t nr, size;
	size_t answered;	/* of events, in order */
	size_t stale;
};

static void keep_events(struct handler *handler, const struct pgprotect_event *events, size_t nr)
{
	if (handler->nr + nr > handler->size) {
		handler->size = 2 * (handler->nr + nr);
		handler->events = realloc(handler->events,
					  handler->size * sizeof(*handler->events));
		if (!handler->events)
			die("memory for events");
	}
	memcpy(handler->events + handler->nr, events, nr * sizeof(*events));
	handler->nr += nr;
}

static uint32_t take_verdicts(struct handler *handler, struct pgprotect_verdict *verdicts)
{
	uint32_t nr = 0;

	while (handler->policy != HANDLER_HOLD && handler->answered < handler->nr && nr < BATCH) {
		const struct pgprotect_event *event = &handler->events[handler->answered++];

		if (event->type != PGPROTECT_EVENT_STALL)
			continue;
		verdicts[nr++] = (struct pgprotect_verdict){
			.id = event->id,
			.action = handler->policy == HANDLER_ALLOW ? PGPROTECT_ALLOW
								   : PGPROTECT_REFUSE,
			.error = handler->policy == HANDLER_REFUSE ? handler->error : 0,
		};
	}
	return nr;
}

/* One NEXT; false when there is nothing more to do without waiting. */
static bool handler_turn(struct handler *handler)
{
	struct pgprotect_verdict verdicts[BATCH];
	struct pgprotect_event events[BATCH];
	struct pgprotect_next next = {
		.verdicts = (uintptr_t)verdicts,
		.events = (uintptr_t)events,
		.max_events = BATCH,
	};
	int ret;

	pthread_mutex_lock(&handler->lock);
	next.nr_verdicts = take_verdicts(handler, verdicts);
	pthread_mutex_unlock(&handler->lock);

	ret = ctx_next_args(handler->ctx, &next);
	if (ret)
		die("handler: NEXT gave %d", ret);

	pthread_mutex_lock(&handler->lock);
	keep_events(handler, events, next.nr_events);
	handler->stale += next.nr_stale;
	pthread_mutex_unlock(&handler->lock);
	return next.nr_verdicts || next.nr_events;
}

static void *handler_main(void *arg)
{
	struct handler *handler = arg;
	struct pollfd fds[] = {
		{ .fd = handler->ctx, .events = POLLIN },
		{ .fd = handler->wake, .events = POLLIN },
	};
	eventfd_t value;

	while (!handler->stop) {
		while (handler_turn(handler))
			;
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			die("handler: poll");
		if (fds[1].revents & POLLIN)
			eventfd_read(handler->wake, &value);
	}
	return NULL;
}

struct handler *handler_start(int ctx, enum handler_policy policy, int error)
{
	struct handler *handler = calloc(1, sizeof(*handler));

	if (!handler)
		die("memory for a handler");
	handler->ctx = ctx;
	handler->policy = policy;
	handler->error = error;
	handler->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&handler->lock, NULL);
	errno = pthread_create(&handler->thread, NULL, handler_main, handler);
	if (errno || handler->wake < 0)
		die("start a handler");
	return handler;
}

void handler_set(struct handler *handler, enum handler_policy policy, int error)
{
	pthread_mutex_lock(&handler->lock);
	handler->policy = policy;
	handler->error = error;
	pthread_mutex_unlock(&handler->lock);
	eventfd_write(handler->wake, 1);
}

size_t handler_count(struct handler *handler)
{
	size_t nr;

	pthread_mutex_lock(&handler->lock);
	nr = handler->nr;
	pthread_mutex_unlock(&handler->lock);
	return nr;
}

bool handler_wait(struct handler *handler, size_t nr)
{
	return WAIT_FOR(handler_count(handler) >= nr);
}

struct pgprotect_event handler_event(struct handler *handler, size_t index)
{
	struct pgprotect_event event;

	pthread_mutex_lock(&handler->lock);
	if (index >= handler->nr)
		die("handler has no event %zu", index);
	event = handler->events[index];
	pthread_mutex_unlock(&handler->lock);
	return event;
}

size_t handler_count_at(struct handler *handler, uint64_t offset, uint16_t type)
{
	size_t nr = 0;

	pthread_mutex_lock(&handler->lock);
	for (size_t i = 0; i < handler->nr; i++)
		nr += handler->events[i].offset == offset && handler->events[i].type == type;
	pthread_mutex_unlock(&handler->lock);
	return nr;
}

size_t handler_stale(struct handler *handler)
{
	size_t stale;

	pthread_mutex_lock(&handler->lock);
	stale = handler->stale;
	pthread_mutex_unlock(&handler->lock);
	return stale;
}

void handler_stop(struct handler *handler)
{
	handler->stop = true;
	eventfd_write(handler->wake, 1);
	pthread_join(handler->thread, NULL);
	close(handler->wake);
	free(handler->events);
	free(handler);
}
