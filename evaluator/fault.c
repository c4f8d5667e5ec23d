#include "evaluator/fault.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

static _Thread_local sigjmp_buf *volatile back_to;

static void on_fault(int sig)
{
    if (back_to) siglongjmp(*back_to, 1);
    signal(sig, SIG_DFL); /* the instruction faults again */
}

static void install(void)
{
    struct sigaction sa = {.sa_handler = on_fault, .sa_flags = SA_NODEFER}; /* the jump leaves the handler: nothing must stay blocked */
    sigaction(SIGBUS, &sa, NULL);
}

void fault_begin(sigjmp_buf *back)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, install);
    back_to = back;
}

void fault_end(void)
{
    back_to = NULL;
}
