#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static const char *_Atomic program_name = "taut";
static _Atomic int max_level = LOG_WARN;

static const char *const level_name[] = {"error", "warn", "info", "debug"};

void base_log_init(const char *program, enum base_log_level level)
{
    program_name = program;
    max_level = (int)level;
}

enum base_log_level base_log_level_get(void)
{
    return (enum base_log_level)max_level;
}

void base_log(enum base_log_level level, const char *fmt, ...)
{
    if ((int)level > max_level) return;
    int saved = errno; /* a log line must not change what the caller reports next */
    char line[LINE_MAX_BYTES];
    int at = snprintf(line, sizeof line, "%s: %s: ", program_name, level_name[level]);
    if (at < 0) at = 0;
    if (at > LINE_MAX_BYTES / 2) at = LINE_MAX_BYTES / 2;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line + at, sizeof line - (size_t)at - 1, fmt, ap);
    va_end(ap);
    if (n < 0) n = 0;
    size_t len = strlen(line);
    for (size_t i = 0; i < len; i++)
        if (line[i] == '\n' || line[i] == '\r') line[i] = ' ';
    line[len++] = '\n';
    for (size_t done = 0; done < len;) {
        ssize_t w = write(STDERR_FILENO, line + done, len - done);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) break;
        done += (size_t)w;
    }
    errno = saved;
}
