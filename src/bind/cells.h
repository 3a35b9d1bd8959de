/*
 * cells.h - the upvalues that a pool's process and its workers both have.
 *
 * An upvalue that is reached from init or from a function of the pool has a
 * number. A worker inherits the numbers with the upvalues, and gets others with
 * the functions that are sent to it, so that a later function joins the upvalue
 * that is there. The rule: an upvalue that the script has not changed since it
 * was last noted keeps what the worker has, one that it has changed is set.
 *
 * Versions are those of fz_sched_version(): an upvalue has the one at which it
 * was last seen changed. What is noted is referenced, so that an address means
 * the same object for as long as it is compared.
 */
#ifndef FZ_CELLS_H
#define FZ_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

/* How a message names an upvalue. A number is used again by a later birth. */
struct fz_cells_name {
	uint32_t number;
	uint32_t born;
	uint32_t version;
};

/*
 * Push a userdata that knows no upvalue; the others take its index. [-0, +1, m]
 */
void fz_cells_new(lua_State *L);

/* ---- in the process that calls ------------------------------------------ */

/*
 * Push a record of all upvalues that the function at `f` reaches, by functions
 * and tables at any depth. Those that are new, or have changed since they were
 * noted, get `version`. [-0, +1, m]
 */
void fz_cells_note(lua_State *L, int cells, int f, uint32_t version);

/* Whether it has no upvalue, so that it always holds. [-0, +0, -] */
bool fz_cells_is_bare(lua_State *L, int record);

/* Whether all is as it was when the record was made. [-0, +0, m] */
bool fz_cells_holds(lua_State *L, int cells, int record);

/* The record is not used any more. [-0, +0, m] */
void fz_cells_drop(lua_State *L, int cells, int record);

/*
 * Push for each upvalue of the record that is newer than `version` a function
 * that has it. Returns how many. [-0, +n, m]
 */
int fz_cells_push_newer(lua_State *L, int cells, int record, uint32_t version);

/* Whether the upvalue with that lua_upvalueid() is known. [-0, +0, -] */
bool fz_cells_find(
    lua_State *L, int cells, const void *id, struct fz_cells_name *name);

/* ---- in a worker -------------------------------------------------------- */

/*
 * Upvalue `i` of the function at `f` becomes the one that is named. False where
 * that was not known: it is from now on, without a version. [-0, +0, m]
 */
bool fz_cells_join(
    lua_State *L, int cells, int f, int i, const struct fz_cells_name *name);

/* Whether it has that version, or a later one; from now on it has. */
bool fz_cells_update(lua_State *L, int cells, const struct fz_cells_name *name);

#endif
