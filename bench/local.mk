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
noinst_PROGRAMS += bench/bench_ops
bench_bench_ops_SOURCES = bench/bench_ops.c
bench_bench_ops_LDADD = libkernels.a libbase.a -lm
noinst_PROGRAMS += bench/bench_train
bench_bench_train_SOURCES = bench/bench_train.c
bench_bench_train_LDADD = libmodel.a libspace.a libkernels.a libbase.a -lm
