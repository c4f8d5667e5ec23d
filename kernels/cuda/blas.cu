/* Products through cuBLASLt, which is loaded when a device is opened. It counts columns first: our row-major C = A B is its C^T = B^T A^T, so that what it
 * calls A is our B. What it chose for a shape is kept: choosing costs some ten times what a small product does. */
#include "kernels/cuda/cuda.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cublasLt.h>

extern "C" {
#include "base/log.h"
}

#define WORKSPACE ((size_t)32 << 20) /* what NVIDIA's guide asks for on compute capability 9 */
#define PLANS     1024               /* a power of two; the oldest of a full neighbourhood goes */
#define NEAR      8

/* Every function that is used, by its name in the library. */
#define CALLS(X)                                                                                                                           \
    X(cublasLtCreate)                                                                                                                      \
    X(cublasLtDestroy)                                                                                                                     \
    X(cublasLtGetVersion)                                                                                                                  \
    X(cublasLtMatmul)                                                                                                                      \
    X(cublasLtMatmulAlgoGetHeuristic)                                                                                                      \
    X(cublasLtMatmulDescCreate)                                                                                                            \
    X(cublasLtMatmulDescDestroy)                                                                                                           \
    X(cublasLtMatmulDescSetAttribute)                                                                                                      \
    X(cublasLtMatmulPreferenceCreate)                                                                                                      \
    X(cublasLtMatmulPreferenceDestroy)                                                                                                     \
    X(cublasLtMatmulPreferenceSetAttribute)                                                                                                \
    X(cublasLtMatrixLayoutCreate)                                                                                                          \
    X(cublasLtMatrixLayoutDestroy)                                                                                                         \
    X(cublasLtMatrixLayoutSetAttribute)

/* What a choice depends on; no gaps, compared as bytes. */
struct key {
    int64_t m, n, k, batch, ld[3], step[3];
    int32_t turned[2], type[3], align[3];
};
struct plan {
    struct key key;
    uint64_t used; /* 0: empty */
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t layout[3];
    cublasLtMatmulAlgo_t algo;
};
struct cuda_blas {
    void *lib;
#define X(name) decltype(&::name) name;
    CALLS(X)
#undef X
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    uint64_t clock;
    struct plan plan[PLANS];
};

static void plan_drop(struct cuda_blas *b, struct plan *p)
{
    for (int i = 0; i < 3; i++)
        if (p->layout[i]) b->cublasLtMatrixLayoutDestroy(p->layout[i]);
    if (p->desc) b->cublasLtMatmulDescDestroy(p->desc);
    *p = {};
}

void cuda_blas_free(struct cuda_blas *b)
{
    if (!b) return;
    if (b->handle) {
        for (int i = 0; i < PLANS; i++) plan_drop(b, &b->plan[i]);
        if (b->preference) b->cublasLtMatmulPreferenceDestroy(b->preference);
        b->cublasLtDestroy(b->handle);
    }
    if (b->lib) dlclose(b->lib);
    free(b);
}

static st_t load(struct cuda_blas *b, struct base_err *err)
{
    char name[64];
    snprintf(name, sizeof name, "libcublasLt.so.%d", CUBLAS_VER_MAJOR);
    b->lib = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!b->lib) return base_err_set(err, ST_ENOTSUP, "device", "%s is not to be found: install CUDA's libraries, or put their folder into LD_LIBRARY_PATH", name);
#define X(f)                                                                                                                               \
    b->f = (decltype(b->f))dlsym(b->lib, #f);                                                                                              \
    if (!b->f) return base_err_set(err, ST_ENOTSUP, "device", "%s has no %s: another version of it?", name, #f);
    CALLS(X)
#undef X
    return ST_OK;
}

st_t cuda_blas_new(struct cuda_blas **out, struct kn_dev *dev, struct base_err *err)
{
    struct cuda_blas *b = (struct cuda_blas *)calloc(1, sizeof *b);
    size_t workspace = WORKSPACE;
    uint32_t sums = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* parts of a sum are added in f32, whatever c's type */
    if (!b) return base_err_set(err, ST_ENOMEM, "device", "out of memory");
    st_t st = load(b, err);
    if (st) {
        cuda_blas_free(b);
        return st;
    }
    if (b->cublasLtCreate(&b->handle) || b->cublasLtMatmulPreferenceCreate(&b->preference) ||
        b->cublasLtMatmulPreferenceSetAttribute(b->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace) ||
        b->cublasLtMatmulPreferenceSetAttribute(b->preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &sums, sizeof sums)) {
        cuda_blas_free(b);
        return base_err_set(err, ST_ENOTSUP, "device", "cuBLASLt does not start on cuda:%d", cuda_of(dev)->index);
    }
    size_t at = strlen(dev->info.libraries), v = b->cublasLtGetVersion();
    snprintf(dev->info.libraries + at, sizeof dev->info.libraries - at, ", cuBLASLt %zu", v);
    *out = b;
    return ST_OK;
}

static cudaDataType type_of(enum kn_dtype t)
{
    return t == KN_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/* The largest power of two up to 16 that the matrix's start, rows and batches keep to, bytes: kernels that load 16 at once want 16. */
static int alignment(const struct cuda_matrix *x, int64_t ld)
{
    uint64_t bits = (uint64_t)(uintptr_t)x->p | (uint64_t)(ld | x->step) * kn_dtype_size(x->dtype) | 16;
    return (int)(bits & -bits);
}

/* Its rows and columns as cuBLASLt counts them, from row-major [d0,d1]: *turned: it holds the transposed. */
static st_t orient(const struct cuda_matrix *x, int64_t d0, int64_t d1, int64_t *ld, int32_t *turned)
{
    if ((x->s1 == 1 || d1 == 1) && (x->s0 >= d1 || d0 == 1)) {
        *turned = 0, *ld = d0 == 1 ? d1 : x->s0;
        return ST_OK;
    }
    if ((x->s0 == 1 || d0 == 1) && (x->s1 >= d0 || d1 == 1)) {
        *turned = 1, *ld = d1 == 1 ? d0 : x->s1;
        return ST_OK;
    }
    return ST_EINVAL;
}

static cublasStatus_t layout(struct cuda_blas *b, cublasLtMatrixLayout_t *out, const struct key *k, int i, int64_t rows, int64_t cols)
{
    int32_t batch = (int32_t)k->batch;
    cublasStatus_t s = b->cublasLtMatrixLayoutCreate(out, (cudaDataType)k->type[i], (uint64_t)rows, (uint64_t)cols, k->ld[i]);
    if (!s) s = b->cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    if (!s) s = b->cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &k->step[i], sizeof k->step[i]);
    return s;
}

static st_t plan_make(struct cuda_blas *b, struct plan *p, const struct key *k)
{
    static const cublasLtMatmulPreferenceAttributes_t aligns[] = {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                  CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    static const cublasOperation_t ops[] = {CUBLAS_OP_N, CUBLAS_OP_T};
    plan_drop(b, p);
    p->key = *k;
    cublasStatus_t s = b->cublasLtMatmulDescCreate(&p->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!s) s = b->cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ops[k->turned[0]], sizeof ops[0]);
    if (!s) s = b->cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &ops[k->turned[1]], sizeof ops[0]);
    if (!s) s = layout(b, &p->layout[0], k, 0, k->turned[0] ? k->k : k->m, k->turned[0] ? k->m : k->k);
    if (!s) s = layout(b, &p->layout[1], k, 1, k->turned[1] ? k->n : k->k, k->turned[1] ? k->k : k->n);
    if (!s) s = layout(b, &p->layout[2], k, 2, k->m, k->n);
    for (int i = 0; i < 4 && !s; i++) {
        uint32_t a = (uint32_t)k->align[i < 2 ? i : 2];
        s = b->cublasLtMatmulPreferenceSetAttribute(b->preference, aligns[i], &a, sizeof a);
    }
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    if (!s) s = b->cublasLtMatmulAlgoGetHeuristic(b->handle, p->desc, p->layout[0], p->layout[1], p->layout[2], p->layout[2], b->preference, 1, &found, &n);
    if (s || !n) {
        plan_drop(b, p);
        return ST_ENOTSUP;
    }
    p->algo = found.algo;
    return ST_OK;
}

static st_t plan_of(struct cuda_blas *b, const struct key *k, struct plan **out)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *k; i++) h = (h ^ ((const unsigned char *)k)[i]) * 1099511628211u;
    struct plan *oldest = NULL;
    for (uint64_t i = 0; i < NEAR; i++) {
        struct plan *p = &b->plan[(h + i) % PLANS];
        if (p->used && !memcmp(&p->key, k, sizeof *k)) {
            p->used = ++b->clock;
            *out = p;
            return ST_OK;
        }
        if (!oldest || p->used < oldest->used) oldest = p;
    }
    st_t st = plan_make(b, oldest, k);
    if (st) return st;
    oldest->used = ++b->clock;
    *out = oldest;
    return ST_OK;
}

st_t cuda_blas_matmul(struct kn_dev *dev, int64_t M, int64_t N, int64_t P, int64_t batch, float alpha, const struct cuda_matrix *a, const struct cuda_matrix *b,
                      float beta, const struct cuda_matrix *c)
{
    struct cuda_blas *lt = cuda_of(dev)->blas;
    const struct cuda_matrix *x[3] = {b, a, c};
    struct key k = {};
    int32_t turned = 0;
    void *workspace;
    if (cuda_of(dev)->lost) return cuda_of(dev)->lost;
    CUDA_TRY(orient(b, P, N, &k.ld[0], &k.turned[0]));
    CUDA_TRY(orient(a, M, P, &k.ld[1], &k.turned[1]));
    CUDA_TRY(orient(c, M, N, &k.ld[2], &turned));
    k.m = N, k.n = M, k.k = P, k.batch = batch;
    if (turned) { /* C as its columns lie: C = A B is what cuBLASLt computes itself */
        struct cuda_matrix at = *a, bt = *b, ct = *c;
        at.s0 = a->s1, at.s1 = a->s0, bt.s0 = b->s1, bt.s1 = b->s0, ct.s0 = c->s1, ct.s1 = c->s0;
        return cuda_blas_matmul(dev, N, M, P, batch, alpha, &bt, &at, beta, &ct);
    }
    for (int i = 0; i < 3; i++) k.step[i] = batch > 1 ? x[i]->step : 0, k.type[i] = type_of(x[i]->dtype), k.align[i] = alignment(x[i], k.ld[i]);
    struct plan *p;
    CUDA_TRY(plan_of(lt, &k, &p));
    CUDA_TRY(cuda_scratch(dev, CUDA_SLOT_WORKSPACE, WORKSPACE, &workspace));
    cublasStatus_t s = lt->cublasLtMatmul(lt->handle, p->desc, &alpha, b->p, p->layout[0], a->p, p->layout[1], &beta, c->p, p->layout[2], (void *)c->p, p->layout[2], &p->algo,
                                          workspace, WORKSPACE, cuda_of(dev)->stream);
    if (s == CUBLAS_STATUS_SUCCESS) return ST_OK;
    if (s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_INVALID_VALUE) return ST_ENOTSUP;
    st_t st = cuda_status(dev, cudaGetLastError());
    if (st) return st;
    if (s == CUBLAS_STATUS_ALLOC_FAILED) return ST_ENOMEM;
    log_warn("cuBLASLt refuses %lld x %lld x %lld with its error %d: multiplied without it", (long long)M, (long long)N, (long long)P, (int)s);
    return ST_ENOTSUP;
}
