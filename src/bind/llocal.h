/* llocal.h - a function of a run with jobs = 0, called in this process. */
#ifndef FZ_LLOCAL_H
#define FZ_LLOCAL_H

#include <stdint.h>

#include <lua.h>

struct fz_graph;
struct fz_run;

/*
 * Call what `node` of `run` is, on a thread of its own, with the functions of
 * the list of pools at index `pools`, and tell the run how it ended. Values
 * cross as they do to a worker; a timeout is looked for every some thousand
 * instructions; the state of math.random is as before. [-0, +?, m]
 */
void fz_llocal_call(lua_State *L, int pools, struct fz_run *run,
    const struct fz_graph *graph, uint32_t node);

#endif
