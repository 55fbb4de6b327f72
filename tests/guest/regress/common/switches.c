// SPDX-License-Identifier: GPL-2.0
/* Writes the files of the debug switches. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pgtest.h"
#include "switches.h"

#define DIR_NAME "/sys/kernel/debug/pgprotect"

bool switches_present(void)
{
	return !access(DIR_NAME "/unfilter", F_OK);
}

static void put(const char *file, const char *text)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), DIR_NAME "/%s", file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die("write '%s' to %s", text, path);
	close(fd);
}

void delay_set(const char *point, unsigned int us)
{
	char file[80], text[16];

	snprintf(file, sizeof(file), "delay_%s_us", point);
	snprintf(text, sizeof(text), "%u", us);
	put(file, text);
}

unsigned int delayed_now(void)
{
	FILE *f = fopen(DIR_NAME "/delayed", "re");
	unsigned int nr;

	if (!f || fscanf(f, "%u", &nr) != 1)
		die("read " DIR_NAME "/delayed");
	fclose(f);
	return nr;
}

bool hold_set(const char *place, unsigned int ms)
{
	char text[200];
	int fd = open(DIR_NAME "/hold", O_WRONLY | O_CLOEXEC);
	bool set;

	snprintf(text, sizeof(text), "%s %u", place, ms);
	if (fd < 0)
		die("open " DIR_NAME "/hold");
	set = write(fd, text, strlen(text)) > 0;
	close(fd);
	return set;
}

void fix_disable(const char *name)
{
	char file[80];

	snprintf(file, sizeof(file), "disable_%s", name);
	put(file, "Y");
}

void filter_disable(const char *functions)
{
	put("unfilter", functions);
}

void switches_reset(void)
{
	struct dirent *entry;
	DIR *dir = opendir(DIR_NAME);

	while (dir && (entry = readdir(dir))) {
		if (!strncmp(entry->d_name, "delay_", 6))
			put(entry->d_name, "0");
		else if (!strncmp(entry->d_name, "disable_", 8))
			put(entry->d_name, "N");
	}
	if (dir)
		closedir(dir);
	put("unfilter", "\n");
	put("hold", "\n");
}
