noinst_LIBRARIES += libmodel.a
libmodel_a_SOURCES = $(layer_bodies) \
	model/bodies.c model/checkpoint.c model/checkpoint.h model/decode.c model/export.c model/export.h model/gguf.c model/gguf.h model/hf.c model/hf.h model/hf_classes.c \
	model/internal.h model/layer.h \
	model/model.c model/model.h model/optim.c model/plan.c model/product.c model/safetensors.c model/safetensors.h \
	model/safetensors_json.c model/safetensors_json.h model/stack.c model/stored.c model/supernet.c model/supernet.h model/supernet_layout.c model/supernet_layout.h
