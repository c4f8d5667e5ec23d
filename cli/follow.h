/* Watching a job: one line an evaluation, and on a terminal a block below them that is redrawn in place (bar, rate, time left, best, what runs now).
 *
 *   struct follow f;
 *   follow_init(&f, c, info);                        // info: job.get
 *   follow_attach(&f, wire);                         // also after a reconnect: goes on after the last event seen
 *   while (!(st = follow_step(&f, 200)) && !f.ended) …
 *   follow_fini(&f);                                 // the block is gone, the lines stay */
#ifndef TAUT_CLI_FOLLOW_H
#define TAUT_CLI_FOLLOW_H

#include <jansson.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "wire/wire.h"

struct follow {
    const struct cli *cli;
    struct wire_client *wire; /* borrowed; NULL: not attached */
    int64_t job, after;       /* after: the last event seen */
    json_t *info;             /* job.get, as last asked */
    bool raw;                 /* events as JSON lines, nothing else */
    bool ended;               /* done, failed or cancelled */
    bool writable;            /* tautd can write its store */
    bool full;                /* set by the caller: its evaluator has no room to write to */
    long reported;            /* evaluations as the events seen have it */
    uint64_t asked_ns;        /* when info was asked for */
    int drawn;                /* lines of the block on the screen */
    char message[200];        /* what the caller has to say in the block; "" for nothing */
    char told[320];           /* the last reason for waiting that was said in plain lines */
    uint64_t waiting_ns;      /* since when it waits; 0: it does not */
};

void follow_init(struct follow *f, const struct cli *c, json_t *info /* stolen */);
void follow_fini(struct follow *f);
st_t follow_attach(struct follow *f, struct wire_client *wire); /* ST_ECLOSED, … */
/* Handles what comes within ms. ST_OK, also when nothing came; ST_ECANCELED; ST_ECLOSED. */
st_t follow_step(struct follow *f, int ms);
/* A line of its own above the block. */
void follow_say(struct follow *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void follow_message(struct follow *f, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* into the block; "" takes it out */
const char *follow_state(const struct follow *f);
/* Why the job cannot go on (tautd does not read it, or the store is damaged), when all that has happened is told; NULL: it can, or has ended. */
const char *follow_unread(const struct follow *f);

#endif
