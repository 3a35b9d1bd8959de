/*
 * zstd.h - compression by the system's library, which is loaded at its first
 * use.
 */
#ifndef FZ_ZSTD_H
#define FZ_ZSTD_H

#include <stdbool.h>
#include <stddef.h>

#include <zstd.h>

struct fz_err;

struct fz_zstd {
	void *library; /* the loaded library; NULL: it is not loaded */
	__typeof__(ZSTD_compress) *compress;
	__typeof__(ZSTD_compressBound) *bound;
	__typeof__(ZSTD_createDCtx) *make_context;
	__typeof__(ZSTD_decompressDCtx) *expand;
	__typeof__(ZSTD_freeDCtx) *free_context;
	__typeof__(ZSTD_isError) *is_error;
	/* memory for expanding, kept for the next value; NULL: none yet */
	ZSTD_DCtx *context;
};

/* Load the library. 0, or -1 and `err`. End with fz_zstd_fini(). */
int fz_zstd_init(struct fz_zstd *z, struct fz_err *err);
void fz_zstd_fini(struct fz_zstd *z);

/*
 * Whether a value of `size` bytes can have been compressed to `len` bytes. The
 * caller checks this before it allocates a size that another process wrote.
 */
bool fz_zstd_reaches(size_t len, size_t size);

/*
 * Expand a value that has `size` bytes. False if the bytes do not expand to a
 * value of this size, or if there is no memory.
 */
bool fz_zstd_expand(
    struct fz_zstd *z, void *out, size_t size, const void *bytes, size_t len);

#endif
