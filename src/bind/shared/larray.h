/* larray.h - many numbers of one type that processes share: fz.array(). */
#ifndef FZ_LARRAY_H
#define FZ_LARRAY_H

#include <lua.h>

/* Open: core.array. [-0, +0, m] */
int fz_larray_open(lua_State *L);

#endif
