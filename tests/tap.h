/* TAP for test programs:
 *
 *   int main(void) { ok(1 + 1 == 2, "adds"); is_int(f(), 3, "f"); return tap_done(); }
 *
 * One program, many results; tap_done prints the plan and returns the exit status. */
#ifndef TAUT_TESTS_TAP_H
#define TAUT_TESTS_TAP_H

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int tap_n, tap_bad;

/* The larger; infinite where e is not a number, which fmax would leave out. */
__attribute__((unused)) static double tap_worse(double worst, double e)
{
    return isnan(e) ? INFINITY : fmax(worst, e);
}

__attribute__((format(printf, 2, 3), unused)) static int ok(int cond, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%sok %d - ", cond ? "" : "not ", ++tap_n);
    vprintf(fmt, ap);
    putchar('\n');
    fflush(stdout);
    va_end(ap);
    tap_bad += !cond;
    return cond;
}

#define is_int(got, want, ...)                                                              \
    do {                                                                                    \
        long long g_ = (long long)(got), w_ = (long long)(want);                            \
        if (!ok(g_ == w_, __VA_ARGS__)) printf("#   got %lld, want %lld (%s:%d)\n", g_, w_, __FILE__, __LINE__); \
    } while (0)

#define is_str(got, want, ...)                                                              \
    do {                                                                                    \
        const char *g_ = (got), *w_ = (want);                                               \
        if (!ok(g_ && w_ && !strcmp(g_, w_), __VA_ARGS__))                                  \
            printf("#   got  %s\n#   want %s (%s:%d)\n", g_ ? g_ : "(null)", w_ ? w_ : "(null)", __FILE__, __LINE__); \
    } while (0)

/* |got - want| <= tol * max(1, |want|) */
#define is_near(got, want, tol, ...)                                                        \
    do {                                                                                    \
        double g_ = (got), w_ = (want);                                                     \
        if (!ok(fabs(g_ - w_) <= (tol) * fmax(1.0, fabs(w_)), __VA_ARGS__))                 \
            printf("#   got %.17g, want %.17g (%s:%d)\n", g_, w_, __FILE__, __LINE__);      \
    } while (0)

__attribute__((unused)) static void tap_skip(const char *why)
{
    printf("ok %d # SKIP %s\n", ++tap_n, why);
}

__attribute__((unused)) static int tap_done(void)
{
    printf("1..%d\n", tap_n);
    return tap_bad ? 1 : 0;
}

#endif
