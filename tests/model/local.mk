# tests of model
MODEL_TEST_LIBS = libmodel.a libspace.a libkernels.a libbase.a -lm
check_PROGRAMS += tests/model/test_grad
tests_model_test_grad_SOURCES = tests/model/test_grad.c tests/model/nets.h
tests_model_test_grad_LDADD = $(MODEL_TEST_LIBS)
