# cli
bin_PROGRAMS += taut
taut_SOURCES = cli/cli.h cli/cmds.def cli/main.c cli/options.c cli/help.c cli/help_cmd.c cli/completion.c cli/predict.c \
	cli/term.h cli/term.c cli/table.h cli/table.c cli/format.h cli/format.c cli/plot.h cli/plot.c cli/out.h cli/out.c \
	cli/child.h cli/child.c cli/connect.h cli/connect.c cli/jobfile.h cli/jobfile.c cli/change.h cli/change.c \
	cli/interrupt.h cli/interrupt.c cli/follow.h cli/follow.c cli/result.h cli/result.c cli/service.h cli/service.c \
	cli/run.c cli/status.c cli/watch.c cli/submit.c cli/jobs.c cli/front.c cli/pause.c cli/resume.c cli/cancel.c \
	cli/archarg.h cli/archarg.c cli/audit.h cli/audit.c cli/dataarg.h cli/dataarg.c cli/stack.h cli/stack.c cli/cost.c cli/progress.h cli/progress.c \
	cli/space.c cli/train.c cli/profile.c cli/score.c cli/show.c cli/export.c cli/hf.h cli/hf.c cli/spark.h cli/spark.c cli/doctor.h cli/doctor.c cli/doctor_machine.c
taut_SOURCES += cli/bench.h cli/bench.c cli/bench_child.h cli/bench_child.c cli/bench_measure.c cli/bench_ops.c cli/bench_presets.c cli/bench_whole.c \
	cli/bench_compare.h cli/bench_compare.c cli/bench_torch.c cli/bench_rounds.c cli/bench_llama.c
nodist_taut_SOURCES = cli/bench_torch_script.c
EXTRA_DIST += cli/bench_torch.py
CLEANFILES += cli/bench_torch_script.c
cli/bench_torch_script.c: cli/bench_torch.py
	$(AM_V_GEN)$(MKDIR_P) cli && { \
		echo '#include "cli/bench.h"'; echo 'const char bench_torch_script[] ='; \
		sed 's/[\\"]/\\&/g; s/^/"/; s/$$/\\n"/' $(srcdir)/cli/bench_torch.py; \
		echo ';'; } > $@.tmp && mv $@.tmp $@
taut_LDADD = libevaluator.a libproxies.a libmodel.a libkernels.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a $(UV_LIBS) $(JANSSON_LIBS) -lm

# The report's page: style and scripts put into page.html, and that into one C string.
taut_SOURCES += cli/report.h cli/report.c cli/report_arch.h cli/report_arch.c cli/report_data.c
nodist_taut_SOURCES += cli/report_page.c
report_scripts = cli/report/base.js cli/report/chart.js cli/report/heading.js cli/report/front.js cli/report/progress.js \
	cli/report/parallel.js cli/report/cards.js cli/report/audit.js cli/report/cost.js cli/report/main.js
report_parts = cli/report/page.html cli/report/style.css $(report_scripts)
EXTRA_DIST += $(report_parts)
CLEANFILES += cli/report_page.c
cli/report_page.c: $(report_parts)
	$(AM_V_GEN)$(MKDIR_P) cli && { \
		echo '#include "cli/report.h"'; echo 'const char report_page[] ='; \
		{ sed '/^@CSS@$$/,$$d' $(srcdir)/cli/report/page.html; cat $(srcdir)/cli/report/style.css; \
		  sed '1,/^@CSS@$$/d;/^@JS@$$/,$$d' $(srcdir)/cli/report/page.html; for f in $(report_scripts); do cat $(srcdir)/$$f; done; \
		  sed '1,/^@JS@$$/d' $(srcdir)/cli/report/page.html; } | sed 's/[\\"]/\\&/g; s/^/"/; s/$$/\\n"/'; \
		echo ';'; } > $@.tmp && mv $@.tmp $@

# What `export --format hf` writes for networks without a public class, each as one C string.
nodist_taut_SOURCES += cli/hf_py.c
hf_parts = cli/hf/configuration_taut.py cli/hf/modeling_taut.py
EXTRA_DIST += $(hf_parts)
CLEANFILES += cli/hf_py.c
cli/hf_py.c: $(hf_parts)
	$(AM_V_GEN)$(MKDIR_P) cli && { \
		echo '#include "cli/hf.h"'; for f in configuration modeling; do echo "const char hf_$${f}_py[] ="; \
		  sed 's/[\\"]/\\&/g; s/^/"/; s/$$/\\n"/' $(srcdir)/cli/hf/$${f}_taut.py; echo ';'; done; } > $@.tmp && mv $@.tmp $@
