/* lbarrier.h - core.barrier: to wait until as many processes have come. */
#ifndef FZ_LBARRIER_H
#define FZ_LBARRIER_H

#include <lua.h>

/* Open: core.barrier. The core table is on top. [-0, +0, e] */
int fz_lbarrier_open(lua_State *L);

#endif
