/* lmember.h - who of the run this process is, and whether others live. */
#ifndef FZ_LMEMBER_H
#define FZ_LMEMBER_H

#include <lua.h>

/* Open: core.member, core.alive; `core` is at the top. [-0, +0, m] */
int fz_lmember_open(lua_State *L);

#endif
