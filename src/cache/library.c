#include "cache/library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#include "base/err.h"

void *
fz_library_load(const char *file, const char *package, struct fz_err *err)
{
	void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		fz_err_set(err, FZ_ERR_ERROR,
		    "%s cannot be loaded (install the package %s)", file,
		    package);
	return library;
}

bool
fz_library_find(void *library, const char *name, void *field)
{
	void *function = dlsym(library, name);

	memcpy(field, &function, sizeof(function));
	return function != NULL;
}

int
fz_library_refuse(const char *file, const char *package, struct fz_err *err)
{
	return fz_err_set(err, FZ_ERR_ERROR,
	    "%s lacks functions (install a newer package %s)", file, package);
}
