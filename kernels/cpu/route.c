/* Routing: probabilities, choice and the order by expert in blocks of tokens; what an expert has in the blocks before one says where that one's pairs
 * go. */
#ifndef VEC_PASS
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/rows.h"

#define BLOCK 64    /* tokens a task, at least as many as experts: counts of all blocks stay as small as the tokens' own numbers */
#define TINY 1e-20f /* as ref/moe.c */

#define VEC_FILE "kernels/cpu/route.c"
#include "kernels/cpu/vec_each.h"

static void (*const shares_each[])(float *p, const float *z, int sigmoid, int64_t E) = VEC_EACH(shares);
static void (*const add_each[])(float *sum, const float *p, int64_t E) = VEC_EACH(add);
static void (*const back_each[])(float *dz, const float *z, const float *p, const float *dp, float pdp, int sigmoid,
                                 int64_t E) = VEC_EACH(back);

struct ctx {
    struct kn_dev *dev;
    struct rows z, p, w, dw, dz;
    int32_t *index, *offset, *order, *row;
    int64_t i0, i1, N, E, k, block;
    int32_t *at;  /* [blocks, E] pairs of each block; then the row of its first */
    float *sum;   /* [blocks, E] of p; NULL: no loss wanted */
    int sigmoid;
    float aux; /* backward: what f_e N k is multiplied by */
};

/* The k largest of z, in falling order: an insertion keeps them sorted, and what comes later must be larger to pass. */
static void choose(const float *z, int64_t E, int64_t k, int32_t *to)
{
    int64_t n = 0;
    for (int64_t e = 0; e < E; e++) {
        int64_t j = n;
        while (j > 0 && z[e] > z[to[j - 1]]) j--;
        if (j == k) continue;
        for (int64_t i = n < k ? n : k - 1; i > j; i--) to[i] = to[i - 1];
        to[j] = (int32_t)e;
        n += n < k;
    }
}

void cpu_route_row(const struct kn_dev *dev, const float *z, int sigmoid, int64_t E, int64_t k, float *p, int32_t *chosen, float *w)
{
    float sum = sigmoid ? TINY : 0;
    shares_each[cpu_of(dev)->isa](p, z, sigmoid, E);
    choose(z, E, k, chosen);
    for (int64_t s = 0; s < k; s++) sum += p[chosen[s]];
    for (int64_t s = 0; s < k; s++) w[s] = p[chosen[s]] / sum;
}

static void choose_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t E = c->E, k = c->k, from = task * c->block, end = from + c->block < c->N ? from + c->block : c->N;
    /* counts and sums are added up here: those of neighbouring blocks share cache lines */
    float *zbuf = cpu_scratch(c->dev, worker), *pbuf = zbuf + E, *total = pbuf + E, *w = total + E;
    int32_t *count = (int32_t *)(w + k), *chosen = count + E;
    memset(count, 0, (size_t)E * sizeof *count);
    memset(total, 0, (size_t)E * sizeof *total);
    for (int64_t t = from; t < end; t++) {
        const float *z = row_in(&c->z, t, E, zbuf);
        float *p = row_out(&c->p, t, pbuf), *to = row_out(&c->w, t, w);
        cpu_route_row(c->dev, z, c->sigmoid, E, k, p, chosen, to);
        if (c->sum) add_each[cpu_of(c->dev)->isa](total, p, E);
        for (int64_t s = 0; s < k; s++) {
            c->index[t * c->i0 + s * c->i1] = chosen[s];
            count[chosen[s]]++;
        }
        row_done(&c->w, t, k, to);
        row_done(&c->p, t, E, p);
    }
    memcpy(c->at + task * E, count, (size_t)E * sizeof *count);
    if (c->sum) memcpy(c->sum + task * E, total, (size_t)E * sizeof *total);
}

static void order_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t from = task * c->block, end = from + c->block < c->N ? from + c->block : c->N;
    int32_t *next = memcpy(cpu_scratch(c->dev, worker), c->at + task * c->E, (size_t)c->E * sizeof *next);
    for (int64_t t = from; t < end; t++)
        for (int64_t s = 0; s < c->k; s++) {
            int32_t r = next[c->index[t * c->i0 + s * c->i1]]++;
            c->order[r] = (int32_t)(t * c->k + s);
            c->row[t * c->k + s] = r;
        }
}

/* From pairs of each block to rows; the load-balance loss. */
static double bounds(struct ctx *c, int64_t blocks)
{
    int32_t r = 0;
    double loss = 0, n = (double)c->N;
    for (int64_t e = 0; e < c->E; e++) {
        double P = 0;
        c->offset[e] = r;
        for (int64_t b = 0; b < blocks; b++) {
            int32_t *at = &c->at[b * c->E + e], count = *at;
            *at = r;
            r += count;
            if (c->sum) P += (double)c->sum[b * c->E + e];
        }
        loss += (double)(r - c->offset[e]) * P;
    }
    c->offset[c->E] = r;
    return loss * (double)c->E / (n * n * (double)c->k);
}

st_t cpu_route(struct kn_dev *dev, const struct kn_tensor *z, int sigmoid, const struct kn_tensor *p, const struct kn_tensor *index,
               const struct kn_tensor *w, const struct kn_tensor *offset, const struct kn_tensor *order, const struct kn_tensor *row,
               const struct kn_tensor *aux)
{
    st_t st = kn_check_route(z, sigmoid, p, index, w, offset, order, row, aux);
    if (st) return st;
    if (z->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {
        .dev = dev, .z = rows_of(z), .p = rows_of(p), .w = rows_of(w), .index = index->p, .i0 = index->s[0], .i1 = index->s[1],
        .offset = offset->p, .order = order->p, .row = row->p, .N = z->d[0], .E = z->d[1], .k = w->d[1], .sigmoid = sigmoid};
    c.block = c.E > BLOCK ? c.E : BLOCK;
    int64_t blocks = (c.N + c.block - 1) / c.block;
    void *mem;
    st = cpu_scratch_need(dev, (size_t)(4 * c.E + 2 * c.k) * sizeof(float));
    if (!st) st = cpu_shared(dev, CPU_SLOT_OP, (size_t)(2 * blocks * c.E) * sizeof(float), &mem);
    if (st) return st;
    c.at = mem;
    c.sum = kn_absent(aux) ? NULL : (float *)mem + blocks * c.E;
    double work = (double)c.N * (double)(c.E + 8 * c.k) * 2;
    cpu_run(dev, choose_task, &c, (int)blocks, work);
    double loss = bounds(&c, blocks);
    cpu_run(dev, order_task, &c, (int)blocks, (double)c.N * (double)c.k * 2);
    if (c.sum && c.N) *(float *)aux->p += (float)loss;
    return ST_OK;
}

/* The formulas: ref/moe.c. */
static void back_task(void *arg, int task, int worker)
{
    struct ctx *c = arg;
    int64_t E = c->E, k = c->k, from = task * c->block, end = from + c->block < c->N ? from + c->block : c->N;
    float *dp = cpu_scratch(c->dev, worker), *zbuf = dp + E, *pbuf = zbuf + E, *out = pbuf + E, *wbuf = out + E, *dwbuf = wbuf + k;
    for (int64_t t = from; t < end; t++) {
        const float *z = row_in(&c->z, t, E, zbuf), *p = row_in(&c->p, t, E, pbuf), *w = row_in(&c->w, t, k, wbuf),
                    *dw = row_in(&c->dw, t, k, dwbuf);
        const int32_t *chosen = c->index + t * c->i0;
        float sum = c->sigmoid ? TINY : 0, wdw = 0, pdp = 0, *dz = row_out(&c->dz, t, out);
        for (int64_t e = 0; e < E; e++) dp[e] = c->aux * (float)(c->offset[e + 1] - c->offset[e]);
        for (int64_t s = 0; s < k; s++) sum += p[chosen[s * c->i1]], wdw += w[s] * dw[s];
        for (int64_t s = 0; s < k; s++) dp[chosen[s * c->i1]] += (dw[s] - wdw) / sum;
        for (int64_t e = 0; e < E; e++) pdp += p[e] * dp[e];
        back_each[cpu_of(c->dev)->isa](dz, z, p, dp, pdp, c->sigmoid, E);
        row_done(&c->dz, t, E, dz);
    }
}

st_t cpu_route_bwd(struct kn_dev *dev, const struct kn_tensor *z, int sigmoid, const struct kn_tensor *p, const struct kn_tensor *index,
                   const struct kn_tensor *w, const struct kn_tensor *offset, const struct kn_tensor *dw, double aux,
                   const struct kn_tensor *dz)
{
    st_t st = kn_check_route_bwd(z, sigmoid, p, index, w, offset, dw, aux, dz);
    if (st) return st;
    if (z->dtype != KN_F32) return ST_ENOTSUP;
    struct ctx c = {
        .dev = dev, .z = rows_of(z), .p = rows_of(p), .w = rows_of(w), .dw = rows_of(dw), .dz = rows_of(dz), .index = index->p,
        .i0 = index->s[0], .i1 = index->s[1], .offset = offset->p, .N = z->d[0], .E = z->d[1], .k = w->d[1], .block = BLOCK, .sigmoid = sigmoid};
    if (!c.N) return ST_OK;
    c.aux = (float)(aux * (double)c.E / ((double)c.N * (double)c.N * (double)c.k));
    st = cpu_scratch_need(dev, (size_t)(4 * c.E + 2 * c.k) * sizeof(float));
    if (st) return st;
    cpu_run(dev, back_task, &c, (int)((c.N + BLOCK - 1) / BLOCK), (double)c.N * (double)(4 * c.E + 8 * c.k));
    return ST_OK;
}

#else

/* p = softmax(z), or sigmoids over their sum. */
static void VEC_NAME(shares)(float *p, const float *z, int sigmoid, int64_t E)
{
    vf one = vf_set1(1.0f), total = vf_zero();
    float max = z[0], sum = sigmoid ? TINY : 0;
    for (int64_t e = 1; e < E; e++) max = z[e] > max ? z[e] : max;
    for (int64_t e = 0; e < E; e += VL) {
        int64_t n = E - e < VL ? E - e : VL;
        vf x = vf_loadn(z + e, n);
        x = sigmoid ? vf_div(one, vf_add(one, vf_exp(vf_sub(vf_zero(), x)))) : vf_exp(vf_sub(x, vf_set1(max)));
        vf_storen(p + e, x, n);
        total = vf_add(total, vf_loadn(p + e, n));
    }
    sum += vf_hsum(total);
    for (int64_t e = 0; e < E; e += VL) {
        int64_t n = E - e < VL ? E - e : VL;
        vf_storen(p + e, vf_div(vf_loadn(p + e, n), vf_set1(sum)), n);
    }
}

static void VEC_NAME(add)(float *sum, const float *p, int64_t E)
{
    for (int64_t e = 0; e < E; e += VL) {
        int64_t n = E - e < VL ? E - e : VL;
        vf_storen(sum + e, vf_add(vf_loadn(sum + e, n), vf_loadn(p + e, n)), n);
    }
}

static void VEC_NAME(back)(float *dz, const float *z, const float *p, const float *dp, float pdp, int sigmoid, int64_t E)
{
    vf one = vf_set1(1.0f);
    for (int64_t e = 0; e < E; e += VL) {
        int64_t n = E - e < VL ? E - e : VL;
        vf v = vf_mul(vf_loadn(p + e, n), vf_sub(vf_loadn(dp + e, n), vf_set1(pdp)));
        /* 1 - sigmoid(z) = 1 / (1 + e^z) */
        if (sigmoid) v = vf_div(v, vf_add(one, vf_exp(vf_loadn(z + e, n))));
        vf_storen(dz + e, v, n);
    }
}

#endif
