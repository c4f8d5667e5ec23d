# The CUDA device on the host (tests/cudahost/cuda_runtime.h): a library of it, and every test of an op that also runs on it, as PROGRAM_cuda.
cudahost_headers = tests/cudahost/cuda_runtime.h tests/cudahost/kn_ptx.h tests/cudahost/cublasLt.h
tap_scripts += tests/cudahost/test_evaluator.py tests/cudahost/test_gpu_bench.py
EXTRA_DIST += tests/cudahost/test_evaluator.py tests/cudahost/test_gpu_bench.py tests/cudahost/test_device.cu
EXTRA_DIST += tests/cudahost/test_cudahost.cu tests/cudahost/host.cpp tests/cudahost/blas.cpp tests/kernels/kt_cuda.cu $(cudahost_headers)
if CUDAHOST
cudahost_objects = tests/cudahost/o/host.o tests/cudahost/o/cublaslt.o tests/cudahost/o/kt_cuda.o $(patsubst kernels/cuda/%.cu,tests/cudahost/o/%.o,$(cuda_sources))
CUDAHOST_CXX = $(CXX) -std=c++20 -O2 -g -pthread $(CUDAHOST_CXXFLAGS) -I$(srcdir)/tests/cudahost -I$(top_srcdir) -MMD -MP -c
tests/cudahost/o/host.o: $(srcdir)/tests/cudahost/host.cpp
	$(AM_V_GEN)$(MKDIR_P) tests/cudahost/o && $(CUDAHOST_CXX) -o $@ $<
tests/cudahost/o/cublaslt.o: $(srcdir)/tests/cudahost/blas.cpp
	$(AM_V_GEN)$(MKDIR_P) tests/cudahost/o && $(CUDAHOST_CXX) -o $@ $<
tests/cudahost/o/kt_cuda.o: $(srcdir)/tests/kernels/kt_cuda.cu
	$(AM_V_GEN)$(MKDIR_P) tests/cudahost/o && $(CUDAHOST_CXX) -x c++ -o $@ $<
tests/cudahost/o/%.o: $(srcdir)/kernels/cuda/%.cu
	$(AM_V_GEN)$(MKDIR_P) tests/cudahost/o && $(CUDAHOST_CXX) -x c++ -o $@ $<
-include $(cudahost_objects:.o=.d)
tests/cudahost/libcudahost.a: $(cudahost_objects)
	$(AM_V_AR)rm -f $@ && $(AR) cr $@ $(cudahost_objects)
CUDAHOST_LIBS = -Wl,--whole-archive tests/cudahost/libcudahost.a -Wl,--no-whole-archive libkernels.a libbase.a -lstdc++ -lm
CLEANFILES += tests/cudahost/libcudahost.a $(cudahost_objects) $(cudahost_objects:.o=.d)

# One rule a test: its own source again, for the device "cuda:0".
cudahost_tests = act adamw attention conv decode delta_rule elementwise embed gates gatednorm gemm gla head_ce heads layernorm moe rmsnorm rope ssd stored swiglu
cudahost_programs = $(cudahost_tests:%=tests/cudahost/test_%_cuda)
cudahost_own = tests/cudahost/test_cudahost tests/cudahost/test_device
$(cudahost_own): %: $(srcdir)/%.cu tests/cudahost/libcudahost.a libkernels.a libbase.a
	$(AM_V_CCLD)$(MKDIR_P) tests/cudahost/o && $(CUDAHOST_CXX) -x c++ -o tests/cudahost/o/$(@F).o $< && \
		$(CC) $(AM_LDFLAGS) $(LDFLAGS) -o $@ tests/cudahost/o/$(@F).o $(CUDAHOST_LIBS)
$(cudahost_programs): tests/cudahost/test_%_cuda: $(srcdir)/tests/kernels/test_%.c $(srcdir)/tests/kernels/kntest.h tests/cudahost/libcudahost.a libkernels.a libbase.a
	$(AM_V_CCLD)$(CC) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(AM_CFLAGS) $(CFLAGS) -DKT_CUDA $(AM_LDFLAGS) $(LDFLAGS) -o $@ $< $(CUDAHOST_LIBS)
tests/cudahost/test_train_cuda: $(srcdir)/tests/model/test_train.c $(srcdir)/tests/model/nets.h tests/cudahost/libcudahost.a libmodel.a libspace.a libkernels.a libbase.a
	$(AM_V_CCLD)$(CC) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(AM_CFLAGS) $(CFLAGS) -DKT_CUDA $(AM_LDFLAGS) $(LDFLAGS) -o $@ $< libmodel.a libspace.a $(CUDAHOST_LIBS)
# whole programs with the GPU that is none
tests/cudahost/taut-evaluator: $(taut_evaluator_OBJECTS) $(taut_evaluator_DEPENDENCIES) tests/cudahost/libcudahost.a
	$(AM_V_CCLD)$(CC) $(AM_LDFLAGS) $(LDFLAGS) -o $@ $(taut_evaluator_OBJECTS) -Wl,--whole-archive tests/cudahost/libcudahost.a -Wl,--no-whole-archive $(taut_evaluator_LDADD) -lstdc++ -lm
tests/cudahost/taut: $(taut_OBJECTS) $(taut_DEPENDENCIES) tests/cudahost/libcudahost.a
	$(AM_V_CCLD)$(CC) $(AM_LDFLAGS) $(LDFLAGS) -o $@ $(taut_OBJECTS) -Wl,--whole-archive tests/cudahost/libcudahost.a -Wl,--no-whole-archive $(taut_LDADD) -lstdc++ -lm
tests/cudahost/bench_gpu: $(srcdir)/bench/gpu/bench_gpu.c $(srcdir)/tests/model/nets.h tests/cudahost/libcudahost.a libmodel.a libspace.a libkernels.a libbase.a
	$(AM_V_CCLD)$(CC) $(DEFS) $(AM_CPPFLAGS) $(CPPFLAGS) $(AM_CFLAGS) $(CFLAGS) $(AM_LDFLAGS) $(LDFLAGS) -o $@ $< libmodel.a libspace.a $(CUDAHOST_LIBS)
cudahost_checks = $(cudahost_own) $(cudahost_programs) tests/cudahost/test_train_cuda
cudahost: $(cudahost_checks) tests/cudahost/taut-evaluator tests/cudahost/bench_gpu
CLEANFILES += $(cudahost_own) $(cudahost_programs) tests/cudahost/bench_gpu tests/cudahost/test_train_cuda tests/cudahost/taut-evaluator tests/cudahost/taut
endif
