/* taut export: a trial's architecture, or its weights, as files for others. */
#define _GNU_SOURCE
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/connect.h"
#include "cli/format.h"
#include "cli/hf.h"
#include "cli/out.h"
#include "model/hf.h"
#include "searchspace/arch_json.h"
#include "searchspace/families/family.h"
#include "searchspace/words.h"

static const struct cli_opt options[] = {
    {"format", 'f', "arch|safetensors|hf|gguf", "arch: the architecture alone; safetensors (default): weights and architecture; hf: a folder for transformers; gguf is not built yet", false},
    {"family", 0, "FAMILY", "hf: whose class it becomes (default: the family of the trial's job; any: the modelling file that is written beside it)", false},
    {"output", 'o', "PATH", "a folder, made if missing, or a file (default: standard output for arch, else ./trial-N)", false},
    {"force", 0, NULL, "replace what is there", false},
    {0},
};

#define TEXTS_MAX 8

struct text { /* a file whose content is known beforehand */
    char path[PATH_MAX];
    const char *name;
    struct base_buf b;
};

struct export {
    struct cli *c;
    json_t *trial, *job; /* job: of hf alone */
    int64_t id;
    struct arch arch;
    bool weights, hf;    /* neither: the architecture alone */
    struct text text[TEXTS_MAX];
    int ntexts;
    char path[PATH_MAX]; /* of the weights; "": none */
    bool to_files;
    const struct family *family; /* hf */
    struct export_plan plan;
    struct export_sum sum;
};

/* ---- where to ---- */

static bool is_folder(const char *path)
{
    struct stat s;
    size_t n = strlen(path);
    return (n && path[n - 1] == '/') || (!stat(path, &s) && S_ISDIR(s.st_mode));
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n > k && !strcmp(text + n - k, end);
}

static int too_long(void)
{
    return cli_fail(CLI_CALL, "-o", "give another one", "its path is too long");
}

static int in_folder(struct export *e, const char *dir)
{
    struct base_err err = BASE_ERR_INIT;
    if (conn_make_dir(dir, &err)) return cli_fail_err(cli_exit_of(err.st), NULL, "give another -o", &err);
    const char *slash = dir[strlen(dir) - 1] == '/' ? "" : "/";
    for (int i = 0; i < e->ntexts; i++)
        if (snprintf(e->text[i].path, PATH_MAX, "%s%s%s", dir, slash, e->text[i].name) >= PATH_MAX) return too_long();
    if (e->weights && snprintf(e->path, sizeof e->path, "%s%smodel.safetensors", dir, slash) >= PATH_MAX) return too_long();
    e->to_files = true;
    return CLI_OK;
}

/* W.safetensors has its architecture beside it, in W.json. */
static int choose_paths(struct export *e)
{
    static const char ending[] = ".safetensors";
    char dir[32];
    const char *out = cli_str(e->c, "output", NULL);
    snprintf(dir, sizeof dir, "trial-%lld%s", (long long)e->id, e->hf ? "-hf" : "");
    if (!out && !e->weights) return CLI_OK; /* standard output */
    if (!out) return in_folder(e, dir);
    if (!*out) return cli_fail(CLI_CALL, "-o", "give a file or a folder", "is empty");
    if (strlen(out) + 32 >= PATH_MAX) return too_long();
    if (is_folder(out) || e->hf) return in_folder(e, out);
    if (!e->weights && !strcmp(out, "-")) return CLI_OK;
    e->to_files = true;
    if (!e->weights && ends_with(out, ".json")) {
        strcpy(e->text[0].path, out);
    } else if (e->weights && ends_with(out, ending)) {
        strcpy(e->path, out);
        snprintf(e->text[0].path, PATH_MAX, "%.*s.json", (int)(strlen(out) - strlen(ending)), out);
    } else {
        return in_folder(e, out);
    }
    return CLI_OK;
}

/* ---- writing ---- */

struct file { /* written under a name of its own, then put in its place */
    char tmp[PATH_MAX + 32];
    int fd;
};

static int begin(struct file *f, const char *path)
{
    snprintf(f->tmp, sizeof f->tmp, "%s.tmp%ld", path, (long)getpid());
    f->fd = open(f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    return f->fd >= 0 ? CLI_OK : cli_fail(CLI_FAILED, path, "give another -o", "cannot be written: %s", strerror(errno));
}

static void abandon(struct file *f)
{
    if (f->fd < 0) return;
    close(f->fd);
    unlink(f->tmp);
    f->fd = -1;
}

/* Where nothing may be replaced, the kernel sees to it; file systems that cannot have been looked at just before. */
static int place(struct file *f, const char *path, bool force)
{
    int bad = close(f->fd);
    f->fd = -1;
    if (!bad) bad = renameat2(AT_FDCWD, f->tmp, AT_FDCWD, path, force ? 0 : RENAME_NOREPLACE);
    if (bad && (errno == EINVAL || errno == ENOSYS)) bad = rename(f->tmp, path);
    if (!bad) return CLI_OK;
    int why = errno;
    unlink(f->tmp);
    if (why == EEXIST) return cli_fail(CLI_CALL, path, "--force replaces it", "is there already, and is not this trial's");
    return cli_fail(CLI_FAILED, path, "give another -o", "cannot be written: %s", strerror(why));
}

/* Is the same already there? */
static bool same_text(const char *path, const struct base_buf *text)
{
    struct base_buf b = BASE_BUF_INIT;
    bool same = !base_buf_read_file(&b, path, text->len) && b.len == text->len && !memcmp(b.p, text->p, b.len);
    base_buf_fini(&b);
    return same;
}

static bool same_file(const char *path, const struct export_sum *sum)
{
    char sha[BASE_SHA256_HEX];
    uint64_t bytes;
    return !base_sha256_file(path, sha, &bytes) && bytes == sum->bytes && !strcmp(sha, sum->sha256);
}

static int foreign(const char *path)
{
    return cli_fail(CLI_CALL, path, "--force replaces it, -o names another", "is there already, and is not this trial's");
}

static int write_text(struct file *f, const struct text *t)
{
    int rc = begin(f, t->path);
    if (rc) return rc;
    ssize_t n = write(f->fd, t->b.p, t->b.len);
    if (n == (ssize_t)t->b.len && !fsync(f->fd)) return CLI_OK;
    return cli_fail(CLI_FAILED, t->path, "make room", "cannot be written: %s", n < 0 || errno ? strerror(errno) : "the disk is full");
}

static int write_weights(struct file *f, struct export *e)
{
    json_t *checkpoint = json_object_get(e->trial, "checkpoint");
    const char *from = out_str(checkpoint, "path");
    char id[24], what[64];
    struct base_err err = BASE_ERR_INIT;
    snprintf(id, sizeof id, "%lld", (long long)e->id);
    snprintf(what, sizeof what, "trial %s", id);
    int rc = begin(f, e->path);
    if (rc) return rc;
    const struct ckpt_meta meta[] = {{"taut.trial", id}, {"taut.arch_id", out_str(e->trial, "arch_id")}};
    st_t st = model_export_weights(from, out_str(checkpoint, "hash"), f->fd, e->plan.n ? &e->plan : NULL, meta, 2, &e->sum, &err);
    if (!st) return CLI_OK;
    if (st == ST_ENOTFOUND) return cli_fail(CLI_FAILED, what, "train it again: taut train", "its weights are gone: no file %s", from);
    if (st == ST_ENOSPC) return cli_fail_err(CLI_FAILED, e->path, "make room", &err);
    return cli_fail_err(CLI_FAILED, what, NULL, &err);
}

/* Everything is written and looked at before anything is put in its place. */
static int write_files(struct export *e)
{
    struct file text[TEXTS_MAX], weights = {.fd = -1};
    bool force = cli_has(e->c, "force"), there[TEXTS_MAX], weights_there = false;
    int rc = CLI_OK;
    for (int i = 0; i < e->ntexts; i++) {
        text[i].fd = -1;
        there[i] = same_text(e->text[i].path, &e->text[i].b);
        if (!rc && !there[i] && !force && !access(e->text[i].path, F_OK)) rc = foreign(e->text[i].path);
    }
    if (!rc && e->weights) rc = write_weights(&weights, e);
    if (!rc && e->weights) {
        weights_there = same_file(e->path, &e->sum);
        if (!weights_there && !force && !access(e->path, F_OK)) rc = foreign(e->path);
    }
    for (int i = 0; i < e->ntexts && !rc; i++)
        if (!there[i]) rc = write_text(&text[i], &e->text[i]);
    if (!rc && e->weights && !weights_there) rc = place(&weights, e->path, force);
    for (int i = 0; i < e->ntexts; i++) {
        if (!rc && !there[i]) rc = place(&text[i], e->text[i].path, force);
        abandon(&text[i]);
    }
    abandon(&weights);
    return rc;
}

/* ---- transformers ---- */

static struct base_buf *add_text(struct export *e, const char *name)
{
    e->text[e->ntexts].name = name;
    return &e->text[e->ntexts++].b;
}

/* What the job says of a key of an object in it; NULL where it says nothing. */
static json_t *of_job(const struct export *e, const char *object, const char *key)
{
    return json_object_get(json_object_get(json_object_get(e->job, "job"), object), key);
}

static int choose_family(struct export *e)
{
    struct base_err err = BASE_ERR_INIT;
    const char *given = cli_str(e->c, "family", NULL), *of = json_string_value(of_job(e, "space", "family"));
    char what[64];
    int i = words_find(given ? given : of ? of : "any", space_family_names(), WORDS_FAMILY, "family", "--family", &err);
    if (i < 0) return cli_fail_err(CLI_CALL, NULL, NULL, &err);
    e->family = space_family_find(space_family_names()[i]);
    snprintf(what, sizeof what, "trial %lld", (long long)e->id);
    if (!space_family_check(e->family, &e->arch, &err)) return CLI_OK;
    return cli_fail_err(CLI_CALL, what, "--family any takes everything", &err);
}

/* Has our own modelling file every type of this network? Its table has a line for each. */
static int modelled(const struct export *e)
{
    for (int i = 0; i < e->arch.depth; i++)
        for (int k = 0; k < 2; k++) {
            const struct arch_part *p = k ? &e->arch.layer[i].ffn : &e->arch.layer[i].mixer;
            const char *name = space_layer(p->type)->name;
            char line[64];
            snprintf(line, sizeof line, "\n    \"%s\": (", name);
            if (space_part_is_none(p) || strstr(hf_modeling_py, line)) continue;
            return cli_fail(CLI_CALL, "export", "use safetensors", "--format hf of '%s' is not built yet", name);
        }
    return CLI_OK;
}

static int hf_texts(struct export *e)
{
    json_t *tokenizer = of_job(e, "data", "tokenizer");
    int rc = choose_family(e);
    if (rc) return rc;
    const struct hf_class *class = hf_class_find(e->family->name);
    if (!class && (rc = modelled(e))) return rc;
    hf_config(class, &e->arch, add_text(e, "config.json"));
    hf_generation_config(hf_caches(class, &e->arch), add_text(e, "generation_config.json"));
    if (!json_is_object(tokenizer)) {
        hf_tokenizer(add_text(e, "tokenizer.json"));
        hf_tokenizer_config(&e->arch, add_text(e, "tokenizer_config.json"));
    }
    if (class) {
        hf_plan(class, &e->arch, &e->plan);
    } else {
        base_buf_str(add_text(e, "configuration_taut.py"), hf_configuration_py);
        base_buf_str(add_text(e, "modeling_taut.py"), hf_modeling_py);
    }
    return CLI_OK;
}

/* ---- the verb ---- */

static int read_trial(struct export *e)
{
    struct conn k;
    struct base_err err = BASE_ERR_INIT;
    const char *text = e->c->arg[0];
    char job[24];
    int rc = conn_open(&k, e->c, false);
    if (!rc) rc = conn_trial(&k, text, 0, &e->trial);
    snprintf(job, sizeof job, "%lld", (long long)out_int(e->trial, "job"));
    if (!rc && e->hf) rc = conn_job(&k, job, &e->job);
    conn_close(&k);
    if (rc) return rc;
    json_t *arch = json_object_get(e->trial, "arch");
    e->id = out_int(e->trial, "id");
    if (!json_object_get(arch, "taut")) return cli_fail(CLI_CALL, text, "see taut show", "trial %lld is of a custom space: it has no architecture to export", (long long)e->id);
    if (space_arch_from_json(&e->arch, arch, "arch", &err)) return cli_fail_err(CLI_FAILED, text, "are taut and tautd of the same version?", &err);
    if (e->weights && !json_object_get(e->trial, "checkpoint")) {
        char what[64];
        snprintf(what, sizeof what, "trial %lld", (long long)e->id);
        return cli_fail(CLI_FAILED, what, "export --format arch, and taut train it", "there are no weights of it (it is %s)", out_str(e->trial, "state"));
    }
    return CLI_OK;
}

static int make_texts(struct export *e)
{
    int rc = CLI_OK;
    if (e->hf) {
        rc = hf_texts(e);
    } else {
        struct base_buf *b = add_text(e, "arch.json");
        space_arch_canonical(&e->arch, b);
        base_buf_str(b, "\n");
    }
    for (int i = 0; i < e->ntexts && !rc; i++)
        if (e->text[i].b.st) rc = cli_fail(CLI_FAILED, NULL, NULL, "out of memory");
    return rc;
}

static json_t *to_json(const struct export *e)
{
    double tokens = out_num(json_object_get(e->trial, "checkpoint"), "tokens");
    json_t *o = json_pack("{s:I, s:O, s:O}", "trial", (json_int_t)e->id, "arch_id", json_object_get(e->trial, "arch_id"), "state", json_object_get(e->trial, "state"));
    if (e->hf) {
        const struct hf_class *class = hf_class_find(e->family->name);
        json_t *files = json_array();
        for (int i = 0; i < e->ntexts; i++) json_array_append_new(files, json_string(e->text[i].path));
        json_object_set_new(o, "family", json_string(e->family->name));
        json_object_set_new(o, "class", json_string(class ? class->name : "TautForCausalLM"));
        json_object_set_new(o, "files", files);
    } else if (e->to_files) {
        json_object_set_new(o, "arch_file", json_string(e->text[0].path));
    } else {
        json_object_set(o, "arch", json_object_get(e->trial, "arch"));
    }
    if (e->weights)
        json_object_set_new(o, "weights", json_pack("{s:s, s:s, s:I, s:i, s:I, s:f}", "path", e->path, "hash", e->sum.sha256, "bytes", (json_int_t)e->sum.bytes,
                                                    "tensors", e->sum.tensors, "params", (json_int_t)e->sum.numbers, "tokens", tokens));
    return o;
}

static void print_hf(const struct export *e)
{
    const struct hf_class *class = hf_class_find(e->family->name);
    if (class) printf("it loads as %s\n", class->name);
    else printf("it loads by its own modelling file: AutoModelForCausalLM.from_pretrained(…, trust_remote_code=True)\n");
    for (int i = 0; !class && i < hf_nclasses; i++)
        if (!space_family_check(space_family_find(hf_classes[i].family), &e->arch, NULL))
            printf("%s holds it too: --family %s\n", hf_classes[i].name, hf_classes[i].family);
    if (json_is_object(of_job(e, "data", "tokenizer"))) printf("no tokenizer: what the numbers of the job's shards mean is not known\n");
}

static int print(const struct export *e)
{
    double tokens = out_num(json_object_get(e->trial, "checkpoint"), "tokens");
    char bytes[FMT_MAX], count[FMT_MAX], seen[FMT_MAX];
    bool finished = !strcmp(out_str(e->trial, "state"), "ok");
    if (e->c->json) {
        json_t *o = to_json(e);
        int rc = out_json(o);
        json_decref(o);
        return rc;
    }
    if (!e->to_files) {
        fwrite(e->text[0].b.p, 1, e->text[0].b.len, stdout);
        return CLI_OK;
    }
    if (e->c->quiet) return CLI_OK;
    if (e->weights) {
        printf("%s  %s parameters in %d tensors, %s\n", e->path, fmt_count(count, (double)e->sum.numbers), e->sum.tensors, fmt_bytes(bytes, (double)e->sum.bytes));
        if (!finished) printf("trial %lld is not finished: these are its weights after %s tokens\n", (long long)e->id, fmt_short(seen, tokens));
    }
    for (int i = 0; i < e->ntexts; i++) printf("%s\n", e->text[i].path);
    if (e->hf) print_hf(e);
    return CLI_OK;
}

static int run(struct cli *c)
{
    struct export e = {.c = c};
    const char *format = cli_str(c, "format", "safetensors");
    if (!strcmp(format, "gguf")) return cli_fail(CLI_CALL, "export", "use safetensors: its names are Llama's", "--format gguf is not built yet");
    e.hf = !strcmp(format, "hf");
    e.weights = e.hf || !strcmp(format, "safetensors");
    if (cli_has(c, "family") && !e.hf) return cli_fail(CLI_CALL, "--family", "add --format hf", "is of --format hf alone");
    int rc = read_trial(&e);
    if (!rc) rc = make_texts(&e);
    if (!rc) rc = choose_paths(&e);
    if (!rc && e.to_files) rc = write_files(&e);
    if (!rc) rc = print(&e);
    for (int i = 0; i < e.ntexts; i++) base_buf_fini(&e.text[i].b);
    export_plan_fini(&e.plan);
    json_decref(e.trial);
    json_decref(e.job);
    return rc;
}

const struct cli_cmd cmd_export = {
    .name = "export",
    .args = "TRIAL",
    .summary = "a trial's weights and architecture as files for others",
    .help = "  taut export 17 --dir search -o model/                          model/model.safetensors and model/arch.json\n"
            "  taut export 17 --dir search -o best.safetensors                best.safetensors and best.json\n"
            "  taut export 17 --dir search --format arch > arch.json\n"
            "  taut export 17 --dir search --format hf -o model/              a folder that transformers loads: config, weights, tokenizer\n"
            "Weights go by the names that Llama has in transformers, as the trial left them, without the optimiser's state; their SHA-256 is compared with\n"
            "the store's first. `taut train arch.json --init model.safetensors` goes on with them. What is there already is not replaced without --force.\n"
            "With --format hf the names and layouts are those of the family's class, and the tokenizer's ids are bytes; `any` brings its own modelling file.\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run};
