# bench
noinst_PROGRAMS += bench/bench_pareto
bench_bench_pareto_SOURCES = bench/bench_pareto.c
bench_bench_pareto_LDADD = libbase.a -lm
noinst_PROGRAMS += bench/bench_gemm
bench_bench_gemm_SOURCES = bench/bench_gemm.c
bench_bench_gemm_LDADD = libkernels.a libbase.a -lm
noinst_PROGRAMS += bench/bench_wire
bench_bench_wire_SOURCES = bench/bench_wire.c
bench_bench_wire_LDADD = libwire.a libbasejson.a libbase.a $(UV_LIBS) $(JANSSON_LIBS) -lm
noinst_PROGRAMS += bench/bench_train
bench_bench_train_SOURCES = bench/bench_train.c
bench_bench_train_LDADD = libmodel.a libspace.a libkernels.a libbase.a -lm
noinst_PROGRAMS += bench/bench_shared
bench_bench_shared_SOURCES = bench/bench_shared.c
bench_bench_shared_LDADD = libevaluator.a libmodel.a libkernels.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a \
	$(UV_LIBS) $(JANSSON_LIBS) -lm
noinst_PROGRAMS += bench/gen_store bench/bench_db
db_bench_libs = libdb.a libspacejson.a libspace.a libbasejson.a libbase.a $(SQLITE_LIBS) $(JANSSON_LIBS) -lm
bench_gen_store_SOURCES = bench/gen.c bench/gen.h bench/gen_store.c
bench_gen_store_LDADD = $(db_bench_libs)
bench_bench_db_SOURCES = bench/gen.c bench/gen.h bench/bench_db.c
bench_bench_db_LDADD = $(db_bench_libs)
noinst_PROGRAMS += bench/bench_propose
bench_bench_propose_SOURCES = bench/bench_propose.c tests/controller/toy.h
bench_bench_propose_LDADD = libcontroller.a libdb.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a \
	$(UV_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) -lm
noinst_PROGRAMS += bench/bench_search
bench_bench_search_SOURCES = bench/bench_search.c tests/controller/toy.h
bench_bench_search_LDADD = libcontroller.a libdb.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a \
	$(UV_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) -lm
noinst_PROGRAMS += bench/bench_latency
bench_bench_latency_SOURCES = bench/bench_latency.c
bench_bench_latency_LDADD = libevaluator.a libmodel.a libcontroller.a libdb.a libkernels.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a \
	$(UV_LIBS) $(SQLITE_LIBS) $(JANSSON_LIBS) -lm
EXTRA_DIST += bench/SPEED.md bench/bench_trial.py bench/front_speed.py bench/precision.py bench/search.py bench/e2e.py
EXTRA_DIST += bench/gpu/Makefile bench/gpu/bench_gpu.c bench/gpu/check.sh bench/gpu/torch_gpu.py
