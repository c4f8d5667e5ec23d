/* The controller daemon as a library: a store, its jobs and a socket in a uv loop. main.c is a thin shell round it.
 *
 *   struct ctl *c;
 *   st = ctl_new(&c, loop, &(struct ctl_options){.dir = dir, .socket = path}, &err);    // opens the store, listens
 *   uv_run(loop, UV_RUN_DEFAULT);                                                       // until ctl_stop
 *   ctl_free(c);
 *
 * Promises
 *   - What was acknowledged is durable: a reply leaves after the commit of what its handler wrote. Handlers append events to an open transaction; it
 *     is committed once per burst of input, so many reports share one sync.
 *   - When a commit fails (disk full) the burst's replies become WIRE_ENOSPC errors, memory is brought back to what the store says, one line
 *     is logged, leasing stops, reading goes on, and every CTL_RETRY_S the store is tried again.
 *   - No input ends the daemon. */
#ifndef TAUT_CONTROLLER_CONTROLLER_H
#define TAUT_CONTROLLER_CONTROLLER_H

#include <stdbool.h>
#include <uv.h>

#include "base/err.h"

#define CTL_HEARTBEAT_S 15
#define CTL_LEASE_S 120
#define CTL_RETRY_S 1
#define CTL_READER_S 10 /* a reader without any connection leaves after so long */

struct ctl_options {
    const char *dir, *socket;   /* copied */
    double heartbeat_s, lease_s; /* 0: the defaults above */
    bool reader;                /* leases and expires nothing, leaves with its last connection */
};

struct ctl;
st_t ctl_new(struct ctl **out, uv_loop_t *loop, const struct ctl_options *o, struct base_err *err);
/* Stops leasing, answers evaluators that wait, closes the connections; the loop then runs out. Leases stay, for evaluators that come back. Idempotent. */
void ctl_stop(struct ctl *c);
/* After the loop has run out (or when ctl_new's caller gives up before running it). */
void ctl_free(struct ctl *c);

#endif
