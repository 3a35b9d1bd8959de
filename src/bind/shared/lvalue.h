/* lvalue.h - one number that processes share: fz.value(). */
#ifndef FZ_LVALUE_H
#define FZ_LVALUE_H

#include <lua.h>

/* Open: core.value. [-0, +0, m] */
int fz_lvalue_open(lua_State *L);

#endif
