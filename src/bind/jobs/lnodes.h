/* lnodes.h - the nodes of an engine URL. */
#ifndef FZ_LNODES_H
#define FZ_LNODES_H

#include <lua.h>

struct fz_nodes;

/*
 * The nodes of the engine URL at `idx`. Returns NULL for nil and "local",
 * because workers then run on this machine. [-0, +0, e]
 */
struct fz_nodes *fz_lnodes_find(lua_State *L, int idx);

/* Add core.nodes and core.check_engine to the core table on top. [-0, +0, m] */
int fz_lnodes_open(lua_State *L);

#endif
