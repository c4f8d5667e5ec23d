# drawings and paper costs, without jansson: model/ links this alone
noinst_LIBRARIES += libspace.a
libspace_a_SOURCES = \
	searchspace/arch.c searchspace/arch.h searchspace/attention.c searchspace/canonical.c searchspace/layer.c \
	searchspace/layer.h searchspace/layers.def searchspace/none.c searchspace/swiglu.c \
	searchspace/families/any.c searchspace/families/families.def searchspace/families/family.c \
	searchspace/families/family.h searchspace/families/llama.c
