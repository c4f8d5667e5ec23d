#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN 64
#define ARENA_BLOCK 65536

/* The header fills one alignment unit, so that data starts aligned. */
struct base_arena_block {
    _Alignas(ARENA_ALIGN) struct base_arena_block *next;
    size_t size, used; /* of data */
    _Alignas(ARENA_ALIGN) unsigned char data[];
};

void base_arena_init(struct base_arena *a, size_t block_bytes)
{
    *a = (struct base_arena){NULL, block_bytes ? block_bytes : ARENA_BLOCK, 0};
}

void base_arena_fini(struct base_arena *a)
{
    while (a->head) {
        struct base_arena_block *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->used = 0;
}

static void *alloc(struct base_arena *a, size_t n, size_t align)
{
    if (n > SIZE_MAX / 2) return NULL;
    if (n == 0) n = 1; /* distinct objects have distinct addresses */
    struct base_arena_block *b = a->head;
    size_t at = b ? (b->used + align - 1) & ~(align - 1) : 0;
    if (!b || at > b->size || n > b->size - at) {
        size_t size = n > a->block_bytes ? n : a->block_bytes;
        size = (size + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
        struct base_arena_block *fresh = aligned_alloc(ARENA_ALIGN, sizeof *fresh + size);
        if (!fresh) return NULL;
        fresh->size = size;
        fresh->used = 0;
        if (b && n > a->block_bytes) {
            /* An outsized object gets a block of its own behind the head, whose rest stays in use. */
            fresh->next = b->next;
            b->next = fresh;
        } else {
            fresh->next = b;
            a->head = fresh;
        }
        b = fresh;
        at = 0;
    }
    a->used += at + n - b->used;
    b->used = at + n;
    return b->data + at;
}

void *base_arena_alloc(struct base_arena *a, size_t n)
{
    void *p = alloc(a, n, ARENA_ALIGN);
    return p ? memset(p, 0, n) : NULL;
}

char *base_arena_strdup(struct base_arena *a, const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = alloc(a, n, 1);
    return p ? memcpy(p, s, n) : NULL;
}

void base_arena_reset(struct base_arena *a)
{
    if (!a->head) return;
    struct base_arena_block *rest = a->head->next;
    a->head->next = NULL;
    a->head->used = 0;
    a->used = 0;
    while (rest) {
        struct base_arena_block *next = rest->next;
        free(rest);
        rest = next;
    }
}
