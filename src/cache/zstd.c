#include "cache/zstd.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "base/err.h"

#define LIBRARY "libzstd.so.1"
#define PACKAGE "libzstd1"

static bool
find(void *library, const char *name, void *field)
{
	void *function = dlsym(library, name);

	memcpy(field, &function, sizeof(function));
	return function != NULL;
}

int
fz_zstd_init(struct fz_zstd *z, struct fz_err *err)
{
	*z = (struct fz_zstd){ .library =
				   dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL) };
	if (z->library != NULL &&
	    find(z->library, "ZSTD_compress", &z->compress) &&
	    find(z->library, "ZSTD_compressBound", &z->bound) &&
	    find(z->library, "ZSTD_decompress", &z->expand) &&
	    find(z->library, "ZSTD_isError", &z->is_error))
		return 0;
	fz_zstd_fini(z);
	return fz_err_set(err, FZ_ERR_ERROR,
	    "%s cannot be loaded (install the package %s)", LIBRARY, PACKAGE);
}

void
fz_zstd_fini(struct fz_zstd *z)
{
	if (z->library != NULL)
		dlclose(z->library);
	z->library = NULL;
}
