noinst_LIBRARIES += libkernels.a
libkernels_a_SOURCES = kernels/cost.h kernels/device.h kernels/ops.def kernels/tensor.h
