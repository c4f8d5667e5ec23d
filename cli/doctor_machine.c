/* taut doctor, the machine: processor, memory, clock, energy, graphics card. */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/pool.h"
#include "cli/doctor.h"
#include "cli/format.h"
#include "evaluator/energy.h"
#include "evaluator/hostlock.h"
#include "kernels/device.h"

#define MEMORY_BAD (128.0 * (1 << 20))
#define MEMORY_WARN (1024.0 * (1 << 20))

/* First line of a file of the system's; "" where there is none. */
static char *first_line(const char *path, char *buf, size_t size)
{
    FILE *f = fopen(path, "re");
    *buf = '\0';
    if (!f) return buf;
    if (fgets(buf, (int)size, f)) buf[strcspn(buf, "\n")] = '\0';
    fclose(f);
    return buf;
}

static void processor(struct doctor *d)
{
    struct base_err err = BASE_ERR_INIT;
    struct kn_dev *dev = NULL;
    int cores = base_cpu_count();
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (kn_dev_open(&dev, "cpu", 1, &err)) {
        doctor_say(d, DOCTOR_BAD, "processor", NULL, "%s", err.what);
        return;
    }
    if (strcmp(dev->info.isa, "generic")) doctor_say(d, DOCTOR_OK, "processor", NULL, "%s, %s", dev->info.name, dev->info.isa);
    else
        doctor_say(d, DOCTOR_WARN, "processor", "on x86, a machine (or virtual machine) with AVX2 trains many times as fast", "%s, without AVX2: portable C computes",
                   dev->info.name);
    if (cores < online) doctor_say(d, DOCTOR_OK, "cores", NULL, "%d of %ld (affinity and the control group's share allow no more)", cores, online);
    else doctor_say(d, DOCTOR_OK, "cores", NULL, "%d", cores);

    char all[FMT_MAX], left[FMT_MAX], line[128];
    double there = -1;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lf", &there) == 1) there *= 1024;
    if (f) fclose(f);
    double limit = (double)dev->info.memory, least = there >= 0 && there < limit ? there : limit;
    fmt_bytes(all, limit);
    snprintf(line, sizeof line, "%s%s", there >= 0 ? ", available now: " : "", there >= 0 ? fmt_bytes(left, least) : "");
    doctor_say(d, least < MEMORY_BAD ? DOCTOR_BAD : least < MEMORY_WARN ? DOCTOR_WARN : DOCTOR_OK, "memory",
               least < MEMORY_WARN ? "end what is not needed: models that do not fit fail" : NULL, "%s%s", all, line);
    kn_dev_close(dev);
}

static void caches(struct doctor *d)
{
    struct base_buf b = BASE_BUF_INIT;
    for (int i = 0; i < 8; i++) {
        char path[96], level[16], type[16], size[16];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/level", i);
        if (!*first_line(path, level, sizeof level)) break;
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/type", i);
        first_line(path, type, sizeof type);
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        first_line(path, size, sizeof size);
        if (!strcmp(type, "Instruction")) continue;
        base_buf_printf(&b, "%sL%s %s", b.len ? ", " : "", level, size);
    }
    if (b.len) doctor_say(d, DOCTOR_OK, "caches", NULL, "%s", b.p);
    else doctor_say(d, DOCTOR_OK, "caches", NULL, "not told by this system");
    base_buf_fini(&b);
}

static void pages(struct doctor *d)
{
    char text[96];
    first_line("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text);
    if (strstr(text, "[always]") || strstr(text, "[madvise]")) doctor_say(d, DOCTOR_OK, "huge pages", NULL, "given when asked for");
    else
        doctor_say(d, DOCTOR_WARN, "huge pages", "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled", "%s: large models run slower",
                   *text ? "turned off" : "not told by this system");
}

/* What makes timings believable. */
static void timing(struct doctor *d)
{
    char source[64];
    double load[1];
    uint64_t ns = base_clock_resolution_ns();
    first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource", source, sizeof source);
    if (ns <= 1000) doctor_say(d, DOCTOR_OK, "clock", NULL, "%s, steps of %llu ns", *source ? source : "source unknown", (unsigned long long)ns);
    else
        doctor_say(d, DOCTOR_WARN, "clock", "boot with clocksource=tsc if the processor's is stable", "%s, steps of %llu ns: short times take long to measure",
                   *source ? source : "source unknown", (unsigned long long)ns);
    if (getloadavg(load, 1) == 1) {
        if (load[0] < 0.5) doctor_say(d, DOCTOR_OK, "load", NULL, "%.2f: the machine is quiet", load[0]);
        else doctor_say(d, DOCTOR_WARN, "load", "let other work end first where times are an objective", "%.2f: other work disturbs timings", load[0]);
    }
    char stat[256];
    unsigned long long v[8] = {0}, sum = 0;
    first_line("/proc/stat", stat, sizeof stat);
    if (sscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) == 8) {
        for (int i = 0; i < 8; i++) sum += v[i];
        double share = sum ? 100.0 * (double)v[7] / (double)sum : 0;
        if (share < 1) doctor_say(d, DOCTOR_OK, "stolen time", NULL, "%.2g %% of the processor since boot", share);
        else
            doctor_say(d, DOCTOR_WARN, "stolen time", "a machine of one's own gives steadier times", "%.2g %% of the processor since boot went to other virtual machines",
                       share);
    }
}

static void energy(struct doctor *d)
{
    struct base_err err = BASE_ERR_INIT;
    struct energy *e;
    if (!energy_open(&e, NULL, &err)) {
        energy_close(e);
        doctor_say(d, DOCTOR_OK, "energy", NULL, "RAPL can be read: joules are measured");
        return;
    }
    bool denied = access("/sys/class/powercap", R_OK) == 0 && strstr(err.what, "ermission");
    doctor_say(d, DOCTOR_WARN, "energy", denied ? "as root: chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" : "joules need a machine that shows RAPL; nothing else does",
               "not measured: %s: %s", err.where, err.what);
}

/* Each card that CUDA opens, or why it opens none: to be remedied where there is a card. */
static void graphics(struct doctor *d)
{
    for (int i = 0; i < 64; i++) {
        struct base_err err = BASE_ERR_INIT;
        struct kn_dev *dev = NULL;
        char name[16], memory[FMT_MAX];
        snprintf(name, sizeof name, "cuda:%d", i);
        if (kn_dev_open(&dev, name, 1, &err)) {
            if (i) return;
            if (!access("/dev/nvidiactl", F_OK)) doctor_say(d, DOCTOR_WARN, "graphics card", "until that is mended the CPU does the work", "there is one, but %s", err.what);
            else doctor_say(d, DOCTOR_OK, "graphics card", NULL, "none (%s): the CPU does the work", err.what);
            return;
        }
        struct energy *e = NULL;
        bool counts = !energy_open_for(&e, dev, &err);
        doctor_say(d, counts ? DOCTOR_OK : DOCTOR_WARN, "graphics card", counts ? NULL : "clocks are not watched there and joules not measured", "%s: %s, %s, %s (%s)%s%s", name, dev->info.name,
                   dev->info.isa, fmt_bytes(memory, (double)dev->info.memory), dev->info.libraries, counts ? "" : "; NVML: ", counts ? "" : err.what);
        energy_close(e);
        kn_dev_close(dev);
    }
}

/* Evaluators and profiles do not start without it. */
static void lock(struct doctor *d)
{
    struct base_err err = BASE_ERR_INIT;
    struct hostlock *l;
    if (hostlock_open(&l, "cpu", NULL, &err)) {
        doctor_say(d, DOCTOR_BAD, "device lock", "evaluators need a folder there that every user may write", "%s: %s", err.where, err.what);
        return;
    }
    hostlock_close(l);
    doctor_say(d, DOCTOR_OK, "device lock", NULL, "evaluators on this machine keep out of each other's measurements");
}

void doctor_machine(struct doctor *d)
{
    processor(d);
    caches(d);
    pages(d);
    timing(d);
    energy(d);
    graphics(d);
    lock(d);
}
