/* What a folder for Hugging Face transformers holds besides config and weights. */
#ifndef TAUT_CLI_HF_H
#define TAUT_CLI_HF_H

#include <stdbool.h>

#include "base/buf.h"
#include "searchspace/arch.h"

/* Bytes as a vocabulary: byte-level BPE without merges, in which the id of a byte is the byte (tokenizers, format 1.0). */
void hf_tokenizer(struct base_buf *b);
void hf_tokenizer_config(const struct arch *a, struct base_buf *b);
/* cache: can the class decode with one? */
void hf_generation_config(bool cache, struct base_buf *b);

/* the files of cli/hf, of `any` (built into hf_py.c) */
extern const char hf_configuration_py[], hf_modeling_py[];

#endif
