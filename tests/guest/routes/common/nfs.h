/* SPDX-License-Identifier: GPL-2.0 */
/* Files of this system by way of its own nfsd. */
#ifndef ROUTE_NFS_H
#define ROUTE_NFS_H

/*
 * Serves the directory of the file at @path, mounts it, and opens the file there: a write
 * is over when nfsd has written. -1: not possible.
 */
int nfs_open(const char *path, int flags);
/* Ends mounts and server. Who opened has closed. */
void nfs_end(void);

#endif
