// SPDX-License-Identifier: GPL-2.0
/*
 * Signals that end a command, turned into a stop of its event loop.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/time.h>

#include "signals.h"

static const int handled[] = { SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGALRM };

#define NR_HANDLED	(sizeof(handled) / sizeof(handled[0]))

static struct pgprotect_loop *volatile stop_this;
static bool hangup_ignored;
static volatile sig_atomic_t ended_by;
static volatile sig_atomic_t to_forward;
static volatile sig_atomic_t alarmed;

static void handle(int sig, siginfo_t *info, void *context)
{
	struct pgprotect_loop *loop = stop_this;

	(void)context;
	if (sig == SIGALRM) {
		alarmed = 1;
	} else if (sig != SIGCHLD) {
		ended_by = sig;
		if (info->si_code <= 0)
			to_forward = sig;
	}
	if (loop)
		pgprotect_loop_stop(loop);
}

void signals_start(struct pgprotect_loop *loop)
{
	struct sigaction action = {
		.sa_sigaction = handle,
		.sa_flags = SA_SIGINFO | SA_NOCLDSTOP,
	};
	struct sigaction before;
	size_t i;

	stop_this = loop;
	sigemptyset(&action.sa_mask);
	for (i = 0; i < NR_HANDLED; i++) {
		sigaction(handled[i], &action, &before);
		/* As nohup(1) has it. */
		if (handled[i] == SIGHUP && before.sa_handler == SIG_IGN) {
			hangup_ignored = true;
			sigaction(SIGHUP, &before, NULL);
		}
	}
	signal(SIGPIPE, SIG_IGN);
}

void signals_detach(void)
{
	stop_this = NULL;
}

int signals_end(void)
{
	return ended_by;
}

int signals_take_forward(void)
{
	int sig = to_forward;

	to_forward = 0;
	return sig;
}

void signals_hold(void)
{
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < NR_HANDLED; i++)
		sigaddset(&set, handled[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

void signals_sleep(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigsuspend(&none);
}

void signals_alarm(int64_t ns)
{
	struct itimerval timer = {
		.it_value.tv_sec = ns / 1000000000,
		.it_value.tv_usec = ns % 1000000000 / 1000,
	};

	/* All zero would mean never. */
	if (!timer.it_value.tv_sec && !timer.it_value.tv_usec)
		timer.it_value.tv_usec = 1;
	setitimer(ITIMER_REAL, &timer, NULL);
}

bool signals_alarmed(void)
{
	return alarmed;
}

void signals_restore(void)
{
	size_t i;

	for (i = 0; i < NR_HANDLED; i++)
		if (handled[i] != SIGHUP || !hangup_ignored)
			signal(handled[i], SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
}
