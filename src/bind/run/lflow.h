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
 * Read the arguments from index 1 on: graph, { pool, ... }, options. Pushes a
 * userdata with the pools at index 4; `opts` is valid as long as this userdata.
 * Returns the graph, which is frozen. [-0, +1, e]
 */
struct fz_graph *fz_lflow_check(lua_State *L, struct fz_run_opts *opts);

/*
 * Read the number of a value or node at `idx`. In Lua the numbers are 1 to `n`,
 * in C 0 to `n` - 1. [-0, +0, e]
 */
uint32_t fz_lflow_number(lua_State *L, int idx, uint32_t n);

/*
 * The error of `node` is on top. If the node is a map, set a field of the
 * error: `element`, the index of the first failed element, or `list`, 1 if the
 * input of the map is not a list. [-0, +0, m]
 */
void fz_lflow_set_element(
    lua_State *L, const struct fz_run *run, uint32_t node);

/*
 * Push the node of an element of a map, the item (0 in a run), and the error of
 * the element, for the decision about a retry. [-0, +3, m]
 */
void fz_lflow_push_undecided(lua_State *L, struct fz_engine *engine,
    const struct fz_run_element *element);

/*
 * Push kind, node, pid and seconds of an event. For elements of a map, also
 * push the index of the first element and the number of elements. Returns the
 * number of pushed values. [-0, +n, m]
 */
int fz_lflow_push_event(lua_State *L, const struct fz_job_event *event);

/*
 * Push four counts of nodes (done, failed, running, waiting), then three counts
 * of elements of maps (all, done, failed). See fz_run_elements. [-0, +7, m]
 */
void fz_lflow_push_counts(lua_State *L, const struct fz_run_counts *counts);

#endif
