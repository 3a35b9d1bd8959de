/* call_state.h - what call.c, call_chunk.c and process_main.c share. */
#ifndef FZ_CALL_STATE_H
#define FZ_CALL_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/err.h"
#include "child/call.h"
#include "wire/child_direct.h"
#include "wire/child_port.h"

enum fz_child_phase {
	FZ_CHILD_PHASE_INIT,
	FZ_CHILD_PHASE_ARGUMENTS,
	FZ_CHILD_PHASE_CALL,
	FZ_CHILD_PHASE_RESULTS
};

struct fz_rawarray;

/* The state of a call or a chunk that is running. */
struct fz_child_calls {
	struct fz_child_call *what; /* the call; NULL: `chunk` is set instead */
	struct fz_child_chunk *chunk;
	const struct fz_child_io *io;
	enum fz_child_phase phase;
	uint32_t value; /* number of the result that is being encoded, from 1 */
	bool mapped;    /* io->release() must be called */
	bool all;       /* all results are one message (fz.process) */
	enum fz_err_kind kind; /* kind of the error that is being sent */
	bool plain;            /* the error is sent without its cause */
	bool gone;             /* the receiver of the results is gone */
	/* set while items are decoded together, or if that failed */
	bool apart;
	unsigned nkept; /* number of results that are still on the stack */
	int extra;      /* index of the first kept value that each call gets */
	int nextra;     /* number of kept values that every call gets */
	const void *list; /* address of the item table; NULL: use the Lua API */
	const struct fz_rawarray *raw;
	bool storing_raw; /* `direct` is in use: results are being stored raw */
	struct fz_direct direct;
};

/*
 * Push the values of the next part. Returns their number. At the index `cells`
 * are the cells to which the part refers; 0: none. [-0, +n, e]
 */
int fz_child_push_part(lua_State *L, struct fz_child_calls *c, int cells);

/*
 * Push the table of the values that are kept in `entry`. Its field n is the
 * number of values. [-0, +1, e]
 */
void fz_child_push_kept(lua_State *L, uint32_t entry);

/* Push a function of the list; decode it at its first call. [-0, +1, e] */
void fz_child_push_function(lua_State *L, uint32_t number);

/* Push the function whose bytes are at index `code`. [-0, +1, e] */
void fz_child_decode_function(lua_State *L, int code);

/* Call init, if any; later calls start in its final directory. [-0, +0, e] */
void fz_child_run_init(lua_State *L, const struct fz_child_io *io);

/*
 * A message handler that keeps the traceback. It may append a hint to a
 * message, but no more: functions such as load() may handle the error.
 */
int fz_child_note_traceback(lua_State *L);

/* Push the last traceback of fz_child_note_traceback(), or nil. [-0, +1, -] */
void fz_child_push_traceback(lua_State *L);

/*
 * Send the error on top, which stays there: without its cause if it cannot be
 * encoded, only its kind if there is no memory. `status` is that of the
 * lua_pcall() which returned the error. Returns the kind.
 */
enum fz_err_kind fz_child_put_error(
    lua_State *L, struct fz_child_calls *c, int status);

/* The kind of the fz.Error at index 1; "" for another value. [-0, +0, m] */
const char *fz_child_kind_word(lua_State *L);

/* The error at index 1 is about a result: push its message. [-0, +1, e] */
void fz_child_push_result_message(lua_State *L, const struct fz_child_calls *c);

#endif
