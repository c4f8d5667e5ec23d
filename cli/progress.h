/* The bar of long work in this process: one line that is redrawn in place on a terminal, and nothing elsewhere.
 *
 *   progress_draw(c, done / all, "step %d/%d   loss %.3f", …);    // now and then; drawn at most ten times a second
 *   progress_clear(c);                                            // before anything else is printed */
#ifndef TAUT_CLI_PROGRESS_H
#define TAUT_CLI_PROGRESS_H

#include "cli/cli.h"

bool progress_live(const struct cli *c); /* is there a bar at all? Not with --json or -q. */
/* share: NAN: no bar, the text alone. */
void progress_draw(const struct cli *c, double share, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void progress_clear(const struct cli *c);

#endif
