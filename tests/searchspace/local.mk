# tests of searchspace
space_test_libs = libspacejson.a libspace.a libbasejson.a libbase.a $(JANSSON_LIBS) -lm
check_PROGRAMS += tests/searchspace/test_arch tests/searchspace/test_files tests/searchspace/test_fuzz tests/searchspace/test_job \
	tests/searchspace/test_metric tests/searchspace/test_nomem tests/searchspace/test_problem tests/searchspace/test_space
tests_searchspace_test_arch_SOURCES = tests/searchspace/test_arch.c tests/searchspace/text.h
tests_searchspace_test_arch_LDADD = $(space_test_libs)
tests_searchspace_test_files_SOURCES = tests/searchspace/test_files.c tests/searchspace/text.h
tests_searchspace_test_files_LDADD = $(space_test_libs)
tests_searchspace_test_fuzz_SOURCES = tests/searchspace/test_fuzz.c tests/searchspace/text.h
tests_searchspace_test_fuzz_LDADD = $(space_test_libs)
tests_searchspace_test_job_SOURCES = tests/searchspace/test_job.c tests/searchspace/text.h
tests_searchspace_test_job_LDADD = $(space_test_libs)
tests_searchspace_test_metric_SOURCES = tests/searchspace/test_metric.c
tests_searchspace_test_metric_LDADD = $(space_test_libs)
tests_searchspace_test_nomem_SOURCES = tests/searchspace/test_nomem.c tests/searchspace/text.h
tests_searchspace_test_nomem_LDADD = $(space_test_libs)
tests_searchspace_test_nomem_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=json_loads,--wrap=json_loadb
check_PROGRAMS += tests/searchspace/test_path
tests_searchspace_test_path_SOURCES = tests/searchspace/test_path.c tests/searchspace/text.h
tests_searchspace_test_path_LDADD = $(space_test_libs)
tests_searchspace_test_space_SOURCES = tests/searchspace/test_space.c tests/searchspace/text.h
tests_searchspace_test_space_LDADD = $(space_test_libs)
tests_searchspace_test_problem_SOURCES = tests/searchspace/test_problem.c tests/searchspace/text.h
tests_searchspace_test_problem_LDADD = $(space_test_libs)
