/* A job as one HTML page that needs nothing from outside: what it shows is collected from tautd (report_data.c), put into the page as a JSON
 * island, and drawn by the page's own script (cli/report/, built into report_page.c). */
#ifndef TAUT_CLI_REPORT_H
#define TAUT_CLI_REPORT_H

#include <limits.h>

#include "base/buf.h"
#include "cli/connect.h"

/* " OPTION PATH" for a shell: the path absolute, quoted where that is needed. buf: at least REPORT_WHERE_MAX. */
#define REPORT_WHERE_MAX (4 * PATH_MAX + 64)
const char *report_where(char *buf, const char *option, const char *path);
/* The page of a job, appended to page. info: job.get; where: " --dir DIR", " --socket PATH" or "", as the commands that the page names need it.
 * Exit status; errors are printed. */
int report_make(struct conn *k, json_t *info, const char *where, struct base_buf *page);
/* Beside path first, then renamed over it: path holds the whole page or what it held before. What is not a regular file (a pipe, a device) is written
 * as it is. */
st_t report_save(const struct base_buf *page, const char *path, struct base_err *err);

/* What the page draws, as one object. Front rows are those of job.front; the rest is thinned until the page stays below 5 MB, and "notes" say of
 * what was left out. NULL: *rc is the exit status, and the error is printed. */
json_t *report_data(struct conn *k, json_t *info, const char *where, int *rc);

/* The page around the data: text with a line each where the job's name (a title), the data and nothing else go. */
extern const char report_page[];
#define REPORT_TITLE "@TITLE@"
#define REPORT_DATA "@DATA@"

#endif
