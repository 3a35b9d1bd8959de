/*
 * byname.h - values that cross processes by their names in the library of Lua:
 * C functions, modules and the standard files. Tables are read raw.
 */
#ifndef FZ_BYNAME_H
#define FZ_BYNAME_H

#include <stdbool.h>

#include <lua.h>

struct fz_refmap;

/*
 * If a loaded module has the C function at `idx` as a field, push the names of
 * the module and of the field and return true. If several fields have it, the
 * first names in sorted order are pushed. [-0, +(0|2), m]
 */
bool fz_byname_cfunction(lua_State *L, int idx);

/*
 * If the value at `idx` is a loaded module, push its name (the first one in
 * sorted order) and return true. [-0, +(0|1), m]
 */
bool fz_byname_module(lua_State *L, int idx);

/*
 * Add the addresses of all loaded modules to `map`. Returns 0, or -1 if there
 * is no memory. [-0, +0, m]
 */
int fz_byname_add_modules(lua_State *L, struct fz_refmap *map);

/*
 * Push the module whose name is at `idx`; require() loads it if need be. False:
 * the error of require() is pushed instead. [-0, +1, m]
 */
bool fz_byname_require(lua_State *L, int idx);

/* 0, 1 or 2 for a standard file, -1 for any other value. [-0, +0, -] */
int fz_byname_file(lua_State *L, int idx);

/* Push standard file 0, 1 or 2 of this state; nil without io. [-0, +1, m] */
void fz_byname_push_file(lua_State *L, int number);

#endif
