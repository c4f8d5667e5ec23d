#include "evaluator/fingerprint.h"

#include "config.h"
#include "evaluator/profiler.h"
#include "searchspace/arch_json.h"

json_t *fingerprint_json(const struct kn_dev *dev)
{
    const struct kn_info *i = &dev->info;
    struct arch anchor;
    char id[BASE_ID_HEX];
    profile_anchor_arch(&anchor);
    space_arch_id(&anchor, id);
    /* Memory in whole GiB, no host name and no kernel release: a reboot or another machine of the same make is the same device. */
    const char *fastest = kn_dtype_name(i->fastest), *other = i->fastest == KN_F32 ? i->bf16 ? "bf16" : NULL : "f32";
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:s, s:o}", "kind", i->kind, "name", i->name, "isa", i->isa, "threads",
                     i->threads, "cpus", base_cpu_count(), "memory_gib", (int)(i->memory >> 30), "libraries", i->libraries, "version",
                     PACKAGE_VERSION_TEXT, "anchor", id, "precisions", other ? json_pack("[s, s]", fastest, other) : json_pack("[s]", fastest));
}
