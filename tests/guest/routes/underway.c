// SPDX-License-Identifier: GPL-2.0
/*
 * Input that is under way when PROTECT comes. What has taken its pages for DMA is
 * reported, or the reason for EBUSY; what is to be copied when it is there meets
 * the gate then.
 */
#include <errno.h>
#include <fcntl.h>
#include <libaio.h>
#include <liburing.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "common/loop.h"
#include "common/route.h"
#include "common/slow_file.h"

#define TARGET		(5 * PAGE)

static long result_of(ssize_t done)
{
	return done < 0 ? -errno : done;
}

/* Where the input comes from, and who reads it into the page at TARGET. */
struct input {
	char *target;
	struct slow_file *file;
	int device;		/* a loop device over it */
	int uffd;		/* answers for the page at source */
	char *source;
	int ends[2];
	size_t length;
	struct writer *reader;
};

/* --- pages that are pinned meanwhile --- */

static bool have_slow_file(struct input *input)
{
	input->file = slow_file_make(4 * PAGE);
	return input->file;
}

static bool have_slow_device(struct input *input)
{
	if (!have_slow_file(input))
		return false;
	input->device = loop_open(input->file->fd, 0, O_DIRECT);
	return input->device >= 0;
}

static bool file_was_asked(struct input *input)
{
	return input->file->asked;
}

static void answer_for_file(struct input *input)
{
	input->file->answer = true;
}

static long op_read_file(struct writer *self)
{
	struct input *input = self->arg;

	return result_of(pread(input->file->direct, input->target, PAGE, 0));
}

static long op_read_device(struct writer *self)
{
	struct input *input = self->arg;

	return result_of(pread(input->device, input->target, PAGE, 0));
}

static long op_read_device_by_aio(struct writer *self)
{
	struct input *input = self->arg;
	io_context_t aio = NULL;
	struct io_event event;
	struct iocb iocb, *list[] = { &iocb };

	io_prep_pread(&iocb, input->device, input->target, PAGE, 0);
	if (io_setup(1, &aio) || io_submit(aio, 1, list) != 1 ||
	    io_getevents(aio, 1, 1, &event, NULL) != 1)
		die("AIO");
	return (long)event.res;
}

static long op_read_device_by_uring(struct writer *self)
{
	struct input *input = self->arg;
	struct io_uring_cqe *cqe;
	struct io_uring ring;

	if (io_uring_queue_init(4, &ring, 0))
		die("io_uring_queue_init");
	io_uring_prep_read(io_uring_get_sqe(&ring), input->device, input->target, PAGE, 0);
	if (io_uring_submit(&ring) != 1 || io_uring_wait_cqe(&ring, &cqe))
		die("io_uring");
	return cqe->res;
}

/* Takes the target's page first, and then waits for that of the source. */
static bool have_missing_source(struct input *input)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };

	input->source = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			     -1, 0);
	reg.range = (struct uffdio_range){ (uintptr_t)input->source, PAGE };
	input->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return input->uffd >= 0 && !ioctl(input->uffd, UFFDIO_API, &api) &&
	       !ioctl(input->uffd, UFFDIO_REGISTER, &reg);
}

static bool source_was_asked(struct input *input)
{
	struct pollfd poll_of = { .fd = input->uffd, .events = POLLIN };

	return poll(&poll_of, 1, 0) == 1;
}

static void answer_for_source(struct input *input)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)input->source, .src = (uintptr_t)value_buffer(PAGE),
		.len = PAGE,
	};

	if (ioctl(input->uffd, UFFDIO_COPY, &copy))
		die("UFFDIO_COPY");
}

static long op_process_vm_writev(struct writer *self)
{
	struct input *input = self->arg;
	struct iovec from = { input->source, PAGE }, to = { input->target, PAGE };

	return result_of(process_vm_writev(getpid(), &from, 1, &to, 1, 0));
}

FIXTURE(pinned) {
	struct subject subject;
	struct input input;
	struct image image;
	struct pgprotect_range pins[4], all;
	struct pgprotect_protect protect;
};

FIXTURE_VARIANT(pinned) {
	bool (*make)(struct input *input);
	long (*op)(struct writer *self);
	bool (*asked)(struct input *input);
	void (*answer)(struct input *input);
};

#define PINNED(name, ...) FIXTURE_VARIANT_ADD(pinned, name) { __VA_ARGS__ };

PINNED(by_direct_read_of_fuse, have_slow_file, op_read_file, file_was_asked, answer_for_file)
PINNED(by_direct_read_of_device, have_slow_device, op_read_device, file_was_asked,
       answer_for_file)
PINNED(by_aio, have_slow_device, op_read_device_by_aio, file_was_asked, answer_for_file)
PINNED(by_uring, have_slow_device, op_read_device_by_uring, file_was_asked, answer_for_file)
PINNED(by_process_vm_writev, have_missing_source, op_process_vm_writev, source_was_asked,
       answer_for_source)

/* The page is pinned once this has returned, and is not written before the answer. */
FIXTURE_SETUP(pinned)
{
	struct subject *s = &self->subject;

	if (!variant->make(&self->input))
		SKIP(return, "no FUSE, loop device or userfaultfd");
	*s = subject_attached(ROUTE_PAGES, PGPROTECT_MODE_DENY, 0);
	file_fill(&s->file);
	image_read(s->file.fd, &self->image);
	self->input.target = s->file.map + TARGET;
	self->input.reader = writer_thread(variant->op, &self->input);
	ASSERT_TRUE(WAIT_FOR(variant->asked(&self->input)));
	self->all = range_of(s->id, 0, ROUTE_SIZE);
	self->protect = (struct pgprotect_protect){
		.ranges = (uintptr_t)&self->all,
		.nr_ranges = 1,
		.pins = (uintptr_t)self->pins,
		.max_pins = ARRAY_LEN(self->pins),
	};
}

FIXTURE_TEARDOWN(pinned)
{
	if (!self->subject.ctx)
		return;
	subject_close(&self->subject);
	image_free(&self->image);
}

static void expect_one_pin(struct __test_metadata *_metadata, struct _test_data_pinned *self)
{
	EXPECT_EQ(1, self->protect.nr_pins);
	EXPECT_EQ(self->subject.id, self->pins[0].file);
	EXPECT_EQ(TARGET, self->pins[0].offset);
	EXPECT_EQ(PAGE, self->pins[0].length);
}

TEST_F(pinned, page_is_reported_and_nothing_else_is_written)
{
	struct subject *s = &self->subject;

	ASSERT_EQ(0, ctx_protect_args(s->ctx, &self->protect));
	expect_one_pin(_metadata, self);
	EXPECT_EQ(ROUTE_PAGES, self->protect.nr_pages);
	EXPECT_TRUE(image_is(s->file.fd, &self->image));
	EXPECT_EQ(-EPERM, write_page(s->file.fd, TARGET / PAGE - 1, 1));
	EXPECT_EQ(-EPERM, write_page(s->file.fd, TARGET / PAGE, 1));
	EXPECT_EQ(GOT_SIGBUS, store_byte(s->file.map + TARGET, 1));

	variant->answer(&self->input);
	EXPECT_EQ(PAGE, writer_join(self->input.reader));
	memset(self->image.data + TARGET, ROUTE_VALUE, PAGE);
	EXPECT_TRUE(image_is(s->file.fd, &self->image));
}

TEST_F(pinned, page_makes_strict_fail_until_the_input_has_come)
{
	struct subject *s = &self->subject;

	self->protect.flags = PGPROTECT_PROTECT_STRICT;
	ASSERT_EQ(-EBUSY, ctx_protect_args(s->ctx, &self->protect));
	expect_one_pin(_metadata, self);
	EXPECT_EQ(1, write_page(s->file.fd, 0, 1));
	EXPECT_EQ(0, store_byte(s->file.map, 1));

	variant->answer(&self->input);
	EXPECT_EQ(PAGE, writer_join(self->input.reader));
	/* Pages may be given back a moment later than the reader is told. */
	EXPECT_TRUE(WAIT_FOR(!ctx_protect_args(s->ctx, &self->protect)));
	EXPECT_EQ(0, self->protect.nr_pins);
	EXPECT_EQ(GOT_SIGBUS, store_byte(s->file.map + TARGET, 1));
	EXPECT_EQ(ROUTE_VALUE, s->file.map[TARGET]);
}

/* --- pages that are copied to when the data is there --- */

#define LENGTH	100

static bool have_pipe(struct input *input)
{
	return !pipe(input->ends);
}

static bool have_socket(struct input *input)
{
	return !socketpair(AF_UNIX, SOCK_STREAM, 0, input->ends);
}

static bool reader_sleeps(struct input *input)
{
	return task_state(input->reader->tid) == 'S';
}

static void send_input(struct input *input)
{
	if (write(input->ends[1], value_buffer(LENGTH), LENGTH) != LENGTH)
		die("send the input");
}

static long op_read_end(struct writer *self)
{
	struct input *input = self->arg;

	return result_of(read(input->ends[0], input->target, LENGTH));
}

static long op_read_by_page_cache(struct writer *self)
{
	struct input *input = self->arg;

	return result_of(pread(input->file->fd, input->target, LENGTH, 0));
}

FIXTURE(awaited) {
	struct subject subject;
	struct input input;
	struct image image;
};

FIXTURE_VARIANT(awaited) {
	bool (*make)(struct input *input);
	long (*op)(struct writer *self);
	bool (*asked)(struct input *input);
	void (*answer)(struct input *input);
};

#define AWAITED(name, ...) FIXTURE_VARIANT_ADD(awaited, name) { __VA_ARGS__ };

AWAITED(of_pipe, have_pipe, op_read_end, reader_sleeps, send_input)
AWAITED(of_socket, have_socket, op_read_end, reader_sleeps, send_input)
AWAITED(of_file, have_slow_file, op_read_by_page_cache, file_was_asked, answer_for_file)

FIXTURE_SETUP(awaited)
{
	struct subject *s = &self->subject;

	if (!variant->make(&self->input))
		SKIP(return, "no FUSE");
	*s = (struct subject){ .ctx = ctx_open(), .file = file_memfd(ROUTE_PAGES) };
	file_fill(&s->file);
	image_read(s->file.fd, &self->image);
	self->input.target = s->file.map + TARGET;
	self->input.reader = writer_thread(variant->op, &self->input);
	ASSERT_TRUE(WAIT_FOR(variant->asked(&self->input)));
}

FIXTURE_TEARDOWN(awaited)
{
	if (!self->subject.ctx)
		return;
	subject_close(&self->subject);
	image_free(&self->image);
}

static void protect_and_answer(struct _test_data_awaited *self,
			       const struct _fixture_variant_awaited *variant, uint32_t mode)
{
	struct subject *s = &self->subject;

	s->id = ctx_attach(s->ctx, s->file.fd, mode, 0);
	if (ctx_protect_all(s->ctx, s->id))
		die("PROTECT");
	if (writer_done(self->input.reader))
		die("the read is over already");
	variant->answer(&self->input);
}

TEST_F(awaited, input_waits_at_the_gate)
{
	struct subject *s = &self->subject;
	struct pgprotect_event event;

	protect_and_answer(self, variant, PGPROTECT_MODE_STALL);
	ASSERT_EQ(1, ctx_next(s->ctx, &event, 1, 1));
	EXPECT_EQ(PGPROTECT_ORIGIN_STORE, event.origin);
	EXPECT_EQ(TARGET, event.offset);
	EXPECT_TRUE(writer_stalled(self->input.reader));
	EXPECT_TRUE(image_is(s->file.fd, &self->image));
	EXPECT_EQ(0, ctx_verdict(s->ctx, event.id, PGPROTECT_ALLOW, 0));
	EXPECT_EQ(LENGTH, writer_join(self->input.reader));
	memset(self->image.data + TARGET, ROUTE_VALUE, LENGTH);
	EXPECT_TRUE(image_is(s->file.fd, &self->image));
}

TEST_F(awaited, input_is_refused_by_deny)
{
	protect_and_answer(self, variant, PGPROTECT_MODE_DENY);
	EXPECT_EQ(-EFAULT, writer_join(self->input.reader));
	EXPECT_TRUE(image_is(self->subject.file.fd, &self->image));
}

TEST_HARNESS_MAIN
