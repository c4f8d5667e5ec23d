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
