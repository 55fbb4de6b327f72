// SPDX-License-Identifier: GPL-2.0
/*
 * A trial: does a write really wait, and go on when it is released?
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "number.h"
#include "trial.h"

#define PATIENCE_NS	INT64_C(5000000000)

/* Waits for the event, lets it pass, and waits for the writer to end. */
static int serve(struct pgprotect *ctx, pid_t writer, int64_t *round_ns)
{
	struct pgprotect_event event;
	struct pgprotect_batch batch = {
		.size = sizeof(batch), .events = &event, .max_events = 1,
		.min_events = 1, .timeout_ns = PATIENCE_NS,
	};
	struct pgprotect_verdict verdict = { .action = PGPROTECT_ALLOW };
	int64_t start, now;
	int ret, status;

	ret = pgprotect_next(ctx, &batch);
	if (ret < 0)
		return ret;
	if (!ret)
		return -ETIMEDOUT;

	start = monotonic_ns();
	verdict.id = event.id;
	batch = (struct pgprotect_batch) {
		.size = sizeof(batch), .verdicts = &verdict, .nr_verdicts = 1,
	};
	ret = pgprotect_next(ctx, &batch);
	if (ret < 0)
		return ret;
	do {
		ret = waitpid(writer, &status, WNOHANG);
		now = monotonic_ns();
		if (!ret)
			usleep(100);
	} while (!ret && now - start < PATIENCE_NS);
	*round_ns = now - start;
	return ret == writer && !status ? 0 : -EIO;
}

static int protect_and_write(struct pgprotect *ctx, int fd, volatile char *memory,
			     int64_t *round_ns)
{
	uint32_t file;
	pid_t writer;
	int ret;

	ret = pgprotect_attach(ctx, fd, NULL, &file);
	if (ret < 0)
		return ret;
	ret = pgprotect_protect(ctx, file, 0, PGPROTECT_TO_EOF, 0, NULL);
	if (ret < 0)
		goto out;
	writer = fork();
	if (writer < 0) {
		ret = -errno;
		goto out;
	}
	if (!writer) {
		*memory = 1;
		_exit(0);
	}
	ret = serve(ctx, writer, round_ns);
	kill(writer, SIGKILL);
	waitpid(writer, NULL, 0);
out:
	pgprotect_detach(ctx, file);
	return ret;
}

int trial_run(struct pgprotect *ctx, int64_t *round_ns)
{
	long size = sysconf(_SC_PAGESIZE);
	int fd, ret = -ENOMEM;
	char *memory;

	fd = memfd_create("pgprotect-trial", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (!ftruncate(fd, size)) {
		memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		if (memory != MAP_FAILED) {
			ret = protect_and_write(ctx, fd, memory, round_ns);
			munmap(memory, size);
		}
	}
	close(fd);
	return ret;
}
