# tests of proxies
PROXY_TEST_LIBS = libproxies.a libmodel.a libspacejson.a libspace.a libkernels.a libbasejson.a libbase.a $(JANSSON_LIBS) -lm
check_PROGRAMS += tests/proxies/test_proxies
tests_proxies_test_proxies_SOURCES = tests/proxies/test_proxies.c tests/model/nets.h
tests_proxies_test_proxies_LDADD = $(PROXY_TEST_LIBS)
EXTRA_DIST += tests/golden/make_proxies.py tests/golden/proxies_llama.safetensors tests/golden/proxies_bamba.safetensors \
	tests/golden/proxies_moe_mixtral.safetensors tests/golden/proxies_moe_qwen3next.safetensors \
	tests/golden/proxies_nemotron_mlp.safetensors
check_PROGRAMS += tests/proxies/test_alloc
tests_proxies_test_alloc_SOURCES = tests/proxies/test_alloc.c tests/model/nets.h
tests_proxies_test_alloc_LDADD = $(PROXY_TEST_LIBS)
tests_proxies_test_alloc_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
