/* call_state.h - what the files that make calls share. */
#ifndef FZ_CALL_STATE_H
#define FZ_CALL_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/err.h"
#include "child/call.h"
#include "worker/child_port.h"

enum fz_child_phase {
	FZ_CHILD_PHASE_INIT,
	FZ_CHILD_PHASE_ARGUMENTS,
	FZ_CHILD_PHASE_CALL,
	FZ_CHILD_PHASE_RESULTS
};

/* Calls under way; lives on the C stack across the protected call. */
struct fz_child_calls {
	struct fz_child_call *what; /* one of these two */
	struct fz_child_batch *batch;
	const struct fz_child_io *io;
	enum fz_child_phase phase;
	uint32_t value;        /* the result being encoded, from 1 */
	bool mapped;           /* bytes of an argument are to be released */
	bool all;              /* its results are one message */
	enum fz_err_kind kind; /* of the error being sent */
	bool plain;            /* send it without its cause */
	bool gone;             /* nobody takes results any more */
	unsigned nkept;        /* results of items on the stack */
	const void *list;      /* the table of items, NULL: ask Lua */
	bool storing;          /* results are stored directly: see `direct` */
	struct fz_direct direct;
};

/*
 * Push the values of the next part; the cells that it names are at `cells`, 0:
 * it names none. Returns how many. [-0, +n, e]
 */
int fz_child_push_part(lua_State *L, struct fz_child_calls *c, int cells);

/*
 * Push a function of the list; one that came as bytes is decoded first.
 * [-0, +1, e]
 */
void fz_child_push_function(lua_State *L, uint32_t number);

/* Push the function whose code is at `code`. [-0, +1, e] */
void fz_child_decode_function(lua_State *L, int code);

/*
 * Call the init that there may be. All calls begin in the directory that it
 * goes to. [-0, +0, e]
 */
void fz_child_run_init(lua_State *L);

/*
 * A message handler: notes the traceback. The error stays what it is, since
 * what the function calls, load() for one, may see it, too.
 */
int fz_child_note_traceback(lua_State *L);

/* Push the traceback that was noted last, or nil. [-0, +1, -] */
void fz_child_push_traceback(lua_State *L);

/*
 * Put the error on top of the stack, which stays: less itself as the cause
 * where it cannot be sent, or the kind alone where there is no memory for
 * more. `status` is that of its lua_pcall(). Returns its kind.
 */
enum fz_err_kind fz_child_put_error(
    lua_State *L, struct fz_child_calls *c, int status);

/* The kind of the fz.Error at index 1, "" where it is none. [-0, +0, m] */
const char *fz_child_kind_word(lua_State *L);

/* Push the message of the codec's error at 1 about a result. [-0, +1, e] */
void fz_child_push_result_message(lua_State *L, const struct fz_child_calls *c);

#endif
