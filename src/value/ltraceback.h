/* ltraceback.h - tracebacks without frames of fzlua itself. */
#ifndef FZ_LTRACEBACK_H
#define FZ_LTRACEBACK_H

#include <lua.h>

/*
 * Push the traceback of `co` from `level` on, like luaL_traceback(), but
 * without fzlua's Lua files, the functions these call, and the C function at
 * the bottom. With FZLUA_DEBUG=1 in the environment no frame is left out.
 * Pushes nil if there is no frame. [-0, +1, m]
 */
void fz_ltraceback_push(lua_State *L, lua_State *co, int level);

/* Open: core.traceback. The core table is on top. [-0, +0, e] */
int fz_ltraceback_open(lua_State *L);

#endif
