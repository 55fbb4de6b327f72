// SPDX-License-Identifier: GPL-2.0
/*
 * vhost: a worker of the process, in the kernel, that writes into the memory of a guest.
 * The guest here is no more than its memory, and a queue for packets that come from the
 * host (vhost-vsock, the only such device that needs no other).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pgtest.h"

#define PAGE	4096UL
#define CID	4711U
#define PORT	17U
#define QUEUES	2	/* to the guest, from it */
#define ENTRIES	4U

/* The guest's memory, in pages: what the device reads, what it writes. */
enum { READ_BY_IT, USED, BUFFERS, PAGES = BUFFERS + ENTRIES };

/* The first of READ_BY_IT; the other queue has nothing in it, and lies half a page on. */
struct queue {
	struct vring_desc desc[ENTRIES];
	uint16_t flags, index, ring[ENTRIES];
};
#define OTHER	(PAGE / 2)

struct used {
	uint16_t flags, index;
	struct vring_used_elem ring[ENTRIES];
};

/* As virtio has it; of a connection's first packet. */
struct packet {
	uint64_t from_cid, to_cid;
	uint32_t from_port, to_port, length;
	uint16_t type, op;
	uint32_t flags, room, forwarded;
};
#define OP_REQUEST	1

struct guest {
	struct test_file file;
	int device, kick;
};

static struct used *used_of(const struct guest *guest)
{
	return (struct used *)(guest->file.map + USED * PAGE);
}

static uint16_t packets(const struct guest *guest)
{
	return *(volatile uint16_t *)&used_of(guest)->index;
}

static const struct packet *packet_at(const struct guest *guest, int number)
{
	return (const struct packet *)(guest->file.map + (BUFFERS + number) * PAGE);
}

static void tell(int device, unsigned long what, const void *arg)
{
	if (ioctl(device, what, arg))
		die("vhost, %#lx: %s", what, strerror(errno));
}

/* Places of memory, from the guest's point of view and ours. */
static void give_memory(const struct guest *guest)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region region;
	} memory = {
		.head.nregions = 1,
		.region = {
			.memory_size = guest->file.size,
			.userspace_addr = (uintptr_t)guest->file.map,
		},
	};

	tell(guest->device, VHOST_SET_MEM_TABLE, &memory);
}

static void give_queue(const struct guest *guest, unsigned int number)
{
	uintptr_t at = (uintptr_t)guest->file.map + number * OTHER;
	struct vhost_vring_state state = { .index = number, .num = ENTRIES };
	struct vhost_vring_file kick = { .index = number, .fd = guest->kick };
	struct vhost_vring_addr addr = {
		.index = number,
		.desc_user_addr = at,
		.avail_user_addr = at + offsetof(struct queue, flags),
		.used_user_addr = at + USED * PAGE,
	};

	tell(guest->device, VHOST_SET_VRING_NUM, &state);
	state.num = 0;
	tell(guest->device, VHOST_SET_VRING_BASE, &state);
	tell(guest->device, VHOST_SET_VRING_ADDR, &addr);
	tell(guest->device, VHOST_SET_VRING_KICK, &kick);
}

/* False: no such device. Runs with a buffer in each page behind the queues. */
static bool guest_start(struct guest *guest)
{
	const uint64_t features = 1ULL << VIRTIO_F_VERSION_1, cid = CID;
	const int yes = 1;
	struct queue *queue;

	guest->device = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);
	if (guest->device < 0)
		return false;
	guest->kick = eventfd(0, EFD_CLOEXEC);
	guest->file = file_memfd(PAGES);
	queue = (struct queue *)guest->file.map;
	for (unsigned int i = 0; i < ENTRIES; i++) {
		queue->desc[i] = (struct vring_desc){
			.addr = (BUFFERS + i) * PAGE, .len = PAGE, .flags = VRING_DESC_F_WRITE,
		};
		queue->ring[i] = i;
	}
	queue->index = ENTRIES;
	tell(guest->device, VHOST_SET_OWNER, NULL);
	tell(guest->device, VHOST_SET_FEATURES, &features);
	give_memory(guest);
	for (unsigned int i = 0; i < QUEUES; i++)
		give_queue(guest, i);
	tell(guest->device, VHOST_VSOCK_SET_GUEST_CID, &cid);
	tell(guest->device, VHOST_VSOCK_SET_RUNNING, &yes);
	return true;
}

static void guest_end(struct guest *guest)
{
	close(guest->device);
	close(guest->kick);
	file_close(&guest->file);
}

/* Begins a connection to the guest: the worker has a packet to hand over. */
static int packet_send(void)
{
	const struct sockaddr_vm to = {
		.svm_family = AF_VSOCK, .svm_cid = CID, .svm_port = PORT,
	};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || !connect(fd, (const struct sockaddr *)&to, sizeof(to)) ||
	    errno != EINPROGRESS)
		die("connection to the guest");
	return fd;
}

static bool has_come(const struct guest *guest, int number)
{
	const struct packet *packet = packet_at(guest, number);

	return packets(guest) > number && packet->op == OP_REQUEST && packet->to_cid == CID &&
	       packet->to_port == PORT;
}

FIXTURE(vhost) {
	struct guest guest;
	int ctx;
	uint32_t id;
	int socket;
};

/* What is protected: where the packet goes, or where the worker says that it is there. */
FIXTURE_VARIANT(vhost) { uint64_t page; };

FIXTURE_VARIANT_ADD(vhost, buffer) { .page = BUFFERS };
FIXTURE_VARIANT_ADD(vhost, ring) { .page = USED };

FIXTURE_SETUP(vhost)
{
	self->socket = -1;
	if (!guest_start(&self->guest))
		SKIP(return, "needs CONFIG_VHOST_VSOCK");
	self->ctx = ctx_open();
}

FIXTURE_TEARDOWN(vhost)
{
	if (self->guest.device < 0)
		return;
	close(self->ctx);
	close(self->socket);
	guest_end(&self->guest);
}

static void protect(struct _test_data_vhost *self, uint64_t page, uint32_t mode, uint64_t flags)
{
	self->id = ctx_attach(self->ctx, self->guest.file.fd, mode, flags);
	if (ctx_protect_range(self->ctx, self->id, page * PAGE, PAGE))
		die("PROTECT");
}

TEST_F(vhost, worker_waits_until_released)
{
	struct pgprotect_event event;
	uint64_t before;

	protect(self, variant->page, PGPROTECT_MODE_STALL, 0);
	before = checksum(self->guest.file.map + variant->page * PAGE, PAGE);
	self->socket = packet_send();
	ASSERT_EQ(1, ctx_next(self->ctx, &event, 1, 1));
	EXPECT_EQ(variant->page * PAGE, event.offset);
	EXPECT_EQ(getpid(), event.pid);
	EXPECT_NE(getpid(), event.tid);
	EXPECT_TRUE(WAIT_FOR(task_stalled(event.tid)));
	EXPECT_EQ(0, packets(&self->guest));
	EXPECT_EQ(before, checksum(self->guest.file.map + variant->page * PAGE, PAGE));
	EXPECT_EQ(0, ctx_verdict(self->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_TRUE(WAIT_FOR(has_come(&self->guest, 0)));
	EXPECT_EQ(1, packets(&self->guest));
}

TEST_F(vhost, worker_is_refused_and_works_on)
{
	uint64_t before;
	int next;

	protect(self, variant->page, PGPROTECT_MODE_DENY, PGPROTECT_ATTACH_NOTIFY);
	before = checksum(self->guest.file.map + variant->page * PAGE, PAGE);
	self->socket = packet_send();
	EXPECT_TRUE(ctx_readable(self->ctx, DEADLINE_MS));
	EXPECT_EQ(before, checksum(self->guest.file.map + variant->page * PAGE, PAGE));
	EXPECT_EQ(0, packets(&self->guest));
	ASSERT_EQ(0, ctx_unprotect_all(self->ctx, self->id));
	next = packet_send();
	EXPECT_TRUE(WAIT_FOR(packets(&self->guest) > 0));
	close(next);
}

/* A process that has a guest, which a test of another one protects. */
struct victim {
	_Atomic bool has_guest, none, sends;
};

static void victim_run(struct victim *victim, int sock)
{
	struct guest guest;

	victim->none = !guest_start(&guest);
	victim->has_guest = true;
	if (victim->none)
		_exit(0);
	send_fd(sock, guest.file.fd);
	while (!victim->sends)
		pause_briefly();
	packet_send();
	for (;;)
		pause();
}

TEST(process_whose_worker_waits_can_be_killed)
{
	struct victim *victim = mmap(NULL, sizeof(*victim), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int sock[2], ctx, fd, status;
	uint32_t id;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, victim);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock));
	pid = fork_child();
	if (!pid)
		victim_run(victim, sock[1]);
	ASSERT_TRUE(WAIT_FOR(victim->has_guest));
	if (victim->none)
		SKIP(return, "needs CONFIG_VHOST_VSOCK");
	fd = receive_fd(sock[0]);
	ctx = ctx_open();
	id = ctx_attach(ctx, fd, PGPROTECT_MODE_STALL, 0);
	ASSERT_EQ(0, ctx_protect_range(ctx, id, BUFFERS * PAGE, PAGE));
	victim->sends = true;
	ASSERT_TRUE(ctx_wait_stalled(ctx, 1));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	status = wait_child(pid);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_TRUE(ctx_wait_stalled(ctx, 0));
	close(ctx);
	close(fd);
}

TEST_HARNESS_MAIN
