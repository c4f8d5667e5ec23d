/* One line a message on stderr: "tautd: warn: job 3 trial 17: …". Levels by -q / -v; nothing else prints but the CLI. */
#ifndef TAUT_BASE_LOG_H
#define TAUT_BASE_LOG_H

enum base_log_level { LOG_ERROR = 0, LOG_WARN = 1, LOG_INFO = 2, LOG_DEBUG = 3 };

/* Program name (borrowed, must outlive) and the highest level printed. Default: "taut", LOG_WARN. */
void base_log_init(const char *program, enum base_log_level level);
enum base_log_level base_log_level_get(void);

/* Thread-safe; one write(2) a line; newlines in the text become spaces. */
void base_log(enum base_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) base_log(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) base_log(LOG_WARN, __VA_ARGS__)
#define log_info(...) base_log(LOG_INFO, __VA_ARGS__)
#define log_debug(...) base_log(LOG_DEBUG, __VA_ARGS__)

#endif
