/*
 * names.h - what crosses by name: classes, C functions, modules and the
 * standard files. Tables are read raw; all but fz_names_file() may raise for
 * memory.
 */
#ifndef FZ_NAMES_H
#define FZ_NAMES_H

#include <stdbool.h>

#include <lua.h>

/*
 * The metatable at the top is class `name` from now on. A metatable that had
 * the name loses it. Pops the metatable. [-1, +0, m]
 */
void fz_names_register(lua_State *L, const char *name);

/*
 * True if the object at `idx` has a registered metatable: pushes it and its
 * name. Else pushes nothing. [-0, +(0|2), m]
 */
bool fz_names_class(lua_State *L, int idx);

/* True and pushes the metatable of the class named at `idx`. [-0, +(0|1), m] */
bool fz_names_metatable(lua_State *L, int idx);

/*
 * True and pushes module and field where a loaded module holds the C function
 * at `idx`; the first in order of their names. [-0, +(0|2), m]
 */
bool fz_names_cfunction(lua_State *L, int idx);

/*
 * True and pushes the name where the table at `idx` is a loaded module with
 * a C function in it: its contents mean nothing elsewhere. [-0, +(0|1), m]
 */
bool fz_names_module(lua_State *L, int idx);

/*
 * Push the module named at `idx`, required if need be. May raise what require
 * raises; pushes nil where that gave no table. [-0, +1, e]
 */
void fz_names_require(lua_State *L, int idx);

/* 0, 1, 2 for the standard files, -1 for any other value. [-0, +0, -] */
int fz_names_file(lua_State *L, int idx);

/* Push standard file 0, 1 or 2 of this state; nil without io. [-0, +1, m] */
void fz_names_push_file(lua_State *L, int number);

#endif
