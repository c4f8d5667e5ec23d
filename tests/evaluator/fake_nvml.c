/* A management library as the tests want it: FAKE_NVML="watts clock default celsius others", energy is watts since it was loaded. A default clock of 0: not told.
 * Watts of 0: no energy counter. others -1: one process, of another namespace. FAKE_NVML=none: no such card. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double watts = 300;
static unsigned clock_mhz = 1500, default_mhz = 1500, celsius = 50;
static int others;
static struct timespec began;

int nvmlInit_v2(void);
int nvmlInit_v2(void)
{
    const char *s = getenv("FAKE_NVML");
    if (s) sscanf(s, "%lf %u %u %u %d", &watts, &clock_mhz, &default_mhz, &celsius, &others);
    clock_gettime(CLOCK_MONOTONIC, &began);
    return 0;
}

int nvmlShutdown(void);
int nvmlShutdown(void)
{
    return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device)
{
    const char *s = getenv("FAKE_NVML");
    *device = &began;
    return s && !strcmp(s, "none") ? 6 : strstr(bus, "65:00.0") ? 0 : 2;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double s = (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) * 1e-9;
    *mj = (unsigned long long)(1e6 + s * watts * 1e3);
    return device != &began ? 2 : watts > 0 ? 0 : 3;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *mw);
int nvmlDeviceGetPowerUsage(void *device, unsigned *mw)
{
    (void)device;
    *mw = (unsigned)(watts * 1e3);
    return 0;
}

int nvmlDeviceGetClockInfo(void *device, int type, unsigned *mhz);
int nvmlDeviceGetClockInfo(void *device, int type, unsigned *mhz)
{
    (void)device;
    *mhz = clock_mhz;
    return type == 1 ? 0 : 2;
}

int nvmlDeviceGetDefaultApplicationsClock(void *device, int type, unsigned *mhz);
int nvmlDeviceGetDefaultApplicationsClock(void *device, int type, unsigned *mhz)
{
    (void)device, (void)type;
    *mhz = default_mhz;
    return default_mhz ? 0 : 3;
}

int nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned *mhz);
int nvmlDeviceGetMaxClockInfo(void *device, int type, unsigned *mhz)
{
    (void)device, (void)type;
    *mhz = 1980;
    return 0;
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *c);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *c)
{
    (void)device;
    *c = celsius;
    return sensor ? 2 : 0;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size);
int nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    snprintf(out, size, "580.65.06");
    return 0;
}

struct process {
    unsigned pid;
    unsigned long long bytes;
    unsigned instance[2];
};

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *p);
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *p)
{
    (void)device;
    unsigned n = (unsigned)(others < 0 ? 1 : others + 1);
    if (*count < n) return 7;
    memset(p, 0, n * sizeof *p);
    for (unsigned i = 0; i < n; i++) p[i].pid = i || others < 0 ? 1 : (unsigned)getpid();
    *count = n;
    return 0;
}
