/* Numbers, sizes and times for people. Each writes into buf (FMT_MAX bytes) and returns it. */
#ifndef TAUT_CLI_FORMAT_H
#define TAUT_CLI_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#define FMT_MAX 48

char *fmt_count(char *buf, double v);              /* 212,352 */
char *fmt_short(char *buf, double v);              /* 212 k, 4.81 M: three digits */
char *fmt_bytes(char *buf, double v);              /* 849 kB, 12 B */
char *fmt_number(char *buf, double v);             /* four digits, no exponent where it can be helped; "-" for NaN */
char *fmt_duration(char *buf, double seconds);     /* 58 s, 9:58 min, 1:02:03 h, 3 d 04 h */
char *fmt_ago(char *buf, int64_t at_ms);           /* "5:12 min ago" */
/* A metric's value in the unit that its name has: bytes as sizes, counts short, the rest as numbers. */
char *fmt_metric(char *buf, const char *metric, double v);
char *fmt_metric_whole(char *buf, const char *metric, double v); /* and its unit behind it: "3.14 ms", "849 kB" */
char *fmt_rate(char *buf, double v);               /* of something an hour: a digit behind the point, none where there are many */
/* text as one word of a shell, quoted where that is needed; cut off where it does not fit. buf of size bytes, returned. */
char *fmt_shell(char *buf, size_t size, const char *text);
/* "B", "ms", "" … */
const char *fmt_metric_unit(const char *metric);

#endif
