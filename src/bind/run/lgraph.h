/* lgraph.h - core.graph: a graph under construction or frozen. */
#ifndef FZ_LGRAPH_H
#define FZ_LGRAPH_H

#include <lua.h>

struct fz_graph;

/* The graph at stack index `idx`. Raises an error if that is not a graph. */
struct fz_graph *fz_lgraph_check(lua_State *L, int idx);

/* Add core.graph to the core table on top. [-0, +0, e] */
int fz_lgraph_open(lua_State *L);

#endif
