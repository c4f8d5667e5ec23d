/* --data, --valid and --vocab on the command line: the text of one architecture, by hand. */
#ifndef TAUT_CLI_DATAARG_H
#define TAUT_CLI_DATAARG_H

#include "cli/cli.h"
#include "evaluator/data.h"
#include "searchspace/arch.h"

#define DATAARG_DATA {"data", 0, "PATH", "text to train on: a file, a folder, a 'pattern*'; or token shards (.bin)", false}
#define DATAARG_VALID {"valid", 0, "PATH", "held-out text of its own; or a share, from the end of each file (default: 0.05)", false}
#define DATAARG_VOCAB {"vocab", 0, "N", "the data is token shards (uint16, as llm.c and nanoGPT write them) over so many tokens", false}

/* The held-out part is looked at to its end: what is wrong with it should be known first. Exit status; errors are printed, in the options' words. */
int dataarg_open(struct cli *c, const struct arch *a, struct data **out);
/* Of what a person named: wrong unless this machine is at fault. */
int dataarg_exit(st_t st);

#endif
