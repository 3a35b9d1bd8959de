/* lprocess.h - core.process: one function in a process of its own. */
#ifndef FZ_LPROCESS_H
#define FZ_LPROCESS_H

#include <lua.h>

/* Open: core.process. The core table is on top. [-0, +0, e] */
int fz_lprocess_open(lua_State *L);

#endif
