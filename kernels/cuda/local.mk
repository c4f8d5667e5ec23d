# The CUDA device: nvcc compiles these where configure found it, tests/cudahost compiles the same for the host.
cuda_sources = $(patsubst $(srcdir)/%,%,$(sort $(wildcard $(srcdir)/kernels/cuda/*.cu)))
cuda_headers = $(patsubst $(srcdir)/%,%,$(sort $(wildcard $(srcdir)/kernels/cuda/*.h))) kernels/cuda/ptx/kn_ptx.h
EXTRA_DIST += $(cuda_headers) kernels/cuda/README.md
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
