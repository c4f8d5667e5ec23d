/* Bump allocator: many small objects, one free. Alignment 64 by default.
 *
 *   struct base_arena a; base_arena_init(&a, 0);
 *   struct foo *f = base_arena_alloc(&a, sizeof *f);       // zeroed; NULL when memory is out
 *   base_arena_fini(&a); */
#ifndef TAUT_BASE_ARENA_H
#define TAUT_BASE_ARENA_H

#include <stddef.h>

struct base_arena_block;
struct base_arena {
    struct base_arena_block *head;
    size_t block_bytes; /* size of a new block */
    size_t used;        /* bytes handed out, padding included */
};

void base_arena_init(struct base_arena *a, size_t block_bytes); /* 0: 64 KiB */
void base_arena_fini(struct base_arena *a);
void *base_arena_alloc(struct base_arena *a, size_t n) __attribute__((malloc));
char *base_arena_strdup(struct base_arena *a, const char *s);
void base_arena_reset(struct base_arena *a); /* frees all but one block */

#endif
