/*
 * library.h - a shared library of the system that is loaded when it is needed.
 */
#ifndef FZ_LIBRARY_H
#define FZ_LIBRARY_H

#include <stdbool.h>

struct fz_err;

/*
 * Load the library `file`, which the package `package` installs. NULL and `err`
 * on failure. End with dlclose().
 */
void *fz_library_load(
    const char *file, const char *package, struct fz_err *err);

/* Store the address of a function in `*field`. False: it is missing. */
bool fz_library_find(void *library, const char *name, void *field);

/* Report that functions are missing. Always returns -1. */
int fz_library_refuse(
    const char *file, const char *package, struct fz_err *err);

#endif
