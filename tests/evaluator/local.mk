# tests of evaluator
evaluator_test_libs = libevaluator.a libproxies.a libmodel.a libkernels.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a \
	$(UV_LIBS) $(JANSSON_LIBS) -lm
check_PROGRAMS += tests/evaluator/test_data
tests_evaluator_test_data_SOURCES = tests/evaluator/test_data.c tests/evaluator/evaltest.h
tests_evaluator_test_data_LDADD = $(evaluator_test_libs)
check_PROGRAMS += tests/evaluator/test_trainer
tests_evaluator_test_trainer_SOURCES = tests/evaluator/test_trainer.c tests/evaluator/evaltest.h
tests_evaluator_test_trainer_LDADD = $(evaluator_test_libs)
check_PROGRAMS += tests/evaluator/test_supertrain
tests_evaluator_test_supertrain_SOURCES = tests/evaluator/test_supertrain.c tests/evaluator/evaltest.h
tests_evaluator_test_supertrain_LDADD = $(evaluator_test_libs)
check_PROGRAMS += tests/evaluator/test_profiler
tests_evaluator_test_profiler_SOURCES = tests/evaluator/test_profiler.c tests/evaluator/evaltest.h
tests_evaluator_test_profiler_LDADD = $(evaluator_test_libs)
check_PROGRAMS += tests/evaluator/test_energy
tests_evaluator_test_energy_SOURCES = tests/evaluator/test_energy.c tests/evaluator/evaltest.h
tests_evaluator_test_energy_LDADD = $(evaluator_test_libs)
check_PROGRAMS += tests/evaluator/test_nvml
tests_evaluator_test_nvml_SOURCES = tests/evaluator/test_nvml.c
tests_evaluator_test_nvml_LDADD = $(evaluator_test_libs)
EXTRA_DIST += tests/evaluator/fake_nvml.c
tests/evaluator/fake_nvml.so: $(srcdir)/tests/evaluator/fake_nvml.c
	$(AM_V_CCLD)$(MKDIR_P) tests/evaluator && $(CC) $(CFLAGS) -fPIC -shared -o $@ $<
tests_evaluator_test_nvml_DEPENDENCIES = tests/evaluator/fake_nvml.so libevaluator.a libproxies.a libmodel.a libkernels.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a
CLEANFILES += tests/evaluator/fake_nvml.so
check_PROGRAMS += tests/evaluator/test_hostlock
tests_evaluator_test_hostlock_SOURCES = tests/evaluator/test_hostlock.c tests/evaluator/evaltest.h
tests_evaluator_test_hostlock_LDADD = $(evaluator_test_libs)
evaluator_scripts = tests/evaluator/test_rungs.py tests/evaluator/test_worker.py tests/evaluator/test_options.py tests/evaluator/test_tautd.py tests/evaluator/test_shared.py tests/evaluator/test_folder.py
tap_scripts += $(evaluator_scripts)
EXTRA_DIST += tests/evaluator/fake.py $(evaluator_scripts)
