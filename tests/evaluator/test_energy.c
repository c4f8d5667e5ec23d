/* RAPL on a made-up sysfs tree. */
#include "tests/evaluator/evaltest.h"

#include "evaluator/energy.h"

#define RANGE 262143328850.0 /* as real ones have: 0.26 MJ */

static void put_number(const char *path, double v)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%.0f\n", v);
    put_file(path, text, (size_t)n);
}

static void domain(const char *root, const char *dir, const char *name, double uj)
{
    char path[256], text[64];
    snprintf(path, sizeof path, "%s/%s", root, dir);
    mkdir(in(root), 0777);
    mkdir(in(path), 0777);
    int n = snprintf(text, sizeof text, "%s\n", name);
    snprintf(path, sizeof path, "%s/%s/name", root, dir);
    put_file(path, text, (size_t)n);
    snprintf(path, sizeof path, "%s/%s/max_energy_range_uj", root, dir);
    put_number(path, RANGE);
    snprintf(path, sizeof path, "%s/%s/energy_uj", root, dir);
    put_number(path, uj);
}

static double joules_of(struct energy *e)
{
    double j = NAN;
    return energy_read(e, &j) ? NAN : j;
}

static void refused(const char *root, const char *words, const char *what)
{
    struct energy *e = NULL;
    struct base_err err = BASE_ERR_INIT;
    char text[1200];
    is_int(energy_open(&e, in(root), &err), ST_ENOTSUP, "refused: %s", what);
    ok(!e && strstr(base_err_text(&err, text, sizeof text), words), "says which and why: %s", text);
}

static void a_server(void)
{
    struct energy *e;
    struct base_err err = BASE_ERR_INIT;
    domain("two", "intel-rapl:0", "package-0", 1000000);
    domain("two", "intel-rapl:0:0", "core", 500000);
    domain("two", "intel-rapl:0:1", "dram", 70000);
    domain("two", "intel-rapl:1", "package-1", 2000000);
    domain("two", "intel-rapl:1:0", "core", 10);
    domain("two", "intel-rapl-mmio:0", "package-0", 1000000);
    domain("two", "intel-rapl", "nothing", 0);
    domain("two", "dtpm:0", "package-0", 0);
    ok(!energy_open(&e, in("two"), &err), "two packages: %s %s", err.where, err.what);
    is_near(joules_of(e), 0, 0, "nothing yet");
    put_number("two/intel-rapl:0/energy_uj", 4000000);
    is_near(joules_of(e), 3, 1e-12, "three joules in one package");
    put_number("two/intel-rapl:1/energy_uj", 2500000);
    is_near(joules_of(e), 3.5, 1e-12, "and a half in the other");
    put_number("two/intel-rapl:0:0/energy_uj", 9e6);
    put_number("two/intel-rapl:0:1/energy_uj", 9e6);
    put_number("two/intel-rapl-mmio:0/energy_uj", 9e6);
    put_number("two/dtpm:0/energy_uj", 9e6);
    is_near(joules_of(e), 3.5, 1e-12, "parts of a package, and the same one by another way, do not count again");
    is_near(joules_of(e), 3.5, 1e-12, "reading costs nothing");

    put_number("two/intel-rapl:0/energy_uj", RANGE - 1e6);
    double before = joules_of(e);
    put_number("two/intel-rapl:0/energy_uj", 2e6);
    is_near(joules_of(e) - before, 3, 1e-6, "a counter that wraps");
    before = joules_of(e);
    for (int i = 0; i < 10; i++) { /* four tenths of a wrap each */
        double v = fmod(2e6 + (i + 1) * RANGE * 0.4, RANGE);
        put_number("two/intel-rapl:0/energy_uj", v);
        joules_of(e);
    }
    is_near(joules_of(e) - before, RANGE * 4e-6, 1e-9, "four times round");

    put_number("two/intel-rapl:0/energy_uj", 200e6);
    joules_of(e);
    before = joules_of(e);
    put_number("two/intel-rapl:0/energy_uj", 150e6);
    double j = 42;
    is_int(energy_read(e, &j), ST_EIO, "a counter that was set back is not a quarter of a megajoule");
    ok(j == 42, "nothing is said");
    put_number("two/intel-rapl:0/energy_uj", 151e6);
    is_near(joules_of(e) - before, 1, 1e-6, "it goes on from there");
    put_number("two/intel-rapl:0/energy_uj", 0);
    is_int(energy_read(e, &j), ST_EIO, "set back to nothing");
    before = joules_of(e);

    put_file("two/intel-rapl:1/energy_uj", "n/a\n", 4);
    is_int(energy_read(e, &j), ST_EIO, "a counter that says no number");
    unlink(in("two/intel-rapl:1/energy_uj"));
    is_int(energy_read(e, &j), ST_EIO, "a counter that is gone");
    put_number("two/intel-rapl:1/energy_uj", 4500000);
    is_near(joules_of(e) - before, 2, 1e-9, "and back again: nothing is lost");
    energy_close(e);
}

static void a_laptop(void)
{
    struct energy *e;
    struct base_err err = BASE_ERR_INIT;
    domain("laptop", "intel-rapl:0", "package-0", 1e6);
    domain("laptop", "intel-rapl:0:0", "core", 1e6);
    domain("laptop", "intel-rapl:0:1", "uncore", 1e6);
    domain("laptop", "intel-rapl:1", "psys", 1e6);
    ok(!energy_open(&e, in("laptop"), &err), "a laptop");
    put_number("laptop/intel-rapl:0/energy_uj", 3e6);
    put_number("laptop/intel-rapl:1/energy_uj", 9e6);
    is_near(joules_of(e), 2, 1e-12, "psys holds the package, which counts once");
    energy_close(e);
    domain("dies", "intel-rapl:0", "package-0-die-0", 0);
    domain("dies", "intel-rapl:1", "package-0-die-1", 0);
    ok(!energy_open(&e, in("dies"), &err), "a package of two dies");
    put_number("dies/intel-rapl:0/energy_uj", 1e6);
    put_number("dies/intel-rapl:1/energy_uj", 1e6);
    is_near(joules_of(e), 2, 1e-12, "which are two");
    energy_close(e);
    domain("many", "intel-rapl:0", "package-0", 0);
    for (int i = 1; i < 24; i++) {
        char dir[32], name[32];
        sprintf(dir, "intel-rapl:%d", i), sprintf(name, "package-%d", i);
        domain("many", dir, name, 0);
    }
    ok(!energy_open(&e, in("many"), &err), "two dozen packages");
    put_number("many/intel-rapl:7/energy_uj", 1e6);
    put_number("many/intel-rapl:23/energy_uj", 1e6);
    is_near(joules_of(e), 2, 1e-12, "all count");
    energy_close(e);
}

int main(void)
{
    begin_files();
    refused("nowhere", "no energy counters", "no such folder");
    mkdir(in("bare"), 0777);
    refused("bare", "no RAPL package", "a folder without packages");
    domain("psys", "intel-rapl:0", "psys", 0);
    refused("psys", "no RAPL package", "psys alone");
    domain("closed", "intel-rapl:0", "package-0", 0);
    unlink(in("closed/intel-rapl:0/energy_uj"));
    refused("closed", "intel-rapl:0/energy_uj", "no counter");
    put_file("closed/intel-rapl:0/energy_uj", "", 0);
    refused("closed", "intel-rapl:0/energy_uj", "an empty counter");
    put_number("closed/intel-rapl:0/energy_uj", 1);
    put_number("closed/intel-rapl:0/max_energy_range_uj", 0);
    refused("closed", "max_energy_range_uj", "a range of nothing");
    if (geteuid()) {
        put_number("closed/intel-rapl:0/max_energy_range_uj", RANGE);
        chmod(in("closed/intel-rapl:0/energy_uj"), 0);
        refused("closed", "Permission denied", "a counter that only root may read");
    } else {
        tap_skip("root reads everything");
    }
    a_server();
    a_laptop();
    end_files();
    return tap_done();
}
