// SPDX-License-Identifier: GPL-2.0
/* The fuzzer's processes: who they are, what they have done, and that they end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../guard/common/users.h"
#include "fuzz.h"

#define OPS_MAX		64
#define LIFE		3000	/* operations of one process, at most */
#define ENOUGH		100	/* runs of an operation, for one to have worked */

struct world {
	_Atomic bool stop;
	_Atomic unsigned long runs[OPS_MAX], worked[OPS_MAX];
	_Atomic int at[PROCESSES];	/* operation under way */
};

static struct world *world;
static const struct fuzz_op *ops[OPS_MAX];
static unsigned int nr_ops, total_weight;
static unsigned int results, broken;
static bool failed;

/* xorshift*: the same numbers for the same seed. */
uint64_t fuzz_random(struct fuzzer *f, uint64_t below)
{
	f->random ^= f->random >> 12;
	f->random ^= f->random << 25;
	f->random ^= f->random >> 27;
	return (f->random * 0x2545f4914f6cdd1dULL >> 11) % below;
}

bool fuzz_chance(struct fuzzer *f, unsigned int n)
{
	return fuzz_random(f, n) == 0;
}

int fuzz_file(struct fuzzer *f)
{
	return f->files[fuzz_random(f, FILES)];
}

int fuzz_context(struct fuzzer *f)
{
	int ctx = f->contexts[fuzz_random(f, CONTEXTS)];

	return ctx >= 0 ? ctx : f->contexts[fuzz_random(f, CONTEXTS / 2)];
}

static void collect_ops(const struct fuzz_op *list)
{
	for (; list->name && nr_ops < OPS_MAX; list++) {
		ops[nr_ops++] = list;
		total_weight += list->weight;
	}
}

static unsigned int choose_op(struct fuzzer *f)
{
	unsigned int at = fuzz_random(f, total_weight), i = 0;

	while (at >= ops[i]->weight)
		at -= ops[i++]->weight;
	return i;
}

static void on_alarm(int sig)
{
	(void)sig;
}

/* Whatever waits is interrupted now and then; half of it starts again. */
static void interrupt_often(unsigned int number)
{
	struct sigaction action = {
		.sa_handler = on_alarm, .sa_flags = number & 2 ? SA_RESTART : 0,
	};
	struct itimerval often = { .it_interval.tv_usec = 7000, .it_value.tv_usec = 7000 };

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
}

static void live(struct fuzzer *f, unsigned int number)
{
	unsigned long life = 1 + fuzz_random(f, LIFE);

	f->fetches = number & 1;
	f->restarts = number & 2;
	interrupt_often(number);
	coverage_begin();
	for (unsigned long done = 0; done < life && !world->stop; done++) {
		/* Each once, begun by each process elsewhere, then by weight. */
		unsigned int i = done < nr_ops ? (number * nr_ops / PROCESSES + done) % nr_ops :
						 choose_op(f);

		world->at[number] = i;
		if (ops[i]->run(f) >= 0)
			world->worked[i]++;
		world->runs[i]++;
		coverage_collect();
	}
	/* As a program that crashes does. */
	if (fuzz_chance(f, 4))
		raise(SIGKILL);
	_exit(0);
}

/* By root, by a user, and by one who is root in a namespace of his own. */
static void open_contexts(struct fuzzer *f)
{
	for (int i = 0; i < CONTEXTS; i++)
		f->contexts[i] = -1;
	for (int i = 0; i < CONTEXTS / 2 - 2; i++)
		f->contexts[i] = ctx_open();
	f->contexts[CONTEXTS / 2 - 2] = ctx_open_by(OTHER_UID, -1);
	f->contexts[CONTEXTS / 2 - 1] = ctx_open_in_userns(OTHER_UID);
	for (int i = 0; i < CONTEXTS / 2; i++)
		fcntl(f->contexts[i], F_SETFL, O_NONBLOCK);
}

static pid_t spawn(const struct fuzzer *common, unsigned int number, uint64_t seed)
{
	struct fuzzer f = *common;
	pid_t pid = fork_child();

	if (pid)
		return pid;
	f.random = (seed + 1) * 0x9e3779b97f4a7c15ULL | 1;
	for (int i = 0; i < 8; i++)
		fuzz_random(&f, 2);
	live(&f, number);
	return 0;
}

static void result(bool good, const char *name)
{
	printf("%s %u %s\n", good ? "ok" : "not ok", ++results, name);
	failed = failed || !good;
}

static bool all_ended(pid_t pids[PROCESSES])
{
	bool all = true;
	int status;

	for (int i = 0; i < PROCESSES; i++) {
		if (pids[i] && waitpid(pids[i], &status, WNOHANG) == pids[i]) {
			pids[i] = 0;
			/* It has said why; to be killed is nothing. */
			broken += WIFEXITED(status) && WEXITSTATUS(status);
		}
		all = all && !pids[i];
	}
	return all;
}

/* Keeps @PROCESSES running until the time is up. Return: have all ended then? */
static bool run(const struct fuzzer *common, uint64_t seed, unsigned int seconds)
{
	uint64_t end = now_ns() + seconds * 1000000000ULL;
	pid_t pids[PROCESSES] = { 0 };
	unsigned int spawned = 0;

	while (now_ns() < end) {
		all_ended(pids);
		for (int i = 0; i < PROCESSES; i++)
			if (!pids[i])
				pids[i] = spawn(common, i, seed + spawned++);
		pause_briefly();
	}
	world->stop = true;
	printf("# %u processes\n", spawned);
	if (WAIT_FOR(all_ended(pids)))
		return true;
	for (int i = 0; i < PROCESSES; i++) {
		if (!pids[i])
			continue;
		printf("# process %d hangs in %s\n", pids[i], ops[world->at[i]]->name);
		kill(pids[i], SIGKILL);
	}
	return false;
}

static bool each_op_has_run(void)
{
	bool all = true;

	for (unsigned int i = 0; i < nr_ops; i++) {
		printf("# %-16s %8lu, %8lu worked\n", ops[i]->name, world->runs[i],
		       world->worked[i]);
		/* What never works is not fuzzed, but by its first check. */
		all = all && world->runs[i] && (world->worked[i] || world->runs[i] < ENOUGH);
	}
	return all;
}

static bool nothing_attached(int list)
{
	struct pgprotect_list_entry left[8];
	int number;

	if (WAIT_FOR(ctx_list(list, NULL, 0) == 0))
		return true;
	number = ctx_list(list, left, ARRAY_LEN(left));
	for (int i = 0; i < number && i < (int)ARRAY_LEN(left); i++)
		printf("# attached: device %#llx, inode %llu, flags %#llx, state %#x, process %u\n",
		       (unsigned long long)left[i].dev, (unsigned long long)left[i].ino,
		       (unsigned long long)left[i].flags, left[i].state, left[i].pid);
	return false;
}

static bool still_protects(void)
{
	struct subject subject = subject_protected(2, PGPROTECT_MODE_DENY, 0);
	bool good = write_page(subject.file.fd, 0, 'x') == -EPERM &&
		    ctx_unprotect_all(subject.ctx, subject.id) == 0 &&
		    write_page(subject.file.fd, 0, 'x') == 1;

	subject_close(&subject);
	return good;
}

/* What follows @name in @text, or NULL. */
static const char *value_of(const char *text, const char *name)
{
	size_t length = strlen(name);

	return strncmp(text, name, length) ? NULL : text + length;
}

static const char *parse(int argc, char **argv, uint64_t *seed, unsigned int *seconds)
{
	const char *coverage = NULL, *value;

	for (int i = 1; i < argc; i++) {
		if ((value = value_of(argv[i], "--seed=")))
			*seed = strtoull(value, NULL, 0);
		else if ((value = value_of(argv[i], "--seconds=")))
			*seconds = strtoul(value, NULL, 0);
		else if ((value = value_of(argv[i], "--coverage=")))
			coverage = value;
		else {
			fprintf(stderr, "Usage: fuzz [--seed=N] [--seconds=N] [--coverage=FILE]\n");
			exit(2);
		}
	}
	if (coverage && !coverage_prepare()) {
		fprintf(stderr, "fuzz: no KCOV in this kernel\n");
		exit(2);
	}
	return coverage;
}

int main(int argc, char **argv)
{
	uint64_t seed = time(NULL) ^ (uint64_t)getpid() << 32;
	unsigned int seconds = 20;
	struct fuzzer common = { 0 };
	long limit = stall_limit_read(), guests = sharing_count("guests");
	int list = ctx_open();
	const char *coverage = parse(argc, argv, &seed, &seconds);
	bool ended;

	printf("TAP version 13\n1..6\n# --seed=%llu --seconds=%u\n", (unsigned long long)seed,
	       seconds);
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	if (world == MAP_FAILED)
		die("memory");
	collect_ops(call_ops);
	collect_ops(memory_ops);
	collect_ops(share_ops);
	collect_ops(uring_ops);
	collect_ops(machine_ops);
	stall_limit_write(STALL_MS);
	machine_prepare();
	files_make(&common);
	open_contexts(&common);

	ended = run(&common, seed, seconds);
	if (coverage)
		coverage_write(coverage);
	result(ended, "no process hangs");
	result(!broken, "no process has found anything");
	result(each_op_has_run(), "each operation has run, and works");
	for (int i = 0; i < CONTEXTS / 2; i++)
		close(common.contexts[i]);
	for (int i = 0; i < FILES; i++)
		close(common.files[i]);
	close(common.direct);
	result(nothing_attached(list), "nothing is attached at the end");
	result(WAIT_FOR(sharing_count("guests") <= guests), "no page tables are shared at the end");
	machine_restore();
	stall_limit_write(limit);
	result(still_protects(), "what is protected then is protected");
	return failed;
}
