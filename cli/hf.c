#include "cli/hf.h"

#include <stdio.h>

#include "base/json_write.h"

/* The character that stands for a byte in a byte-level vocabulary: itself where it can be seen, else one from U+0100 on, in order (GPT-2's
 * bytes_to_unicode). */
static int visible(int byte)
{
    int hidden = 0;
    for (int b = 0; b <= byte; b++) {
        bool seen = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) return seen ? b : 256 + hidden;
        hidden += !seen;
    }
    return byte;
}

void hf_tokenizer(struct base_buf *b)
{
    static const char level[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}";
    static const char *const none[] = {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"};
    static const char *const off[] = {"fuse_unk", "byte_fallback", "ignore_merges"};
    struct base_jw w;
    base_jw_init(&w, b);
    base_jw_obj(&w);
    base_jw_kstr(&w, "version", "1.0");
    base_jw_kraw(&w, "truncation", "null");
    base_jw_kraw(&w, "padding", "null");
    base_jw_kraw(&w, "added_tokens", "[]");
    base_jw_kraw(&w, "normalizer", "null");
    base_jw_kraw(&w, "pre_tokenizer", level);
    base_jw_kraw(&w, "post_processor", "null");
    base_jw_kraw(&w, "decoder", level);
    base_jw_key(&w, "model");
    base_jw_obj(&w);
    base_jw_kstr(&w, "type", "BPE");
    for (int i = 0; i < 4; i++) base_jw_kraw(&w, none[i], "null");
    for (int i = 0; i < 3; i++) base_jw_kbool(&w, off[i], false);
    base_jw_key(&w, "vocab");
    base_jw_obj(&w);
    for (int byte = 0; byte < 256; byte++) {
        int c = visible(byte);
        char utf8[3] = {(char)c};
        if (c > 127) utf8[0] = (char)(0xC0 | c >> 6), utf8[1] = (char)(0x80 | (c & 63));
        base_jw_kint(&w, utf8, byte);
    }
    base_jw_end(&w);
    base_jw_kraw(&w, "merges", "[]");
    base_jw_end(&w);
    base_jw_end(&w);
    base_buf_str(b, "\n");
}

void hf_tokenizer_config(const struct arch *a, struct base_buf *b)
{
    struct base_jw w;
    base_jw_init(&w, b);
    base_jw_obj(&w);
    base_jw_kstr(&w, "tokenizer_class", "PreTrainedTokenizerFast");
    base_jw_kbool(&w, "clean_up_tokenization_spaces", false);
    base_jw_kint(&w, "model_max_length", a->context);
    base_jw_end(&w);
    base_buf_str(b, "\n");
}

void hf_generation_config(bool cache, struct base_buf *b)
{
    struct base_jw w;
    base_jw_init(&w, b);
    base_jw_obj(&w);
    base_jw_kbool(&w, "do_sample", true);
    base_jw_kint(&w, "max_new_tokens", 128);
    base_jw_kbool(&w, "use_cache", cache);
    base_jw_end(&w);
    base_buf_str(b, "\n");
}
