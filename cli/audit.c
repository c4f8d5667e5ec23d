#include "cli/audit.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/format.h"
#include "cli/out.h"
#include "cli/term.h"

/* ", rho 0.81 [0.52, 0.95]" */
static void print_value(const char *before, const char *name, json_t *v, const char *form)
{
    printf("%s%s ", before, name);
    if (isnan(out_num(v, "value"))) {
        printf("-");
        return;
    }
    printf(form, out_num(v, "value"));
    if (isnan(out_num(v, "low"))) return;
    printf(" [");
    printf(form, out_num(v, "low"));
    printf(", ");
    printf(form, out_num(v, "high"));
    printf("]");
}

static void print_column(json_t *k, void (*field)(const char *name))
{
    json_t *tenth = json_object_get(k, "best_tenth"), *nesting = json_object_get(k, "nesting"), *relied = json_object_get(k, "relied");
    field(out_str(k, "name"));
    if (relied && !json_is_true(relied)) printf("%snot relied on%s, ", term_style(TERM_RED), term_style(TERM_PLAIN));
    else if (relied) printf("%s, ", json_is_true(json_object_get(k, "judged")) ? "relied on" : "not judged yet");
    print_value("", "rho", json_object_get(k, "rho"), "%.2f");
    print_value(", ", "tau_b", json_object_get(k, "tau_b"), "%.2f");
    print_value(", ", "regret", json_object_get(k, "regret"), "%.4g");
    if (!isnan(out_num(json_object_get(tenth, "rho"), "value"))) {
        print_value("; best tenth: ", "rho", json_object_get(tenth, "rho"), "%.2f");
        print_value(", ", "tau_b", json_object_get(tenth, "tau_b"), "%.2f");
    }
    if (out_int(nesting, "pairs")) printf("; nesting violated in %lld of %lld", (long long)out_int(nesting, "violations"), (long long)out_int(nesting, "pairs"));
    putchar('\n');
}

void audit_print(json_t *info, void (*field)(const char *name))
{
    json_t *audit = json_object_get(info, "audit"), *k, *rungs = json_object_get(audit, "rungs_relied"), *nesting = json_object_get(audit, "nesting");
    size_t i;
    if (!audit) return;
    field("audit");
    if (out_num(audit, "share") == 0) {
        printf("none (audit is 0): the job's shortcuts are unchecked\n");
        return;
    }
    if (json_object_get(audit, "drawn")) {
        printf("%lld", (long long)out_int(audit, "drawn"));
        if (!isnan(out_num(audit, "wanted"))) printf(" of %lld", (long long)out_int(audit, "wanted"));
        printf(" architectures drawn to be trained to the top rung, ");
    }
    printf("%lld results of %s, %lld of them of the predicted best tenth\n", (long long)out_int(audit, "results"), out_str(audit, "metric"), (long long)out_int(audit, "best_tenth"));
    json_array_foreach(json_object_get(audit, "shortcuts"), i, k) print_column(k, field);
    json_array_foreach(json_object_get(audit, "references"), i, k) print_column(k, field);
    if (out_int(nesting, "pairs")) {
        field("");
        printf("of %lld pairs of a network and a part of it the part has the better result in %lld\n", (long long)out_int(nesting, "pairs"), (long long)out_int(nesting, "violations"));
    }
    if (json_is_false(rungs)) {
        field("");
        printf("a low rung orders no better than counting parameters does: every new trial goes to the top rung\n");
    }
}
