# tests of controller
CTL_TEST_LIBS = libcontroller.a libdb.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a \
	$(UV_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) -lm
check_PROGRAMS += tests/controller/test_strategy tests/controller/test_surrogate
tests_controller_test_strategy_SOURCES = tests/controller/test_strategy.c tests/controller/toy.h
tests_controller_test_strategy_LDADD = $(CTL_TEST_LIBS)
check_PROGRAMS += tests/controller/test_fidelity
tests_controller_test_fidelity_SOURCES = tests/controller/test_fidelity.c tests/controller/toy.h
tests_controller_test_fidelity_LDADD = $(CTL_TEST_LIBS)
check_PROGRAMS += tests/controller/test_audit
tests_controller_test_audit_SOURCES = tests/controller/test_audit.c tests/controller/toy.h
tests_controller_test_audit_LDADD = $(CTL_TEST_LIBS)

check_PROGRAMS += tests/controller/test_lift
tests_controller_test_lift_SOURCES = tests/controller/test_lift.c
tests_controller_test_lift_LDADD = $(CTL_TEST_LIBS)

check_PROGRAMS += tests/controller/test_latency
tests_controller_test_latency_SOURCES = tests/controller/test_latency.c
tests_controller_test_latency_LDADD = $(CTL_TEST_LIBS)

tests_controller_test_surrogate_SOURCES = tests/controller/test_surrogate.c
tests_controller_test_surrogate_LDADD = $(CTL_TEST_LIBS)

ctl_scripts = tests/controller/test_server.py tests/controller/test_restart.py tests/controller/test_params.py \
	tests/controller/test_full.py tests/controller/test_docs.py tests/controller/test_older.py tests/controller/test_damaged.py \
	tests/controller/test_rungs.py tests/controller/test_learning.py tests/controller/test_audit.py tests/controller/test_supernet.py tests/controller/test_filter.py tests/controller/test_modelled.py tests/controller/test_repeat.py tests/controller/test_hopeless.py
tap_scripts += $(ctl_scripts)
EXTRA_DIST += tests/controller/taut_wire.py $(ctl_scripts)
