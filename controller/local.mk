noinst_LIBRARIES += libcontroller.a
libcontroller_a_SOURCES = \
	controller/audit.h controller/controller.h controller/estimate.c controller/estimate.h controller/fidelity.h controller/internal.h controller/proposer.h controller/strategies.def controller/strategy.h \
	controller/aging.c controller/audit.c controller/audit_json.c controller/audit_table.c controller/auto.c controller/choose.c controller/fidelity.c controller/filter.c controller/filter.h controller/fit.c controller/fit.h controller/fit_data.c controller/fit_data.h controller/lift.c controller/lift.h controller/gp.c controller/gp.h controller/handlers.c \
	controller/h_evaluator.c controller/h_front.c controller/h_jobs.c controller/h_predict.c controller/h_progress.c \
	controller/h_report.c controller/h_server.c controller/h_submit.c controller/h_watch.c controller/inner.c controller/inner.h \
	controller/inner_int.h controller/inner_sum.c controller/jobs.c controller/latency.c controller/latency.h controller/latency_features.c controller/leases.c controller/linalg.c controller/linalg.h controller/modelled.c \
	controller/notice.c controller/nsga2.c controller/proposer.c controller/prune.c controller/random.c controller/repeat.c controller/repeat.h controller/ridge.c controller/ridge.h controller/sched.c \
	controller/surrogate.c controller/surrogate.h \
	controller/server.c controller/store.c controller/strategy.c controller/supernet.c controller/table.c

bin_PROGRAMS += tautd
tautd_SOURCES = controller/main.c
tautd_LDADD = libcontroller.a libdb.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a \
	$(UV_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) -lm

EXTRA_DIST += docs/wire.md docs/search.md examples/custom.json examples/evaluator.py examples/overnight.json examples/quickstart.json.in
