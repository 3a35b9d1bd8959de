/* cells_state.h - what the files of cells share. */
#ifndef FZ_CELLS_STATE_H
#define FZ_CELLS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "value/cells.h"
#include "value/contents.h"

/* User values of the userdata. */
enum {
	FZ_CELLS_HOLDERS = 1, /* number + 1 -> function whose 1st upvalue it is;
				 -(number + 1) -> the same of one that came
				 later */
	FZ_CELLS_INDEX,       /* lua_upvalueid() -> number + 1 */
	FZ_CELLS_NOTES, /* number + 1 -> its value; -(number + 1) -> list of
			   what its sum knows by address */
	FZ_CELLS_ROOTS, /* table -> number + 1 of the cell whose value it is */
	FZ_CELLS_NUSER = FZ_CELLS_ROOTS
};

struct fz_cell {
	bool used;
	bool deep;         /* `sum` is that of the value */
	bool linked;       /* there are functions in it */
	bool small;        /* as fz_cells_use has it */
	uint32_t nrecords; /* that have it */
	uint32_t next;     /* number + 1 of the next free one, 0: none */
	const void *id;
	uint64_t version; /* 0: it was not looked at */
	uint64_t later;   /* in a worker: of one that came by a message */
	uint64_t look;    /* the last one that came by */
	uint64_t links;   /* sum of the names of the cells of its functions */
	struct fz_contents_sum sum;
};

/* A cell that a walk has come to. */
struct fz_cells_step {
	uint32_t number;
	bool fresh; /* it has got its version now */
};

/* Items of one kind; their room is kept for the next walk. */
struct fz_cells_list {
	void *items;
	uint32_t n, cap;
};

struct fz_cells {
	struct fz_contents contents;
	struct fz_cell *list;
	uint32_t n, cap; /* numbers up to the highest that was used */
	uint32_t free;   /* number + 1 of the first free one, 0: none */
	uint64_t look;
	unsigned depth; /* of the process that calls, see proc.h */
	bool forked;    /* there have been workers */
	struct fz_cells_list steps;
};

static inline struct fz_cells *
fz_cells_to(lua_State *L, int cells)
{
	return lua_touserdata(L, cells);
}

/*
 * A record is a table: the functions from 1 on, each one's place by itself, the
 * index of a cell's use, as -1 and less, by the table that is its value, and
 * this userdata at 0, whose user value is the cells.
 */
struct fz_cells_record {
	bool deep; /* a cell is */
	uint64_t size;
	uint32_t nups;              /* upvalues of all functions, in order */
	uint32_t nuses;             /* cells of these */
	struct fz_cells_use uses[]; /* by id; behind them the index of each
				       upvalue's, of uint32_t */
};

static inline uint32_t *
fz_cells_ups(struct fz_cells_record *record)
{
	return (uint32_t *)(void *)&record->uses[record->nuses];
}

/* The cell with that id, NULL: it is none of the record. */
const struct fz_cells_use *fz_cells_use_of(
    const struct fz_cells_record *record, const void *id);

static inline bool
fz_cells_is_function(lua_State *L, int idx)
{
	return lua_isfunction(L, idx) && !lua_iscfunction(L, idx);
}

/* Raise the error for too little memory. */
int fz_cells_no_memory(lua_State *L);

/* Room for one more item of `size` bytes: returns it. [-0, +0, m] */
void *fz_cells_append(lua_State *L, struct fz_cells_list *list, size_t size);

/* The number of the cell with that id, or -1. [-0, +0, -] */
int64_t fz_cells_number(lua_State *L, int cells, const void *id);

/*
 * A free number for upvalue `i` of the function at `f`, which is in no record
 * yet. [-0, +0, m]
 */
uint32_t fz_cells_take(lua_State *L, int cells, int f, int i);

/* The noted value of the cell is not its root any more. [-0, +0, -] */
void fz_cells_drop_root(lua_State *L, int roots, int notes, uint32_t number);

/* A metatable for records: what they have is released with them. [-0, +1, m] */
void fz_cells_push_record_class(lua_State *L);

/* cells_value.c: what one look at cells works with. */
struct fz_cells_look {
	lua_State *L;
	int cells;
	struct fz_cells *c;
	int notes, roots; /* stack indexes of these user values */
	uint64_t version;
};

/*
 * Note the value on top, which goes: it is what the cell holds. True if that is
 * another one than before. What its sum knows by address is left there, as a
 * list or nil. [-1, +1, m]
 */
bool fz_cells_note_value(const struct fz_cells_look *look, uint32_t number);

/*
 * The sum of the names of all cells that functions in the cell refer to.
 * [-0, +0, -]
 */
uint64_t fz_cells_links(const struct fz_cells_look *look, uint32_t number);

#endif
