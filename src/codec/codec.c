#include "codec/codec.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "codec/encode.h"
#include "codec/format.h"
#include "codec/scalar.h"
#include "codec/warning.h"
#include "value/byname.h"
#include "value/luserdata.h"
#include "value/registered.h"

/* The address of this variable is the registry key of the encoder. */
static const char encoder_key;

static int
encoder_gc(lua_State *L)
{
	struct fz_encoder *e = lua_touserdata(L, 1);

	fz_refmap_fini(&e->loaded, L);
	fz_refmap_fini(&e->objects, L);
	fz_refmap_fini(&e->strings, L);
	return 0;
}

/* Push a new encoder and keep it for later messages. [+1] */
static struct fz_encoder *
encoder_new(lua_State *L)
{
	struct fz_encoder *e = lua_newuserdatauv(L, sizeof(*e), 1);

	memset(e, 0, sizeof(*e));
	e->registered = fz_registered_objects(L);
	fz_refmap_init(&e->loaded);
	fz_refmap_init(&e->objects);
	fz_refmap_init(&e->strings);
	lua_newtable(L);
	lua_setiuservalue(L, -2, 1);
	fz_luserdata_finalize(L, encoder_gc);
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &encoder_key);
	return e;
}

/* Push an encoder that no other message uses. [+1] */
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

/* Begin a pass: no object is noted, and the message starts at the end. */
static void
start_pass(struct fz_encoder *e)
{
	if (fz_buf_reserve(e->out, FZ_ENCODE_SMALL) == NULL)
		fz_encode_no_memory(e);
	fz_encode_resume(e);
	e->globals = e->plain = e->bare = NULL;
	e->full = e->modules = false;
	e->flags = 0;
	e->level = 0;
	e->nsplices = 0;
	e->nlater = e->nkept = e->nmissed = 0;
	e->nobjects = e->ncells = e->nstrings = 0;
	fz_refmap_clear(&e->loaded, e->L);
	fz_refmap_clear(&e->objects, e->L);
	fz_refmap_clear(&e->strings, e->L);
	if (++e->stamp == 0) {
		memset(e->recent, 0, sizeof(e->recent));
		e->stamp = 1;
	}
}

void
fz_encode_need_modules(struct fz_encoder *e)
{
	if (!e->modules && fz_byname_add_modules(e->L, &e->loaded) != 0)
		fz_encode_no_memory(e);
	e->modules = true;
}

static void
restart(struct fz_encoder *e, size_t start, int why)
{
	lua_settop(e->L, e->kept);
	e->out->len = start;
	start_pass(e);
	lua_createtable(e->L, 8, 0);
	lua_replace(e->L, e->kept);
	e->full = true;
	fz_encode_need_full(e, why);
}

static void
put_message(struct fz_encoder *e, int first, int n, size_t start)
{
	const struct fz_path root = { NULL, FZ_PATH_ROOT, 0, 0, NULL };

	fz_encode_u8(e, FZ_FORMAT_VERSION);
	fz_encode_u8(e, 0);
	fz_encode_varint(e, (uint64_t)n);
	for (e->value = 1; e->value <= n; e->value++)
		fz_encode_value(e, first + e->value - 1, &root);
	fz_encode_later(e, 0);
	fz_encode_sync(e);
	e->out->data[start + 1] = e->flags;
}

/*
 * Write the message in the first pass or, if that pass cannot write it, in the
 * full pass.
 */
static __attribute__((noinline)) void
put_passes(struct fz_encoder *e, int first, int n)
{
	size_t start = e->out->len;

	start_pass(e);
	/*
	 * The first pass calls no Lua code, so longjmp() skips no frame of Lua.
	 */
	switch (setjmp(e->first_pass)) {
	case 0:
		put_message(e, first, n, start);
		return;
	case FZ_ENCODE_CALLS:
		restart(e, start, FZ_ENCODE_CALLS);
		break;
	default:
		restart(e, start, FZ_ENCODE_MODULES);
	}
	put_message(e, first, n, start);
}

/*
 * Append the message. Leaves the encoder and two lists on the stack; the caller
 * releases the encoder.
 */
static struct fz_encoder *
encode(lua_State *L, int first, int n, struct fz_buf *out, bool leaves,
    int snapshot, uint64_t had)
{
	struct fz_encoder *e;

	luaL_checkstack(L, 16, "no stack left to pack a value");
	e = encoder_get(L);
	e->L = L;
	e->out = out;
	e->busy = true;
	e->leaves = leaves;
	e->snapshot = snapshot;
	e->had = had;
	e->list = lua_gettop(L) + 1;
	e->kept = e->list + 1;
	lua_getiuservalue(L, e->list - 1, 1);
	lua_pushnil(L);
	put_passes(e, first, n);
	for (lua_Integer i = 0; i < e->nmissed; i++) {
		lua_rawgeti(L, e->kept, -i);
		fz_warning(L);
	}
	return e;
}

void
fz_codec_encode_shared(lua_State *L, int first, int n, struct fz_buf *out,
    int snapshot, uint64_t had)
{
	int top = lua_gettop(L);
	struct fz_encoder *e = encode(L, first, n, out, false, snapshot, had);

	fz_encode_release(e);
	lua_settop(L, top);
}

/*
 * Append the message of one number or boolean, which needs no encoder. False if
 * the value is of another type, or if there is no memory.
 */
static bool
encode_scalar(lua_State *L, int idx, struct fz_buf *out)
{
	int type = lua_type(L, idx);
	unsigned char *p, *end;

	if (type != LUA_TNUMBER && type != LUA_TBOOLEAN)
		return false;
	p = fz_buf_reserve(out, FZ_FORMAT_ONE_HEAD + FZ_SCALAR_NUMBER_MAX);
	if (p == NULL)
		return false;
	p[0] = FZ_FORMAT_VERSION;
	p[1] = 0;
	p[2] = 1;
	end = fz_scalar_store(L, idx, type, p + FZ_FORMAT_ONE_HEAD);
	out->len += (size_t)(end - p);
	return true;
}

void
fz_codec_encode(lua_State *L, int first, int n, struct fz_buf *out)
{
	if (n != 1 || !encode_scalar(L, first, out))
		fz_codec_encode_shared(L, first, n, out, 0, 0);
}

void
fz_encode_pack(lua_State *L, int first, int n, struct fz_buf *out)
{
	int top = lua_gettop(L);
	struct fz_encoder *e = encode(L, first, n, out, true, 0, 0);
	size_t done = 0;

	luaL_checkstack(
	    L, 2 * FZ_ENCODE_SPLICES + 2, "no stack left to pack a value");
	for (unsigned i = 0; i < e->nsplices; i++) {
		const char *from = (const char *)out->data + done;

		lua_pushlstring(L, from, e->splices[i] - done);
		lua_rawgeti(L, e->list, -(lua_Integer)i - 1);
		done = e->splices[i];
	}
	lua_pushlstring(L, (const char *)out->data + done, out->len - done);
	lua_concat(L, 2 * (int)e->nsplices + 1);
	fz_encode_release(e);
	lua_replace(L, top + 1);
	lua_settop(L, top + 1);
}
