#include "cache/zstd.h"

#include <dlfcn.h>

#include "cache/library.h"

#define LIBRARY "libzstd.so.1"
#define PACKAGE "libzstd1"

int
fz_zstd_init(struct fz_zstd *z, struct fz_err *err)
{
	*z = (struct fz_zstd){ .library =
				   fz_library_load(LIBRARY, PACKAGE, err) };
	if (z->library == NULL)
		return -1;
	if (fz_library_find(z->library, "ZSTD_compress", &z->compress) &&
	    fz_library_find(z->library, "ZSTD_compressBound", &z->bound) &&
	    fz_library_find(z->library, "ZSTD_createDCtx", &z->make_context) &&
	    fz_library_find(z->library, "ZSTD_decompressDCtx", &z->expand) &&
	    fz_library_find(z->library, "ZSTD_freeDCtx", &z->free_context) &&
	    fz_library_find(z->library, "ZSTD_isError", &z->is_error))
		return 0;
	fz_zstd_fini(z);
	return fz_library_refuse(LIBRARY, PACKAGE, err);
}

void
fz_zstd_fini(struct fz_zstd *z)
{
	if (z->context != NULL)
		z->free_context(z->context);
	if (z->library != NULL)
		dlclose(z->library);
	z->context = NULL;
	z->library = NULL;
}

bool
fz_zstd_reaches(size_t len, size_t size)
{
	/* zstd needs at least one byte for each 128 KiB */
	return size >> 17 <= len;
}

bool
fz_zstd_expand(
    struct fz_zstd *z, void *out, size_t size, const void *bytes, size_t len)
{
	size_t n;

	if (z->context == NULL)
		z->context = z->make_context();
	if (z->context == NULL)
		return false;
	n = z->expand(z->context, out, size, bytes, len);
	return !z->is_error(n) && n == size;
}
