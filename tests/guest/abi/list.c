// SPDX-License-Identifier: GPL-2.0
/* PGPROTECT_IOC_LIST and fdinfo: what is attached, by whom, how much. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGES	8

/* The entry of this file; false if there is none. */
static bool list_find(int ctx, int fd, struct pgprotect_list_entry *found)
{
	struct pgprotect_list_entry entries[64];
	struct stat stat_of;
	int nr = ctx_list(ctx, entries, ARRAY_LEN(entries));

	if (nr < 0 || nr > (int)ARRAY_LEN(entries) || fstat(fd, &stat_of))
		die("LIST gave %d", nr);
	for (int i = 0; i < nr; i++) {
		if (entries[i].dev == stat_of.st_dev && entries[i].ino == stat_of.st_ino) {
			*found = entries[i];
			return true;
		}
	}
	return false;
}

TEST(list_is_empty_while_nothing_is_attached)
{
	int ctx = ctx_open();

	EXPECT_EQ(0, ctx_list(ctx, NULL, 0));
	close(ctx);
}

TEST(entry_describes_the_attachment)
{
	struct subject subject = subject_attached(PAGES, PGPROTECT_MODE_DENY,
						  PGPROTECT_ATTACH_NOTIFY);
	struct pgprotect_list_entry entry;

	ASSERT_EQ(0, ctx_protect_range(subject.ctx, subject.id, 0, 3 * page_size()));
	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 1, 1));
	ASSERT_TRUE(list_find(subject.ctx, subject.file.fd, &entry));
	EXPECT_EQ(COOKIE(subject.file.fd), entry.cookie);
	EXPECT_EQ(3, entry.pages);
	EXPECT_EQ(2, entry.events);
	EXPECT_EQ(PGPROTECT_ATTACH_NOTIFY, entry.flags);
	EXPECT_EQ(PGPROTECT_MODE_DENY, entry.mode);
	EXPECT_EQ(0, entry.state);
	EXPECT_EQ(getpid(), entry.pid);
	EXPECT_EQ(0, entry.uid);
	EXPECT_EQ(0, entry.stalled);
	EXPECT_EQ(subject.id, entry.file);
	subject_close(&subject);
}

TEST(pages_follow_protect_and_unprotect)
{
	struct subject subject = subject_attached(PAGES, PGPROTECT_MODE_DENY, 0);
	struct pgprotect_list_entry entry;

	ASSERT_TRUE(list_find(subject.ctx, subject.file.fd, &entry));
	EXPECT_EQ(0, entry.pages);
	ASSERT_EQ(0, ctx_protect_all(subject.ctx, subject.id));
	ASSERT_TRUE(list_find(subject.ctx, subject.file.fd, &entry));
	EXPECT_LE(PAGES, entry.pages);
	ASSERT_EQ(0, ctx_unprotect_all(subject.ctx, subject.id));
	ASSERT_TRUE(list_find(subject.ctx, subject.file.fd, &entry));
	EXPECT_EQ(0, entry.pages);
	subject_close(&subject);
}

TEST(stalled_counts_the_waiting_writers)
{
	struct subject subject = subject_protected(PAGES, PGPROTECT_MODE_STALL, 0);
	struct access access = { .map = subject.file.map };
	struct writer *writers[3];
	struct pgprotect_list_entry entry;

	for (int i = 0; i < 3; i++)
		writers[i] = writer_thread(op_store, &access);
	EXPECT_TRUE(ctx_wait_stalled(subject.ctx, 3));
	ASSERT_TRUE(list_find(subject.ctx, subject.file.fd, &entry));
	EXPECT_EQ(3, entry.stalled);
	EXPECT_EQ(1, entry.events);
	EXPECT_EQ(0, ctx_unprotect_all(subject.ctx, subject.id));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(0, writer_join(writers[i]));
	}
	ASSERT_TRUE(list_find(subject.ctx, subject.file.fd, &entry));
	EXPECT_EQ(0, entry.stalled);
	subject_close(&subject);
}

TEST(short_array_holds_the_first_and_tells_how_many_there_are)
{
	struct pgprotect_list_entry entries[3] = { 0 };
	struct subject subject = subject_attached(1, PGPROTECT_MODE_DENY, 0);

	ctx_attach(subject.ctx, subject.file.fd, PGPROTECT_MODE_STALL, 0);
	ctx_attach(subject.ctx, subject.file.fd, PGPROTECT_MODE_STALL, 0);
	EXPECT_EQ(3, ctx_list(subject.ctx, entries, 2));
	EXPECT_NE(0, entries[0].ino);
	EXPECT_NE(0, entries[1].ino);
	EXPECT_EQ(0, entries[2].ino);
	EXPECT_EQ(3, ctx_list(subject.ctx, NULL, 0));
	EXPECT_EQ(3, ctx_list(subject.ctx, entries, 3));
	EXPECT_NE(0, entries[2].ino);
	subject_close(&subject);
}

TEST(entries_go_with_detach_and_close)
{
	struct subject subject = subject_attached(1, PGPROTECT_MODE_DENY, 0);
	struct pgprotect_list_entry entry;
	int ctx = ctx_open();

	EXPECT_TRUE(list_find(ctx, subject.file.fd, &entry));
	EXPECT_EQ(0, ctx_detach(subject.ctx, subject.id));
	EXPECT_FALSE(list_find(ctx, subject.file.fd, &entry));
	ctx_attach(subject.ctx, subject.file.fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_TRUE(list_find(ctx, subject.file.fd, &entry));
	close(subject.ctx);
	EXPECT_FALSE(list_find(ctx, subject.file.fd, &entry));
	close(ctx);
	file_close(&subject.file);
}

/* The caller counts, not who opened the context it asks by. */
static int list_count(void *arg)
{
	return ctx_list(*(int *)arg, NULL, 0);
}

TEST(other_users_attachments_are_hidden)
{
	struct subject roots = subject_attached(1, PGPROTECT_MODE_DENY, 0);
	int ctx = ctx_open_by(OTHER_UID, -1);
	int fd = memfd_make(page_size(), 0);
	struct pgprotect_list_entry entry;

	EXPECT_EQ(0, run_as(OTHER_UID, list_count, &ctx));
	ASSERT_EQ(0, fchown(fd, OTHER_UID, OTHER_UID));
	ctx_attach(ctx, fd, PGPROTECT_MODE_DENY, 0);
	EXPECT_EQ(1, run_as(OTHER_UID, list_count, &ctx));
	EXPECT_EQ(0, run_as(OTHER_UID + 1, list_count, &ctx));
	EXPECT_EQ(2, run_as(0, list_count, &ctx));
	ASSERT_TRUE(list_find(roots.ctx, fd, &entry));
	EXPECT_EQ(OTHER_UID, entry.uid);
	close(ctx);
	close(fd);
	subject_close(&roots);
}

/* The attachment's line in fdinfo. */
static void attachment_line(int ctx, char *line, size_t size)
{
	char path[64];
	FILE *in;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", ctx);
	in = fopen(path, "re");
	if (!in)
		die("open %s", path);
	do {
		if (!fgets(line, size, in))
			die("no attachment in %s", path);
	} while (strncmp(line, "attachment:", 11));
	fclose(in);
}

TEST(fdinfo_counts_events_and_writers)
{
	struct subject subject = subject_protected(PAGES, PGPROTECT_MODE_STALL, 0);
	struct access access[2] = {
		{ .map = subject.file.map },
		{ .map = subject.file.map, .offset = page_size() },
	};
	struct writer *writers[3];
	struct pgprotect_event event;

	EXPECT_EQ(PGPROTECT_API_VERSION, ctx_fdinfo(subject.ctx, "pgprotect-version"));
	EXPECT_EQ(0, ctx_fdinfo(subject.ctx, "queued"));
	EXPECT_EQ(0, ctx_fdinfo(subject.ctx, "stalled"));
	EXPECT_EQ(0, ctx_fdinfo(subject.ctx, "notes-lost"));
	for (int i = 0; i < 3; i++)
		writers[i] = writer_thread(op_store, &access[i / 2]);
	EXPECT_TRUE(ctx_wait_stalled(subject.ctx, 3));
	EXPECT_EQ(2, ctx_fdinfo(subject.ctx, "queued"));
	EXPECT_EQ(0, ctx_read_event(subject.ctx, &event));
	EXPECT_EQ(1, ctx_fdinfo(subject.ctx, "queued"));
	EXPECT_EQ(3, ctx_fdinfo(subject.ctx, "stalled"));
	EXPECT_EQ(0, ctx_unprotect_all(subject.ctx, subject.id));
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(0, writer_join(writers[i]));
	}
	EXPECT_EQ(0, ctx_fdinfo(subject.ctx, "queued"));
	EXPECT_EQ(0, ctx_fdinfo(subject.ctx, "stalled"));
	subject_close(&subject);
}

TEST(fdinfo_describes_each_attachment)
{
	struct subject subject = subject_protected(PAGES, PGPROTECT_MODE_DENY,
						   PGPROTECT_ATTACH_NOTIFY);
	unsigned int file, maj, min, stalled, flags;
	unsigned long long ino, pages, events, cookie;
	struct stat stat_of;
	char line[512], mode[16];

	EXPECT_EQ(-EPERM, write_page(subject.file.fd, 0, 1));
	attachment_line(subject.ctx, line, sizeof(line));
	ASSERT_EQ(10, sscanf(line, "attachment:\tfile=%u dev=%u:%u ino=%llu mode=%15s pages=%llu "
			     "stalled=%u events=%llu flags=0x%x cookie=0x%llx",
			     &file, &maj, &min, &ino, mode, &pages, &stalled, &events, &flags,
			     &cookie)) {
		TH_LOG("%s", line);
	}
	ASSERT_EQ(0, fstat(subject.file.fd, &stat_of));
	EXPECT_EQ(subject.id, file);
	EXPECT_EQ(major(stat_of.st_dev), maj);
	EXPECT_EQ(minor(stat_of.st_dev), min);
	EXPECT_EQ(stat_of.st_ino, ino);
	EXPECT_STREQ("deny", mode);
	EXPECT_EQ(PAGES, pages);
	EXPECT_EQ(0, stalled);
	EXPECT_EQ(1, events);
	EXPECT_EQ(PGPROTECT_ATTACH_NOTIFY, flags);
	EXPECT_EQ(COOKIE(subject.file.fd), cookie);
	subject_close(&subject);
}

TEST_HARNESS_MAIN
