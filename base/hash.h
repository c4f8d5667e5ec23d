/* SHA-256 (FIPS 180-4); uses the CPU's SHA instructions where it has them. */
#ifndef TAUT_BASE_HASH_H
#define TAUT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define BASE_SHA256_HEX 65 /* 64 digits and the NUL */
#define BASE_ID_HEX 33     /* first 128 bits: 32 digits and the NUL; architecture ids */

struct base_sha256 {
    uint32_t h[8];
    uint64_t bytes;
    uint8_t block[64];
};

void base_sha256_init(struct base_sha256 *s);
void base_sha256_update(struct base_sha256 *s, const void *p, size_t n);
void base_sha256_final(struct base_sha256 *s, uint8_t out[32]);
void base_sha256_hex(const void *p, size_t n, char out[BASE_SHA256_HEX]);

/* on: portable C even where the CPU has SHA instructions, so that tests and benches can compare the two. */
void base_sha256_portable(int on);

/* First 128 bits of SHA-256(p) in hex. */
void base_id_hex(const void *p, size_t n, char out[BASE_ID_HEX]);

/* Hash of a whole file; *bytes gets its size. ST_ENOTFOUND, ST_EPERM, ST_EIO. */
st_t base_sha256_file(const char *path, char out[BASE_SHA256_HEX], uint64_t *bytes);

#endif
