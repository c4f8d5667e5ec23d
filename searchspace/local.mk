# layers.def says which files there are: a new layer type needs no line here
include searchspace/layers.mk
$(srcdir)/searchspace/layers.mk: $(srcdir)/searchspace/layers.def $(srcdir)/autogen.sh
	$(AM_V_GEN)$(SHELL) $(srcdir)/autogen.sh --layers
EXTRA_DIST += autogen.sh

# drawings and paper costs, without jansson: model/ links this alone
noinst_LIBRARIES += libspace.a
libspace_a_SOURCES = $(layer_specs) \
	searchspace/arch.c searchspace/arch.h searchspace/canonical.c searchspace/layer.c \
	searchspace/layer.h searchspace/layers.def searchspace/nested.c \
	searchspace/families/any.c searchspace/families/families.def searchspace/families/family.c \
	searchspace/families/family.h searchspace/families/granite_hybrid.c searchspace/families/lfm2.c searchspace/families/llama.c \
	searchspace/families/nemotron_h.c searchspace/families/qwen3.c searchspace/families/qwen3_next.c
# what reads and writes JSON: job files, spaces, architectures; links libspace.a and libbasejson.a
noinst_LIBRARIES += libspacejson.a
libspacejson_a_SOURCES = \
	searchspace/arch_json.c searchspace/arch_json.h searchspace/job.c searchspace/job.h searchspace/job_files.c \
	searchspace/job_parse.c searchspace/metric.c searchspace/metric.h searchspace/metrics.def searchspace/options.h searchspace/path.c \
	searchspace/presets.c searchspace/problem.c searchspace/problem.h searchspace/promised.def searchspace/space.c searchspace/space.h \
	searchspace/space_custom.c searchspace/space_custom_encode.c searchspace/space_custom_vary.c searchspace/space_int.h \
	searchspace/space_lm.c searchspace/space_lm_describe.c searchspace/space_lm_encode.c searchspace/space_lm_read.c \
	searchspace/space_lm_size.c searchspace/space_lm_vary.c \
	searchspace/where.c searchspace/words.c searchspace/words.h
