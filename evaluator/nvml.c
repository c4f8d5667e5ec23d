#include "evaluator/nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libnvidia-ml.so.1"
#define PROCESSES_MAX 64

enum { OK = 0, TOO_SMALL = 7 };        /* nvmlReturn_t */
enum { CLOCK_SM = 1, TEMPERATURE_GPU }; /* nvmlClockType_t; nvmlTemperatureSensors_t's is 0 */
typedef struct device *device_t;
struct process { /* nvmlProcessInfo_t of _v3 */
    unsigned pid;
    unsigned long long bytes;
    unsigned instance[2];
};

/* Name in the library, and how it is called. Of these the default clock and the temperature are to go from the library some day, and may be missing. */
#define CALLS(X)                                                                           \
    X(init, "nvmlInit_v2", (void))                                                         \
    X(shutdown, "nvmlShutdown", (void))                                                    \
    X(find, "nvmlDeviceGetHandleByPciBusId_v2", (const char *, device_t *))                \
    X(energy, "nvmlDeviceGetTotalEnergyConsumption", (device_t, unsigned long long *))     \
    X(power, "nvmlDeviceGetPowerUsage", (device_t, unsigned *))                            \
    X(clock, "nvmlDeviceGetClockInfo", (device_t, int, unsigned *))                        \
    X(default_clock, "nvmlDeviceGetDefaultApplicationsClock", (device_t, int, unsigned *)) \
    X(max_clock, "nvmlDeviceGetMaxClockInfo", (device_t, int, unsigned *))                 \
    X(temperature, "nvmlDeviceGetTemperature", (device_t, int, unsigned *))                \
    X(driver, "nvmlSystemGetDriverVersion", (char *, unsigned))                            \
    X(processes, "nvmlDeviceGetComputeRunningProcesses_v3", (device_t, unsigned *, struct process *))

struct nvml {
    void *lib;
#define X(field, name, args) int(*field) args;
    CALLS(X)
#undef X
    device_t device;
    bool started;
    char version[80];
};

static st_t load(struct nvml *n, struct base_err *err)
{
    const char *file = getenv("TAUT_NVML");
    if (!file || !*file) file = LIBRARY;
    n->lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!n->lib) return base_err_set(err, ST_ENOTSUP, "nvml", "%s is not to be found: it comes with NVIDIA's driver", file);
#define X(field, name, args)                                                                                \
    *(void **)&n->field = dlsym(n->lib, name);                                                              \
    if (!n->field && strcmp(#field, "default_clock") && strcmp(#field, "temperature")) return base_err_set(err, ST_ENOTSUP, "nvml", "%s has no %s: an older driver", file, name);
    CALLS(X)
#undef X
    return ST_OK;
}

st_t nvml_open(struct nvml **out, const char *bus, struct base_err *err)
{
    struct nvml *n = calloc(1, sizeof *n);
    if (!n) return base_err_set(err, ST_ENOMEM, "nvml", "out of memory");
    st_t st = load(n, err);
    int rc = st ? OK : n->init();
    n->started = !st && rc == OK;
    if (!st && rc) st = base_err_set(err, ST_ENOTSUP, "nvml", "does not start (its error %d)", rc);
    if (!st && (rc = n->find(bus, &n->device))) st = base_err_set(err, ST_ENOTSUP, "nvml", "does not know the card at %s (its error %d)", bus, rc);
    if (st) {
        nvml_close(n);
        return st;
    }
    if (n->driver(n->version, sizeof n->version)) snprintf(n->version, sizeof n->version, "unknown");
    *out = n;
    return ST_OK;
}

void nvml_close(struct nvml *n)
{
    if (!n) return;
    if (n->started) n->shutdown();
    if (n->lib) dlclose(n->lib);
    free(n);
}

const char *nvml_driver(const struct nvml *n)
{
    return n->version;
}

static int others(struct nvml *n)
{
    struct process p[PROCESSES_MAX];
    unsigned count = PROCESSES_MAX;
    int found = 0, rc = n->processes(n->device, &count, p);
    if (rc == TOO_SMALL) return PROCESSES_MAX;
    if (rc) return -1;
    bool own = false;
    for (unsigned i = 0; i < count; i++) own |= p[i].pid == (unsigned)getpid();
    found = (int)count - own;
    return own || !count ? found : -1; /* numbers of another process namespace */
}

st_t nvml_read(struct nvml *n, struct nvml_state *out)
{
    unsigned long long mj;
    unsigned mw = 0, mhz = 0, most = 0, celsius = 0;
    bool counts = !n->energy(n->device, &mj);
    if (n->clock(n->device, CLOCK_SM, &mhz)) return ST_EIO;
    if (n->power(n->device, &mw)) mw = 0;
    if ((!n->default_clock || n->default_clock(n->device, CLOCK_SM, &most)) && n->max_clock(n->device, CLOCK_SM, &most)) most = 0;
    if (!n->temperature || n->temperature(n->device, 0, &celsius)) celsius = 0;
    *out = (struct nvml_state){.joules = counts ? (double)mj * 1e-3 : NAN, .watts = mw * 1e-3, .clock_mhz = (int)mhz, .default_mhz = (int)most, .celsius = (int)celsius, .others = others(n)};
    return ST_OK;
}
