/* lrun.h - core.run: one invoke of a graph. */
#ifndef FZ_LRUN_H
#define FZ_LRUN_H

#include <lua.h>

/* Open: core.run. The core table is on top. [-0, +0, e] */
int fz_lrun_open(lua_State *L);

#endif
