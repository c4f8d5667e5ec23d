#include <cublasLt.h>

#include <stdio.h>
#include <string.h>

static int there = 1, refuses;

struct cudahost_lt {
    int open;
};

void cudahost_blas(int t)
{
    there = t;
}

void cudahost_blas_refuse(int none)
{
    refuses = none;
}

void *cudahost_blas_open(const char *name)
{
    return there && !strncmp(name, "libcublasLt.so.", 15) ? &there : NULL;
}

void *cudahost_blas_find(void *lib, const char *name)
{
#define F(f) {#f, (void *)f}
    static const struct {
        const char *name;
        void *f;
    } all[] = {F(cublasLtCreate), F(cublasLtDestroy), F(cublasLtGetVersion), F(cublasLtMatmul), F(cublasLtMatmulAlgoGetHeuristic), F(cublasLtMatmulDescCreate),
               F(cublasLtMatmulDescDestroy), F(cublasLtMatmulDescSetAttribute), F(cublasLtMatmulPreferenceCreate), F(cublasLtMatmulPreferenceDestroy),
               F(cublasLtMatmulPreferenceSetAttribute), F(cublasLtMatrixLayoutCreate), F(cublasLtMatrixLayoutDestroy), F(cublasLtMatrixLayoutSetAttribute)};
    for (auto &f : all)
        if (lib && !strcmp(f.name, name)) return f.f;
    return NULL;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    *h = new cudahost_lt();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion(void)
{
    return 130000;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, enum cublasComputeType_t, enum cudaDataType)
{
    *d = new cudahost_matmul();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    delete d;
    return CUBLAS_STATUS_SUCCESS;
}

template <class T> static cublasStatus_t set(T *to, const void *from, size_t n)
{
    if (n != sizeof *to) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, from, n);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, enum cublasLtMatmulDescAttributes_t a, const void *v, size_t n)
{
    return set(&d->op[a == CUBLASLT_MATMUL_DESC_TRANSB], v, n);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, enum cudaDataType t, uint64_t rows, uint64_t cols, int64_t ld)
{
    *l = new cudahost_layout{t, rows, cols, ld, 0, 1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    delete l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, enum cublasLtMatrixLayoutAttribute_t a, const void *v, size_t n)
{
    return a == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT ? set(&l->batch, v, n) : set(&l->step, v, n);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = new cudahost_preference{0, 0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    delete p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p, enum cublasLtMatmulPreferenceAttributes_t a, const void *v, size_t n)
{
    if (a == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK) return set(&p->sums, v, n);
    return a == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? set(&p->workspace, v, n) : set(&p->align[a - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], v, n);
}

/* Rows and columns of op(X). */
static uint64_t rows_of(cublasLtMatrixLayout_t l, enum cublasOperation_t op)
{
    return op == CUBLAS_OP_N ? l->rows : l->cols;
}
static uint64_t cols_of(cublasLtMatrixLayout_t l, enum cublasOperation_t op)
{
    return op == CUBLAS_OP_N ? l->cols : l->rows;
}

static bool fit(cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c)
{
    bool types = (a->type == CUDA_R_32F && b->type == CUDA_R_32F && c->type == CUDA_R_32F) || (a->type == CUDA_R_16BF && b->type == CUDA_R_16BF);
    return types && rows_of(a, d->op[0]) == c->rows && cols_of(a, d->op[0]) == rows_of(b, d->op[1]) && cols_of(b, d->op[1]) == c->cols && a->ld >= (int64_t)a->rows &&
           b->ld >= (int64_t)b->rows && c->ld >= (int64_t)c->rows && a->batch == c->batch && b->batch == c->batch;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t d, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                              cublasLtMatrixLayout_t, cublasLtMatmulPreference_t p, int, cublasLtMatmulHeuristicResult_t *out, int *found)
{
    *found = 0;
    if (!fit(d, a, b, c)) return CUBLAS_STATUS_INVALID_VALUE;
    if (refuses || p->sums != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) return CUBLAS_STATUS_NOT_SUPPORTED;
    for (int i = 0; i < 3; i++) out->algo.align[i] = p->align[i];
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

static float get(const void *p, enum cudaDataType t, int64_t i)
{
    float f;
    if (t == CUDA_R_32F) return ((const float *)p)[i];
    uint32_t u = (uint32_t)((const uint16_t *)p)[i] << 16;
    memcpy(&f, &u, 4);
    return f;
}

static void put(void *p, enum cudaDataType t, int64_t i, float f)
{
    uint32_t u;
    if (t == CUDA_R_32F) {
        ((float *)p)[i] = f;
        return;
    }
    memcpy(&u, &f, 4);
    ((uint16_t *)p)[i] = f != f ? 0x7fff : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static void multiply(struct cudahost_matmul d, float alpha, const void *a, struct cudahost_layout la, const void *b, struct cudahost_layout lb, float beta, void *c,
                     struct cudahost_layout lc)
{
    int64_t m = (int64_t)lc.rows, n = (int64_t)lc.cols, k = (int64_t)cols_of(&la, d.op[0]);
    for (int64_t z = 0; z < lc.batch; z++)
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                float sum = 0;
                for (int64_t l = 0; l < k; l++)
                    sum += get(a, la.type, z * la.step + (d.op[0] == CUBLAS_OP_N ? i + l * la.ld : l + i * la.ld)) *
                           get(b, lb.type, z * lb.step + (d.op[1] == CUBLAS_OP_N ? l + j * lb.ld : j + l * lb.ld));
                int64_t at = z * lc.step + i + j * lc.ld;
                put(c, lc.type, at, alpha * sum + (beta != 0 ? beta * get(c, lc.type, at) : 0));
            }
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t d, const void *alpha, const void *a, cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb,
                              const void *beta, const void *c, cublasLtMatrixLayout_t lc, void *out, cublasLtMatrixLayout_t, const cublasLtMatmulAlgo_t *algo, void *, size_t,
                              cudaStream_t s)
{
    if (!fit(d, la, lb, lc) || c != out) return CUBLAS_STATUS_INVALID_VALUE;
    const void *p[3] = {a, b, out};
    for (int i = 0; i < 3; i++)
        if ((uintptr_t)p[i] % algo->align[i]) {
            fprintf(stderr, "cudahost: cublasLtMatmul: operand %d at %p was said to be aligned to %u bytes\n", i, p[i], algo->align[i]);
            abort();
        }
    float by = *(const float *)alpha, keep = *(const float *)beta;
    struct cudahost_matmul dd = *d;
    struct cudahost_layout a2 = *la, b2 = *lb, c2 = *lc;
    cudahost::launch("cublasLtMatmul", dim3(1), dim3(1), 0, s, [=] { multiply(dd, by, a, a2, b, b2, keep, out, c2); });
    return CUBLAS_STATUS_SUCCESS;
}
