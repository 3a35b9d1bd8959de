/*
 * call.h - calls of a stage's or a pool's function: bytes in, bytes out.
 *
 * The same code makes the calls inside a worker and, for runs with jobs = 0,
 * in the script's own process, so that both see the same values and errors.
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

/* Stack of the thread that makes calls, as fz_child_prepare() leaves it. */
enum { FZ_CHILD_FUNCS = 1, FZ_CHILD_INIT, FZ_CHILD_LIST };

/* Where one call gets its arguments from and puts its results. */
struct fz_child_io {
	/* The bytes of the next argument. 0, or -1 and `err`. */
	int (*next)(
	    void *ctx, const void **bytes, size_t *len, struct fz_err *err);
	/* Those bytes are needed no more. */
	void (*release)(void *ctx);
	/* A reply begins: `n` values, or the one value of an error. */
	void (*begin)(void *ctx, bool error, uint32_t word);
	/* One value was encoded into `out`: take it, `out` starts empty. */
	void (*put)(void *ctx);
	/* The reply is whole. 0, or -1 where nobody takes it any more. */
	int (*send)(void *ctx);
	/*
	 * For batches: room of FZ_PORT_ITEM bytes for a result (NULL as -1
	 * above), and how many it took. With a port its room is used, and on
	 * it goes with the other items of the call.
	 */
	unsigned char *(*room)(void *ctx);
	void (*end)(void *ctx, size_t len);
	struct fz_port *port; /* NULL: there is one item */
	struct fz_call *at;
	struct fz_buf *out;
	void *ctx;
};

struct fz_child_call {
	uint32_t func; /* from 0 */
	uint32_t nargs;
	uint32_t nvalues; /* results that are wanted */
	uint64_t seed;    /* of the random numbers of this call */
	bool init;        /* run the stage's init first */
	struct fz_random *random;
};

/* Calls of one function for items that come one after the other. */
struct fz_child_batch {
	uint32_t func; /* from 0 */
	uint32_t kind; /* enum fz_wire_kind */
	uint32_t nparts;
	uint64_t item;  /* index of the one at hand */
	uint64_t first; /* of the one that the part begins with */
	uint64_t seed;  /* of the batch */
	bool init;
	bool plain; /* the list has no metatable; noted at the first item */
	struct fz_raw_value
	    *strip; /* a slot for each from `first` on, or NULL */
	struct fz_random *random;
};

/*
 * A new thread that calls functions of the list at `funcs` (a table; where a
 * function is a string it is decoded first; at 0 may be what its upvalues are
 * shared with, see cells.h), after the function or nil at
 * `init`, with items of the list or nil at `list`. Leaves the thread on top.
 * [-0, +1, m]
 */
lua_State *fz_child_prepare(lua_State *L, int funcs, int init, int list);

/*
 * Make the call on thread `L` and put its results, or its error as a table
 * (message, traceback, cause, result) with its kind. Returns that kind,
 * FZ_ERR_NONE for none. Never raises. `call->init` is cleared once init ran.
 */
enum fz_err_kind fz_child_call(
    lua_State *L, struct fz_child_call *call, const struct fz_child_io *io);

/*
 * Make the calls of a batch on thread `L` and send each result, or its error,
 * until there is no other item. Never raises. 0, or -1 where nobody takes
 * results any more.
 */
int fz_child_batch(
    lua_State *L, struct fz_child_batch *batch, const struct fz_child_io *io);

#endif
