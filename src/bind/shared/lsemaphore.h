/* lsemaphore.h - core.semaphore and core.bounded_semaphore. */
#ifndef FZ_LSEMAPHORE_H
#define FZ_LSEMAPHORE_H

#include <lua.h>

/* Open: both of them. The core table is on top. [-0, +0, e] */
int fz_lsemaphore_open(lua_State *L);

#endif
