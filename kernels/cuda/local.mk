# The CUDA device: nvcc compiles these where configure found it, tests/cudahost compiles the same for the host.
cuda_sources = $(patsubst $(srcdir)/%,%,$(sort $(wildcard $(srcdir)/kernels/cuda/*.cu)))
cuda_headers = kernels/cuda/cuda.h kernels/cuda/mma_tile.h kernels/cuda/ptx/kn_ptx.h
