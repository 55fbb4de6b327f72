// SPDX-License-Identifier: GPL-2.0
/* Clients of a network file system: nfsd writes for them, from kernel threads. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/nfs.h"
#include "common/route.h"

static long result_of(ssize_t done)
{
	return done < 0 ? -errno : done;
}

static long write_as_client(struct attempt *attempt, int flags)
{
	int fd = nfs_open(attempt->path, O_RDWR | flags);
	long result = ROUTE_SKIP;

	if (fd >= 0) {
		route_ready(attempt);
		result = result_of(pwrite(fd, value_buffer(attempt->length), attempt->length,
					  attempt->at));
		close(fd);
	}
	return result;
}

static long by_direct_write(struct attempt *attempt)
{
	return write_as_client(attempt, O_DIRECT);
}

/* Pages of the client, written when the call ends. */
static long by_synchronous_write(struct attempt *attempt)
{
	return write_as_client(attempt, O_SYNC);
}

ROUTE_FAMILY(nfs);

#define NFS(name, function, bytes, ...)							\
	ROUTE_ADD(nfs, name, .op = function, .at = 5 * PAGE, .length = bytes,		\
		  .success = bytes, .denied = -EPERM, .origin = PGPROTECT_ORIGIN_WRITE,	\
		  .other_task = true, ##__VA_ARGS__)

NFS(direct_write_to_tmpfs, by_direct_write, 2 * PAGE, .kind = FILE_TMPFS,
    .event_offset = 5 * PAGE, .event_length = 2 * PAGE)
NFS(direct_write_to_ext4, by_direct_write, 2 * PAGE, .kind = FILE_EXT4,
    .event_offset = 5 * PAGE, .event_length = 2 * PAGE)
NFS(synchronous_write_to_tmpfs, by_synchronous_write, PAGE, .kind = FILE_TMPFS)

/* A change of size comes with locks held that the writer cannot give back. */

FIXTURE(nfs_size) {
	struct subject subject;
	char path[32];
	int fd;			/* the client's */
	struct image before;
};

FIXTURE_VARIANT(nfs_size) { uint32_t mode; };
FIXTURE_VARIANT_ADD(nfs_size, stall) { .mode = PGPROTECT_MODE_STALL };
FIXTURE_VARIANT_ADD(nfs_size, deny) { .mode = PGPROTECT_MODE_DENY };

FIXTURE_SETUP(nfs_size)
{
	struct subject *s = &self->subject;

	s->file = (struct test_file){ .fd = tmpfs_make(ROUTE_SIZE, self->path), .size = ROUTE_SIZE };
	s->file.map = map_shared(s->file.fd, ROUTE_SIZE);
	file_fill(&s->file);
	image_read(s->file.fd, &self->before);
	s->ctx = ctx_open();
	s->id = ctx_attach(s->ctx, s->file.fd, variant->mode, 0);
	self->fd = nfs_open(self->path, O_RDWR);
	if (self->fd < 0)
		SKIP(return, "no NFS");
	ASSERT_EQ(0, ctx_protect_range(s->ctx, s->id, 5 * PAGE, PAGE));
}

FIXTURE_TEARDOWN(nfs_size)
{
	close(self->fd);
	unlink(self->path);
	subject_close(&self->subject);
	image_free(&self->before);
}

TEST_F(nfs_size, change_is_refused_and_raises_nothing)
{
	struct subject *s = &self->subject;

	EXPECT_EQ(-1, ftruncate(self->fd, 5 * PAGE + 100));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(-1, ftruncate(self->fd, 0));
	EXPECT_EQ(EIO, errno);
	EXPECT_FALSE(ctx_readable(s->ctx, 0));
	EXPECT_TRUE(image_is(s->file.fd, &self->before));
	EXPECT_EQ(0, ctx_unprotect_all(s->ctx, s->id));
	EXPECT_EQ(0, ftruncate(self->fd, 5 * PAGE + 100));
}

/* The server stays for all of them. */
int main(int argc, char **argv)
{
	int status = test_harness_run(argc, argv);

	nfs_end();
	return status;
}
