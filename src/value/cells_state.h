/* cells_state.h - shared by the files of cells. */
#ifndef FZ_CELLS_STATE_H
#define FZ_CELLS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "value/cells.h"
#include "value/contents.h"

/*
 * The user values of the userdata. A cell has a number from 0 on. Lua tables
 * are indexed from 1, so a cell has the key number + 1, and the negative key
 * for a second value:
 *
 *   table    key            value
 *   HOLDERS  number + 1     function whose first upvalue is the cell
 *            -(number + 1)  the same for a version that came in a message
 *   INDEX    upvalue id     number + 1; the id is that of lua_upvalueid()
 *   NOTES    number + 1     last noted value of the cell
 *            -(number + 1)  list of the objects in the value that its sum knows
 *                           by their address
 *   ROOTS    table          number + 1 of the cell whose value it is
 *
 *   snapshot 1, 2, ...      functions
 *            function       its index
 *            table          -1 - i; it is the value of the cell uses[i]
 *            0              the struct; its user value is the cells
 */
enum {
	FZ_CELLS_HOLDERS = 1,
	FZ_CELLS_INDEX,
	FZ_CELLS_NOTES,
	FZ_CELLS_ROOTS,
	FZ_CELLS_NUSER = FZ_CELLS_ROOTS
};

struct fz_cell {
	bool used;
	/* the value has contents; `sum` is the sum over these */
	bool deep;
	bool linked;         /* the value is or contains functions */
	bool small;          /* the value can be sent and takes few bytes */
	uint32_t nsnapshots; /* number of snapshots that refer to the cell */
	uint32_t next;       /* number + 1 of the next free cell; 0: none */
	const void *id;
	uint64_t version; /* version of the noted value; 0: none is noted */
	uint64_t later;   /* in a worker: version that came in a message */
	/* number of the last walk or check that visited the cell */
	uint64_t walk;
	uint64_t links; /* sum over the cells of the functions in the value */
	struct fz_contents_sum sum;
};

/* A cell in the order of a walk. */
struct fz_cells_visit {
	uint32_t number;
	bool fresh; /* the cell has just got its version */
};

/* A growing list; its memory is kept for the next walk. */
struct fz_cells_list {
	void *items;
	uint32_t n;
	size_t cap;
};

struct fz_cells {
	struct fz_contents contents;
	struct fz_cell *list;
	uint32_t n;          /* number of entries of `list` in use */
	size_t cap;          /* capacity of `list` */
	uint32_t free;       /* number + 1 of the first free cell; 0: none */
	uint64_t walk;       /* number of the last walk or check */
	uint32_t generation; /* generation of the calling process */
	bool forked;         /* workers have been forked */
	struct fz_cells_list visits;
};

static inline struct fz_cells *
fz_cells_to(lua_State *L, int cells)
{
	return lua_touserdata(L, cells);
}

/* The userdata at index 0 of a snapshot. */
struct fz_cells_snapshot {
	bool deep; /* whether the value of any cell has contents */
	uint64_t size;
	/* number of the upvalues of all functions */
	uint32_t nups;
	uint32_t nuses; /* number of different cells */
	/*
	 * the uses, sorted by id; the memory after them has an index into this
	 * list for each upvalue, as uint32_t
	 */
	struct fz_cells_use uses[];
};

static inline uint32_t *
fz_cells_ups(struct fz_cells_snapshot *snapshot)
{
	return (uint32_t *)(void *)&snapshot->uses[snapshot->nuses];
}

/* The cell with this id; NULL if the snapshot does not have it. */
const struct fz_cells_use *fz_cells_use_of(
    const struct fz_cells_snapshot *snapshot, const void *id);

static inline bool
fz_cells_is_function(lua_State *L, int idx)
{
	return lua_isfunction(L, idx) && !lua_iscfunction(L, idx);
}

/* Append an item of `size` bytes and return its address. [-0, +0, m] */
void *fz_cells_append(lua_State *L, struct fz_cells_list *list, size_t size);

/* The number of the cell with this id, or -1. [-0, +0, -] */
int64_t fz_cells_number(lua_State *L, int cells, const void *id);

/*
 * Assign a number to upvalue `i` of the function at `f`, which is a new cell.
 * [-0, +0, m]
 */
uint32_t fz_cells_assign_number(lua_State *L, int cells, int f, int i);

/*
 * Note that the table that is the value of the cell no longer belongs to the
 * cell. [-0, +0, -]
 */
void fz_cells_drop_root(lua_State *L, int roots, int notes, uint32_t number);

/*
 * Set notes[key] to the value on the top of the stack. [-1, +0, m]
 * Before Lua 5.4.3 each new key whose value is nil costs a search of the table.
 */
void fz_cells_set_note(lua_State *L, int notes, lua_Integer key);

/* Push the metatable of snapshots, which releases their cells. [-0, +1, m] */
void fz_cells_push_snapshot_class(lua_State *L);

/* The context of the functions of cells_value.c. */
struct fz_cells_context {
	lua_State *L;
	int cells;
	struct fz_cells *c;
	int notes, roots; /* stack indexes of the user values */
	uint64_t version;
};

/*
 * Pop the value on top and note it as the value of the cell. True if it differs
 * from the value noted before. Pushes the list of the objects in the value that
 * its contents sum (value/contents.h) knows by address, or nil. [-1, +1, m]
 */
bool fz_cells_note_value(
    const struct fz_cells_context *context, uint32_t number);

/* The sum over the cells of all functions in the cell's value. [-0, +0, -] */
uint64_t fz_cells_links(
    const struct fz_cells_context *context, uint32_t number);

#endif
