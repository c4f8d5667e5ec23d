/* Ctrl-C, SIGTERM and SIGHUP for the verbs that end their work in good order: the first is a flag, the second ends the process at once. */
#ifndef TAUT_CLI_INTERRUPT_H
#define TAUT_CLI_INTERRUPT_H

extern volatile int interrupted; /* 0, or the signal's number */

void interrupt_catch(void);
int interrupt_status(void); /* 128 + the signal's number */

#endif
