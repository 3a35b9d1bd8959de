/* ltrace.h - core.trace: records of calls, in memory and in a file. */
#ifndef FZ_LTRACE_H
#define FZ_LTRACE_H

#include <stdint.h>

#include <lua.h>

struct fz_trace;
struct fz_trace_names;

/*
 * The trace in the field `trace` of the options at `idx`, and the names in the
 * field `trace_names`; NULL for nil. The userdata keep both alive: no
 * references are added. [-0, +0, e]
 */
struct fz_trace *fz_ltrace_read(
    lua_State *L, int idx, struct fz_trace_names **names);

/* The trace, or the names, at `idx`. [-0, +0, e] */
struct fz_trace *fz_ltrace_check(lua_State *L, int idx);
struct fz_trace_names *fz_ltrace_check_names(lua_State *L, int idx);

/*
 * Add the name of a node, which is that of the outputs in the list at
 * `outputs`; the value at `stage` is a string, or there is no stage. [-0, +0,
 * e]
 */
void fz_ltrace_add_name(
    lua_State *L, struct fz_trace_names *names, int outputs, int stage);

/* Push a new userdata with a reference to the names. [-0, +1, e] */
void fz_ltrace_push_names(lua_State *L, struct fz_trace_names *names);

/* Push and return an empty list of names. [-0, +1, e] */
struct fz_trace_names *fz_ltrace_push_new_names(lua_State *L);

/*
 * Open: core.trace, .trace_names, .lock_file. The core table is on top. [-0,
 * +0, e]
 */
int fz_ltrace_open(lua_State *L);

#endif
