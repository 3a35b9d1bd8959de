/*
 * lslots.h - core.slots: limits the number of jobs that run at once in a tree
 * of processes.
 */
#ifndef FZ_LSLOTS_H
#define FZ_LSLOTS_H

#include <lua.h>

struct fz_slots;

/* The slots at stack index `idx`. Raises an error if they are closed. */
struct fz_slots *fz_lslots_check(lua_State *L, int idx);

/* Add core.slots to the core table on top. [-0, +0, e] */
int fz_lslots_open(lua_State *L);

#endif
