/*
 * codec.h - Lua values as bytes and back (doc/format.md is the layout).
 *
 * One message holds any number of values; references shared among them, and
 * cycles, are kept. Every call may raise, for memory or because a value
 * cannot be sent: enter through lua_pcall.
 */
#ifndef FZ_CODEC_H
#define FZ_CODEC_H

#include <stddef.h>

#include <lua.h>

struct fz_buf;

enum fz_codec_trust {
	FZ_CODEC_VALUES,
	FZ_CODEC_FUNCTIONS, /* and modules */
	FZ_CODEC_RUN,       /* and handles: from a process of this run */
};

/*
 * Append one message with the `n` values from stack index `first` on to
 * `out`. Raises an fz.Error of kind "unsendable" whose message starts with
 * the path to the value (".rows[3].file: a FILE* cannot be sent"; "a coroutine
 * cannot be sent" if the value itself is meant; its field `value` counts the
 * values from 1, also if a __fzpack raised), and of kind "memory" when `out`
 * fails. Calls Lua code:
 * __fzpack, finalizers, and the log if a class is not registered.
 * What was appended before a raise is the caller's to drop. [-0, +0, e]
 */
void fz_codec_encode(lua_State *L, int first, int n, struct fz_buf *out);

/*
 * The same for workers that share the cells of the record at `record` (see
 * cells.h); 0: none. Those of a version up to `had` are there: what cannot be
 * told in a few bytes of these is not sent. [-0, +0, e]
 */
void fz_codec_encode_shared(lua_State *L, int first, int n, struct fz_buf *out,
    int record, uint64_t had);

/*
 * Push the values of the one message in `bytes`; returns how many. Functions,
 * modules and handles are refused as far as the bytes are not trusted. Raises
 * an fz.Error of kind "error" for bytes that are no whole message; never reads
 * outside them and allocates at most a small multiple of `len`. [-0, +n, e]
 */
int fz_codec_decode(
    lua_State *L, const void *bytes, size_t len, enum fz_codec_trust trust);

/*
 * The same from the process of this run that encoded it as shared; `cells` is
 * the index of what this process has of fz_cells_new(), or of nil. [-0, +n, e]
 */
int fz_codec_decode_shared(
    lua_State *L, const void *bytes, size_t len, int cells);

/*
 * Open: core.pack, .unpack, .encode, .decode, .register_class and
 * .register_value; `core` is at the top.
 * [-0, +0, m]
 */
int fz_lcodec_open(lua_State *L);

#endif
