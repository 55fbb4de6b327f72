// SPDX-License-Identifier: GPL-2.0
/* Tracepoints of events/pgprotect: there, and hit by what they name. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define TRACEFS		"/sys/kernel/tracing"
#define INSTANCE	TRACEFS "/instances/pgtest"

static const char *const names[] = {
	"pgprotect_attach", "pgprotect_detach", "pgprotect_protect", "pgprotect_event",
	"pgprotect_stall_begin", "pgprotect_stall_end", "pgprotect_verdict",
};

/* One stall, allowed by a verdict, between attach and detach. */
static void exercise(void)
{
	struct subject subject = subject_protected(1, PGPROTECT_MODE_STALL, 0);
	struct access access = { .map = subject.file.map };
	struct writer *writer = writer_thread(op_store, &access);
	struct pgprotect_event event;

	if (ctx_next(subject.ctx, &event, 1, 1) != 1 ||
	    ctx_verdict(subject.ctx, event.id, PGPROTECT_ALLOW, 0) ||
	    writer_join(writer) || ctx_detach(subject.ctx, subject.id))
		die("a stall and its release");
	subject_close(&subject);
}

static char *read_trace(void)
{
	static char text[65536];
	int fd = open(INSTANCE "/trace", O_RDONLY);
	size_t nr = 0;
	ssize_t got;

	if (fd < 0)
		die("open the trace");
	while ((got = read(fd, text + nr, sizeof(text) - 1 - nr)) > 0)
		nr += got;
	close(fd);
	text[nr] = 0;
	return text;
}

TEST(tracepoints_exist)
{
	char path[128];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), TRACEFS "/events/pgprotect/%s/format", names[i]);
		EXPECT_EQ(0, access(path, R_OK)) {
			TH_LOG("%s", path);
		}
	}
}

TEST(tracepoints_fire_once_for_one_stall)
{
	const char *trace;
	bool enabled;

	ASSERT_EQ(0, mkdir(INSTANCE, 0700)) {
		TH_LOG("errno %d", errno);
	}
	enabled = write_text(INSTANCE "/events/pgprotect/enable", "1");
	if (enabled)
		exercise();
	write_text(INSTANCE "/events/pgprotect/enable", "0");
	trace = read_trace();
	rmdir(INSTANCE);
	ASSERT_TRUE(enabled);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char mark[64];
		const char *first;

		snprintf(mark, sizeof(mark), " %s: ", names[i]);
		first = strstr(trace, mark);
		EXPECT_NE(NULL, first) {
			TH_LOG("%s did not fire", names[i]);
		}
		EXPECT_TRUE(!first || !strstr(first + 1, mark)) {
			TH_LOG("%s fired twice", names[i]);
		}
	}
}

TEST_HARNESS_MAIN
