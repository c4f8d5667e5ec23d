/* What a GPU's management library says, on a made-up one; energy of a GPU through it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "evaluator/energy.h"
#include "evaluator/nvml.h"
#include "tests/tap.h"

#define BUS "0000:65:00.0"

static char library[4096];

static void refused(const char *file, const char *bus, const char *words)
{
    struct nvml *n = NULL;
    struct base_err err = BASE_ERR_INIT;
    setenv("TAUT_NVML", file, 1);
    ok(nvml_open(&n, bus, &err) == ST_ENOTSUP && !n && strstr(err.what, words), "refused: %s", err.what);
    setenv("TAUT_NVML", library, 1);
}

static struct nvml_state state(const char *fake)
{
    struct nvml *n;
    struct base_err err = BASE_ERR_INIT;
    struct nvml_state s = {0};
    setenv("FAKE_NVML", fake, 1);
    ok(!nvml_open(&n, BUS, &err) && !nvml_read(n, &s) && !strcmp(nvml_driver(n), "580.65.06"), "read: %s", fake);
    nvml_close(n);
    return s;
}

int main(void)
{
    const char *build = getenv("TAUT_BUILD");
    snprintf(library, sizeof library, "%s/tests/evaluator/fake_nvml.so", build ? build : ".");
    refused("/no/such/library.so", BUS, "/no/such/library.so is not to be found");
    refused("libm.so.6", BUS, "libm.so.6 has no nvmlInit_v2");
    refused(library, "0000:17:00.0", "does not know the card at 0000:17:00.0");
    struct nvml_state s = state("250 1400 1755 61 0");
    ok(s.watts == 250 && s.clock_mhz == 1400 && s.default_mhz == 1755 && s.celsius == 61 && s.others == 0 && s.joules >= 1000, "watts, clocks, heat, nobody else");
    s = state("250 1400 0 61 3");
    ok(s.default_mhz == 1980 && s.others == 3, "no default clock: the highest; three others");
    s = state("250 1400 1755 61 200");
    ok(s.others >= 64, "more of them than there is room for");
    s = state("250 1400 1755 61 -1");
    ok(s.others == -1, "its own number is not among them: another namespace's, and nothing is known");
    s = state("0 1400 1755 61 0");
    ok(isnan(s.joules) && s.clock_mhz == 1400, "no energy counter: the rest is told all the same");
    nvml_close(NULL);

    struct kn_dev dev = {.info = {.kind = "cuda", .bus = BUS}}, cpu = {.info = {.kind = "cpu"}};
    struct energy *e;
    struct base_err err = BASE_ERR_INIT;
    double a, b;
    setenv("FAKE_NVML", "1000000 1400 1755 61 0", 1);
    ok(!energy_open_for(&e, &dev, &err) && energy_window(e) == 2, "a GPU's energy: windows of two seconds");
    ok(!energy_read(e, &a) && !energy_read(e, &b) && b >= a && a >= 1000, "joules that grow");
    energy_close(e);
    setenv("FAKE_NVML", "0 1400 1755 61 0", 1);
    ok(energy_open_for(&e, &dev, &err) == ST_ENOTSUP && strstr(err.what, "counts no energy"), "no counter: %s", err.what);
    dev.info.bus[0] = 0;
    ok(energy_open_for(&e, &dev, &err) == ST_ENOTSUP, "a card whose place is not known: %s", err.what);
    setenv("TAUT_POWERCAP", "/no/such/folder", 1);
    ok(energy_open_for(&e, &cpu, &err) == ST_ENOTSUP && strstr(err.where, "/no/such/folder"), "what is no GPU: RAPL's");
    energy_close(NULL);
    return tap_done();
}
