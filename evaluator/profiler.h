/* Latency, throughput and memory of an architecture on this machine: distributions, not numbers.
 *
 * How a latency is measured
 *   - The caller holds the device's host-wide lock exclusively (hostlock.h); trainers on the same device pause at a step boundary meanwhile.
 *   - Threads pinned, one a CPU, for as long as the profile lasts; CLOCK_MONOTONIC_RAW; a sample repeats the call, a number of times fixed beforehand, so that
 *     it lasts at least PROFILE_RESOLUTIONS times the clock's resolution. Should one turn out shorter, the number is doubled and measuring begins anew.
 *   - Warm-up until the medians of two successive windows agree within 1 % (or as long as limit_s). No call is cut: both limits are looked at between calls. Where
 *     the very first call takes as long as limit_s, one more is timed and that is all: n = 1, overlong.
 *   - Each sample of the candidate is followed by one of the anchor, a fixed small network (profile_anchor_arch) decoding at context 128: raw times and the
 *     ratio are both kept (of a throughput: the rate's to the anchor's rate). Before each timed call stands an untimed one of the same kind, so that the other's weights are out of the caches again.
 *   - n >= 30; stops when the 95 % interval of the median (distribution-free, base/stats.h) is within +-2 %, or at the time limit: then converged = false.
 *   - A sample is rejected only for an outside cause (CPU time stolen, an involuntary context switch during it; a GPU's clock under 75 % of its default, another process on it), never for its value; when outside causes reject nearly everything the
 *     sample is kept and the measurement says so (disturbed = share of samples with such a cause).
 * Weights and caches: random weights (times do not depend on them), caches filled synthetically.
 * Energy: joules over windows of at least half a second (of a GPU, two), counters read at both ends, n windows. */
#ifndef TAUT_EVALUATOR_PROFILER_H
#define TAUT_EVALUATOR_PROFILER_H

#include "evaluator/energy.h"
#include "kernels/device.h"
#include "searchspace/metric.h"

struct measured {
    char name[METRIC_NAME_MAX];  /* "decode_ms@1024" */
    double median, low, high;
    int n;                       /* samples; 1 and low = high = median for counts */
    double ratio, ratio_low, ratio_high; /* to the anchor; NaN where there is none */
    bool converged;
    bool overlong;               /* one call takes longer than limit_s: n is 1 */
    int rejected;
    double sample_ns;            /* the shortest sample's length, all its calls together; NaN where nothing was timed so */
    double disturbed;            /* share of kept samples with an outside cause */
};

struct profile_opts {
    double limit_s;              /* of one metric, and of its warm-up; 0: PROFILE_LIMIT_S */
    int min_samples;             /* 0: 30 */
    double half_width;           /* 0: 0.02 */
    enum arch_weights weights;   /* of the candidate; the anchor's are f32 */
    /* Called between samples; false ends the profile with ST_ECANCELED. May be NULL. */
    bool (*go)(void *ctx);
    void *ctx;
};
#define PROFILE_LIMIT_S 3.0
#define PROFILE_RESOLUTIONS 1000

/* energy: NULL unless joules_per_token@L is asked for. metrics[n]: PROFILE and ENERGY ones (prefill_ms@L, decode_ms@L, throughput@BxL, infer_bytes@L, joules_per_token@L). out[n]. ST_ENOFIT, ST_ENOTSUP (energy not readable: err says why). */
st_t profile_run(const struct arch *a, struct kn_dev *dev, struct energy *energy, const struct metric *metrics, int n, const struct profile_opts *o,
                 struct measured *out, struct base_err *err);
/* The anchor: 4 layers x 128, 4 heads, SwiGLU 384, vocabulary 256; never changes (its id is stored with each measurement). */
void profile_anchor_arch(struct arch *out);

#endif
