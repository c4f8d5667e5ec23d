/* How taut bench times, what it knows of others on the machine, and how it writes rates. */
#define _GNU_SOURCE /* sched_getaffinity */
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/bench.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/term.h"

/* ---- the timer ---- */

struct bench_timer bench_timer_of(const struct bench *b)
{
    struct bench_timer t = {.n = -2, .least = b->quick ? 2 : 5, .most = b->quick ? 2 : 15, .calls = 1};
    t.round_ns = b->quick ? 1e5 : 2e6;
    t.all_ns = b->quick ? 1e6 : 1e8;
    return t;
}

bool bench_more(struct bench_timer *t)
{
    uint64_t now = base_clock_ns();
    if (t->st) return false;
    if (t->left > 0) return t->left--, true;
    double ns = (double)(now - t->from);
    if (t->n == -2) {
        t->n = -1;
    } else if (t->n == -1 && ns < t->round_ns && t->calls < 1 << 24) {
        double more = ns > 0 ? 1.2 * t->round_ns / ns : 16;
        t->calls = (int64_t)((double)t->calls * fmin(fmax(more, 2), 16));
    } else if (t->n == -1) {
        t->n = 0;
        t->begin = now;
    } else {
        t->ns[t->n++] = ns / (double)t->calls;
        if (t->n == t->most || interrupted || (t->n >= t->least && (double)(now - t->begin) >= t->all_ns)) return false;
    }
    t->left = t->calls - 1;
    t->from = base_clock_ns();
    return true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct kn_rate bench_timer_ns(const struct bench_timer *t)
{
    double v[BENCH_ROUNDS_MAX];
    int n = t->n;
    if (t->st || n < 1) return (struct kn_rate){NAN, NAN, NAN};
    memcpy(v, t->ns, (size_t)n * sizeof *v);
    qsort(v, (size_t)n, sizeof *v, by_value);
    return (struct kn_rate){n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2, v[0], v[n - 1]};
}

/* ---- others ---- */

/* CPU seconds that were not idle on the CPUs of this process; NAN: the system does not say. */
static double busy_seconds(void)
{
    cpu_set_t mine;
    char line[512];
    double ticks = 0;
    FILE *f = fopen("/proc/stat", "re");
    if (!f || sched_getaffinity(0, sizeof mine, &mine)) {
        if (f) fclose(f);
        return NAN;
    }
    while (fgets(line, sizeof line, f)) {
        unsigned cpu;
        unsigned long long v[8] = {0};
        if (sscanf(line, "cpu%u %llu %llu %llu %llu %llu %llu %llu %llu", &cpu, &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) < 5) continue;
        if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &mine)) continue;
        ticks += (double)(v[0] + v[1] + v[2] + v[5] + v[6] + v[7]); /* user, nice, system, interrupts, stolen: neither idle nor waiting */
    }
    fclose(f);
    return ticks / (double)sysconf(_SC_CLK_TCK);
}

static double usage_seconds(int who)
{
    struct rusage u;
    if (getrusage(who, &u)) return 0;
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double process_seconds(pid_t pid)
{
    char path[64], text[1024];
    unsigned long user = 0, sys = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char *end = strrchr(text, ')'); /* its name may hold anything */
    if (end) sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static double own_seconds(const pid_t *pids)
{
    double s = usage_seconds(RUSAGE_SELF) + usage_seconds(RUSAGE_CHILDREN);
    while (pids && *pids) s += process_seconds(*pids++);
    return s;
}

void bench_busy_start(struct bench_busy *y, const pid_t *pids)
{
    *y = (struct bench_busy){busy_seconds(), own_seconds(pids), (double)base_clock_ns() * 1e-9, pids};
}

double bench_busy_share(const struct bench_busy *y)
{
    cpu_set_t mine;
    int cpus = sched_getaffinity(0, sizeof mine, &mine) ? 1 : CPU_COUNT(&mine);
    double s = (double)base_clock_ns() * 1e-9 - y->at, taken = busy_seconds() - y->busy - (own_seconds(y->pids) - y->own);
    double share = s > 0 ? taken / (s * cpus) : 0;
    return isnan(share) ? NAN : fmin(fmax(share, 0), 1);
}

static bool wait_on(void *ctx)
{
    const struct bench *b = ctx;
    progress_draw(b->c, NAN, "waiting for other work of Taut's on this machine to pause");
    return !interrupted;
}

bool bench_begin(struct bench *b, struct bench_busy *y, const pid_t *pids)
{
    hostlock_on_wait(b->lock, wait_on, b);
    interrupt_hold_stop(true);
    if (interrupted || hostlock_exclusive(b->lock)) {
        interrupt_hold_stop(false);
        return false;
    }
    bench_busy_start(y, pids);
    return true;
}

double bench_end(struct bench *b, const struct bench_busy *y)
{
    double share = bench_busy_share(y);
    hostlock_unlock(b->lock);
    interrupt_hold_stop(false);
    progress_clear(b->c);
    if (share > b->others) b->others = share;
    return share;
}

/* ---- the product ---- */

static st_t product(struct bench *b, struct kn_dev *dev, float *x, float *w, float *y, int64_t m, struct kn_rate *out)
{
    struct kn_tensor a = kn_t2(x, KN_F32, m, 512), v = kn_t2(w, KN_F32, 1408, 512), c = kn_t2(y, KN_F32, m, 1408), vt = kn_transpose(&v);
    struct bench_timer t = bench_timer_of(b);
    while (bench_more(&t)) t.st = dev->op->gemm(dev, 1, &a, &vt, 0, &c);
    struct kn_rate ns = bench_timer_ns(&t);
    double flops = 2.0 * (double)m * 512 * 1408 * 1e9;
    *out = (struct kn_rate){flops / ns.median, flops / ns.high, flops / ns.low};
    return t.st;
}

struct kn_rate bench_product(struct bench *b, struct kn_dev *dev, enum kn_dtype precision)
{
    struct kn_rate r = {0};
    int64_t m = b->quick ? 64 : 4096;
    void *p[3] = {NULL};
    size_t n[3] = {(size_t)(m * 512) * 4, (size_t)1408 * 512 * 4, (size_t)(m * 1408) * 4};
    st_t st = ST_OK;
    for (int i = 0; !st && i < 3; i++) st = kn_alloc(dev, n[i], &p[i]);
    for (int i = 0; !st && i < 2; i++)
        for (size_t k = 0; k < n[i] / 4; k++) ((float *)p[i])[k] = (float)((k * 2654435761u >> 8 & 1023)) / 1024 - 0.5f;
    if (!st) st = kn_precision(dev, precision);
    if (!st) st = product(b, dev, p[0], p[1], p[2], m, &r);
    kn_precision(dev, KN_F32);
    for (int i = 0; i < 3; i++) kn_free(dev, p[i], n[i]);
    return st ? (struct kn_rate){0} : r;
}

/* ---- writing ---- */

void bench_section(const struct bench *b, const char *fmt, ...)
{
    va_list ap;
    if (b->c->json) return;
    printf("%s", term_style(TERM_BOLD));
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    printf("%s\n", term_style(TERM_PLAIN));
}

json_t *bench_rate_json(const struct kn_rate *r, double scale)
{
    if (!isfinite(r->median)) return json_null();
    return json_pack("{s:f, s:f, s:f}", "median", r->median * scale, "low", r->low * scale, "high", r->high * scale);
}

static int digits(double v)
{
    return v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2;
}

char *bench_spread(char *buf, size_t size, const struct kn_rate *r, double scale)
{
    int d = digits(r->median * scale);
    snprintf(buf, size, "%.*f (%.*f to %.*f)", d, r->median * scale, d, r->low * scale, d, r->high * scale);
    return buf;
}
