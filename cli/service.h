/* The daemons that `taut run` keeps: a tautd on a folder, an evaluator for it. Started, watched, started again when they die, stopped in good order.
 *
 *   struct service s;
 *   rc = service_open(&s, c, dir);                  // connected: s.wire; its own tautd, or one that served DIR already
 *   service_evaluator(&s, threads, device);         // from now on an evaluator is kept as well
 *   … rc = service_check(&s) now and then: starts again what has died; s.fresh tells that s.wire is a new connection
 *   service_close(&s);
 *
 * A folder has one evaluator at a time: it holds DIR/evaluator.lock (flock, inherited) as long as it lives. So one that an earlier command left behind
 * hands back its trial before the next one asks for work, and of several commands on a folder one has the evaluator, and another one follows it. */
#ifndef TAUT_CLI_SERVICE_H
#define TAUT_CLI_SERVICE_H

#include <limits.h>

#include "cli/child.h"
#include "cli/cli.h"
#include "wire/wire.h"

struct service {
    const struct cli *cli;
    char dir[PATH_MAX], socket[PATH_MAX]; /* dir: absolute */
    struct wire_client *wire;
    bool fresh;                           /* wire was opened since the caller last looked */
    struct child tautd, evaluator;
    bool evaluates;                       /* an evaluator is kept */
    bool evaluator_up;                    /* started, and its end not seen yet */
    uint64_t held_ns;                     /* since when another one's evaluator has the lock; 0: it has not */
    bool held_told;
    const char *threads, *device;         /* NULL: the evaluator's defaults */
    int deaths[2];                        /* of tautd and evaluator in a row */
    uint64_t started_ns[2], again_ns[2];
    /* What is said to whoever waits. */
    void (*say)(void *ctx, const char *text);
    void *ctx;
};

/* Exit statuses; errors are printed. CLI_INTERRUPTED: Ctrl-C. */
int service_open(struct service *s, const struct cli *c, const char *dir, void (*say)(void *ctx, const char *text), void *ctx);
void service_evaluator(struct service *s, const char *threads, const char *device);
int service_check(struct service *s);
void service_lost(struct service *s); /* the connection has failed: the next check opens another */
void service_worked(struct service *s); /* the search has moved: earlier deaths of the daemons count no more */
/* Is there room in the folder for another checkpoint like those that are there? */
bool service_room(const struct service *s);
/* The evaluator hands back its trial first, then tautd leaves. */
void service_close(struct service *s);

#endif
