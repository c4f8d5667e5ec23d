/* A second voice: tells tautd that the lease in hand is being worked on while the worker is too busy to say so itself (a step, a call that is timed, a text
 * of many gigabytes that is hashed), so that the lease does not run out. A thread with a connection of its own; silent as long as the worker speaks.
 *
 *   struct beat *b;
 *   st = beat_start(&b, socket);
 *   beat_hold(b, lease, epoch, every_s);     // now this one is worked on; lease 0: none
 *   beat_spoken(b);                          // the worker has spoken itself
 *   if (beat_taken(b)) …                     // tautd has said to stop
 *   beat_stop(b); */
#ifndef TAUT_EVALUATOR_BEAT_H
#define TAUT_EVALUATOR_BEAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define BEAT_LEAST_S 1.0 /* shortest silence after which it speaks */

struct beat;
st_t beat_start(struct beat **out, const char *socket /* borrowed */);
void beat_stop(struct beat *b); /* NULL allowed */
void beat_hold(struct beat *b, int64_t lease, int64_t epoch, double every_s);
void beat_spoken(struct beat *b);
bool beat_taken(struct beat *b);

#endif
