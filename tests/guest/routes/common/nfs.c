// SPDX-License-Identifier: GPL-2.0
/* Starts and stops Debian's NFS server; version 3, which needs no grace period. */
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nfs.h"
#include "pgtest.h"

#define MOUNTS	"/run/pgtest-nfs"
#define PATHS	"PATH=$PATH:/sbin:/usr/sbin; exec >/dev/null 2>&1 </dev/null; "

/* $1: a directory. The server stays for what is opened next. */
static const char begin[] = PATHS
	"grep -qw nfsd /proc/filesystems || exit 1; "
	"if ! test -e /proc/fs/nfsd/threads; then mount -t nfsd nfsd /proc/fs/nfsd && "
	"rpcbind -w && rpc.mountd -N 4 && rpc.nfsd -N 4 2 || exit 1; fi; "
	"here=" MOUNTS "$1; mountpoint -q $here && exit; mkdir -p $here && "
	"exportfs -o rw,sync,no_root_squash,no_subtree_check,insecure,fsid=${#1} localhost:$1 && "
	"mount -t nfs -o vers=3,nolock,sync,noac localhost:$1 $here";

static const char end[] = PATHS
	"test -e /proc/fs/nfsd/threads || exit 0; "
	"for m in $(findmnt -nro TARGET -t nfs); do umount -l $m; done; "
	"exportfs -ua; rpc.nfsd 0; pkill -x 'rpc.mountd|rpcbind'; "
	"while pgrep -x 'rpc.mountd|rpcbind|nfsd'; do sleep 0.05; done; "
	"umount /proc/fs/nfsd; rm -rf --one-file-system " MOUNTS;

/* Its exit status; $1 is @argument. */
static int shell(const char *script, const char *argument)
{
	pid_t pid = fork_child();

	if (!pid) {
		execl("/bin/sh", "sh", "-c", script, "sh", argument, NULL);
		_exit(127);
	}
	return wait_child(pid);
}

int nfs_open(const char *path, int flags)
{
	char copy[64], file[96];

	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(file, sizeof(file), MOUNTS "%s", path);
	if (shell(begin, dirname(copy)))
		return -1;
	return open(file, flags | O_CLOEXEC);
}

void nfs_end(void)
{
	shell(end, "");
}
