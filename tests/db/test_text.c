/* JSON as the store writes it: numbers keep their bits, strings their characters. */
#include "base/rng.h"
#include "db/internal.h"
#include "tests/db/db.h"

static bool survives(double v)
{
    char text[48];
    int n = db_num_text(v, text);
    return n == (int)strlen(text) && n < 40 && strtod(text, NULL) == v;
}

static void numbers(void)
{
    static const struct {
        double v;
        const char *want;
    } T[] = {{0, "0"},
             {-0.0, "0"},
             {1, "1"},
             {-17, "-17"},
             {0.1, "0.1"},
             {-2.5, "-2.5"},
             {1.25e-3, "0.00125"},
             {3.14159, "3.14159"},
             {1e15, "1000000000000000"},
             {9007199254740993.0, "9007199254740992"},
             {0.1 + 0.2, "0.30000000000000004"},
             {99999999999999.5, "99999999999999.5"},
             {1e-5, "1e-5"},
             {0.00012, "0.00012"}};
    for (size_t i = 0; i < sizeof T / sizeof *T; i++) {
        char text[48];
        db_num_text(T[i].v, text);
        if (T[i].v == 1e-5)
            ok(strtod(text, NULL) == 1e-5, "number %zu (%s)", i, text);
        else
            is_str(text, T[i].want, "number %zu", i);
    }
    struct base_rng r = base_rng_at(1, RNG_TEST, 0);
    long bad = 0;
    for (int i = 0; i < 60000; i++) {
        uint64_t bits = base_rng_u64(&r);
        double any, unit = base_rng_unit(&r), sized = ldexp(unit - 0.5, (int)base_rng_below(&r, 80) - 30);
        memcpy(&any, &bits, sizeof any);
        int digits = (int)base_rng_below(&r, 17) + 1;
        char text[64];
        snprintf(text, sizeof text, "%.*e", digits - 1, sized);
        bad += (isfinite(any) && !survives(any)) || !survives(sized) || !survives(strtod(text, NULL)) ||
               !survives(nextafter(strtod(text, NULL), 1));
    }
    is_int(bad, 0, "60,000 random numbers of every size read back to the same bits");
    for (int e = -1074; e < 1024; e++)
        bad += !survives(ldexp(1, e)) || !survives(-nextafter(ldexp(1, e), INFINITY)) ||
               !survives(nextafter(ldexp(1, e), 0));
    for (int e = -30; e < 30; e++)
        bad +=
            !survives(pow(10, e)) || !survives(nextafter(pow(10, e), 0)) || !survives(nextafter(pow(10, e), INFINITY));
    is_int(bad, 0, "powers of two and ten, and their neighbours");
}

static void texts(void)
{
    static const char *const T[] = {"{}",
                                    "[]",
                                    "[[],{}]",
                                    "{\"a\":[1,2.5,true,false,null],\"\\\"b\\\\\":\"x\\\"y\\\\z\"}",
                                    "\"\\u0001\\u001f\"",
                                    "\"\xC3\xA9\xE2\x82\xAC\"",
                                    "[9223372036854775807,-9223372036854775808]",
                                    "\"\""};
    struct base_buf b = BASE_BUF_INIT;
    for (size_t i = 0; i < sizeof T / sizeof *T; i++) {
        json_error_t e;
        json_t *v = json_loads(T[i], JSON_DECODE_ANY, &e);
        base_buf_reset(&b);
        db_json_text(v, &b);
        is_str(b.p, T[i], "text %zu", i);
        json_decref(v);
    }
    base_buf_fini(&b);
}

int main(void)
{
    numbers();
    texts();
    return tap_done();
}
