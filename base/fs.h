/* File systems: is a folder's one on this machine? SQLite's WAL needs shared memory and locks that work, which file systems on a network do not
 * promise, so that a store must not lie there. */
#ifndef TAUT_BASE_FS_H
#define TAUT_BASE_FS_H

#include <stddef.h>

#include "base/err.h"

/* magic: statfs's f_type; type: the mount's ("fuse.sshfs"; read for FUSE alone). What a network file system is called; NULL: a local one. */
const char *base_fs_remote(unsigned long magic, const char *type);
/* Type of the mount that dir lies on, as /proc/self/mountinfo has it ("ext4"); "" where it is unknown. Returns buf. */
const char *base_fs_type(const char *dir, char *buf, size_t size);
/* ST_ENOTSUP: dir lies on a network file system; ST_EIO. */
st_t base_fs_check(const char *dir, struct base_err *err);

#endif
