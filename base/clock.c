#include "base/clock.h"

#include <pthread.h>
#include <time.h>

uint64_t base_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int64_t base_clock_wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t resolution;

static void measure_resolution(void)
{
    uint64_t least = UINT64_MAX;
    for (int i = 0; i < 1000; i++) {
        uint64_t a = base_clock_ns(), b;
        do b = base_clock_ns();
        while (b == a);
        if (b - a < least) least = b - a;
    }
    resolution = least;
}

uint64_t base_clock_resolution_ns(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, measure_resolution);
    return resolution;
}
