noinst_LIBRARIES += libevaluator.a
libevaluator_a_SOURCES = \
	evaluator/beat.c evaluator/beat.h evaluator/data.c evaluator/data.h evaluator/energy.c evaluator/energy.h evaluator/evaluate.c evaluator/evaluate.h evaluator/fault.c evaluator/fault.h evaluator/fingerprint.c evaluator/fingerprint.h \
	evaluator/hostlock.c evaluator/hostlock.h evaluator/inherit.c evaluator/inherit.h evaluator/lessee.c evaluator/lessee.h evaluator/nvml.c evaluator/nvml.h evaluator/profiler.c evaluator/profiler.h evaluator/score.c evaluator/score.h evaluator/supertrain.c evaluator/supertrain.h evaluator/tidy.c evaluator/tidy.h evaluator/trainer.c evaluator/trainer.h evaluator/trial.c evaluator/trial.h \
	evaluator/worker.c evaluator/worker.h

bin_PROGRAMS += taut-evaluator
taut_evaluator_SOURCES = evaluator/main.c
taut_evaluator_LDADD = libevaluator.a libproxies.a libmodel.a libkernels.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a \
	$(UV_LIBS) $(JANSSON_LIBS) -lm
