// SPDX-License-Identifier: GPL-2.0
/* F_SEAL_PGPROTECT: a memfd whose writers cannot be held up. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/users.h"

static int seal(int fd, unsigned int seals)
{
	return fcntl(fd, F_ADD_SEALS, seals) ? -errno : 0;
}

static int seals_of(int fd)
{
	return fcntl(fd, F_GET_SEALS);
}

FIXTURE(sealed) {
	int ctx, fd;
};

FIXTURE_SETUP(sealed)
{
	self->ctx = ctx_open();
	self->fd = memfd_make(2 * page_size(), MFD_ALLOW_SEALING);
}

FIXTURE_TEARDOWN(sealed)
{
	close(self->ctx);
	close(self->fd);
}

TEST_F(sealed, memfd_cannot_be_attached_even_by_root)
{
	EXPECT_EQ(0, seal(self->fd, F_SEAL_PGPROTECT));
	EXPECT_EQ(F_SEAL_PGPROTECT, seals_of(self->fd));
	EXPECT_EQ(-EPERM, attach_by(self->ctx, self->fd, PGPROTECT_MODE_STALL, 0));
	EXPECT_EQ(-EPERM, attach_by(self->ctx, self->fd, PGPROTECT_MODE_DENY,
				    PGPROTECT_ATTACH_PERSIST));
	EXPECT_EQ(-EPERM, attach_by(self->ctx, self->fd, PGPROTECT_MODE_DENY,
				    PGPROTECT_ATTACH_ADOPT));
	EXPECT_EQ(1, write_page(self->fd, 0, 'x'));
	EXPECT_EQ(0, ctx_list(self->ctx, NULL, 0));
}

TEST_F(sealed, memfd_of_huge_pages_cannot_be_attached)
{
	int fd = memfd_create("huge", MFD_HUGETLB | MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (fd < 0)
		SKIP(return, "no huge pages");
	EXPECT_EQ(0, attach_by(self->ctx, fd, PGPROTECT_MODE_STALL, 0));
	EXPECT_EQ(-EBUSY, seal(fd, F_SEAL_PGPROTECT));
	EXPECT_EQ(0, ctx_detach(self->ctx, 1));
	EXPECT_EQ(0, seal(fd, F_SEAL_PGPROTECT));
	EXPECT_EQ(-EPERM, attach_by(self->ctx, fd, PGPROTECT_MODE_STALL, 0));
	close(fd);
}

TEST_F(sealed, is_not_what_is_attached)
{
	uint32_t id = ctx_attach(self->ctx, self->fd, PGPROTECT_MODE_STALL, 0);

	EXPECT_EQ(-EBUSY, seal(self->fd, F_SEAL_PGPROTECT));
	EXPECT_EQ(-EBUSY, seal(self->fd, F_SEAL_PGPROTECT | F_SEAL_GROW));
	EXPECT_EQ(0, seals_of(self->fd));
	EXPECT_EQ(0, seal(self->fd, F_SEAL_GROW));
	EXPECT_EQ(0, ctx_detach(self->ctx, id));
	EXPECT_EQ(0, seal(self->fd, F_SEAL_PGPROTECT));
}

TEST_F(sealed, is_not_what_a_kept_fence_protects)
{
	protect_by(self->ctx, self->fd, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_PERSIST);
	close(self->ctx);
	EXPECT_EQ(-EBUSY, seal(self->fd, F_SEAL_PGPROTECT));
	EXPECT_EQ(-EPERM, write_page(self->fd, 0, 'x'));
	self->ctx = ctx_open();
	EXPECT_EQ(0, attach_by(self->ctx, self->fd, PGPROTECT_MODE_DENY,
			       PGPROTECT_ATTACH_ADOPT));
}

TEST_F(sealed, is_not_what_is_sealed_against_seals_or_no_memfd)
{
	int tmpfs = tmpfs_make(page_size(), NULL);

	EXPECT_EQ(0, seal(self->fd, F_SEAL_SEAL));
	EXPECT_EQ(-EPERM, seal(self->fd, F_SEAL_PGPROTECT));
	EXPECT_EQ(-EPERM, seal(tmpfs, F_SEAL_PGPROTECT));
	EXPECT_EQ(0, attach_by(self->ctx, self->fd, PGPROTECT_MODE_STALL, 0));
	EXPECT_EQ(0, attach_by(self->ctx, tmpfs, PGPROTECT_MODE_STALL, 0));
	close(tmpfs);
}

TEST_F(sealed, other_seals_do_not_forbid_to_attach)
{
	EXPECT_EQ(0, seal(self->fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE));
	EXPECT_EQ(0, attach_by(self->ctx, self->fd, PGPROTECT_MODE_STALL, 0));
}

struct contest {
	int ctx;
	_Atomic int fd, turn;
	_Atomic int sealed;
};

static long op_seal(struct writer *self)
{
	struct contest *c = self->arg;

	for (int turn = 1; turn <= 200; turn++) {
		while (c->turn < turn)
			;
		c->sealed = seal(c->fd, F_SEAL_PGPROTECT) == 0 ? turn : -turn;
	}
	return 0;
}

TEST_F(sealed, and_attached_at_once_is_never_both)
{
	struct contest c = { .ctx = self->ctx };
	struct writer *writer = writer_thread(op_seal, &c);
	int both = 0, neither = 0;

	for (int turn = 1; turn <= 200; turn++) {
		int fd = memfd_make(page_size(), MFD_ALLOW_SEALING);
		bool attached;

		c.fd = fd;
		c.turn = turn;
		attached = attach_by(c.ctx, fd, PGPROTECT_MODE_DENY, 0) == 0;
		while (c.sealed != turn && c.sealed != -turn)
			pause_briefly();
		both += attached && c.sealed > 0;
		neither += !attached && c.sealed < 0;
		close(fd);
	}
	EXPECT_EQ(0, writer_join(writer));
	EXPECT_EQ(0, both);
	EXPECT_EQ(0, neither);
}

TEST_HARNESS_MAIN
