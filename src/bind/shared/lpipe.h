/* lpipe.h - fz.pipe: two ends, each sends what the other receives. */
#ifndef FZ_LPIPE_H
#define FZ_LPIPE_H

#include <lua.h>

/* Open: core.pipe, core.give_pipes. [-0, +0, m] */
int fz_lpipe_open(lua_State *L);

#endif
