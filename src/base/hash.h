/* hash.h - XXH3 with 128 bits: equal bytes have equal numbers everywhere. */
#ifndef FZ_HASH_H
#define FZ_HASH_H

#include <stdalign.h>
#include <stddef.h>

enum { FZ_HASH_BYTES = 16 };

/* The state of a hash whose bytes come in pieces. */
struct fz_hash {
	alignas(64) unsigned char state[576];
};

void fz_hash_init(struct fz_hash *hash);
void fz_hash_add(struct fz_hash *hash, const void *bytes, size_t len);

/* The hash of all bytes until now, the highest byte first. */
void fz_hash_end(const struct fz_hash *hash, unsigned char out[FZ_HASH_BYTES]);

/* The hash of `len` bytes at once. */
void fz_hash_bytes(
    const void *bytes, size_t len, unsigned char out[FZ_HASH_BYTES]);

#endif
