# against Hugging Face transformers, by a target of its own: it needs packages that the machine need not have
EXTRA_PROGRAMS = tests/hf/logits
tests_hf_logits_SOURCES = tests/hf/logits.c
tests_hf_logits_LDADD = libmodel.a libkernels.a libspacejson.a libspace.a libbasejson.a libbase.a $(JANSSON_LIBS) -lm
EXTRA_DIST += tests/hf/check_hf.py
CLEANFILES += tests/hf/logits
# HF=llama looks at one family.
check-hf: all tests/hf/logits
	@PYTHONDONTWRITEBYTECODE=1 TAUT_BUILD="$(abs_top_builddir)" TAUT_SRC="$(abs_top_srcdir)" "$(PYTHON3)" $(srcdir)/tests/hf/check_hf.py $(HF)
.PHONY: check-hf
