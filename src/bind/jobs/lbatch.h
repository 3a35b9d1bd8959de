/* lbatch.h - core.batch, core.call: calls of one function by a pool. */
#ifndef FZ_LBATCH_H
#define FZ_LBATCH_H

#include <lua.h>

/* Open. The core table is on top. [-0, +0, e] */
int fz_lbatch_open(lua_State *L);

#endif
