/*
 * call.h - calls the functions of stages and pools: bytes in, bytes out.
 *
 * The same code makes the calls inside a worker and, if jobs = 0, in the
 * script's own process. Values and errors are therefore the same in both.
 */
#ifndef FZ_CALL_H
#define FZ_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "base/err.h"

struct fz_buf;
struct fz_call;
struct fz_port;
struct fz_random;
struct fz_raw_value;

/* Indexes on the stack of a thread that fz_child_prepare() has created. */
enum { FZ_CHILD_FUNCS = 1, FZ_CHILD_INIT, FZ_CHILD_LIST };
#define FZ_CHILD_EXIT "exit" /* key of the function to call at the end */

/* The functions that fetch the arguments of a call and send its results. */
struct fz_child_io {
	/* Get the bytes of the next argument. 0, or -1 and `err`. */
	int (*next)(
	    void *ctx, const void **bytes, size_t *len, struct fz_err *err);
	/* Release the bytes that the last next() returned. */
	void (*release)(void *ctx);
	/* Begin a reply. `word`: number of values, or kind of the error. */
	void (*begin)(void *ctx, bool error, uint32_t word);
	/* Add the value that was encoded into `out`, and clear `out`. */
	void (*put)(void *ctx);
	/* Send the reply. 0, or -1 if its receiver is gone. */
	int (*send)(void *ctx);
	/*
	 * Used only for chunks, and only if `port` is NULL. room(): get memory
	 * of FZ_PORT_ITEM bytes for a result; NULL if the receiver is gone.
	 * end(): report how many bytes were used.
	 */
	unsigned char *(*room)(void *ctx);
	void (*end)(void *ctx, size_t len);
	/* gives `at` the other items of the chunk; NULL: there are none */
	struct fz_port *port;
	struct fz_call *at;
	struct fz_buf *out;
	void *ctx;
};

struct fz_child_call {
	uint32_t func; /* number of the function, from 0 */
	uint32_t nargs;
	uint32_t nvalues; /* number of results to return */
	uint64_t seed;    /* seed of the call's random numbers */
	bool init;        /* call init of the stage first */
	struct fz_random *random;
};

/* Calls of one function for consecutive items. */
struct fz_child_chunk {
	uint32_t func; /* number of the function, from 0 */
	uint32_t kind; /* enum fz_wire_kind, with flags */
	uint32_t nparts;
	uint64_t item;  /* index of the current item */
	uint64_t first; /* index of the first item in the frame of the chunk */
	uint64_t seed;  /* seed of the batch; an item adds its index */
	bool init;
	bool plain; /* list without a metatable; set by the first item */
	/* memory for raw results of the items from `first` on, or NULL */
	struct fz_raw_value *raw_results;
	struct fz_random *random;
};

/*
 * Prepare a forked process: find the state of math.random, make os.exit() leave
 * at once, call the functions of core.on_fork(). [-0, +0, -]
 */
void fz_child_enter(lua_State *L, struct fz_random *random);

/*
 * Called in a spawned worker. Errors about missing globals then get a hint that
 * the worker lacks the script's globals. If `on_node`, errors about missing
 * files name the directory. [-0, +0, m]
 */
void fz_child_is_spawned(lua_State *L, bool on_node);

/*
 * Create a thread for calls, and leave it on top. The table at index `funcs`
 * lists the functions. If an element is a string, it is decoded at the first
 * call of that function. Index 0 of the table may hold the cells of the
 * upvalues (cells.h). Its field FZ_CHILD_EXIT may hold a function that the
 * worker calls at its end if it has made calls. At the index `init` is a
 * function or nil, at `list` a list of items or nil. [-0, +1, m]
 */
lua_State *fz_child_prepare(lua_State *L, int funcs, int init, int list);

/*
 * Make a call on thread `L`, and reply with its results or its error: a kind,
 * and a table with message, traceback, cause and result. Returns that kind, or
 * FZ_ERR_NONE. Never raises. Clears `call->init` after init has run.
 */
enum fz_err_kind fz_child_call(
    lua_State *L, struct fz_child_call *call, const struct fz_child_io *io);

/*
 * fz_child_keep(): keep the next `n` parts in `entry`, as bytes until a chunk
 * needs them. If `n` is 0, empty the entry. After a failure the entry is empty.
 * fz_child_kept(): the `version` that was kept in the entry; 0 if it is empty.
 */
void fz_child_keep(lua_State *L, const struct fz_child_io *io, uint32_t entry,
    uint32_t n, uint64_t version);
uint64_t fz_child_kept(lua_State *L, uint32_t entry);

/*
 * Make the calls of a chunk on thread `L`, and send a result or an error for
 * each item. Never raises. 0, or -1 if the receiver of the results is gone.
 */
int fz_child_chunk(
    lua_State *L, struct fz_child_chunk *chunk, const struct fz_child_io *io);

/*
 * (number): set the field `item` of the error that is being raised to the
 * number of the item that a function has reached. That function calls this
 * through a <close> value.
 */
int fz_child_note_item(lua_State *L);

#endif
