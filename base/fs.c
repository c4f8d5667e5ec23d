#include "base/fs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#define MAGIC_FUSE 0x65735546UL

static const struct {
    unsigned long magic;
    const char *name;
} NETWORK[] = {
    {0x6969, "NFS"},
    {0xFF534D42, "CIFS"},
    {0xFE534D42, "SMB"},
    {0x517B, "SMB"},
    {0x01021997, "9P"},
    {0x00C36400, "Ceph"},
    {0x5346414F, "AFS"},
    {0x6B414653, "AFS"},
    {0x73757245, "Coda"},
    {0x0BD00BD0, "Lustre"},
    {0x19830326, "BeeGFS"},
    {0x47504653, "GPFS"},
    {0xAAD7AAEA, "PanFS"},
    {0x7461636F, "OCFS2"},
    {0x01161970, "GFS2"},
    {0x564C, "NCP"},
    {0x786F4256, "a VirtualBox shared folder"},
    {0xBACBACBC, "a VMware shared folder"},
};

/* FUSE says nothing about what is behind it; these are known to be a local disk. */
static const char *const FUSE_LOCAL[] = {"fuseblk",    "fuse.ntfs-3g",  "fuse.fuse-overlayfs", "fuse.gocryptfs",
                                         "fuse.encfs", "fuse.cryfs",    "fuse.mergerfs",       "fuse.bindfs",
                                         "fuse.exfat", "fuse.zfs-fuse", "fuse.unionfs",        "virtiofs"};

const char *base_fs_remote(unsigned long magic, const char *type)
{
    for (size_t i = 0; i < sizeof NETWORK / sizeof *NETWORK; i++)
        if (NETWORK[i].magic == (magic & 0xFFFFFFFFUL)) return NETWORK[i].name;
    if ((magic & 0xFFFFFFFFUL) != MAGIC_FUSE) return NULL;
    for (size_t i = 0; i < sizeof FUSE_LOCAL / sizeof *FUSE_LOCAL; i++)
        if (!strcmp(FUSE_LOCAL[i], type)) return NULL;
    return *type ? type : "FUSE";
}

const char *base_fs_type(const char *dir, char *type, size_t size)
{
    type[0] = '\0';
    struct stat sb;
    FILE *f = stat(dir, &sb) ? NULL : fopen("/proc/self/mountinfo", "re");
    if (!f) return type;
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, f) > 0) {
        unsigned maj, min;
        const char *dash = strstr(line, " - ");
        if (sscanf(line, "%*d %*d %u:%u", &maj, &min) != 2 || !dash || makedev(maj, min) != sb.st_dev) continue;
        size_t n = strcspn(dash + 3, " \n");
        snprintf(type, size, "%.*s", (int)n, dash + 3);
    }
    free(line);
    fclose(f);
    return type;
}

st_t base_fs_check(const char *dir, struct base_err *err)
{
    struct statfs sf;
    if (statfs(dir, &sf)) return base_err_set(err, ST_EIO, dir, "cannot be examined: %s", strerror(errno));
    char type[64] = "";
    if (((unsigned long)sf.f_type & 0xFFFFFFFFUL) == MAGIC_FUSE) base_fs_type(dir, type, sizeof type);
    const char *remote = base_fs_remote((unsigned long)sf.f_type, type);
    if (!remote) return ST_OK;
    return base_err_set(err, ST_ENOTSUP, dir,
                        "lies on a network file system (%s), whose locks a store cannot trust; "
                        "choose a folder on a local disk",
                        remote);
}
