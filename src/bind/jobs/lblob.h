/* lblob.h - converts encoded Lua values to blobs and back. */
#ifndef FZ_LBLOB_H
#define FZ_LBLOB_H

#include <lua.h>

#include "codec/codec.h"

struct fz_blob;
struct fz_engine;
struct fz_err;
struct fz_arena_buf;

/* Move the encoded bytes to a blob. Returns NULL and sets `err` on failure. */
struct fz_blob *fz_lblob_take(
    struct fz_engine *engine, struct fz_arena_buf *buf, struct fz_err *err);

/*
 * Push the values in a blob, or an error. Returns a status of lua_pcall(). [-0,
 * +n, -]
 */
int fz_lblob_decode(
    lua_State *L, struct fz_engine *engine, struct fz_blob *blob);

/* Same as fz_lblob_decode(), for bytes from elsewhere. [-0, +n, -] */
int fz_lblob_decode_as(lua_State *L, struct fz_engine *engine,
    struct fz_blob *blob, enum fz_codec_trust trust);

/*
 * Push the encoded bytes of a blob as a string, or an error. Returns a status
 * of lua_pcall(). [-0, +1, -]
 */
int fz_lblob_push_bytes(
    lua_State *L, struct fz_engine *engine, struct fz_blob *blob);

#endif
