/* cells_state.h - what the files of cells share. */
#ifndef FZ_CELLS_STATE_H
#define FZ_CELLS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "bind/cells.h"
#include "bind/contents.h"

/* User values of the userdata. */
enum {
	FZ_CELLS_HOLDERS =
	    1,          /* number + 1 -> function whose 1st upvalue it is */
	FZ_CELLS_INDEX, /* lua_upvalueid() -> number + 1, but for copies */
	FZ_CELLS_NOTES, /* number + 1 -> its value; -(number + 1) -> list of
			   what its sum knows by address */
	FZ_CELLS_NUSER = FZ_CELLS_NOTES
};

struct fz_cell {
	bool used;
	bool deep;         /* `sum` is that of the value */
	bool linked;       /* there are functions in it */
	bool small;        /* as fz_cells_use has it */
	uint32_t nrecords; /* that have it */
	uint32_t step;     /* of the walk with the number `look` */
	uint32_t next;   /* number + 1 of the next free one, or copy; 0: none */
	uint32_t copies; /* number + 1 of the first copy, 0: none */
	uint32_t base;   /* number + 1, 0: it is no copy */
	const void *id;
	uint64_t version; /* 0: it was not looked at */
	uint64_t look;    /* the last one that came by */
	uint64_t links;   /* sum of the names of the cells of its functions */
	struct fz_contents_sum sum;
	/* Of a copy: */
	uint64_t group;        /* sum of the names of all that it goes with */
	uint64_t base_version; /* that it has of the base */
};

/* A cell that a walk has come to. */
struct fz_cells_step {
	uint32_t number;
	uint32_t up; /* a step of the same group, or itself */
	uint64_t
	    group;   /* of the step that all of these lead up to: their sum */
	bool fresh;  /* the cell has got its version now */
	bool copied; /* the function gets a copy of it */
};

/* Two steps whose cells hold the same table. */
struct fz_cells_pair {
	uint32_t a, b;
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
	struct fz_cells_list steps, pairs;
};

static inline struct fz_cells *
fz_cells_to(lua_State *L, int cells)
{
	return lua_touserdata(L, cells);
}

/*
 * A record is a table: the functions from 1 on, each one's place by itself, and
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
 * yet; with `indexed` fz_cells_number() finds it. [-0, +0, m]
 */
uint32_t fz_cells_take(lua_State *L, int cells, int f, int i, bool indexed);

/* No record has it: its number is free. [-0, +0, m] */
void fz_cells_release(lua_State *L, int cells, uint32_t number);

/* cells_value.c: what one look at cells works with. */
struct fz_cells_look {
	lua_State *L;
	int cells;
	struct fz_cells *c;
	int notes; /* stack index of FZ_CELLS_NOTES */
	uint64_t version;
};

/*
 * Note the value on top, which goes: it is what the cell holds. True if that is
 * another one than before. What its sum knows by address is left there, as a
 * list or nil. [-1, +1, m]
 */
bool fz_cells_note_value(const struct fz_cells_look *look, uint32_t number);

/*
 * The sum of the names of all cells that functions in the cell refer to; calls
 * meet(), if it is not NULL, with the number of each that is known. [-0, +0, -]
 */
uint64_t fz_cells_links(const struct fz_cells_look *look, uint32_t number,
    void (*meet)(void *ctx, uint32_t number), void *ctx);

/* A sum goes on with a word. */
uint64_t fz_cells_mix(uint64_t sum, uint64_t word);

#endif
