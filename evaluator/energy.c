#include "evaluator/energy.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "evaluator/nvml.h"

#define DOMAINS_MAX 64
#define POWERCAP "/sys/class/powercap"

struct domain {
    char path[300];        /* of energy_uj */
    double range, last;    /* uJ: where the counter wraps; its last reading */
    double sum;            /* uJ since energy_open */
};

struct energy {
    struct nvml *gpu;      /* NULL: the domains */
    struct domain domain[DOMAINS_MAX];
    int n;
};

/* One number from a small sysfs file; negative: errno says why. */
static double read_number(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) return -1;
    double v = -1;
    if (fscanf(f, "%lf", &v) != 1) {
        errno = EINVAL;
        v = -1;
    }
    fclose(f);
    return v;
}

/* "package-0", "package-0-die-1" */
static bool is_package(const char *root, const char *name)
{
    char path[300], text[32] = "";
    if (snprintf(path, sizeof path, "%s/%s/name", root, name) >= (int)sizeof path) return false;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool good = fgets(text, sizeof text, f) && !strncmp(text, "package", 7);
    fclose(f);
    return good;
}

static st_t add_domain(struct energy *e, const char *root, const char *name, struct base_err *err)
{
    if (e->n == DOMAINS_MAX) return base_err_set(err, ST_ENOTSUP, root, "more than %d packages", DOMAINS_MAX);
    struct domain *d = &e->domain[e->n];
    char range[300];
    if (snprintf(d->path, sizeof d->path, "%s/%s/energy_uj", root, name) >= (int)sizeof d->path ||
        snprintf(range, sizeof range, "%s/%s/max_energy_range_uj", root, name) >= (int)sizeof range)
        return base_err_set(err, ST_ENOTSUP, root, "path too long");
    d->last = read_number(d->path);
    if (d->last < 0)
        return base_err_set(err, ST_ENOTSUP, d->path, "cannot be read: %s; energy needs read access to it", strerror(errno));
    d->range = read_number(range);
    if (d->range <= 0) return base_err_set(err, ST_ENOTSUP, range, "cannot be read: %s", strerror(errno));
    e->n++;
    return ST_OK;
}

st_t energy_open(struct energy **out, const char *root, struct base_err *err)
{
    const char *set = getenv("TAUT_POWERCAP");
    if (!root) root = set && *set ? set : POWERCAP;
    DIR *dir = opendir(root);
    if (!dir) return base_err_set(err, ST_ENOTSUP, root, "no energy counters here: %s", strerror(errno));
    struct energy *e = calloc(1, sizeof *e);
    st_t st = e ? ST_OK : ST_ENOMEM;
    struct dirent *f;
    while (!st && (f = readdir(dir))) {
        int package, used = 0;
        if (sscanf(f->d_name, "intel-rapl:%d%n", &package, &used) == 1 && !f->d_name[used] && is_package(root, f->d_name))
            st = add_domain(e, root, f->d_name, err);
    }
    closedir(dir);
    if (!st && !e->n) st = base_err_set(err, ST_ENOTSUP, root, "no RAPL package domain (intel-rapl:N) here");
    if (st) {
        free(e);
        return st;
    }
    *out = e;
    return ST_OK;
}

st_t energy_open_for(struct energy **out, const struct kn_dev *dev, struct base_err *err)
{
    if (strcmp(dev->info.kind, "cuda")) return energy_open(out, NULL, err);
    struct energy *e = calloc(1, sizeof *e);
    struct nvml_state now;
    st_t st = e ? nvml_open(&e->gpu, dev->info.bus, err) : ST_ENOMEM;
    if (!st && (nvml_read(e->gpu, &now) || isnan(now.joules))) st = base_err_set(err, ST_ENOTSUP, "nvml", "the card at %s counts no energy", dev->info.bus);
    if (st) energy_close(e);
    else *out = e;
    return st;
}

double energy_window(const struct energy *e)
{
    return e->gpu ? 2 : 0.5;
}

void energy_close(struct energy *e)
{
    if (e) nvml_close(e->gpu);
    free(e);
}

st_t energy_read(struct energy *e, double *joules)
{
    double sum = 0;
    st_t st = ST_OK;
    if (e->gpu) {
        struct nvml_state now;
        st = nvml_read(e->gpu, &now);
        if (!st) *joules = now.joules;
        return st;
    }
    for (int i = 0; i < e->n; i++) {
        struct domain *d = &e->domain[i];
        double now = read_number(d->path);
        if (now < 0) {
            st = ST_EIO;
            continue;
        }
        double went = now >= d->last ? now - d->last : now + d->range - d->last;
        /* Backwards by less than half a wrap is no wrap. */
        if (now < d->last && went > d->range / 2) st = ST_EIO;
        else d->sum += went;
        d->last = now;
        sum += d->sum;
    }
    if (!st) *joules = sum * 1e-6;
    return st;
}
