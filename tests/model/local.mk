# tests of model
MODEL_TEST_LIBS = libmodel.a libspace.a libkernels.a libbase.a -lm
check_PROGRAMS += tests/model/test_grad
tests_model_test_grad_SOURCES = tests/model/test_grad.c tests/model/nets.h
tests_model_test_grad_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_golden
tests_model_test_golden_SOURCES = tests/model/test_golden.c tests/model/nets.h
tests_model_test_golden_LDADD = $(MODEL_TEST_LIBS)
EXTRA_DIST += tests/golden/make_llama.py tests/golden/llama_weights.safetensors tests/golden/llama_golden.safetensors \
	tests/golden/mistral_weights.safetensors tests/golden/mistral_golden.safetensors
EXTRA_DIST += tests/golden/make_mlp.py tests/golden/gpt2_weights.safetensors tests/golden/gpt2_golden.safetensors \
	tests/golden/nemotron_mlp_weights.safetensors tests/golden/nemotron_mlp_golden.safetensors \
	tests/golden/llama_bias_weights.safetensors tests/golden/llama_bias_golden.safetensors \
	tests/golden/lfm2_bias_weights.safetensors tests/golden/lfm2_bias_golden.safetensors
EXTRA_DIST += tests/golden/make_lfm2.py tests/golden/lfm2_weights.safetensors tests/golden/lfm2_golden.safetensors \
	tests/golden/lfm2_attention_weights.safetensors tests/golden/lfm2_attention_golden.safetensors
EXTRA_DIST += tests/golden/make_attention.py tests/golden/qwen3_weights.safetensors tests/golden/qwen3_golden.safetensors \
	tests/golden/qwen3_next_weights.safetensors tests/golden/qwen3_next_golden.safetensors \
	tests/golden/shared_kv_weights.safetensors tests/golden/shared_kv_golden.safetensors
EXTRA_DIST += tests/golden/make_moe.py tests/golden/moe_mixtral_weights.safetensors tests/golden/moe_mixtral_golden.safetensors \
	tests/golden/moe_deepseek_weights.safetensors tests/golden/moe_deepseek_golden.safetensors \
	tests/golden/moe_qwen3next_weights.safetensors tests/golden/moe_qwen3next_golden.safetensors \
	tests/golden/moe_granite_weights.safetensors tests/golden/moe_granite_golden.safetensors \
	tests/golden/moe_nemotron_weights.safetensors tests/golden/moe_nemotron_golden.safetensors \
	tests/golden/moe_lfm2_weights.safetensors tests/golden/moe_lfm2_golden.safetensors
EXTRA_DIST += tests/golden/make_mla.py tests/golden/mla_weights.safetensors tests/golden/mla_golden.safetensors \
	tests/golden/mla_rank_weights.safetensors tests/golden/mla_rank_golden.safetensors \
	tests/golden/mla_pairs_weights.safetensors tests/golden/mla_pairs_golden.safetensors
EXTRA_DIST += tests/golden/make_bamba.py tests/golden/bamba_weights.safetensors tests/golden/bamba_golden.safetensors \
	tests/golden/bamba_bias_weights.safetensors tests/golden/bamba_bias_golden.safetensors
EXTRA_DIST += tests/golden/make_linear.py tests/golden/linear_weights.safetensors tests/golden/linear_golden.safetensors
EXTRA_DIST += tests/golden/make_delta.py tests/golden/gated_delta_weights.safetensors tests/golden/gated_delta_golden.safetensors
check_PROGRAMS += tests/model/test_train
tests_model_test_train_SOURCES = tests/model/test_train.c tests/model/nets.h
tests_model_test_train_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_model
tests_model_test_model_SOURCES = tests/model/test_model.c tests/model/nets.h
tests_model_test_model_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_decode
tests_model_test_decode_SOURCES = tests/model/test_decode.c tests/model/nets.h
tests_model_test_decode_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_gguf
tests_model_test_gguf_SOURCES = tests/model/test_gguf.c tests/model/nets.h
tests_model_test_gguf_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_safetensors
tests_model_test_safetensors_SOURCES = tests/model/test_safetensors.c tests/model/nets.h
tests_model_test_safetensors_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_checkpoint
tests_model_test_checkpoint_SOURCES = tests/model/test_checkpoint.c tests/model/nets.h
tests_model_test_checkpoint_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_alloc
tests_model_test_alloc_SOURCES = tests/model/test_alloc.c tests/model/nets.h
tests_model_test_alloc_LDADD = $(MODEL_TEST_LIBS)
tests_model_test_alloc_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=strdup,--wrap=strndup
check_PROGRAMS += tests/model/test_stored
tests_model_test_stored_SOURCES = tests/model/test_stored.c tests/model/nets.h
tests_model_test_stored_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_flops
tests_model_test_flops_SOURCES = tests/model/test_flops.c tests/model/nets.h
tests_model_test_flops_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_watch
tests_model_test_watch_SOURCES = tests/model/test_watch.c tests/model/nets.h
tests_model_test_watch_LDADD = $(MODEL_TEST_LIBS)
check_PROGRAMS += tests/model/test_supernet
tests_model_test_supernet_SOURCES = tests/model/test_supernet.c tests/model/nets.h
tests_model_test_supernet_LDADD = $(MODEL_TEST_LIBS)
