#include "cli/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "searchspace/metric.h"

char *fmt_count(char *buf, double v)
{
    char digits[40];
    int n = snprintf(digits, sizeof digits, "%.0f", fabs(v)), k = 0;
    if (!(fabs(v) < 1e18)) {
        snprintf(buf, FMT_MAX, "%.4g", v);
        return buf;
    }
    if (v < 0) buf[k++] = '-';
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) buf[k++] = ',';
        buf[k++] = digits[i];
    }
    buf[k] = '\0';
    return buf;
}

static char *scaled(char *buf, double v, const char *unit)
{
    static const char *const prefix[] = {"", "k", "M", "G", "T", "P", "E"};
    int i = 0;
    double x = fabs(v);
    while (i < 6 && x >= 999.5) x /= 1000, i++;
    bool whole = !i && x == floor(x);
    snprintf(buf, FMT_MAX, "%s%.*f%s%s%s", v < 0 ? "-" : "", whole || x >= 99.95 ? 0 : x >= 9.995 ? 1 : 2, x, i || *unit ? " " : "", prefix[i], unit);
    return buf;
}

char *fmt_short(char *buf, double v)
{
    return isfinite(v) ? scaled(buf, v, "") : fmt_number(buf, v);
}

char *fmt_bytes(char *buf, double v)
{
    return isfinite(v) ? scaled(buf, v, "B") : fmt_number(buf, v);
}

char *fmt_number(char *buf, double v)
{
    double x = fabs(v);
    if (isnan(v)) snprintf(buf, FMT_MAX, "-");
    else if (x == floor(x) && x < 1e6) snprintf(buf, FMT_MAX, "%.0f", v);
    else if (x >= 1e5 || x < 1e-4) snprintf(buf, FMT_MAX, "%.4g", v);
    else snprintf(buf, FMT_MAX, "%.*f", x >= 1000 ? 0 : x >= 100 ? 1 : x >= 10 ? 2 : x >= 1 ? 3 : x >= 0.1 ? 4 : x >= 0.01 ? 5 : x >= 0.001 ? 6 : 7, v);
    return buf;
}

char *fmt_duration(char *buf, double s)
{
    if (!isfinite(s) || s < 0) snprintf(buf, FMT_MAX, "-");
    else if (s < 9.95) snprintf(buf, FMT_MAX, "%.1f s", s);
    else if (s < 59.5) snprintf(buf, FMT_MAX, "%.0f s", s);
    else if (s < 3599.5) snprintf(buf, FMT_MAX, "%d:%02d min", (int)(s + 0.5) / 60, (int)(s + 0.5) % 60);
    else if (s < 86400) snprintf(buf, FMT_MAX, "%d:%02d:%02d h", (int)(s + 0.5) / 3600, (int)(s + 0.5) / 60 % 60, (int)(s + 0.5) % 60);
    else snprintf(buf, FMT_MAX, "%.0f d %02d h", floor(s / 86400), (int)(fmod(s, 86400) / 3600));
    return buf;
}

char *fmt_ago(char *buf, int64_t at_ms)
{
    char d[FMT_MAX];
    double s = (double)(base_clock_wall_ms() - at_ms) / 1000;
    if (s < 1) snprintf(buf, FMT_MAX, "just now");
    else snprintf(buf, FMT_MAX, "%.32s ago", fmt_duration(d, s));
    return buf;
}

char *fmt_shell(char *buf, size_t size, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@%=";
    bool quote = !*text || strspn(text, plain) != strlen(text);
    size_t at = (size_t)snprintf(buf, size, "%s", quote ? "'" : "");
    for (; *text && at + 6 < size; text++) {
        if (*text == '\'') at += (size_t)snprintf(buf + at, size - at, "'\\''");
        else buf[at++] = *text;
    }
    snprintf(buf + at, size - at, "%s", quote ? "'" : "");
    return buf;
}

static bool parse(struct metric *m, const char *name)
{
    return !space_metric_parse(m, name, false, "", NULL) || !space_metric_parse(m, name, true, "", NULL);
}

const char *fmt_metric_unit(const char *metric)
{
    struct metric m;
    return parse(&m, metric) && m.unit ? m.unit : "";
}

char *fmt_metric_whole(char *buf, const char *metric, double v)
{
    const char *unit = fmt_metric_unit(metric);
    size_t n = strlen(fmt_metric(buf, metric, v));
    if (*unit && strcmp(unit, "B")) snprintf(buf + n, FMT_MAX - n, " %s", unit); /* sizes have theirs */
    return buf;
}

char *fmt_rate(char *buf, double v)
{
    if (v >= 1e5) return fmt_short(buf, v);
    snprintf(buf, FMT_MAX, "%.*f", v >= 999.95 ? 0 : 1, v);
    return buf;
}

char *fmt_metric(char *buf, const char *metric, double v)
{
    struct metric m;
    if (!isfinite(v) || !parse(&m, metric) || m.def < 0) return fmt_number(buf, v);
    if (m.unit && !strcmp(m.unit, "B")) return fmt_bytes(buf, v);
    if (m.source == METRIC_PAPER || (m.unit && !strcmp(m.unit, "tokens/s"))) return fmt_short(buf, v);
    return fmt_number(buf, v);
}
