# cli
bin_PROGRAMS += taut
taut_SOURCES = cli/cli.h cli/cmds.def cli/main.c cli/options.c cli/help.c cli/help_cmd.c cli/completion.c cli/promised.c \
	cli/term.h cli/term.c cli/table.h cli/table.c cli/format.h cli/format.c cli/plot.h cli/plot.c cli/out.h cli/out.c \
	cli/child.h cli/child.c cli/connect.h cli/connect.c cli/jobfile.h cli/jobfile.c cli/change.h cli/change.c \
	cli/interrupt.h cli/interrupt.c cli/follow.h cli/follow.c cli/result.h cli/result.c cli/service.h cli/service.c \
	cli/run.c cli/status.c cli/watch.c cli/submit.c cli/jobs.c cli/front.c cli/pause.c cli/resume.c cli/cancel.c \
	cli/archarg.h cli/archarg.c cli/stack.h cli/stack.c cli/cost.c cli/progress.h cli/progress.c \
	cli/space.c cli/train.c cli/profile.c cli/doctor.h cli/doctor.c cli/doctor_machine.c
taut_LDADD = libevaluator.a libmodel.a libkernels.a libwire.a libspacejson.a libspace.a libbasejson.a libbase.a $(UV_LIBS) $(JANSSON_LIBS) -lm
