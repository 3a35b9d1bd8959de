/* lmap.h - reads and makes the lists of the maps of a run or a stream. */
#ifndef FZ_LMAP_H
#define FZ_LMAP_H

#include <stdbool.h>

#include <lua.h>

struct fz_engine;
struct fz_run_opts;

struct fz_lmap {
	/* Lua thread that decodes lists; NULL: the graph has no maps */
	lua_State *L;
	struct fz_engine *engine;
	/* whether functions are called in this process instead of workers */
	bool local;
};

/*
 * Let `opts` use `map`, which must outlive the run. Pushes the Lua thread,
 * which the caller keeps alive until the run is freed. [-0, +1, m]
 */
void fz_lmap_init(lua_State *L, struct fz_lmap *map, struct fz_run_opts *opts);

#endif
