/*
 * call.h - calls the functions of stages and pools: bytes in, bytes out.
 *
 * The same code makes the calls inside a worker and, for runs with jobs = 0, in
 * the script's own process, so that both give the same values and errors.
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

/*
 * The indexes on the stack of the thread that makes calls, see
 * fz_child_prepare().
 */
enum { FZ_CHILD_FUNCS = 1, FZ_CHILD_INIT, FZ_CHILD_LIST };
#define FZ_CHILD_EXIT "exit" /* a key of the table of functions */

/* The source of a call's arguments and the receiver of its results. */
struct fz_child_io {
	/* Get the bytes of the next argument. 0, or -1 and `err`. */
	int (*next)(
	    void *ctx, const void **bytes, size_t *len, struct fz_err *err);
	/* Release the bytes of the last argument. */
	void (*release)(void *ctx);
	/* Begin a reply; `word`: number of values, or kind of the error. */
	void (*begin)(void *ctx, bool error, uint32_t word);
	/* Add the value that was encoded into `out`, and clear `out`. */
	void (*put)(void *ctx);
	/* Send the reply. 0, or -1 if its receiver is gone. */
	int (*send)(void *ctx);
	/*
	 * For chunks: get FZ_PORT_ITEM bytes for a result (NULL if the receiver
	 * is gone), and report the number of bytes used. If `port` is set, its
	 * functions are used instead, and the chunk continues with the other
	 * items of `at`.
	 */
	unsigned char *(*room)(void *ctx);
	void (*end)(void *ctx, size_t len);
	/* delivers the other items of a chunk; NULL: a chunk has one item */
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
	bool init;        /* run the stage's init first */
	struct fz_random *random;
};

/* Calls of one function for consecutive items. */
struct fz_child_chunk {
	uint32_t func; /* number of the function, from 0 */
	uint32_t kind; /* enum fz_wire_kind */
	uint32_t nparts;
	uint64_t item;  /* index of the current item */
	uint64_t first; /* index of the first item in the frame */
	uint64_t seed;  /* seed of the batch; each item adds its index */
	bool init;
	bool plain; /* the list has no metatable; set at the first item */
	/* memory for raw results of the items from `first` on; or NULL */
	struct fz_raw_value *raw_results;
	struct fz_random *random;
};

/*
 * Called at the start of a forked process: finds the state of math.random, and
 * makes os.exit() leave this process at once. [-0, +0, -]
 */
void fz_child_enter(lua_State *L, struct fz_random *random);

/*
 * Called in a worker that is a program: errors about globals then mention that
 * it lacks those of the script. On a node, errors about missing files name the
 * directory. [-0, +0, m]
 */
void fz_child_is_spawned(lua_State *L, bool on_node);

/*
 * Create a thread for calls and leave it on top. The table at `funcs` lists the
 * functions; a function that is a string is decoded at its first call. Index 0
 * of the table may hold the cells of the upvalues (cells.h), and its field
 * FZ_CHILD_EXIT a function for the end of a worker that has made calls. `init`
 * is the index of a function or nil, `list` that of a list of items or nil.
 * [-0, +1, m]
 */
lua_State *fz_child_prepare(lua_State *L, int funcs, int init, int list);

/*
 * Make the call on thread `L` and send its results, or its error as a table
 * (message, traceback, cause, result) with a kind. Returns that kind, or
 * FZ_ERR_NONE. Never raises. Clears `call->init` after init has run.
 */
enum fz_err_kind fz_child_call(
    lua_State *L, struct fz_child_call *call, const struct fz_child_io *io);

/*
 * Keep the next `n` parts in `entry`, encoded until a chunk needs them. If `n`
 * is 0, drop the values in the entry. After a failure the entry is empty.
 * fz_child_kept() returns the `version` of the entry, or 0 if it is empty.
 */
void fz_child_keep(lua_State *L, const struct fz_child_io *io, uint32_t entry,
    uint32_t n, uint64_t version);
uint64_t fz_child_kept(lua_State *L, uint32_t entry);

/*
 * Make the calls of a chunk on thread `L` and send each result or error, until
 * no item is left. Never raises. 0, or -1 if the receiver of the results is
 * gone.
 */
int fz_child_chunk(
    lua_State *L, struct fz_child_chunk *chunk, const struct fz_child_io *io);

/*
 * (number): sets the field `item` of the error that is being raised, to the
 * number of the item that the function has reached. A <close> value of the
 * function calls this.
 */
int fz_child_note_item(lua_State *L);

#endif
