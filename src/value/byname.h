/*
 * byname.h - what crosses by the name that the Lua library gives it: C
 * functions, modules and the standard files. Tables are read raw.
 */
#ifndef FZ_BYNAME_H
#define FZ_BYNAME_H

#include <stdbool.h>

#include <lua.h>

struct fz_refmap;

/*
 * True and pushes module and field where a loaded module holds the C function
 * at `idx`; the first in order of their names. [-0, +(0|2), m]
 */
bool fz_byname_cfunction(lua_State *L, int idx);

/*
 * True and pushes the name if that at `idx` is a loaded module; the first in
 * order where it has several. [-0, +(0|1), m]
 */
bool fz_byname_module(lua_State *L, int idx);

/*
 * Enter the addresses of all loaded modules into `map`. Returns 0, or -1
 * without memory. [-0, +0, m]
 */
int fz_byname_add_modules(lua_State *L, struct fz_refmap *map);

/*
 * Push the module named at `idx`, required if need be. False: pushes what
 * require raised instead. [-0, +1, m]
 */
bool fz_byname_require(lua_State *L, int idx);

/* 0, 1, 2 for the standard files, -1 for any other value. [-0, +0, -] */
int fz_byname_file(lua_State *L, int idx);

/* Push standard file 0, 1 or 2 of this state; nil without io. [-0, +1, m] */
void fz_byname_push_file(lua_State *L, int number);

#endif
