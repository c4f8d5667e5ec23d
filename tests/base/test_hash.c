#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/rng.h"
#include "tests/tap.h"

/* FIPS 180-2 appendix B and the empty string. */
static const struct {
    const char *text, *sum;
} known[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
     "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
};
#define MILLION_A "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

static void hex(const uint8_t sum[32], char out[65])
{
    for (int i = 0; i < 32; i++) sprintf(out + 2 * i, "%02x", sum[i]);
}

int main(void)
{
    char got[BASE_SHA256_HEX], other[BASE_SHA256_HEX], id[BASE_ID_HEX];
    char *a = malloc(1000000);
    memset(a, 'a', 1000000);
    for (int portable = 0; portable < 2; portable++) {
        base_sha256_portable(portable);
        const char *how = portable ? "portable" : "as this CPU can";
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            base_sha256_hex(known[i].text, strlen(known[i].text), got);
            is_str(got, known[i].sum, "%zu characters, %s", strlen(known[i].text), how);
        }
        base_sha256_hex(a, 1000000, got);
        is_str(got, MILLION_A, "a million a, %s", how);
    }

    /* Every length around the block borders, in pieces of every size, both ways. */
    unsigned char text[300];
    struct base_rng r = base_rng_at(3, RNG_TEST, 0);
    for (size_t i = 0; i < sizeof text; i++) text[i] = (unsigned char)base_rng_u32(&r);
    int ways = 1, pieces = 1;
    for (size_t n = 0; n <= sizeof text; n++) {
        base_sha256_portable(1);
        base_sha256_hex(text, n, got);
        base_sha256_portable(0);
        base_sha256_hex(text, n, other);
        ways &= !strcmp(got, other);
        struct base_sha256 s;
        uint8_t sum[32];
        base_sha256_init(&s);
        size_t step = n % 70 + 1;
        for (size_t at = 0; at < n; at += step) base_sha256_update(&s, text + at, n - at < step ? n - at : step);
        base_sha256_final(&s, sum);
        hex(sum, other);
        pieces &= !strcmp(got, other);
    }
    ok(ways, "both ways agree on 0 .. 300 bytes");
    ok(pieces, "pieces add up to the whole");

    base_id_hex("abc", 3, id);
    is_str(id, "ba7816bf8f01cfea414140de5dae2223", "an id is the first 128 bits");

    char path[] = "/tmp/taut-hash-XXXXXX";
    int fd = mkstemp(path);
    uint64_t bytes = 0;
    ok(fd >= 0 && write(fd, a, 1000000) == 1000000 && !close(fd), "a file of a million a");
    is_int(base_sha256_file(path, got, &bytes), ST_OK, "file is read");
    is_str(got, MILLION_A, "file: sum");
    is_int(bytes, 1000000, "file: size");
    unlink(path);
    is_int(base_sha256_file(path, got, &bytes), ST_ENOTFOUND, "no such file");
    is_int(base_sha256_file("/", got, &bytes), ST_EIO, "a folder cannot be read");
    free(a);
    return tap_done();
}
