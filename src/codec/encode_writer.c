#include "codec/encode_writer.h"

#include <lauxlib.h>

#include "base/err.h"
#include "value/lerror.h"

int
fz_encode_refuse(
    struct fz_encoder *e, const char *what, const struct fz_path *at)
{
	luaL_checkstack(e->L, 10, NULL);
	lua_pushfstring(e->L, "%s cannot be sent", what);
	fz_path_push_error(e->L, FZ_ERR_UNSENDABLE, at);
	lua_pushinteger(e->L, e->value);
	lua_setfield(e->L, -2, "value");
	fz_encode_release(e);
	return lua_error(e->L);
}

int
fz_encode_no_memory(struct fz_encoder *e)
{
	fz_encode_release(e);
	return fz_lerror_fail(e->L, FZ_ERR_MEMORY, "no memory for a message");
}

void
fz_encode_sync(struct fz_encoder *e)
{
	e->out->len = fz_encode_len(e);
}

void
fz_encode_resume(struct fz_encoder *e)
{
	e->p = e->out->data + e->out->len;
	e->end = e->out->data + e->out->cap;
}

void
fz_encode_grow(struct fz_encoder *e, size_t n)
{
	fz_encode_sync(e);
	if (fz_buf_reserve(e->out, n) == NULL)
		fz_encode_no_memory(e);
	fz_encode_resume(e);
}

unsigned char *
fz_encode_store_varint(unsigned char *p, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		*p++ = (unsigned char)(v | 0x80);
	*p++ = (unsigned char)v;
	return p;
}

void
fz_encode_varint(struct fz_encoder *e, uint64_t v)
{
	e->p = fz_encode_store_varint(fz_encode_room(e, 10), v);
}

void
fz_encode_keep(struct fz_encoder *e, int idx)
{
	lua_pushvalue(e->L, idx);
	lua_rawseti(e->L, e->kept, ++e->nkept);
}

void
fz_encode_release(struct fz_encoder *e)
{
	if (e->listed) {
		lua_newtable(e->L);
		lua_setiuservalue(e->L, e->list - 1, 1);
		e->listed = false;
	}
	e->busy = false;
}
