#include "config.h"

#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

volatile int interrupted;

static void on_signal(int number)
{
    if (interrupted) _exit(128 + number);
    interrupted = number;
}

void interrupt_catch(void)
{
    /* Restarted: a line half written to a full pipe is not to be lost. Waiting in poll ends at a signal all the same. */
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
}

int interrupt_status(void)
{
    return 128 + interrupted;
}

void interrupt_hold_stop(bool hold)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTSTP);
    sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &stop, NULL);
}
