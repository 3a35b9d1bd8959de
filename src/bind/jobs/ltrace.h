/* ltrace.h - core.trace: records of calls, in memory and in a file. */
#ifndef FZ_LTRACE_H
#define FZ_LTRACE_H

#include <stdint.h>

#include <lua.h>

struct fz_trace;
struct fz_trace_names;

/*
 * The fields `trace` and `trace_names` of the options at `idx`; both NULL if
 * they are nil. The userdata keep both alive: no references are added. [-0, +0,
 * e]
 */
struct fz_trace *fz_ltrace_read(
    lua_State *L, int idx, struct fz_trace_names **names);

/* The trace, or the names, at `idx`. [-0, +0, e] */
struct fz_trace *fz_ltrace_check(lua_State *L, int idx);
struct fz_trace_names *fz_ltrace_check_names(lua_State *L, int idx);

/*
 * Add the name of a node, which consists of the outputs in the list at
 * `outputs`. The value at `stage` is the name of the stage; if it is not a
 * string, there is no stage. [-0, +0, e]
 */
void fz_ltrace_add_name(
    lua_State *L, struct fz_trace_names *names, int outputs, int stage);

/* Push a new userdata with a reference to the names. [-0, +1, e] */
void fz_ltrace_push_names(lua_State *L, struct fz_trace_names *names);

/* Push and return an empty list of names. [-0, +1, e] */
struct fz_trace_names *fz_ltrace_push_new_names(lua_State *L);

/*
 * Add core.trace, core.trace_names and core.lock_file to the core table on top.
 * [-0, +0, e]
 */
int fz_ltrace_open(lua_State *L);

#endif
