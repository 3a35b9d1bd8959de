/* ljson.h - Lua values as JSON text and back, by jansson. */
#ifndef FZ_LJSON_H
#define FZ_LJSON_H

#include <lua.h>

/* Put json_decode and json_encode into the table on top. [-0, +0, m] */
int fz_ljson_open(lua_State *L);

#endif
