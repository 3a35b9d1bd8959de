/* lqueue.h - fz.queue: values from any process to any other. */
#ifndef FZ_LQUEUE_H
#define FZ_LQUEUE_H

#include <lua.h>

/* Open: core.queue. [-0, +0, m] */
int fz_lqueue_open(lua_State *L);

#endif
