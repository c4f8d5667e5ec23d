/* Head and cross-entropy. Rows go through in blocks: a block's logits by one product, softmax, loss and gradient in place by one kernel, then two products back:
 *   z = x w^T     dz = gscale (softmax(z) - onehot)     dx = dz w     dw += dz^T x
 * With a teacher (Hinton et al. 2015, arXiv:1503.02531) its logits z' are a second such block, and dz = gscale (softmax(z) - (1 - mix) onehot - mix softmax(z')).
 *
 * Scratch: logits of all kinds together at most 256 MiB (128 rows where fewer of them are larger) of at most 8192 rows; under precision bf16 also w, and the block's x,
 * in bf16. Large blocks, because each reads and writes dw once, 8 V D bytes against the 6 rows V D operations of its products; no more than 8192 rows, so that the logits
 * of small vocabularies stay in the L2 cache.
 *
 * The kernel reads a row once, 4 V bytes, and writes 4 V or, as bf16 for the products back, 2 V: a row of up to 1024 words in a warp's registers; a longer one by a block,
 * which keeps in shared memory what fits of it (all of it up to some 57,000 words on compute capability 9.0) and reads the rest again. Greatest logit and sum of
 * exponentials in one pass, as they go (Milakov & Gimelshein 2018, arXiv:1805.02867).
 *
 * Which target a row has is on the device alone: one outside of [-1, V) makes the row's loss NaN, its gradient is 0. */
#include "kernels/cuda/cuda.h"

#include <float.h>

constexpr int64_t LOGITS = (int64_t)256 << 20, ROWS_MOST = 8192, ROWS_LEAST = 128;
constexpr int WARPS = 8, FOURS = 8, WARP_MOST = FOURS * 128; /* small vocabularies: rows a block, fours a lane, words */
constexpr int BLOCK_MOST = 1024, AHEAD = 4, BACK = 2;        /* large ones: threads, fours in flight a thread */
constexpr float LOG2E = 1.44269504f;

/* Of logits seen so far: the greatest, and the sum of exp(z - most). */
namespace {
struct seen {
    float most, sum;
};
}

KN_DEVICE float exp_of(float x)
{
    return kn_exp2(x * LOG2E);
}

KN_DEVICE float4 masked(float4 v, int left)
{
    return make_float4(v.x, left > 1 ? v.y : -INFINITY, left > 2 ? v.z : -INFINITY, left > 3 ? v.w : -INFINITY);
}

KN_DEVICE void see(struct seen *s, float4 v)
{
    float most = fmaxf(s->most, fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w)));
    s->sum = s->sum * exp_of(s->most - most) + ((exp_of(v.x - most) + exp_of(v.y - most)) + (exp_of(v.z - most) + exp_of(v.w - most)));
    s->most = most;
}

/* Of all lanes, the same bits in each. */
KN_DEVICE void share(struct seen *s)
{
    float most = cu_warp_max(s->most);
    s->sum = cu_warp_sum(s->sum * exp_of(s->most - most));
    s->most = most;
}

/* Of the block; part: 64 floats of shared memory, for this alone. */
KN_DEVICE void share_block(struct seen *s, float *part)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    share(s);
    if (lane == 0) part[warp] = s->most, part[32 + warp] = s->sum;
    __syncthreads();
    *s = {lane < warps ? part[lane] : -FLT_MAX, lane < warps ? part[32 + lane] : 0.0f};
    share(s);
}

/* What a row's softmax becomes gradients by. */
namespace {
struct row {
    int target;
    bool counts;
    struct seen own, teacher;
    float by, by_teacher, at_target;
};
}

KN_DEVICE void row_scales(struct row *r, bool has_teacher, float gscale, float mix)
{
    r->by = r->counts ? gscale / r->own.sum : 0.0f;
    r->by_teacher = has_teacher && r->counts ? gscale * mix / r->teacher.sum : 0.0f;
    r->at_target = r->counts ? gscale * (1.0f - mix) : 0.0f;
}

KN_DEVICE float row_loss(const struct row *r, float at_target)
{
    return r->counts ? r->own.most - at_target + logf(r->own.sum) : r->target == -1 ? 0.0f : NAN;
}

/* dz of words c .. c+3; where the row does not count, 0 whatever they are. */
KN_DEVICE float4 gradient(const struct row *r, int c, float4 z, float4 teacher, bool has_teacher)
{
    if (!r->counts) return make_float4(0, 0, 0, 0);
    float m = r->own.most, n = r->teacher.most;
    float4 g = make_float4(r->by * exp_of(z.x - m), r->by * exp_of(z.y - m), r->by * exp_of(z.z - m), r->by * exp_of(z.w - m));
    if (has_teacher) {
        g.x = fmaf(-r->by_teacher, exp_of(teacher.x - n), g.x), g.y = fmaf(-r->by_teacher, exp_of(teacher.y - n), g.y);
        g.z = fmaf(-r->by_teacher, exp_of(teacher.z - n), g.z), g.w = fmaf(-r->by_teacher, exp_of(teacher.w - n), g.w);
    }
    unsigned at = (unsigned)(r->target - c);
    if (at < 4) {
        if (at == 0) g.x -= r->at_target;
        else if (at == 1) g.y -= r->at_target;
        else if (at == 2) g.z -= r->at_target;
        else g.w -= r->at_target;
    }
    return g;
}

/* What becomes of the logits. */
enum kind { LOSS, GRADIENT, DISTILLED };

/* z [rows, V], ld numbers apart (a multiple of 8; what lies between is anything): its gradients in place, f32 or, in the first half of each row, bf16. */

/* A warp a row of at most WARP_MOST words. */
template <class G, enum kind KIND>
KN_KERNEL(32 * WARPS)
small(float *z, const float *teacher, int64_t ld, const int32_t *target, int64_t target_step, float *loss, int64_t loss_step, int64_t rows, int V, float gscale, float mix)
{
    int64_t n = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int lane = threadIdx.x % 32;
    if (n >= rows) return; /* the whole warp */
    float *zn = z + n * ld;
    float4 v[FOURS], t[KIND == DISTILLED ? FOURS : 1];
    struct row r = {};
    r.target = target[n * target_step];
    r.counts = r.target >= 0 && r.target < V;
    r.own = r.teacher = {-FLT_MAX, 0};
    float at_target = r.counts ? zn[r.target] : 0.0f;
    KN_UNROLL for (int i = 0; i < FOURS; i++) {
        int c = 128 * i + 4 * lane;
        if (c >= V) continue;
        v[i] = masked(cu_get4(zn + c), V - c);
        if (KIND == DISTILLED) t[i] = masked(cu_get4(teacher + n * ld + c), V - c);
    }
    KN_UNROLL for (int i = 0; i < FOURS; i++) {
        if (128 * i + 4 * lane >= V) continue;
        see(&r.own, v[i]);
        if (KIND == DISTILLED) see(&r.teacher, t[i]);
    }
    share(&r.own);
    if (KIND == DISTILLED) share(&r.teacher);
    if (lane == 0) loss[n * loss_step] = row_loss(&r, at_target);
    if (KIND == LOSS) return;
    row_scales(&r, KIND == DISTILLED, gscale, mix);
    __syncwarp(); /* all lanes have read what becomes bf16 elsewhere in the row */
    KN_UNROLL for (int i = 0; i < FOURS; i++) {
        int c = 128 * i + 4 * lane;
        if (c < V) cu_write4((G *)zn + c, gradient(&r, c, v[i], t[KIND == DISTILLED ? i : 0], KIND == DISTILLED));
    }
}

/* A first look at a row, which keeps its first `kept` numbers. */
KN_DEVICE struct seen look(const float *z, float *keep, int kept, int V)
{
    struct seen s = {-FLT_MAX, 0};
    int across = 4 * blockDim.x;
    for (int c0 = 4 * threadIdx.x; c0 < V; c0 += AHEAD * across) {
        float4 v[AHEAD];
        KN_UNROLL for (int i = 0; i < AHEAD; i++) {
            int c = c0 + i * across;
            if (c < V) v[i] = cu_get4(z + c);
        }
        KN_UNROLL for (int i = 0; i < AHEAD; i++) {
            int c = c0 + i * across;
            if (c >= V) break;
            if (c + 4 > V) v[i] = masked(v[i], V - c);
            if (c < kept) cu_put4(keep + c, v[i]);
            see(&s, v[i]);
        }
    }
    return s;
}

/* A block a row. kept: a multiple of 4, of each kind of logits. */
template <class G, enum kind KIND>
KN_KERNEL(BLOCK_MOST)
large(float *z, const float *teacher, int64_t ld, const int32_t *target, int64_t target_step, float *loss, int64_t loss_step, int V, int kept, float gscale, float mix)
{
    KN_SHARED(float, mem); /* 64 for the sums of each kind, then what is kept */
    int64_t n = blockIdx.x;
    int across = 4 * blockDim.x;
    float *zn = z + n * ld, *keep = mem + 128, *keep_teacher = keep + kept;
    const float *tn = teacher + n * ld;
    struct row r = {};
    r.target = target[n * target_step];
    r.counts = r.target >= 0 && r.target < V;
    float at_target = r.counts ? zn[r.target] : 0.0f;
    r.own = look(zn, keep, kept, V);
    share_block(&r.own, mem);
    if (KIND == DISTILLED) {
        r.teacher = look(tn, keep_teacher, kept, V);
        share_block(&r.teacher, mem + 64);
    }
    if (threadIdx.x == 0) loss[n * loss_step] = row_loss(&r, at_target);
    if (KIND == LOSS) return;
    row_scales(&r, KIND == DISTILLED, gscale, mix);
    /* What was kept, this thread kept itself. The bf16 gradient of word c lies where the logit of word c / 2 was: of a round before, or, in the first, of the same. Where
     * such a one was not kept, all of the round is read before any of it is written. */
    for (int c0 = 0; c0 < V; c0 += BACK * across) {
        float4 v[BACK], t[BACK];
        bool all_kept = kept >= V || c0 + BACK * across <= kept;
        KN_UNROLL for (int i = 0; i < BACK; i++) {
            int c = c0 + i * across + 4 * threadIdx.x;
            if (c >= V) continue;
            if (all_kept || c < kept) {
                v[i] = cu_get4(keep + c);
                if (KIND == DISTILLED) t[i] = cu_get4(keep_teacher + c);
            } else {
                v[i] = cu_get4(zn + c);
                if (KIND == DISTILLED) t[i] = cu_get4(tn + c);
            }
        }
        if (sizeof(G) == 2 && c0 + BACK * across > 2 * kept) __syncthreads();
        KN_UNROLL for (int i = 0; i < BACK; i++) {
            int c = c0 + i * across + 4 * threadIdx.x;
            if (c < V) cu_write4((G *)zn + c, gradient(&r, c, v[i], t[i], KIND == DISTILLED));
        }
    }
}

namespace {
struct head {
    float *z, *teacher; /* [., ld] */
    int64_t ld, rows, V;
    const int32_t *target;
    float *loss;
    int64_t target_step, loss_step;
    float gscale, mix;
};
}

template <class G, enum kind KIND> static st_t softmax(struct kn_dev *dev, const struct head *h)
{
    if (h->V <= WARP_MOST) {
        CUDA_RUN(dev, (small<G, KIND>), cuda_blocks(h->rows, WARPS), 32 * WARPS, 0, h->z, h->teacher, h->ld, h->target, h->target_step, h->loss, h->loss_step, h->rows, (int)h->V, h->gscale,
                 h->mix);
        return ST_OK;
    }
    int kinds = KIND == LOSS ? 0 : KIND == GRADIENT ? 1 : 2, threads = h->V <= 4096 ? 256 : h->V <= 16384 ? 512 : BLOCK_MOST;
    int64_t room = kinds ? (int64_t)(cuda_of(dev)->shared_most - 128 * sizeof(float)) / (kinds * 16) * 4 : 0, kept = kinds && h->ld > room ? room : kinds ? h->ld : 0;
    CUDA_RUN(dev, (large<G, KIND>), h->rows, threads, (size_t)(128 + kinds * kept) * sizeof(float), h->z, h->teacher, h->ld, h->target, h->target_step, h->loss, h->loss_step, (int)h->V, (int)kept,
             h->gscale, h->mix);
    return ST_OK;
}

/* A row's logits lie a multiple of 8 apart: 16 bytes as f32 and as bf16. */
static int64_t rows_of(int64_t N, int64_t ld, int kinds)
{
    int64_t most = LOGITS / (kinds * ld * (int64_t)sizeof(float)) / ROWS_LEAST * ROWS_LEAST;
    if (most > ROWS_MOST) most = ROWS_MOST;
    if (most < ROWS_LEAST) most = ROWS_LEAST;
    int64_t blocks = cuda_blocks(N, most), rows = cuda_blocks(cuda_blocks(N, blocks), ROWS_LEAST) * ROWS_LEAST;
    return rows < N ? rows : N;
}

static struct cuda_matrix turned(struct cuda_matrix m)
{
    return {m.p, m.dtype, m.s1, m.s0, m.step};
}

/* z = the block's logits. */
static st_t logits(struct kn_dev *dev, const struct head *h, const struct cuda_matrix *x, const struct cuda_matrix *w, int64_t D, float *z)
{
    struct cuda_matrix wt = turned(*w), to = {z, KN_F32, h->ld, 1, 0};
    return cuda_matmul(dev, h->rows, h->V, D, 1, x, &wt, 0, &to);
}

/* tx NULL: no teacher. */
static st_t head_loss(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, const struct kn_tensor *tx, const struct kn_tensor *tw,
                 double mix, double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    if (!cuda_is_f32(x)) return ST_ENOTSUP;
    int64_t N = x->d[0], D = x->d[1], V = w->d[0], ld = (V + 7) / 8 * 8, rows;
    bool half = dev->precision == KN_BF16, back = !kn_absent(dx) || !kn_absent(dw);
    enum kn_dtype want = half ? KN_BF16 : KN_F32;
    struct cuda_matrix mx, mw, mtx, mtw;
    void *z, *teacher = NULL;
    if (V > INT32_MAX / 2) return ST_ENOTSUP; /* words are counted in 32 bits */
    if (!N) return ST_OK;
    rows = rows_of(N, ld, tx ? 2 : 1);
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_A, (size_t)(rows * ld) * sizeof(float), &z));
    if (tx) CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_B, (size_t)(rows * ld) * sizeof(float), &teacher));
    CUDA_TRY(cuda_operand(dev, w, want, CUDA_SLOT_GEMM_B, &mw));
    if (tx) CUDA_TRY(cuda_operand(dev, tw, want, CUDA_SLOT_C, &mtw));
    struct head h = {(float *)z, (float *)teacher, ld, rows, V, (const int32_t *)target->p, (float *)loss->p, target->s[0], loss->s[0], (float)gscale, (float)mix};
    struct cuda_matrix dz = {z, want, half ? 2 * ld : ld, 1, 0}, dzt = turned(dz);
    for (int64_t n = 0; n < N; n += rows) {
        if (N - n < rows) h.rows = N - n;
        struct kn_tensor xb = kn_slice(x, 0, n, h.rows);
        CUDA_TRY(cuda_operand(dev, &xb, want, CUDA_SLOT_GEMM_A, &mx));
        CUDA_TRY(logits(dev, &h, &mx, &mw, D, h.z));
        if (tx) {
            struct kn_tensor txb = kn_slice(tx, 0, n, h.rows);
            CUDA_TRY(cuda_operand(dev, &txb, want, CUDA_SLOT_GEMM_C, &mtx));
            CUDA_TRY(logits(dev, &h, &mtx, &mtw, tx->d[1], h.teacher));
        }
        h.target = (const int32_t *)target->p + n * target->s[0], h.loss = (float *)loss->p + n * loss->s[0];
        if (!back) CUDA_TRY((softmax<float, LOSS>(dev, &h)));
        else if (half) CUDA_TRY((tx ? softmax<bf16, DISTILLED>(dev, &h) : softmax<bf16, GRADIENT>(dev, &h)));
        else CUDA_TRY((tx ? softmax<float, DISTILLED>(dev, &h) : softmax<float, GRADIENT>(dev, &h)));
        if (!kn_absent(dx)) {
            struct cuda_matrix to = {(float *)dx->p + n * dx->s[0], KN_F32, dx->s[0], dx->s[1], 0};
            CUDA_TRY(cuda_matmul(dev, h.rows, D, V, 1, &dz, &mw, 0, &to));
        }
        if (!kn_absent(dw)) {
            struct cuda_matrix to = {dw->p, KN_F32, dw->s[0], dw->s[1], 0};
            CUDA_TRY(cuda_matmul(dev, V, D, h.rows, 1, &dzt, &mx, 1, &to));
        }
    }
    return ST_OK;
}

extern "C" st_t cuda_head_ce(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, double gscale, const struct kn_tensor *loss,
                             const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    CUDA_TRY(kn_check_head_ce(x, w, target, gscale, loss, dx, dw));
    return head_loss(dev, x, w, target, NULL, NULL, 0, gscale, loss, dx, dw);
}

extern "C" st_t cuda_head_distill(struct kn_dev *dev, const struct kn_tensor *x, const struct kn_tensor *w, const struct kn_tensor *target, const struct kn_tensor *tx,
                                  const struct kn_tensor *tw, double mix, double gscale, const struct kn_tensor *loss, const struct kn_tensor *dx, const struct kn_tensor *dw)
{
    CUDA_TRY(kn_check_head_distill(x, w, target, tx, tw, mix, gscale, loss, dx, dw));
    return head_loss(dev, x, w, target, tx, tw, mix, gscale, loss, dx, dw);
}
