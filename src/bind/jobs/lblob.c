#include "bind/jobs/lblob.h"

#include "base/err.h"
#include "codec/codec.h"
#include "shared/arena.h"
#include "value/lerror.h"
#include "wire/blob.h"
#include "worker/engine.h"

struct fz_blob *
fz_lblob_take(
    struct fz_engine *engine, struct fz_arena_buf *buf, struct fz_err *err)
{
	size_t len = buf->buf.len;
	struct fz_blob *blob;

	if (!buf->in_arena) {
		blob = fz_blob_new(buf->buf.data, len, err);
		fz_buf_clear(&buf->buf);
		return blob;
	}
	return fz_engine_blob(engine, fz_arena_buf_take(buf), len, err);
}

struct decoding {
	const void *at;
	size_t len;
	enum fz_codec_trust trust;
};

/* Protected, so that an error does not leak the mapping of the bytes. */
static int
decode_body(lua_State *L)
{
	const struct decoding *d = lua_touserdata(L, 1);

	lua_settop(L, 0);
	return fz_codec_decode(L, d->at, d->len, d->trust);
}

static int
copy_body(lua_State *L)
{
	const struct decoding *d = lua_touserdata(L, 1);

	lua_pushlstring(L, d->at, d->len);
	return 1;
}

/* Map a blob, and call `body` with its bytes. Returns as lua_pcall() does. */
static int
with_bytes(lua_State *L, struct fz_engine *engine, struct fz_blob *blob,
    lua_CFunction body, enum fz_codec_trust trust)
{
	struct decoding d = { NULL, blob->len, trust };
	struct fz_err err;
	int status = LUA_OK;

	fz_err_init(&err);
	d.at = fz_blob_map(blob, engine->arena, &err);
	if (d.at == NULL) {
		fz_lerror_push(L, err.kind, err.text);
		return LUA_ERRRUN;
	}
	/* A scalar needs no protected call: decoding it cannot raise. */
	if (body != decode_body || !fz_codec_push_scalar(L, d.at, d.len)) {
		lua_pushcfunction(L, body);
		lua_pushlightuserdata(L, &d);
		status = lua_pcall(L, 1, LUA_MULTRET, 0);
	}
	fz_blob_unmap(blob, engine->arena, d.at);
	return status;
}

int
fz_lblob_push_bytes(
    lua_State *L, struct fz_engine *engine, struct fz_blob *blob)
{
	return with_bytes(L, engine, blob, copy_body, FZ_CODEC_RUN);
}

int
fz_lblob_decode_as(lua_State *L, struct fz_engine *engine, struct fz_blob *blob,
    enum fz_codec_trust trust)
{
	return with_bytes(L, engine, blob, decode_body, trust);
}

int
fz_lblob_decode(lua_State *L, struct fz_engine *engine, struct fz_blob *blob)
{
	return fz_lblob_decode_as(L, engine, blob, FZ_CODEC_RUN);
}
