// SPDX-License-Identifier: GPL-2.0
/*
 * pgprotect doctor: what this kernel supports, what is missing, what to do.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "command.h"
#include "json.h"
#include "libpgprotect.h"
#include "message.h"
#include "trial.h"

static const struct option_desc options[] = {
	{ 'j', "json", NULL, "print one JSON object" },
	{}
};

static int run_doctor(const struct command *self, int argc, char **argv);

const struct command doctor_command = {
	.name = "doctor",
	.synopsis = "[OPTION]...",
	.summary = "tell what works here, what is missing and what to do",
	.about = "Looks at the kernel, the device and your permissions, and tries one write.\n"
		 "The exit status is 0 if pgprotect can be used.",
	.options = options,
	.run = run_doctor,
};

enum finding { GOOD, LIMITED, BAD };

static const char *const finding_marks[] = { "ok", "limited", "missing" };

/* @worst: of all findings. @checks: for JSON; NULL: text is printed at once. */
struct doctor {
	enum finding worst;
	json_object *checks;
	struct pgprotect *ctx;
};

/* @remedy: what to do, NULL: nothing. */
__attribute__((format(printf, 5, 6)))
static void found(struct doctor *doctor, enum finding finding, const char *name,
		  const char *remedy, const char *format, ...)
{
	json_object *check;
	va_list args;
	char *text;
	int ret;

	va_start(args, format);
	ret = vasprintf(&text, format, args);
	va_end(args);
	if (ret < 0)
		return;
	if (finding > doctor->worst)
		doctor->worst = finding;
	if (doctor->checks) {
		check = json_object_new_object();
		json_add_string(check, "check", name);
		json_add_string(check, "finding", finding_marks[finding]);
		json_add_string(check, "text", text);
		if (remedy)
			json_add_string(check, "remedy", remedy);
		json_object_array_add(doctor->checks, check);
	} else {
		printf("%-8s %-12s %s\n", finding_marks[finding], name, text);
		if (remedy)
			printf("%-21s what to do: %s\n", "", remedy);
	}
	free(text);
}

/* The first number in a small file, or @otherwise. */
static long long read_number(const char *path, long long otherwise)
{
	char text[32];
	ssize_t size;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return otherwise;
	size = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (size <= 0)
		return otherwise;
	text[size] = '\0';
	return strtoll(text, NULL, 10);
}

/* Whether the file has a line that contains @word. -1: it cannot be read. */
static int has_line(const char *path, const char *word)
{
	char line[512];
	FILE *file = fopen(path, "re");
	int found = 0;

	if (!file)
		return -1;
	while (!found && fgets(line, sizeof(line), file))
		found = strstr(line, word) != NULL;
	fclose(file);
	return found;
}

static uint64_t effective_capabilities(void)
{
	unsigned long long caps = 0;
	char line[256];
	FILE *file = fopen("/proc/self/status", "re");

	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "CapEff: %llx", &caps) == 1)
			break;
	fclose(file);
	return caps;
}

/* Why there is no device: the kernel lacks it, or only /dev does. */
static void explain_no_device(struct doctor *doctor, int err)
{
	struct utsname name;
	char config[256];

	uname(&name);
	if (has_line("/proc/misc", " pgprotect") == 1) {
		found(doctor, BAD, "device", "mount devtmpfs on /dev, or start udev",
		      "the kernel has the driver, but %s", open_reason(err));
		return;
	}
	snprintf(config, sizeof(config), "/boot/config-%s", name.release);
	if (has_line(config, "CONFIG_PGPROTECT=y") == 1)
		found(doctor, BAD, "device", "look for pgprotect in the kernel's log (dmesg)",
		      "%s has CONFIG_PGPROTECT, but %s", config, open_reason(err));
	else
		found(doctor, BAD, "device",
		      "build and boot a kernel with the pgprotect patches and CONFIG_PGPROTECT=y",
		      "%s: this kernel (%s) has no pgprotect", open_reason(err), name.release);
}

static void check_device(struct doctor *doctor)
{
	int err = pgprotect_open(&doctor->ctx, PGPROTECT_OPEN_CLOEXEC);

	if (!err)
		found(doctor, GOOD, "device", NULL, "/dev/pgprotect opens");
	else if (err == -ENOENT || err == -ENODEV || err == -ENXIO)
		explain_no_device(doctor, err);
	else
		found(doctor, BAD, "device", open_remedy(err), "%s", open_reason(err));
}

static void check_modes(struct doctor *doctor, const struct pgprotect_info *info)
{
	char text[64] = "";
	int mode;

	for (mode = 1; mode < 32; mode++) {
		if (!(info->modes & (1U << mode)))
			continue;
		strncat(text, " ", sizeof(text) - strlen(text) - 1);
		strncat(text, pgprotect_mode_name(mode), sizeof(text) - strlen(text) - 1);
	}
	if (info->modes & (1U << PGPROTECT_MODE_STALL))
		found(doctor, GOOD, "modes", NULL, "modes:%s", text);
	else
		found(doctor, BAD, "modes", "use a newer kernel",
		      "no stall mode, which watch and fence need (modes:%s)", text);
	if (!(info->features & PGPROTECT_FEATURE_SHMEM))
		found(doctor, BAD, "files", "build the kernel with CONFIG_SHMEM=y",
		      "shared memory cannot be protected");
	else
		found(doctor, GOOD, "files", NULL,
		      "tmpfs, memfd, shared anonymous and System V memory%s%s can be protected",
		      info->features & PGPROTECT_FEATURE_HUGETLB ? ", hugetlb memory" : "",
		      info->features & PGPROTECT_FEATURE_REGULAR ? ", files on ext4 and xfs" : "");
}

static void check_limits(struct doctor *doctor, const struct pgprotect_info *info)
{
	if (info->stall_ms)
		found(doctor, GOOD, "stall limit", NULL,
		      "a writer waits at most %g s, then it fails (sysctl vm.pgprotect_stall_ms)",
		      info->stall_ms / 1e3);
	else
		found(doctor, GOOD, "stall limit", NULL,
		      "writers may wait forever (sysctl vm.pgprotect_stall_ms is 0)");
	found(doctor, GOOD, "limits", NULL,
	      "%u ranges and %u events a call, %u queued notes, pages of %u bytes",
	      info->max_ranges, info->max_batch, info->max_notes, info->page_size);
	if (info->ptshare_align)
		found(doctor, GOOD, "page tables", NULL,
		      "shared between processes for mappings aligned to %llu KiB",
		      info->ptshare_align / 1024);
}

static void check_version(struct doctor *doctor)
{
	struct pgprotect_info info = { .size = sizeof(info) };
	int err = pgprotect_info(doctor->ctx, &info);

	if (err < 0) {
		found(doctor, BAD, "version", "use a command that is as new as the kernel",
		      "the kernel does not say what it supports: %s", strerror(-err));
		return;
	}
	found(doctor, GOOD, "version", NULL, "interface version %u, features %#llx",
	      info.version, info.features);
	check_modes(doctor, &info);
	check_limits(doctor, &info);
}

static int no_event(struct pgprotect_loop *loop, const struct pgprotect_event *event,
		    void *data)
{
	(void)loop;
	(void)event;
	(void)data;
	return PGPROTECT_LOOP_ALLOW;
}

static void check_uring(struct doctor *doctor)
{
	struct pgprotect_loop_options loop_options = {
		.size = sizeof(loop_options), .flags = PGPROTECT_LOOP_URING,
		.event = no_event,
	};
	long long disabled = read_number("/proc/sys/kernel/io_uring_disabled", 0);
	struct pgprotect_loop *loop;
	int err;

	err = pgprotect_loop_new(&loop, doctor->ctx, &loop_options);
	if (!err) {
		pgprotect_loop_free(loop);
		found(doctor, GOOD, "io_uring", NULL, "events are fetched by io_uring");
	} else if (err == -EPERM && disabled) {
		found(doctor, LIMITED, "io_uring", "sysctl kernel.io_uring_disabled=0",
		      "disabled (kernel.io_uring_disabled=%lld); epoll is used, which costs more calls",
		      disabled);
	} else {
		found(doctor, LIMITED, "io_uring",
		      err == -ENOSYS ? "build the kernel with CONFIG_IO_URING=y" : NULL,
		      "not available (%s); epoll is used, which costs more calls",
		      strerror(-err));
	}
}

static void check_permissions(struct doctor *doctor)
{
	const uint64_t admin = 1ULL << 21, ptrace = 1ULL << 19, restore = 1ULL << 40;
	uint64_t caps = effective_capabilities();
	long long yama = read_number("/proc/sys/kernel/yama/ptrace_scope", 0);

	if (caps & (admin | restore))
		found(doctor, GOOD, "--pid", NULL,
		      "memory of other processes can be opened (/proc/PID/map_files)");
	else
		found(doctor, LIMITED, "--pid", "run as root, or with CAP_CHECKPOINT_RESTORE",
		      "only memory that the process also holds open as a file can be taken");
	if (caps & ptrace)
		found(doctor, GOOD, "stalling", NULL, "writers of every user can be made to wait");
	else
		found(doctor, LIMITED, "stalling", "run as root, or with CAP_SYS_PTRACE",
		      "writers that you may not trace fail at once instead of waiting%s",
		      yama ? " (kernel.yama.ptrace_scope narrows this further)" : "");
}

static void check_trial(struct doctor *doctor)
{
	int64_t round_ns = 0;
	int err = trial_run(doctor->ctx, &round_ns);

	if (!err)
		found(doctor, GOOD, "trial", NULL,
		      "a write waited, was released and went on (%.1f ms)", round_ns / 1e6);
	else
		found(doctor, BAD, "trial", "please report this, with the kernel's log (dmesg)",
		      "%s", err == -ETIMEDOUT ? "a write was not noticed" :
		      err == -EIO ? "a write did not go on when it was released" :
		      strerror(-err));
}

static void conclude(struct doctor *doctor)
{
	static const char *const words[] = {
		"pgprotect can be used.",
		"pgprotect can be used, with the limits above.",
		"pgprotect cannot be used here.",
	};
	json_object *object;

	if (!doctor->checks) {
		printf("\n%s\n", words[doctor->worst]);
		return;
	}
	object = json_object_new_object();
	json_object_object_add(object, "usable",
			       json_object_new_boolean(doctor->worst != BAD));
	json_object_object_add(object, "checks", doctor->checks);
	json_print(stdout, object);
}

static int run_doctor(const struct command *self, int argc, char **argv)
{
	struct doctor doctor = { .worst = GOOD };
	bool json = false;
	int key;

	while ((key = parse_options(self, argc, argv)) != OPTIONS_END) {
		if (key < 0)
			return key == OPTIONS_HELP ? STATUS_OK : STATUS_USAGE;
		json = true;
	}
	if (optind < argc)
		return usage_error("no argument is needed, '%s' is one", argv[optind]);

	if (json)
		doctor.checks = json_object_new_array();
	check_device(&doctor);
	if (doctor.ctx) {
		check_version(&doctor);
		check_uring(&doctor);
		check_permissions(&doctor);
		if (doctor.worst != BAD)
			check_trial(&doctor);
		pgprotect_close(doctor.ctx);
	}
	conclude(&doctor);
	return doctor.worst == BAD ? STATUS_FAILED : STATUS_OK;
}
