noinst_LIBRARIES += libkernels.a
libkernels_a_SOURCES = kernels/cost.h kernels/device.h kernels/ops.def kernels/tensor.h \
	kernels/check.c kernels/check.h kernels/cost.c kernels/device.c kernels/host.c kernels/host.h kernels/tensor.c
libkernels_a_SOURCES += kernels/ref/ref.h kernels/ref/device.c kernels/ref/gemm.c kernels/ref/embed.c kernels/ref/rmsnorm.c \
	kernels/ref/rope.c kernels/ref/heads.c kernels/ref/attention.c kernels/ref/swiglu.c kernels/ref/head_ce.c kernels/ref/elementwise.c \
	kernels/ref/adamw.c
libkernels_a_SOURCES += kernels/ref/act.c kernels/ref/layernorm.c kernels/cpu/act.c kernels/cpu/layernorm.c
# the CPU device
libkernels_a_SOURCES += kernels/cpu/cpu.h kernels/cpu/vec.h kernels/cpu/vec_each.h kernels/cpu/vec_bf16.h kernels/cpu/device.c
libkernels_a_SOURCES += kernels/cpu/gemm.c kernels/cpu/gemm.h kernels/cpu/gemm_kernel.c kernels/cpu/gemm_small.c kernels/cpu/gemm_own.c kernels/cpu/head_ce.c
libkernels_a_SOURCES += kernels/cpu/rows.h kernels/cpu/vec_mm.h kernels/cpu/attn.h kernels/cpu/attention.c kernels/cpu/attention_bwd.c kernels/cpu/attention_decode.c \
	kernels/cpu/attn_bf16.h kernels/cpu/attention_bf16.c kernels/cpu/attention_bwd_bf16.c kernels/cpu/swiglu.h kernels/cpu/swiglu_bf16.c \
	kernels/cpu/adamw.c kernels/cpu/elementwise.c kernels/cpu/embed.c kernels/cpu/headgate.c kernels/cpu/headnorm.c \
	kernels/cpu/rmsnorm.c kernels/cpu/rope.c kernels/cpu/sum_rows.c kernels/cpu/stored.c kernels/cpu/sumsq.c kernels/cpu/swiglu.c
libkernels_a_SOURCES += kernels/ref/gatednorm.c kernels/cpu/gatednorm.c
libkernels_a_SOURCES += kernels/ref/conv.c kernels/ref/mul.c kernels/cpu/conv.c kernels/cpu/mul.c
libkernels_a_SOURCES += kernels/limits.h kernels/cpu/limits.c
libkernels_a_SOURCES += kernels/ref/ssd.c kernels/cpu/ssd.c kernels/cpu/ssd.h kernels/cpu/ssd_bwd.c kernels/cpu/scan_sum.h kernels/cpu/vec_scan.h kernels/cpu/vec_ssd.h kernels/cpu/vec_ssd_bwd.h kernels/cpu/vec_put.h kernels/cpu/vec_softplus.h kernels/cpu/ssd_bf16.h \
	kernels/cpu/ssd_bf16.c kernels/cpu/ssd_bwd_bf16.c
libkernels_a_SOURCES += kernels/ref/moe.c kernels/cpu/expert.c kernels/cpu/expert.h kernels/cpu/expert_bf16.c kernels/cpu/gemm_grouped.c kernels/cpu/route.c
libkernels_a_SOURCES += kernels/ref/delta_rule.c kernels/ref/gates.c kernels/cpu/chunk.h kernels/cpu/delta.h kernels/cpu/delta_chunk.h \
	kernels/cpu/delta_rule.c kernels/cpu/delta_rule_bwd.c kernels/cpu/gates.c
libkernels_a_SOURCES += kernels/ref/gla.c kernels/cpu/gla.h kernels/cpu/gla_chunk.h kernels/cpu/gla.c kernels/cpu/gla_bwd.c
libkernels_a_SOURCES += kernels/branch.h kernels/check_decode.c kernels/ref/decode.c kernels/cpu/decode.c kernels/cpu/row.c kernels/cpu/vec_stored.h
include kernels/cuda/local.mk
