/* Filters over metrics: a recursive-descent parser into an array of nodes, the root last. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "searchspace/metric.h"

#define NESTING_MAX 64
#define TEXT_MAX 4096

enum kind { AND, OR, NOT, COMPARE };
enum op { LT, LE, GT, GE, EQ, NE };

struct operand {
    int metric; /* -1: number */
    double number;
};

struct node {
    enum kind kind;
    int a, b; /* AND, OR; a: NOT */
    enum op op;
    struct operand left, right;
};

struct where {
    struct node *node;
    int nnodes, node_cap;
    char (*metric)[METRIC_NAME_MAX];
    int nmetrics, metric_cap;
};

struct parser {
    struct where *w;
    const char *text, *p;
    bool custom;
    int nesting;
    struct base_err *err;
    st_t st;
};

static int parse_or(struct parser *q);

static int fail(struct parser *q, const char *at, const char *expected)
{
    if (q->st) return -1;
    char where[32];
    snprintf(where, sizeof where, "column %d", (int)(at - q->text) + 1);
    if (*at) q->st = base_err_set(q->err, ST_EPARSE, where, "expected %s, not '%.*s'", expected, 16, at);
    else q->st = base_err_set(q->err, ST_EPARSE, where, "expected %s, not the end", expected);
    return -1;
}

static int out_of_memory(struct parser *q)
{
    if (!q->st) q->st = base_err_set(q->err, ST_ENOMEM, "", "out of memory");
    return -1;
}

static void skip_space(struct parser *q)
{
    while (isspace((unsigned char)*q->p)) q->p++;
}

static bool is_word_char(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("_.@-", c));
}

static size_t word_length(const char *p)
{
    size_t n = 0;
    if (!isalpha((unsigned char)*p) && *p != '_') return 0;
    while (is_word_char(p[n])) n++;
    return n;
}

static bool keyword_here(const struct parser *q, const char *word)
{
    size_t n = word_length(q->p);
    return n == strlen(word) && !strncmp(q->p, word, n);
}

static bool take_keyword(struct parser *q, const char *word)
{
    skip_space(q);
    if (!keyword_here(q, word)) return false;
    q->p += strlen(word);
    return true;
}

static int add_node(struct parser *q, struct node n)
{
    struct where *w = q->w;
    if (w->nnodes == w->node_cap) {
        int cap = w->node_cap ? 2 * w->node_cap : 8;
        struct node *grown = realloc(w->node, (size_t)cap * sizeof *grown);
        if (!grown) return out_of_memory(q);
        w->node = grown;
        w->node_cap = cap;
    }
    w->node[w->nnodes] = n;
    return w->nnodes++;
}

static int add_metric(struct parser *q, const char *name)
{
    struct where *w = q->w;
    for (int i = 0; i < w->nmetrics; i++)
        if (!strcmp(w->metric[i], name)) return i;
    if (w->nmetrics == w->metric_cap) {
        int cap = w->metric_cap ? 2 * w->metric_cap : 4;
        char(*grown)[METRIC_NAME_MAX] = realloc(w->metric, (size_t)cap * sizeof *grown);
        if (!grown) return out_of_memory(q);
        w->metric = grown;
        w->metric_cap = cap;
    }
    snprintf(w->metric[w->nmetrics], METRIC_NAME_MAX, "%s", name);
    return w->nmetrics++;
}

/* A decimal number as JSON writes it, a leading '-', '+' or '.' allowed too. Length, 0 if there is none. */
static size_t number_length(const char *p)
{
    size_t n = 0, digits = 0;
    if (p[n] == '-' || p[n] == '+') n++;
    for (; isdigit((unsigned char)p[n]); n++) digits++;
    if (p[n] == '.')
        for (n++; isdigit((unsigned char)p[n]); n++) digits++;
    if (!digits) return 0;
    if (p[n] == 'e' || p[n] == 'E') {
        size_t e = n + 1;
        if (p[e] == '-' || p[e] == '+') e++;
        if (!isdigit((unsigned char)p[e])) return n;
        for (n = e; isdigit((unsigned char)p[n]);) n++;
    }
    return n;
}

static int parse_operand(struct parser *q, struct operand *out)
{
    static const char expected[] = "a metric or a number";
    skip_space(q);
    const char *at = q->p;
    size_t n = number_length(at);
    if (n) {
        char text[64];
        if (n >= sizeof text || is_word_char(at[n])) return fail(q, at, expected);
        snprintf(text, sizeof text, "%.*s", (int)n, at);
        *out = (struct operand){-1, strtod(text, NULL)};
        if (!isfinite(out->number)) return fail(q, at, "a number within range");
        q->p += n;
        return 0;
    }
    n = word_length(at);
    if (!n || keyword_here(q, "and") || keyword_here(q, "or") || keyword_here(q, "not")) return fail(q, at, expected);
    char name[TEXT_MAX], where[32];
    struct metric m;
    snprintf(name, sizeof name, "%.*s", (int)n, at);
    snprintf(where, sizeof where, "column %d", (int)(at - q->text) + 1);
    if ((q->st = space_metric_parse(&m, name, q->custom, where, q->err))) return -1;
    out->metric = add_metric(q, m.name);
    q->p += n;
    return out->metric < 0 ? -1 : 0;
}

static int parse_comparison(struct parser *q)
{
    static const struct {
        const char *text;
        enum op op;
    } ops[] = {{"<=", LE}, {">=", GE}, {"==", EQ}, {"!=", NE}, {"<", LT}, {">", GT}, {"=", EQ}};
    static const int nops = sizeof ops / sizeof ops[0];
    struct node n = {.kind = COMPARE};
    if (parse_operand(q, &n.left)) return -1;
    skip_space(q);
    int i = 0;
    while (i < nops && strncmp(q->p, ops[i].text, strlen(ops[i].text))) i++;
    if (i == nops) return fail(q, q->p, "a comparison (< <= > >= = !=)");
    n.op = ops[i].op;
    q->p += strlen(ops[i].text);
    if (parse_operand(q, &n.right)) return -1;
    skip_space(q);
    if (*q->p && strchr("<>=!", *q->p)) return fail(q, q->p, "'and' or 'or' (comparisons do not chain)");
    return add_node(q, n);
}

static int parse_not(struct parser *q)
{
    if (q->nesting >= NESTING_MAX) return fail(q, q->p, "at most 64 levels");
    q->nesting++;
    int result;
    if (take_keyword(q, "not")) {
        int a = parse_not(q);
        result = a < 0 ? -1 : add_node(q, (struct node){.kind = NOT, .a = a});
    } else if (*q->p == '(') {
        q->p++;
        result = parse_or(q);
        skip_space(q);
        if (result >= 0 && *q->p != ')') result = fail(q, q->p, "')'");
        else if (result >= 0) q->p++;
    } else {
        result = parse_comparison(q);
    }
    q->nesting--;
    return result;
}

static int parse_and(struct parser *q)
{
    int a = parse_not(q);
    while (a >= 0 && take_keyword(q, "and")) {
        int b = parse_not(q);
        a = b < 0 ? -1 : add_node(q, (struct node){.kind = AND, .a = a, .b = b});
    }
    return a;
}

static int parse_or(struct parser *q)
{
    int a = parse_and(q);
    while (a >= 0 && take_keyword(q, "or")) {
        int b = parse_and(q);
        a = b < 0 ? -1 : add_node(q, (struct node){.kind = OR, .a = a, .b = b});
    }
    return a;
}

st_t space_where_parse(struct where **out, const char *text, bool custom, struct base_err *err)
{
    if (strlen(text) >= TEXT_MAX) return base_err_set(err, ST_ETOOBIG, "", "a filter has at most %d characters", TEXT_MAX - 1);
    struct where *w = calloc(1, sizeof *w);
    if (!w) return base_err_set(err, ST_ENOMEM, "", "out of memory");
    struct parser q = {.w = w, .text = text, .p = text, .custom = custom, .err = err};
    int root = parse_or(&q);
    skip_space(&q);
    if (root >= 0 && *q.p) fail(&q, q.p, "'and', 'or' or the end");
    if (q.st) {
        space_where_free(w);
        return q.st;
    }
    *out = w;
    return ST_OK;
}

void space_where_free(struct where *w)
{
    if (!w) return;
    free(w->node);
    free(w->metric);
    free(w);
}

int space_where_metrics(const struct where *w)
{
    return w->nmetrics;
}

const char *space_where_metric(const struct where *w, int i)
{
    return w->metric[i];
}

static bool eval(const struct where *w, int i, const double *value)
{
    const struct node *n = &w->node[i];
    switch (n->kind) {
    case AND: return eval(w, n->a, value) && eval(w, n->b, value);
    case OR: return eval(w, n->a, value) || eval(w, n->b, value);
    case NOT: return !eval(w, n->a, value);
    case COMPARE: break;
    }
    double l = n->left.metric < 0 ? n->left.number : value[n->left.metric];
    double r = n->right.metric < 0 ? n->right.number : value[n->right.metric];
    if (isnan(l) || isnan(r)) return false;
    switch (n->op) {
    case LT: return l < r;
    case LE: return l <= r;
    case GT: return l > r;
    case GE: return l >= r;
    case EQ: return l == r;
    case NE: return l != r;
    }
    return false;
}

bool space_where_eval(const struct where *w, const double *value)
{
    return eval(w, w->nnodes - 1, value);
}
