/*
 * codec.h - Lua values as bytes and back (doc/format.md is the layout).
 *
 * One message holds any number of values; references shared among them, and
 * cycles, are kept. Every call may raise, because there is no memory or a value
 * cannot be sent: call it inside lua_pcall().
 */
#ifndef FZ_CODEC_H
#define FZ_CODEC_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

struct fz_buf;

enum fz_codec_trust {
	FZ_CODEC_VALUES,
	/*
	 * plain values and joined lists, for a look at a value: tables of
	 * classes that are not registered are not reported
	 */
	FZ_CODEC_RECORDED,
	/* the same, but such tables raise an error */
	FZ_CODEC_COMPLETE,
	FZ_CODEC_FUNCTIONS, /* plain values, functions and modules */
	/*
	 * plain values, functions, modules, handles: the message comes from a
	 * process of this run
	 */
	FZ_CODEC_RUN,
};

/*
 * Append to `out` one message with the `n` values from stack index `first` on.
 *
 * Raises an fz.Error of kind "unsendable" if a value cannot be sent. The text
 * of the error starts with the path to the value (".rows[3].file: a FILE*
 * cannot be sent"). The path is empty if the value is one of the `n` values
 * itself. The field `value` of the error is the number, from 1, of the value
 * that was being written, even if a __fzpack raised the error. Raises kind
 * "memory" if `out` fails. After an error the caller drops the bytes appended
 * so far.
 *
 * Calls Lua code: __fzpack, finalizers, and the log if a class is not
 * registered. [-0, +0, e]
 */
void fz_codec_encode(lua_State *L, int first, int n, struct fz_buf *out);

/*
 * As fz_codec_encode(), for workers that share the cells of the snapshot at
 * `snapshot` (see cells.h; 0: none). The receivers have all cells up to version
 * `had`. Of the values of these cells, the message has only the small ones.
 * [-0, +0, e]
 */
void fz_codec_encode_shared(lua_State *L, int first, int n, struct fz_buf *out,
    int snapshot, uint64_t had);

/*
 * If the message is one nil, boolean or number, as most small messages are,
 * push that value. Returns false if the message is anything else, or if there
 * is no room on the stack. [-0, +0|1, -]
 */
bool fz_codec_push_scalar(lua_State *L, const void *bytes, size_t len);

/*
 * Push the values of the one message in `bytes`; returns their number. `trust`
 * says whether the message may contain functions, modules and handles. Raises
 * an fz.Error of kind "error" if the bytes are not exactly one message. Never
 * reads outside of the bytes and allocates at most a small multiple of `len`.
 * [-0, +n, e]
 */
int fz_codec_decode(
    lua_State *L, const void *bytes, size_t len, enum fz_codec_trust trust);

/*
 * As fz_codec_decode(), for a message of fz_codec_encode_shared() of this run.
 * `cells` is the index of this process's fz_cells_new(), or of nil. [-0, +n, e]
 */
int fz_codec_decode_shared(
    lua_State *L, const void *bytes, size_t len, int cells);

/*
 * encode(...) -> string, which may contain handles and is for this run only.
 * [-n, +1, e]
 */
int fz_lcodec_encode(lua_State *L);

/*
 * decode(string [, skip]) -> values of encode(); ignores the first `skip`
 * bytes. [-1|2, +n, e]
 */
int fz_lcodec_decode(lua_State *L);

/*
 * Open: set core.pack, .unpack, .encode, .decode, .register_class,
 * .register_value and .classes in the core table at the top. [-0, +0, m]
 */
int fz_lcodec_open(lua_State *L);

#endif
