/* Time. Durations use base_clock_ns (CLOCK_MONOTONIC_RAW); points in time stored for people use base_clock_wall_ms. */
#ifndef TAUT_BASE_CLOCK_H
#define TAUT_BASE_CLOCK_H

#include <stdint.h>

uint64_t base_clock_ns(void);         /* CLOCK_MONOTONIC_RAW, ns */
int64_t base_clock_wall_ms(void);     /* CLOCK_REALTIME, ms since 1970 */
uint64_t base_clock_resolution_ns(void); /* smallest step seen between two readings of base_clock_ns, measured once */

#endif
