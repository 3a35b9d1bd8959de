/*
 * cells.h - the upvalues that a pool's process and its workers both have.
 *
 * A cell is the variable that upvalues of one or several functions refer to.
 * Each one that init or a function of the pool reaches has a number, and what
 * it holds has a version: a new one whenever the script has changed anything
 * that it reaches. A function that is sent names its cells by both. A worker
 * that has that version of the cell, from its fork or from an earlier function,
 * joins it, and finds there what it has changed itself. Any other makes a cell
 * of the value that came along, and leaves alone what earlier functions use: a
 * call sees the values that the script had when it was made.
 *
 * A cell with a function in it has changed if a cell of that function has: a
 * worker needs another function then, one that refers to the new cell.
 *
 * A table that one cell holds and another reaches is the first one's: it is
 * named by that cell wherever it comes, so that a worker that has it does not
 * get a second one.
 *
 * A cell has its number as long as a record has it; for ever if the first
 * workers of the pool inherited it.
 *
 * Versions are those of fz_sched_version(). What is noted is referenced, so
 * that an address means the same object for as long as it is compared.
 */
#ifndef FZ_CELLS_H
#define FZ_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

/* A cell as a function uses it. */
struct fz_cells_use {
	const void *id; /* its lua_upvalueid() */
	uint64_t version;
	uint32_t number;
	bool small; /* its value takes few bytes, and can be sent */
};

/*
 * Push a userdata that knows no upvalue; `cells` is its index. [-0, +1, m]
 */
void fz_cells_new(lua_State *L);

/* ---- in the process that calls ------------------------------------------ */

/*
 * Push a record of all cells that the function at `f` reaches, by functions and
 * tables at any depth. Those that have changed get `version`, which is higher
 * than all before. They keep their numbers as long as the record lives.
 * [-0, +1, m]
 */
void fz_cells_note(lua_State *L, int cells, int f, uint64_t version);

/* Whether it has no cell, so that it always holds. [-0, +0, -] */
bool fz_cells_is_bare(lua_State *L, int record);

/* About the size of a message with all its values, in bytes. [-0, +0, -] */
uint64_t fz_cells_size(lua_State *L, int record);

/*
 * Whether all is as it was when the record was made. Without `look` the values
 * are taken for those that were seen last. [-0, +0, m]
 */
bool fz_cells_holds(lua_State *L, int record, bool look);

/* The record is not used any more; else it is dropped with its table. */
void fz_cells_drop(lua_State *L, int record);

/* The cell with that id, NULL: it is none of the record. [-0, +0, -] */
const struct fz_cells_use *fz_cells_find(
    lua_State *L, int record, const void *id);

/*
 * The cell whose value is the table at `idx`, NULL: it is none's of the record;
 * and push a function whose first upvalue that cell is. [-0, +0, -]
 * [-0, +1, -]
 */
const struct fz_cells_use *fz_cells_find_root(
    lua_State *L, int record, int idx);
void fz_cells_push_holder(
    lua_State *L, int record, const struct fz_cells_use *use);

/*
 * Before a fork: all cells that have changed get `version`, so that the worker
 * inherits them with the versions of what it inherits. [-0, +0, m]
 */
void fz_cells_refresh(lua_State *L, int cells, uint64_t version);

/* The same where nothing is known: all of them get it. [-0, +0, -] */
void fz_cells_doubt(lua_State *L, int cells, uint64_t version);

/* ---- in a worker -------------------------------------------------------- */

/*
 * Upvalue `i` of the function at `f` joins the cell that is here, if it has
 * that version; with `inherited` any that came by the fork. False: there is
 * none. [-0, +0, m]
 */
bool fz_cells_join(lua_State *L, int cells, int f, int i, uint32_t number,
    uint64_t version, bool inherited);

/*
 * It is the cell of that number and version, unless a later one is here. One
 * that came by the fork stays, too.
 */
void fz_cells_add(
    lua_State *L, int cells, int f, int i, uint32_t number, uint64_t version);

#endif
