// SPDX-License-Identifier: GPL-2.0
/* Files of each kind that can be attached, and accesses to them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/shm.h>
#include <unistd.h>

#include "pgtest.h"

const char *const file_kind_names[] = {
	[FILE_MEMFD] = "memfd",
	[FILE_TMPFS] = "tmpfs",
	[FILE_SHARED_ANON] = "shared-anonymous",
	[FILE_SYSV] = "sysv-shm",
	[FILE_EXT4] = "ext4",
	[FILE_XFS] = "xfs",
};

int memfd_make(size_t size, unsigned int flags)
{
	int fd = memfd_create("pgtest", flags | MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, size))
		die("memfd of %zu bytes", size);
	return fd;
}

int tmpfs_make(size_t size, char path[32])
{
	char name[32] = "/dev/shm/pgtest.XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);

	if (fd < 0 || ftruncate(fd, size))
		die("file on /dev/shm");
	if (path)
		strcpy(path, name);
	else
		unlink(name);
	return fd;
}

static bool is_mounted(const char *dir)
{
	struct stat below, above;

	return !stat(dir, &below) && !stat("/run", &above) && below.st_dev != above.st_dev;
}

const char *disk_mount(enum file_kind kind)
{
	static const char script[] =
		"PATH=$PATH:/sbin:/usr/sbin && mkdir -p $dir && "
		"truncate -s $size $dir.img && mkfs.$fs -q $dir.img >/dev/null 2>&1 && "
		"mount -o loop $dir.img $dir";
	const char *dir = kind == FILE_XFS ? "/run/pgtest-xfs" : "/run/pgtest-ext4";
	char command[400];

	if (is_mounted(dir))
		return dir;
	/* What mkfs.xfs makes is no smaller. */
	snprintf(command, sizeof(command), "fs=%s dir=%s size=%s; %s", file_kind_names[kind], dir,
		 kind == FILE_XFS ? "320M" : "32M", script);
	return system(command) ? NULL : dir;
}

int disk_make(enum file_kind kind, size_t size, char path[32])
{
	const char *dir = disk_mount(kind);
	char name[32];
	int fd;

	if (!dir)
		die("no %s", file_kind_names[kind]);
	snprintf(name, sizeof(name), "%s/f.XXXXXX", dir);
	fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0 || ftruncate(fd, size))
		die("file on %s", dir);
	if (path)
		strcpy(path, name);
	else
		unlink(name);
	return fd;
}

enum file_kind file_kind_wanted(enum file_kind kind)
{
	const char *wanted = getenv("PGTEST_FILE");

	if (!wanted || (kind != FILE_MEMFD && kind != FILE_TMPFS))
		return kind;
	for (int i = FILE_EXT4; i <= FILE_XFS; i++)
		if (!strcmp(wanted, file_kind_names[i]))
			return i;
	die("PGTEST_FILE=%s", wanted);
}

bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

int map_files_open(const void *addr, size_t size)
{
	DIR *dir = opendir("/proc/self/map_files");
	unsigned long start, end;
	struct dirent *entry;
	int fd = -1;

	/* It may end earlier, if a part of the mapping shares page tables. */
	while (dir && fd < 0 && (entry = readdir(dir)))
		if (sscanf(entry->d_name, "%lx-%lx", &start, &end) == 2 &&
		    start == (uintptr_t)addr && end <= start + size)
			fd = openat(dirfd(dir), entry->d_name, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("map_files of %p", addr);
	closedir(dir);
	return fd;
}

char *map_shared(int fd, size_t size)
{
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		die("mmap of fd %d", fd);
	return map;
}

static void make_shared_anon(struct test_file *file)
{
	file->map = mmap(NULL, file->size, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (file->map == MAP_FAILED)
		die("shared anonymous memory");
	file->fd = map_files_open(file->map, file->size);
}

static void make_sysv(struct test_file *file)
{
	int id = shmget(IPC_PRIVATE, file->size, IPC_CREAT | 0600);

	if (id < 0)
		die("shmget");
	file->map = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	if (file->map == (void *)-1)
		die("shmat");
	file->fd = map_files_open(file->map, file->size);
}

struct test_file file_sparse(enum file_kind kind, size_t pages)
{
	struct test_file file = { .size = pages * page_size() };

	switch (kind) {
	case FILE_MEMFD:
		file.fd = memfd_make(file.size, 0);
		file.map = map_shared(file.fd, file.size);
		break;
	case FILE_TMPFS:
		file.fd = tmpfs_make(file.size, NULL);
		file.map = map_shared(file.fd, file.size);
		break;
	case FILE_EXT4:
	case FILE_XFS:
		file.fd = disk_make(kind, file.size, NULL);
		file.map = map_shared(file.fd, file.size);
		break;
	case FILE_SHARED_ANON:
		make_shared_anon(&file);
		break;
	case FILE_SYSV:
		make_sysv(&file);
		break;
	default:
		die("no such kind of file: %d", kind);
	}
	return file;
}

struct test_file file_make(enum file_kind kind, size_t pages)
{
	struct test_file file = file_sparse(kind, pages);

	memset(file.map, 0, file.size);
	return file;
}

struct test_file file_memfd(size_t pages)
{
	return file_make(FILE_MEMFD, pages);
}

void file_close(struct test_file *file)
{
	munmap(file->map, file->size);
	close(file->fd);
}

void file_fill(struct test_file *file)
{
	size_t page = page_size();

	for (size_t i = 0; i < file->size / page; i++)
		memset(file->map + i * page, (int)(i + 1), page);
}

/* FNV-1a, eight bytes at a step; a tail shorter than that is zero-extended. */
static uint64_t hash_more(uint64_t hash, const void *data, size_t size)
{
	const char *p = data;

	for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
		uint64_t word = 0;

		memcpy(&word, p + i, size - i < sizeof(word) ? size - i : sizeof(word));
		hash = (hash ^ word) * 0x100000001b3ULL;
	}
	return hash;
}

#define HASH_START 0xcbf29ce484222325ULL

uint64_t checksum(const void *data, size_t size)
{
	return hash_more(HASH_START, data, size);
}

uint64_t checksum_fd(int fd, size_t size)
{
	char buffer[4096];
	uint64_t hash = HASH_START;

	for (size_t at = 0; at < size; at += sizeof(buffer)) {
		size_t want = size - at < sizeof(buffer) ? size - at : sizeof(buffer);

		if (pread(fd, buffer, want, at) != (ssize_t)want)
			die("pread at %zu", at);
		hash = hash_more(hash, buffer, want);
	}
	return hash;
}

static __thread sigjmp_buf *sigbus_jump;
static __thread void *sigbus_last;
static __thread unsigned int sigbus_seen;

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
	if (!sigbus_jump) {
		/* Not async-signal-safe; the program dies of it in any case. */
		dprintf(STDERR_FILENO, "# unexpected SIGBUS at %p, code %d, thread %d\n",
			info->si_addr, info->si_code, gettid());
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	sigbus_seen++;
	sigbus_last = info->si_addr;
	siglongjmp(*sigbus_jump, 1);
}

static void catch_sigbus(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO };

	sigaction(SIGBUS, &action, NULL);
}

/*
 * Each thread by itself: fork() copies the handlers before the memory, and what another
 * thread says it has done in between the child has not.
 */
static void expect_sigbus(sigjmp_buf *jump)
{
	static __thread bool caught;

	if (!caught)
		catch_sigbus();
	caught = true;
	sigbus_jump = jump;
	atomic_signal_fence(memory_order_seq_cst);
}

static void no_more_sigbus(void)
{
	atomic_signal_fence(memory_order_seq_cst);
	sigbus_jump = NULL;
}

long store_byte(volatile char *address, char value)
{
	sigjmp_buf jump;
	int refused = sigsetjmp(jump, 1);

	if (!refused) {
		expect_sigbus(&jump);
		*address = value;
	}
	no_more_sigbus();
	return refused ? GOT_SIGBUS : 0;
}

long store_word(volatile uint64_t *address, uint64_t value)
{
	sigjmp_buf jump;
	int refused = sigsetjmp(jump, 1);

	if (!refused) {
		expect_sigbus(&jump);
		*address = value;
	}
	no_more_sigbus();
	return refused ? GOT_SIGBUS : 0;
}

unsigned int sigbus_count(void)
{
	return sigbus_seen;
}

void *sigbus_address(void)
{
	return sigbus_last;
}

long pwrite_bytes(int fd, const void *data, size_t length, off_t offset)
{
	ssize_t done = pwrite(fd, data, length, offset);

	return done < 0 ? -errno : done;
}

long write_page(int fd, uint64_t page, char value)
{
	return pwrite_bytes(fd, &value, 1, page * page_size());
}

char read_page(int fd, uint64_t page)
{
	char value;

	if (pread(fd, &value, 1, page * page_size()) != 1)
		die("read page %llu", (unsigned long long)page);
	return value;
}
