/* What the tests of evaluator/ share: a folder of their own, files in it, a small network. */
#ifndef TAUT_TESTS_EVALTEST_H
#define TAUT_TESTS_EVALTEST_H

#define _GNU_SOURCE /* nftw, memmem */
#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "evaluator/data.h"
#include "tests/model/nets.h"
#include "tests/tap.h"

static char folder[256]; /* made by begin_files, removed by end_files */

__attribute__((unused)) static void begin_files(void)
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/taut-evaluator-XXXXXX", base && *base && strlen(base) < 200 ? base : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *f)
{
    (void)sb, (void)type, (void)f;
    return remove(path);
}

__attribute__((unused)) static void end_files(void)
{
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Path of a name in the folder; one of eight buffers in turn. */
__attribute__((unused)) static const char *in(const char *name)
{
    static char buf[8][512];
    static int i;
    char *p = buf[i++ % 8];
    snprintf(p, 512, "%s/%s", folder, name);
    return p;
}

__attribute__((unused)) static const char *put_file(const char *name, const void *p, size_t n)
{
    const char *path = in(name);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f)) {
        perror(path);
        exit(1);
    }
    return path;
}

/* n bytes of which no two stretches are alike. */
__attribute__((unused)) static uint8_t *noise(size_t n, uint64_t seed)
{
    uint8_t *p = malloc(n);
    struct base_rng r = base_rng_at(seed, RNG_BATCH, 0);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)base_rng_u64(&r);
    return p;
}

/* Something a network can learn: words of a made-up language, in a fixed random order. */
__attribute__((unused)) static char *prose(size_t n, uint64_t seed)
{
    static const char *const words[] = {"the ", "sea ", "was ", "wide ", "and ", "cold, ", "ships ", "went ", "home.\n", "under ", "stars "};
    char *p = malloc(n + 16);
    struct base_rng r = base_rng_at(seed, RNG_BATCH, 1);
    size_t at = 0;
    while (at < n) at += (size_t)sprintf(p + at, "%s", words[base_rng_u64(&r) % 11]);
    return p;
}

/* Two layers of width 16 or so. */
__attribute__((unused)) static struct arch small_net(int context, int width)
{
    struct arch a = net(256, context, width, 1);
    add(&a, attention(2, 1, 8, 0, 1), swiglu(32, 0));
    add(&a, attention(2, 2, 8, 6, 1), swiglu(24, 4));
    return a;
}

__attribute__((unused)) static struct kn_dev *dev_or_die(const char *name, int threads)
{
    struct kn_dev *dev;
    struct base_err err = BASE_ERR_INIT;
    if (kn_dev_open(&dev, name, threads, &err)) {
        printf("Bail out! %s\n", err.what);
        exit(1);
    }
    return dev;
}

#endif
