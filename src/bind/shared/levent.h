/* levent.h - core.event: a flag that processes wait for. */
#ifndef FZ_LEVENT_H
#define FZ_LEVENT_H

#include <lua.h>

/* Open: core.event. The core table is on top. [-0, +0, e] */
int fz_levent_open(lua_State *L);

#endif
