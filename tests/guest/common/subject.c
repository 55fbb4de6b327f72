// SPDX-License-Identifier: GPL-2.0
/* What most tests are about: a memfd attached to a context of its own. */
#include <unistd.h>

#include "pgtest.h"

struct subject subject_attached(size_t pages, uint32_t mode, uint64_t flags)
{
	struct subject subject = { .ctx = ctx_open(), .file = file_memfd(pages) };

	subject.id = ctx_attach(subject.ctx, subject.file.fd, mode, flags);
	return subject;
}

struct subject subject_protected(size_t pages, uint32_t mode, uint64_t flags)
{
	struct subject subject = subject_attached(pages, mode, flags);

	if (ctx_protect_range(subject.ctx, subject.id, 0, subject.file.size))
		die("protect a memfd of %zu pages", pages);
	return subject;
}

void subject_close(struct subject *subject)
{
	close(subject->ctx);
	file_close(&subject->file);
}
