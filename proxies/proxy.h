/* Proxies: scores of an untrained architecture that need no training.
 *
 *   struct model *m;
 *   st = proxy_model_new(&m, &arch, dev, seed, &err);               // small, first weights of the seed
 *   struct proxy_input in = {&arch, dev, m, PROXY_BATCHES, PROXY_BATCH, proxy_length(&arch), tokens, targets};
 *   struct proxy_result r[1];
 *   int which[] = {proxy_find("snip")};
 *   st = proxy_run(which, 1, &in, r, &err);
 *   model_free(m);
 *
 * What a proxy is given: the architecture; a network of it in f32 as it begins (model_init); batches of the job's text, tokens and targets
 * [batches,B,T]. What it gives: one number, of which more is better as those who published it had it. Which of them say something in a given
 * space is for the search to find out. What does not apply to an architecture is ST_ENOTSUP with the reason, and no number.
 *
 * Same architecture, weights, batches and device fingerprint: same bits, whatever the number of threads and whatever else is asked for in the call.
 *
 * Notation. L: what training descends, the mean cross-entropy of a batch's tokens, with the auxiliary losses and their factor (model.h).
 * W: the matrices inside the layers (model_param.hidden; experts' too, each tensor [E,F,D] as one): what the published code takes of a network,
 * torch's Linear and Conv2d, less the classifier, which here is mostly the embedding. Embedding, head, norms, biases, taps of convolutions and the
 * vectors of scans do not count. g = dL/dW of the first batch. A sample is a sequence of T tokens, as an image was. All sums over elements are f64.
 *
 * On paper (no network, no text):
 *   params          parameters of all kinds, a tied head once                                  Abdelfattah et al. 2021, arXiv:2101.08134
 *   decoder_params  those inside the layers: neither embedding, head nor the last norm         Javaheripi et al. 2022, arXiv:2203.02094 (language models)
 *   flops           forward FLOPs a token at the job's context (arch.h)                        arXiv:2101.08134
 * From gradients:
 *   gradnorm  sum over the tensors of W of |g|_2                                               arXiv:2101.08134
 *   snip      sum |g W|, element by element                                                    Lee et al. 2018, arXiv:1810.02340, not normalised, as in 2101.08134
 *   grasp     - sum W (H g), H the Hessian of L in W alone, a second-order product              Wang et al. 2020, arXiv:2002.07376, sign as in 2101.08134
 *             As a sum it is a slope: - d/dt |g((1 + t) W)|^2 / 2 at t = 0, from a central difference of two steps, good to about 1e-3. Where tokens
 *             change experts, or units of relu2 (whose second derivative jumps) turn on between the two, that counts too.
 *   synflow   sum |W dR/dW|, R the sum of all logits, of the network with every parameter replaced by its magnitude and every number of the embedded
 *             input by 1, one sequence of T   Tanaka et al. 2020, arXiv:2006.05467. Norms and softmax stay as they are: the form that arXiv:2203.02094
 *             gives it for GPT-2 and Transformer-XL (microsoft/archai). All positions being equal, what attention compares (queries, keys) gets nothing,
 *             and all tokens meet the same experts. ST_ENOTSUP with layer norm, of which a row of ones leaves nothing.
 *   fisher    sum over branches and their channels c of  1/(2B) sum_n (sum_t y_ntc dL/dy_ntc)^2, y [B,T,D] what a branch (a mixer, an ffn) adds to the
 *             stream                                                                           Turner et al. 2019, arXiv:1906.04113: the potential of a block
 *   zico      sum over the tensors of W of log( sum over elements of mean_b |g_b| / std_b g_b ), over the batches b, std that of the population;
 *             elements that do not vary are left out                                           Li et al. 2023, arXiv:2301.11300
 *             ST_ENOTSUP with fewer than two batches
 *   dss       sum over mixers' matrices of |g|_nuc |W|_nuc + sum over ffns' of |g W|_1: diversity and saliency   Zhou et al. 2022, arXiv:2203.12217, made for
 *             transformers; on language models Serianni & Kalita 2023, arXiv:2306.00288. |.|_nuc: the sum of singular values (of each expert's matrix).
 *             Mixers without attention: their matrices likewise. ST_ENOTSUP where a matrix is more than PROXY_NUCLEAR_MAX both ways
 * From activations, over the samples of all batches but for wpca:
 *   naswot    log |det K|, K_ij the number of hidden units of ffns (gated: of the gate), at all T positions, that are on in both samples i and j or off in
 *             both; on: what the activation is given is > 0; units of experts a token is not sent to are off    Mellor et al. 2020, arXiv:2006.04647
 *             ST_ENOTSUP without any ffn; ST_ENONFINITE where two samples are the same
 *   wpca      P / L sum over ffns of d, P the parameters, L the layers, d the number of principal components of the hidden units (gated: of the gate)
 *             before their activation, over the tokens of the first batch, that hold more than 0.99 of their variance; each expert's over the tokens
 *             sent to it        Wang 2025, arXiv:2504.15983 (W-PCA), made for small language models. ST_ENOTSUP without any ffn
 *   jacov     - sum_i [ log(v_i + k) + 1 / (v_i + k) ], k = 1e-5, v the eigenvalues of the correlation matrix of the samples' dR/d(embedded input) [T D]
 *             (R: the sum of all logits)                                                       arXiv:2006.04647, its first version, as in 2101.08134 (jacob_cov)
 *             ST_ENOTSUP with fewer than two samples; ST_ENONFINITE where a sample's numbers are all the same */
#ifndef TAUT_PROXIES_PROXY_H
#define TAUT_PROXIES_PROXY_H

#include "model/model.h"

#define PROXY_BATCHES 4
#define PROXY_BATCH 8           /* samples of a batch */
#define PROXY_CONTEXT 64        /* tokens of a sample, at most the architecture's context */
#define PROXY_NUCLEAR_MAX 1024

struct proxy;
int proxy_count(void);
const char *proxy_name(int i);  /* "snip"; the metric is proxy.snip */
int proxy_find(const char *name); /* -1 */
bool proxy_on_paper(int i);     /* needs neither network nor text */

struct proxy_input {
    const struct arch *arch;
    struct kn_dev *dev;
    struct model *m;            /* train, f32, of arch up to its context (proxy_model_new's, or with weights of one's own); NULL: paper alone is asked for */
    int batches, B, T;          /* batches <= PROXY_BATCHES */
    const int32_t *tokens, *targets; /* [batches,B,T] host memory */
};

struct proxy_result {
    st_t st;                    /* ST_OK; ST_ENOTSUP: does not apply; ST_ENONFINITE: no finite number came of it; ST_ENOFIT: no room for what it keeps */
    double value;               /* NaN where st is not 0 */
    struct base_err err;        /* why; where: the proxy's name */
};

/* min(PROXY_CONTEXT, the arch's context) */
int proxy_length(const struct arch *a);
/* For batches of PROXY_BATCH x proxy_length, on dev (f32 products), model_init(seed). ST_ENOFIT, … */
st_t proxy_model_new(struct model **out, const struct arch *a, struct kn_dev *dev, uint64_t seed, struct base_err *err);
/* out[i] of proxy which[i]. The network's weights are as before afterwards; its gradients are not. Not ST_OK: nothing can be said of any (no memory,
 * ST_ENOFIT, ST_EINVAL: tokens outside the vocabulary, or no network for what needs one). */
st_t proxy_run(const int *which, int n, const struct proxy_input *in, struct proxy_result *out, struct base_err *err);

#endif
