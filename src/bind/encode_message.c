#include "bind/encode.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "bind/codec.h"
#include "bind/format.h"

/* Its address is the registry key of the encoder. */
static const char encoder_key;

static int
encoder_gc(lua_State *L)
{
	struct fz_encoder *e = lua_touserdata(L, 1);

	fz_refmap_fini(&e->objects, L);
	fz_refmap_fini(&e->strings, L);
	return 0;
}

/* A new encoder for this and later messages. [+1] */
static struct fz_encoder *
encoder_new(lua_State *L)
{
	struct fz_encoder *e = lua_newuserdatauv(L, sizeof(*e), 0);

	memset(e, 0, sizeof(*e));
	fz_refmap_init(&e->objects);
	fz_refmap_init(&e->strings);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, encoder_gc);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &encoder_key);
	return e;
}

/* An encoder at the top of the stack that no other message uses. [+1] */
static struct fz_encoder *
encoder_get(lua_State *L)
{
	struct fz_encoder *e;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &encoder_key);
	e = lua_touserdata(L, -1);
	if (e == NULL || e->busy) {
		lua_pop(L, 1);
		e = encoder_new(L);
	}
	return e;
}

static void
encoder_start(struct fz_encoder *e, lua_State *L, struct fz_buf *out)
{
	e->L = L;
	e->out = out;
	e->busy = true;
	if (fz_buf_reserve(out, FZ_ENCODE_SMALL) == NULL)
		fz_encode_no_memory(e);
	fz_encode_resume(e);
	e->globals = NULL;
	e->flags = 0;
	e->level = 0;
	e->nsplices = 0;
	e->nlater = e->nkept = 0;
	e->nobjects = e->ncells = e->nstrings = 0;
	fz_refmap_clear(&e->objects, L);
	fz_refmap_clear(&e->strings, L);
	if (++e->stamp == 0) {
		memset(e->glances, 0, sizeof(e->glances));
		e->stamp = 1;
	}
}

/* The message in `e`, whose lists are on the stack from `top` + 2 on. */
static void
put_message(struct fz_encoder *e, int first, int n, int top)
{
	const struct fz_place root = { NULL, FZ_PLACE_ROOT, 0, 0, NULL };
	size_t start = e->out->len;

	e->later = top + 2;
	e->kept = top + 3;
	lua_settop(e->L, top + 4);
	fz_encode_u8(e, FZ_FORMAT_VERSION);
	fz_encode_u8(e, 0);
	fz_encode_varint(e, (uint64_t)n);
	for (e->value = 1; e->value <= n; e->value++)
		fz_encode_value(e, first + e->value - 1, &root);
	fz_encode_later(e, 0);
	fz_encode_sync(e);
	e->out->data[start + 1] = e->flags;
	e->busy = false;
}

void
fz_codec_encode(lua_State *L, int first, int n, struct fz_buf *out)
{
	struct fz_encoder *e;
	int top = lua_gettop(L);

	luaL_checkstack(L, 16, "no room to pack");
	e = encoder_get(L);
	encoder_start(e, L, out);
	e->spliced = 0;
	put_message(e, first, n, top);
	lua_settop(L, top);
}

void
fz_encode_pack(lua_State *L, int first, int n, struct fz_buf *out)
{
	struct fz_encoder *e;
	int top = lua_gettop(L);
	size_t done = 0;

	luaL_checkstack(L, 16 + 2 * FZ_ENCODE_SPLICES, "no room to pack");
	e = encoder_get(L);
	encoder_start(e, L, out);
	e->spliced = top + 4;
	put_message(e, first, n, top);
	for (unsigned i = 0; i < e->nsplices; i++) {
		const char *from = (const char *)out->data + done;

		lua_pushlstring(L, from, e->splices[i] - done);
		lua_rawgeti(L, e->spliced, (lua_Integer)i + 1);
		done = e->splices[i];
	}
	lua_pushlstring(L, (const char *)out->data + done, out->len - done);
	lua_concat(L, 2 * (int)e->nsplices + 1);
	lua_replace(L, top + 1);
	lua_settop(L, top + 1);
}
