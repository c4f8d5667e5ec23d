#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/json_write.h"
#include "db/internal.h"

static const long double ten[] = {1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,  1e10L,
                                  1e11L, 1e12L, 1e13L, 1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L, 1e21L};

static int digits_text(uint64_t d, char *buf)
{
    char tmp[20];
    int n = 0;
    do {
        tmp[n++] = (char)('0' + d % 10);
        d /= 10;
    } while (d);
    for (int i = 0; i < n; i++) buf[i] = tmp[n - 1 - i];
    return n;
}

static int int_text(int64_t v, char *buf)
{
    if (v >= 0) return digits_text((uint64_t)v, buf);
    *buf = '-';
    return 1 + digits_text(0 - (uint64_t)v, buf + 1);
}

/* Fifteen digits where they read back to the same double (then digits / 10^p is exact arithmetic, correctly rounded),
 * otherwise seventeen: with 64 bits of mantissa, v * 10^p is off by less than 2^-7 of the last digit, and seventeen
 * digits leave more room than that. Only sizes for which no exponent is needed; the rest is base_num_text's. */
int db_num_text(double v, char *buf)
{
    double a = fabs(v);
    if (a < 0x1p53 && v == (double)(int64_t)v) {
        int n = int_text((int64_t)v, buf);
        buf[n] = '\0';
        return n;
    }
    if (LDBL_MANT_DIG < 64 || !(a >= 1e-5 && a < 1e14)) return base_num_text(v, buf);
    int p = 14; /* so that a * 10^p has fifteen digits before its point */
    while (a * ten[p] >= 1e15L) p--;
    while (a * ten[p] < 1e14L) p++;
    uint64_t d = (uint64_t)llrintl(a * ten[p]);
    if ((double)d / (double)ten[p] != a) {
        p += 2;
        d = (uint64_t)llrintl(a * ten[p]);
    }
    for (; p > 0 && d % 10 == 0; p--) d /= 10;
    char digits[20], *o = buf;
    int n = digits_text(d, digits);
    if (v < 0) *o++ = '-';
    if (n > p) {
        memcpy(o, digits, (size_t)(n - p));
        o += n - p;
    } else {
        *o++ = '0';
    }
    if (p > 0) *o++ = '.';
    for (int i = n; i < p; i++) *o++ = '0';
    int frac = n < p ? n : p;
    memcpy(o, digits + n - frac, (size_t)frac);
    o += frac;
    *o = '\0';
    return (int)(o - buf);
}

/* An architecture inside a body is a string full of quotation marks, so escapes must be cheap too. */
static void string_text(const char *s, size_t n, struct base_buf *b)
{
    size_t run = 0; /* start of what can be copied as it is; jansson has checked the UTF-8 */
    base_buf_add(b, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        base_buf_add(b, s + run, i - run);
        run = i + 1;
        if (c < 0x20) base_buf_printf(b, "\\u%04x", c);
        else base_buf_add(b, c == '"' ? "\\\"" : "\\\\", 2);
    }
    base_buf_add(b, s + run, n - run);
    base_buf_add(b, "\"", 1);
}

void db_json_text(const json_t *v, struct base_buf *b)
{
    char num[48];
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        const char *key, *comma = "{";
        json_t *e, *o = (json_t *)(uintptr_t)v; /* jansson's iteration wants it so, and changes nothing */
        json_object_foreach(o, key, e)
        {
            base_buf_add(b, comma, 1);
            comma = ",";
            string_text(key, strlen(key), b);
            base_buf_add(b, ":", 1);
            db_json_text(e, b);
        }
        base_buf_str(b, *comma == '{' ? "{}" : "}");
        break;
    }
    case JSON_ARRAY:
        base_buf_add(b, "[", 1);
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (i) base_buf_add(b, ",", 1);
            db_json_text(json_array_get(v, i), b);
        }
        base_buf_add(b, "]", 1);
        break;
    case JSON_STRING:
        string_text(json_string_value(v), json_string_length(v), b);
        break;
    case JSON_INTEGER:
        base_buf_add(b, num, (size_t)int_text(json_integer_value(v), num));
        break;
    case JSON_REAL:
        base_buf_add(b, num, (size_t)db_num_text(json_real_value(v), num));
        break;
    case JSON_TRUE:
        base_buf_str(b, "true");
        break;
    case JSON_FALSE:
        base_buf_str(b, "false");
        break;
    case JSON_NULL:
        base_buf_str(b, "null");
        break;
    }
}

void db_genome_pack(const json_t *genes, struct base_buf *b)
{
    size_t n = json_array_size(genes);
    bool bytes = true;
    for (size_t i = 0; i < n && bytes; i++) {
        double g = json_number_value(json_array_get(genes, i));
        bytes = g >= 0 && g <= 255 && g == (double)(uint8_t)g;
    }
    base_buf_add(b, bytes ? "\0" : "\1", 1);
    for (size_t i = 0; i < n; i++) {
        double g = json_number_value(json_array_get(genes, i));
        uint8_t u = (uint8_t)(bytes ? g : 0);
        if (bytes)
            base_buf_add(b, &u, 1);
        else
            base_buf_add(b, &g, sizeof g);
    }
}
