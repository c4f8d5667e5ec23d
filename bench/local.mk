# bench
noinst_PROGRAMS += bench/bench_pareto
bench_bench_pareto_SOURCES = bench/bench_pareto.c
bench_bench_pareto_LDADD = libbase.a -lm
