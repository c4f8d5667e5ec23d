/* Ctrl-C, SIGTERM and SIGHUP for the verbs that end their work in good order: the first is a flag, the second ends the process at once. */
#ifndef TAUT_CLI_INTERRUPT_H
#define TAUT_CLI_INTERRUPT_H

#include <stdbool.h>

extern volatile int interrupted; /* 0, or the signal's number */

void interrupt_catch(void);
int interrupt_status(void); /* 128 + the signal's number */

/* Ctrl-Z waits while the machine's lock (evaluator/hostlock.h) is held: work put aside would keep all others from timing. To be held when a device is
 * opened, too, so that the pool's threads are born with it blocked and it is up to the caller's thread alone. */
void interrupt_hold_stop(bool hold);

#endif
