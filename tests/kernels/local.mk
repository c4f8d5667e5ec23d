# tests of kernels
check_PROGRAMS += tests/kernels/test_gemm
tests_kernels_test_gemm_SOURCES = tests/kernels/test_gemm.c
tests_kernels_test_gemm_LDADD = libkernels.a libbase.a -lm
