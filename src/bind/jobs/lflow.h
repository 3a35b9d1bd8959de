/* lflow.h - the common part of the bindings of runs and streams. */
#ifndef FZ_LFLOW_H
#define FZ_LFLOW_H

#include <stdint.h>

#include <lua.h>

struct fz_engine;
struct fz_graph;
struct fz_job_event;
struct fz_run;
struct fz_run_element;
struct fz_run_counts;
struct fz_run_opts;

/*
 * Read the arguments graph, { pool, ... }, options from index 1 on. `opts` is
 * valid as long as the userdata with the pools, which is then on top at index
 * 4. Returns the graph, which is frozen. [-0, +1, e]
 */
struct fz_graph *fz_lflow_check(lua_State *L, struct fz_run_opts *opts);

/*
 * The number of a value or node at `idx`: 1 to `n` in Lua, 0 to `n` - 1 in C.
 * [-0, +0, e]
 */
uint32_t fz_lflow_number(lua_State *L, int idx, uint32_t n);

/*
 * In the error of `node` on top, set one of two fields if the node is a map:
 * `element`, the index of the first element that has failed, or `list`, 1 if
 * the input of the map is not a list. [-0, +0, m]
 */
void fz_lflow_set_element(
    lua_State *L, const struct fz_run *run, uint32_t node);

/*
 * Push the node of an element of a map, its item (0 in a run), and the error of
 * the element. Lua decides about the retry. [-0, +3, m]
 */
void fz_lflow_push_undecided(lua_State *L, struct fz_engine *engine,
    const struct fz_run_element *element);

/*
 * Push kind, node, pid and seconds of an event; for elements of a map also the
 * index of the first one and their number. Returns the number of values. [-0,
 * +n, m]
 */
int fz_lflow_push_event(lua_State *L, const struct fz_job_event *event);

/*
 * Push the counts of nodes done, failed, running and waiting, then three counts
 * of elements of maps: all, done, failed. See fz_run_elements. [-0, +7, m]
 */
void fz_lflow_push_counts(lua_State *L, const struct fz_run_counts *counts);

#endif
