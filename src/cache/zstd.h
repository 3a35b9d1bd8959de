/*
 * zstd.h - compression by the system's library, which is loaded at its first
 * use.
 */
#ifndef FZ_ZSTD_H
#define FZ_ZSTD_H

#include <stddef.h>

#include <zstd.h>

struct fz_err;

struct fz_zstd {
	void *library; /* NULL: the library is not loaded */
	__typeof__(ZSTD_compress) *compress;
	__typeof__(ZSTD_compressBound) *bound;
	__typeof__(ZSTD_decompress) *expand;
	__typeof__(ZSTD_isError) *is_error;
};

/* 0, or -1 and `err`. End with fz_zstd_fini(). */
int fz_zstd_init(struct fz_zstd *z, struct fz_err *err);
void fz_zstd_fini(struct fz_zstd *z);

#endif
