/* llookup.h - methods of runs and streams for recorded results. */
#ifndef FZ_LLOOKUP_H
#define FZ_LLOOKUP_H

#include <lua.h>

struct fz_engine;
struct fz_flow;
struct fz_graph;

/* Parts of the run or stream at index 1 that the methods use. */
struct fz_llookup {
	struct fz_flow *flow;
	struct fz_engine *engine;
	const struct fz_graph *graph;
};

/* open() returns the parts of the object at 1, or raises if it is closed. */
struct fz_llookup_ops {
	struct fz_llookup (*open)(lua_State *L);
};

/* Add the methods to the table on top. `ops` must be static. [-0, +0, m] */
void fz_llookup_add(lua_State *L, const struct fz_llookup_ops *ops);

#endif
