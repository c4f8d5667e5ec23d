# The CUDA device: nvcc compiles these where configure found it, tests/cudahost compiles the same for the host.
cuda_sources = kernels/cuda/act.cu kernels/cuda/adamw.cu kernels/cuda/attention.cu kernels/cuda/attention_bwd.cu kernels/cuda/blas.cu kernels/cuda/conv.cu \
	kernels/cuda/copy.cu kernels/cuda/decode.cu kernels/cuda/delta_rule.cu kernels/cuda/device.cu kernels/cuda/elementwise.cu kernels/cuda/embed.cu \
	kernels/cuda/expert.cu kernels/cuda/gatednorm.cu kernels/cuda/gates.cu kernels/cuda/gemm.cu kernels/cuda/gemm_grouped.cu kernels/cuda/gla.cu \
	kernels/cuda/head_ce.cu kernels/cuda/headgate.cu kernels/cuda/headnorm.cu kernels/cuda/layernorm.cu kernels/cuda/mul.cu kernels/cuda/rmsnorm.cu \
	kernels/cuda/rope.cu kernels/cuda/route.cu kernels/cuda/ssd.cu kernels/cuda/ssd_bwd.cu kernels/cuda/sum_rows.cu kernels/cuda/sumsq.cu \
	kernels/cuda/swiglu.cu
cuda_headers = kernels/cuda/attn.h kernels/cuda/cuda.h kernels/cuda/each.h kernels/cuda/mma_tile.h kernels/cuda/norm.h kernels/cuda/ssd.h kernels/cuda/sums.h \
	kernels/cuda/tile.h kernels/cuda/ptx/kn_ptx.h
EXTRA_DIST += $(cuda_sources) $(cuda_headers) kernels/cuda/README.md
if CUDA
cuda_objects = $(cuda_sources:.cu=.o)
NVCC_FLAGS = -O3 -std=c++17 $(CUDA_GENCODE) -I$(srcdir)/kernels/cuda/ptx -I$(top_srcdir) -Xcompiler -fPIC,-fno-exceptions,-fno-rtti,-Wall,-Wextra,-Wno-unused-parameter
kernels/cuda/%.o: $(srcdir)/kernels/cuda/%.cu
	$(AM_V_GEN)$(MKDIR_P) kernels/cuda && $(NVCC) $(NVCC_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $<
-include $(cuda_objects:.o=.d)
libkernels_a_LIBADD = $(cuda_objects)
libkernels_a_DEPENDENCIES = $(cuda_objects)
CLEANFILES += $(cuda_objects) $(cuda_objects:.o=.d)
AM_CPPFLAGS += -DTAUT_CUDA
LIBS += $(CUDA_LIBS)
endif
