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
	    fz_library_find(z->library, "ZSTD_decompress", &z->expand) &&
	    fz_library_find(z->library, "ZSTD_isError", &z->is_error))
		return 0;
	fz_zstd_fini(z);
	return fz_library_refuse(LIBRARY, PACKAGE, err);
}

void
fz_zstd_fini(struct fz_zstd *z)
{
	if (z->library != NULL)
		dlclose(z->library);
	z->library = NULL;
}
