/* Custom genomes as columns of numbers. */
#include <math.h>

#include "searchspace/space_int.h"

#define OWN_GROUPS_MAX 64 /* a space with more genes has a group a knob, not a gene */

/* Choices that are numbers in rising order have a place. */
static bool rises(const struct custom_knob *k)
{
    for (int i = 0; i < k->nchoices; i++) {
        json_t *v = json_array_get(k->choices, (size_t)i), *before = i ? json_array_get(k->choices, (size_t)i - 1) : NULL;
        if (!json_is_number(v) || (before && json_number_value(v) <= json_number_value(before))) return false;
    }
    return true;
}

static void add(struct space *s, int gene, int group, bool ordinal)
{
    if (s->column) s->column[s->columns] = (struct space_column){.group = group, .gene = gene, .ordinal = ordinal};
    s->columns++;
}

static void add_knob(struct space *s, const struct custom_knob *k)
{
    bool own = s->genes <= OWN_GROUPS_MAX, choice = k->kind == CUSTOM_CHOICE, spread = choice && k->nchoices > 2, place = !choice || !spread || rises(k);
    int groups = place + spread;
    if (choice && k->nchoices < 2) return;
    for (int j = 0; j < (k->repeat ? k->repeat : 1); j++) {
        int group = s->groups + (own ? j * groups : 0);
        if (place) add(s, k->gene + j, group, true);
        for (int i = 0; spread && i < k->nchoices; i++) add(s, k->gene + j, group + place, false);
    }
    s->groups += groups * (own && k->repeat ? k->repeat : 1);
}

st_t space_custom_columns(struct space *s)
{
    for (int pass = 0; pass < 2; pass++) { /* counts, then fills */
        s->columns = s->groups = 0;
        for (int i = 0; i < s->custom.nknobs; i++) add_knob(s, &s->custom.knob[i]);
        if (pass == 0 && !(s->column = base_arena_alloc(&s->arena, (size_t)(s->columns + 1) * sizeof *s->column))) return ST_ENOMEM;
    }
    return ST_OK;
}

st_t space_custom_encode(const struct space *s, const struct genome *g, double *x, struct arch *arch)
{
    for (int c = 0, i = 0; c < s->columns; c++) {
        const struct custom_knob *k = s->custom.of[s->column[c].gene];
        double v = g->g[s->column[c].gene];
        if (!s->column[c].ordinal) { /* the i-th of the gene's columns that are 0 or 1 */
            i = c && !s->column[c - 1].ordinal && s->column[c - 1].gene == s->column[c].gene ? i + 1 : 0;
            x[c] = v == i;
        } else if (k->kind == CUSTOM_CHOICE) {
            x[c] = v / (k->nchoices - 1);
        } else if (k->kind == CUSTOM_LOG) {
            x[c] = log(v / k->low) / log(k->high / k->low);
        } else {
            x[c] = (v - k->low) / (k->high - k->low);
        }
    }
    return ST_OK;
}
