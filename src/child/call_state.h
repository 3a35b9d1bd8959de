/* call_state.h - shared by the files that make calls. */
#ifndef FZ_CALL_STATE_H
#define FZ_CALL_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/err.h"
#include "child/call.h"
#include "wire/child_items.h"
#include "wire/child_port.h"

enum fz_child_phase {
	FZ_CHILD_PHASE_INIT,
	FZ_CHILD_PHASE_ARGUMENTS,
	FZ_CHILD_PHASE_CALL,
	FZ_CHILD_PHASE_RESULTS
};

struct fz_rawarray;

/*
 * The state of running calls, which is on the C stack of the function that
 * makes the protected call.
 */
struct fz_child_calls {
	struct fz_child_call *what; /* either this or `chunk` is set */
	struct fz_child_chunk *chunk;
	const struct fz_child_io *io;
	enum fz_child_phase phase;
	uint32_t value;        /* number of the result being encoded, from 1 */
	bool mapped;           /* the bytes of an argument must be released */
	bool all;              /* all results are one message */
	enum fz_err_kind kind; /* kind of the error being sent */
	bool plain;            /* send the error without its cause */
	bool gone;             /* the receiver of the results is gone */
	bool apart;            /* the items could not be decoded together */
	unsigned nkept;        /* number of results on the stack */
	int extra; /* stack index of the first kept value that each call gets */
	int nextra;       /* number of these values */
	const void *list; /* the table of items; NULL: use the Lua API */
	const struct fz_rawarray *raw;
	bool storing_raw; /* results are being stored raw: see `direct` */
	struct fz_direct direct;
};

/*
 * Push the values of the next part; returns their number. `cells` is the index
 * of the cells that the part refers to; 0: none. [-0, +n, e]
 */
int fz_child_push_part(lua_State *L, struct fz_child_calls *c, int cells);

/*
 * Push a table of the kept values of `entry`; its field n is their number. [-0,
 * +1, e]
 */
void fz_child_push_kept(lua_State *L, uint32_t entry);

/* Push a function of the list; decodes it at its first call. [-0, +1, e] */
void fz_child_push_function(lua_State *L, uint32_t number);

/* Push the function whose bytes are at `code`. [-0, +1, e] */
void fz_child_decode_function(lua_State *L, int code);

/*
 * Call init, if there is one, in the directory in which calls run. [-0, +0, e]
 */
void fz_child_run_init(lua_State *L);

/*
 * A message handler that keeps the traceback. It returns the error unchanged,
 * because functions that the user's function calls, such as load(), may get it.
 */
int fz_child_note_traceback(lua_State *L);

/* Push the last traceback that was kept, or nil. [-0, +1, -] */
void fz_child_push_traceback(lua_State *L);

/*
 * Send the error on top, which stays there. If it cannot be encoded, it is sent
 * without its cause; if there is no memory, only its kind is sent. `status` is
 * that of the lua_pcall() which returned the error. Returns the kind.
 */
enum fz_err_kind fz_child_put_error(
    lua_State *L, struct fz_child_calls *c, int status);

/* The kind of the fz.Error at index 1; "" for another value. [-0, +0, m] */
const char *fz_child_kind_word(lua_State *L);

/* Push the message of the error at 1 about a result. [-0, +1, e] */
void fz_child_push_result_message(lua_State *L, const struct fz_child_calls *c);

#endif
