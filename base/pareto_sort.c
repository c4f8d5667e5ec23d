/* Radix sort, sets of small integers and blocks of ranks: the tools of the Pareto files. */
#include <stdlib.h>

#include "base/pareto_impl.h"

#if defined(__x86_64__)
#define HAVE_AVX2_PATH 1
#include <immintrin.h>
#endif

#define DIGIT_BITS 11
#define DIGITS 2048
#define HIGH_SHIFT 31 /* the three high digits: sign, exponent and 21 bits of mantissa */

static void insertion(struct po_rec *r, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct po_rec x = r[i];
        size_t j = i;
        for (; j > 0 && r[j - 1].key > x.key; j--) r[j] = r[j - 1];
        r[j] = x;
    }
}

static void merge(struct po_rec *r, struct po_rec *tmp, size_t n)
{
    if (n <= 24) {
        insertion(r, n);
        return;
    }
    size_t half = n / 2;
    merge(r, tmp, half);
    merge(r + half, tmp, n - half);
    if (r[half - 1].key <= r[half].key) return;
    memcpy(tmp, r, half * sizeof *r);
    for (size_t i = 0, j = half, k = 0; i < half; k++) r[k] = j == n || tmp[i].key <= r[j].key ? tmp[i++] : r[j++];
}

/* Three stable passes from bit `shift` up; digits in which all keys agree cost nothing. */
static void radix(struct po_rec *r, struct po_rec *tmp, size_t n, int shift)
{
    uint32_t count[3][DIGITS] = {{0}};
    for (size_t i = 0; i < n; i++)
        for (int d = 0; d < 3; d++) count[d][r[i].key >> (shift + d * DIGIT_BITS) & (DIGITS - 1)]++;
    struct po_rec *from = r, *to = tmp;
    for (int d = 0; d < 3; d++) {
        int s = shift + d * DIGIT_BITS;
        if (count[d][from[0].key >> s & (DIGITS - 1)] == n) continue;
        uint32_t at = 0;
        for (int i = 0; i < DIGITS; i++) {
            uint32_t c = count[d][i];
            count[d][i] = at;
            at += c;
        }
        for (size_t i = 0; i < n; i++) to[count[d][from[i].key >> s & (DIGITS - 1)]++] = from[i];
        struct po_rec *t = from;
        from = to;
        to = t;
    }
    if (from != r) memcpy(r, from, n * sizeof *r);
}

void po_sort(struct po_rec *r, struct po_rec *tmp, size_t n)
{
    if (n < 768) {
        merge(r, tmp, n);
        return;
    }
    radix(r, tmp, n, HIGH_SHIFT);
    /* Few keys agree in all the high digits, so the low ones seldom deserve passes of their own. */
    for (size_t i = 0, j; i < n; i = j) {
        for (j = i + 1; j < n && r[j].key >> HIGH_SHIFT == r[i].key >> HIGH_SHIFT; j++) {
        }
        if (j - i < 768) merge(r + i, tmp, j - i);
        else radix(r + i, tmp, j - i, 0);
    }
}

uint32_t po_dense(const double *z, size_t stride, size_t n, uint32_t *rank, struct po_rec *order, struct po_rec *tmp)
{
    if (n == 0) return 0;
    for (size_t i = 0; i < n; i++) order[i] = (struct po_rec){po_key(z[i * stride]), (uint32_t)i};
    po_sort(order, tmp, n);
    uint32_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && order[i].key != order[i - 1].key) k++;
        rank[order[i].at] = k;
    }
    return k + 1;
}

size_t po_bits_words(size_t n)
{
    size_t words = 0;
    do {
        n = (n + 63) / 64;
        words += n;
    } while (n > 1);
    return words ? words : 1;
}

void po_bits_init(struct po_bits *s, uint64_t *words, size_t n)
{
    memset(words, 0, po_bits_words(n) * sizeof *words);
    s->levels = 0;
    do {
        s->level[s->levels++] = words;
        n = (n + 63) / 64;
        words += n;
    } while (n > 1);
}

void po_bits_insert(struct po_bits *s, uint32_t i)
{
    for (int l = 0; l < s->levels; l++, i >>= 6) s->level[l][i >> 6] |= (uint64_t)1 << (i & 63);
}

void po_bits_erase(struct po_bits *s, uint32_t i)
{
    for (int l = 0; l < s->levels; l++, i >>= 6)
        if (s->level[l][i >> 6] &= ~((uint64_t)1 << (i & 63))) return;
}

long po_bits_at_most(const struct po_bits *s, uint32_t i)
{
    uint64_t w = s->level[0][i >> 6] & ~(uint64_t)0 >> (63 - (i & 63));
    int l = 0;
    while (!w) {
        i >>= 6;
        if (++l == s->levels) return -1;
        w = s->level[l][i >> 6] & (((uint64_t)1 << (i & 63)) - 1);
    }
    for (;;) {
        i = (i & ~63u) | (uint32_t)(63 - __builtin_clzll(w));
        if (l-- == 0) return (long)i;
        w = s->level[l][i];
        i <<= 6;
    }
}

long po_bits_at_least(const struct po_bits *s, uint32_t i)
{
    uint64_t w = s->level[0][i >> 6] & ~(uint64_t)0 << (i & 63);
    int l = 0;
    while (!w) {
        i >>= 6;
        if (++l == s->levels) return -1;
        w = s->level[l][i >> 6] & ~(uint64_t)1 << (i & 63);
    }
    for (;;) {
        i = (i & ~63u) | (uint32_t)__builtin_ctzll(w);
        if (l-- == 0) return (long)i;
        w = s->level[l][i];
        i <<= 6;
    }
}

/* Bit l of the answer: lane l is <= p in every row of the block. */
static unsigned block_below(const uint32_t *v, const uint32_t *p, int m)
{
    unsigned mask = 0xFF;
    for (int j = 0; j < m && mask; j++) {
        unsigned here = 0;
        for (int l = 0; l < 8; l++) here |= (unsigned)(v[8 * j + l] <= p[j]) << l;
        mask &= here;
    }
    return mask;
}

/* First block of [from, blocks) with a lane below p, or blocks. */
static size_t scan_portable(const uint32_t *v, size_t from, size_t blocks, const uint32_t *p, int m)
{
    while (from < blocks && !block_below(v + from * 8 * (size_t)m, p, m)) from++;
    return from;
}

#ifdef HAVE_AVX2_PATH
__attribute__((target("avx2"))) static size_t scan_avx2(const uint32_t *v, size_t from, size_t blocks, const uint32_t *p, int m)
{
    for (; from < blocks; from++) {
        const uint32_t *b = v + from * 8 * (size_t)m;
        __m256i all = _mm256_set1_epi32(-1);
        int j = 0;
        for (; j < m; j++) {
            __m256i q = _mm256_set1_epi32((int)p[j]);
            __m256i le = _mm256_cmpeq_epi32(_mm256_max_epu32(_mm256_loadu_si256((const __m256i *)(b + 8 * j)), q), q);
            all = _mm256_and_si256(all, le);
            if (_mm256_testz_si256(all, all)) break;
        }
        if (j == m) return from;
    }
    return from;
}
#endif

int po_block_test(const struct po_block_set *s, const uint32_t *p, uint64_t sum)
{
    size_t blocks = (s->n + 7) / 8;
    size_t (*scan)(const uint32_t *, size_t, size_t, const uint32_t *, int) = scan_portable;
#ifdef HAVE_AVX2_PATH
    if (__builtin_cpu_supports("avx2")) scan = scan_avx2;
#endif
    size_t at = scan(s->v, 0, blocks, p, s->m);
    if (at == blocks) return 0;
    unsigned mask = block_below(s->v + at * 8 * (size_t)s->m, p, s->m);
    /* Members do not dominate each other: if one equals p, no other can be below it. */
    return s->sum[at * 8 + (unsigned)__builtin_ctz(mask)] == sum ? 2 : 1;
}

st_t po_block_add(struct po_block_set *s, const uint32_t *p, uint64_t sum)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        uint32_t *v = realloc(s->v, cap * (size_t)s->m * sizeof *v);
        if (v) s->v = v;
        uint64_t *t = v ? realloc(s->sum, cap * sizeof *t) : NULL;
        if (!t) return ST_ENOMEM;
        s->sum = t;
        /* Lanes without a member hold the greatest rank, which is below nothing. */
        memset(v + s->cap * (size_t)s->m, 0xFF, (cap - s->cap) * (size_t)s->m * sizeof *v);
        s->cap = cap;
    }
    uint32_t *b = s->v + s->n / 8 * 8 * (size_t)s->m + s->n % 8;
    for (int j = 0; j < s->m; j++) b[8 * j] = p[j];
    s->sum[s->n++] = sum;
    return ST_OK;
}

void po_block_fini(struct po_block_set *s)
{
    free(s->v);
    free(s->sum);
}

st_t po_rank_rows(const double *z, size_t n, int m, uint32_t *p, uint64_t *sum, struct po_rec *order)
{
    struct po_rec *tmp = malloc((n + 1) * sizeof *tmp);
    uint32_t *column = malloc((n + 1) * sizeof *column);
    if (!tmp || !column) {
        free(tmp);
        free(column);
        return ST_ENOMEM;
    }
    memset(sum, 0, n * sizeof *sum);
    for (int j = 0; j < m; j++) {
        po_dense(z + j, (size_t)m, n, column, order, tmp);
        for (size_t i = 0; i < n; i++) {
            p[i * (size_t)m + (size_t)j] = column[i];
            sum[i] += column[i];
        }
    }
    for (size_t i = 0; i < n; i++) order[i] = (struct po_rec){sum[i] << 26, (uint32_t)i}; /* into the high digits: < 2^36 */
    po_sort(order, tmp, n);
    free(tmp);
    free(column);
    return ST_OK;
}
