noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	base/arena.c base/arena.h base/buf.c base/buf.h base/clock.c base/clock.h base/err.c base/err.h base/fit.h base/fit_power.c base/fit_scaling.c \
	base/fs.c base/fs.h \
	base/hash.c base/hash.h base/json_write.c base/json_write.h base/log.c base/log.h \
	base/hypervolume.c base/hypervolume_progress.c base/pareto.c base/pareto.h base/pareto_impl.h base/pareto_member.c base/pareto_rank.c base/pareto_sort.c \
	base/pool.c base/pool.h base/rng.c base/rng.h base/stats.c base/stats.h base/status.c base/status.h
# apart, so that kernels/ and model/ link without jansson
noinst_LIBRARIES += libbasejson.a
libbasejson_a_SOURCES = base/json.c base/json.h
