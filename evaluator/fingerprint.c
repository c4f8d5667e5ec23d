#include "evaluator/fingerprint.h"

#include <sys/utsname.h>

#include "config.h"
#include "evaluator/profiler.h"
#include "searchspace/arch_json.h"

json_t *fingerprint_json(const struct kn_dev *dev)
{
    const struct kn_info *i = &dev->info;
    struct utsname u;
    if (uname(&u)) u.release[0] = u.nodename[0] = 0;
    struct arch anchor;
    char id[BASE_ID_HEX];
    profile_anchor_arch(&anchor);
    space_arch_id(&anchor, id);
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:I, s:s, s:s, s:s, s:s, s:s}", "kind", i->kind, "name", i->name, "isa", i->isa, "threads",
                     i->threads, "cpus", base_cpu_count(), "memory", (json_int_t)i->memory, "libraries", i->libraries, "kernel", u.release,
                     "host", u.nodename, "version", PACKAGE_VERSION_TEXT, "anchor", id);
}
