#include "base/status.h"

const char *base_status_text(st_t st)
{
    switch (st) {
#define X(name, code, text) \
    case name:              \
        return text;
        ST_MAP(X)
#undef X
    }
    return "unknown status";
}
