# tests of base
check_PROGRAMS += tests/base/test_fit tests/base/test_hash tests/base/test_json tests/base/test_nomem tests/base/test_pareto tests/base/test_pool \
	tests/base/test_rng tests/base/test_rounds tests/base/test_stats tests/base/test_text
tests_base_test_fit_SOURCES = tests/base/test_fit.c
tests_base_test_fit_LDADD = libbase.a -lm
tests_base_test_hash_SOURCES = tests/base/test_hash.c
tests_base_test_hash_LDADD = libbase.a -lm
tests_base_test_json_SOURCES = tests/base/test_json.c
tests_base_test_json_LDADD = libbasejson.a libbase.a $(JANSSON_LIBS) -lm
tests_base_test_nomem_SOURCES = tests/base/test_nomem.c
tests_base_test_nomem_LDADD = libbase.a -lm
tests_base_test_nomem_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc
tests_base_test_pareto_SOURCES = tests/base/test_pareto.c
tests_base_test_pareto_LDADD = libbase.a -lm
tests_base_test_pool_SOURCES = tests/base/test_pool.c
tests_base_test_pool_LDADD = libbase.a -lm
tests_base_test_rng_SOURCES = tests/base/test_rng.c
tests_base_test_rng_LDADD = libbase.a -lm
tests_base_test_rounds_SOURCES = tests/base/test_rounds.c
tests_base_test_rounds_LDADD = libbase.a -lm
tests_base_test_stats_SOURCES = tests/base/test_stats.c tests/base/bootstrap.h
tests_base_test_stats_LDADD = libbase.a -lm
tests_base_test_text_SOURCES = tests/base/test_text.c
tests_base_test_text_LDADD = libbase.a -lm
tap_scripts += tests/check-includes.sh
EXTRA_DIST += tests/check-includes.sh tests/base/make_bootstrap.py
