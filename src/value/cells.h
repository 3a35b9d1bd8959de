/*
 * cells.h - the upvalues that the process of a pool shares with its workers.
 *
 * A cell is the variable that upvalues of one or several functions refer to.
 * Each cell that init or a function of the pool reaches has a number. Its value
 * has a version, which changes whenever the script has changed anything that
 * the value reaches. A message with a function refers to its cells by number
 * and version.
 *
 * A worker that has that version of the cell, from its fork or from an earlier
 * function, joins it, and sees the changes that earlier calls made there. Any
 * other worker makes a new cell from the value in the message, and leaves the
 * old cell to the functions that use it: a call sees the values that the script
 * had when the call was made.
 *
 * A cell whose value is or contains a function changes together with the cells
 * of that function, because a worker then needs another function, one that
 * refers to the new cell.
 *
 * If one cell holds a table and another reaches it, the table belongs to the
 * first: every message names it by that cell, so that a worker that has the
 * cell does not get a second copy of the table.
 *
 * A cell keeps its number while a snapshot names it, and for ever if the first
 * workers of the pool inherited it. Versions are those of
 * fz_batch_pool_version(). A snapshot references all objects that it compares
 * by address, so that an address refers to the same object as long as it is
 * compared.
 */
#ifndef FZ_CELLS_H
#define FZ_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

/* One cell in a snapshot. */
struct fz_cells_use {
	const void *id; /* identity of the variable: see lua_upvalueid() */
	uint64_t version;
	uint32_t number;
	bool small; /* the value can be sent and takes few bytes */
};

/* Push a set of cells: a userdata, which is `cells` below. [-0, +1, m] */
void fz_cells_new(lua_State *L);

/*
 * In the calling process: push a snapshot of all cells that the function at `f`
 * reaches, through functions and tables at any depth. Changed cells get
 * `version`, which must be higher than all earlier versions. [-0, +1, m]
 */
void fz_cells_note(lua_State *L, int cells, int f, uint64_t version);

/* Whether the snapshot has no cells, so nothing in it can change. [-0, +0, -]
 */
bool fz_cells_is_bare(lua_State *L, int snapshot);

/* The approximate size of a message with all values, in bytes. [-0, +0, -] */
uint64_t fz_cells_size(lua_State *L, int snapshot);

/*
 * Whether nothing has changed since the snapshot was made. If `compare` is
 * false, contents are not compared again, and the results of earlier checks
 * count.
 * [-0, +0, m]
 */
bool fz_cells_holds(lua_State *L, int snapshot, bool compare);

/* Release the snapshot now, before the collector would do it. */
void fz_cells_drop(lua_State *L, int snapshot);

/* The cell with this id; NULL if the snapshot does not have it. [-0, +0, -] */
const struct fz_cells_use *fz_cells_find(
    lua_State *L, int snapshot, const void *id);

/*
 * fz_cells_find_root() returns the cell of the snapshot whose value is the
 * table at `idx`, or NULL. fz_cells_push_holder() pushes a function whose first
 * upvalue is the cell of `use`. [-0, +0, -] [-0, +1, -]
 */
const struct fz_cells_use *fz_cells_find_root(
    lua_State *L, int snapshot, int idx);
void fz_cells_push_holder(
    lua_State *L, int snapshot, const struct fz_cells_use *use);

/*
 * Before a fork: give all changed cells `version`, because the worker inherits
 * the present values. [-0, +0, m]
 */
void fz_cells_refresh(lua_State *L, int cells, uint64_t version);

/* Give all cells `version`, as if all had changed. [-0, +0, -] */
void fz_cells_doubt(lua_State *L, int cells, uint64_t version);

/*
 * In a worker: join upvalue `i` of the function at `f` to the cell with this
 * number, if the cell has that version here, or if `inherited` is set and the
 * worker inherited the cell. False if there is no such cell. [-0, +0, m]
 */
bool fz_cells_join(lua_State *L, int cells, int f, int i, uint32_t number,
    uint64_t version, bool inherited);

/*
 * In a worker: note the upvalue as the cell with this number and version,
 * unless a later version is noted. An inherited cell with that number is kept,
 * too. [-0, +0, m]
 */
void fz_cells_add(
    lua_State *L, int cells, int f, int i, uint32_t number, uint64_t version);

#endif
