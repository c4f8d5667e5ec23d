# tests of searchspace
check_PROGRAMS += tests/searchspace/test_arch tests/searchspace/test_files tests/searchspace/test_job tests/searchspace/test_metric
tests_searchspace_test_arch_SOURCES = tests/searchspace/test_arch.c tests/searchspace/text.h
tests_searchspace_test_arch_LDADD = libspacejson.a libspace.a libbasejson.a libbase.a $(JANSSON_LIBS) -lm
tests_searchspace_test_files_SOURCES = tests/searchspace/test_files.c tests/searchspace/text.h
tests_searchspace_test_files_LDADD = libspacejson.a libspace.a libbasejson.a libbase.a $(JANSSON_LIBS) -lm
tests_searchspace_test_job_SOURCES = tests/searchspace/test_job.c tests/searchspace/text.h
tests_searchspace_test_job_LDADD = libspacejson.a libspace.a libbasejson.a libbase.a $(JANSSON_LIBS) -lm
tests_searchspace_test_metric_SOURCES = tests/searchspace/test_metric.c
tests_searchspace_test_metric_LDADD = libspacejson.a libspace.a libbasejson.a libbase.a $(JANSSON_LIBS) -lm
