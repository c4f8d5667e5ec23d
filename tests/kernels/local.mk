# tests of kernels
check_PROGRAMS += tests/kernels/test_gemm
tests_kernels_test_gemm_SOURCES = tests/kernels/test_gemm.c
tests_kernels_test_gemm_LDADD = libkernels.a libbase.a -lm
EXTRA_DIST += tests/kernels/kntest.h
check_PROGRAMS += tests/kernels/test_attention
tests_kernels_test_attention_SOURCES = tests/kernels/test_attention.c
tests_kernels_test_attention_LDADD = libkernels.a libbase.a -lm
