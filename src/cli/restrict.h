/* restrict.h - the functions that a worker on a node may run: --allow FILE. */
#ifndef FZ_CLI_RESTRICT_H
#define FZ_CLI_RESTRICT_H

#include <lua.h>

struct fz_err;

/*
 * Restrict the new state to the functions that the file allows, and to those of
 * the library that submitters send. Returns 0, or -1 and `err`.
 */
int fz_restrict(lua_State *L, const char *path, struct fz_err *err);

#endif
