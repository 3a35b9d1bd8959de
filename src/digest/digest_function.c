#include "digest/digest_state.h"

#include <lauxlib.h>

#include "value/bytecode.h"
#include "value/lerror.h"
#include "value/upvalue.h"

/* A function whose bytecode is being read, with the list of its globals. */
struct reading {
	struct fz_digest *d;
	int names; /* stack index of the list and set of globals */
	lua_Integer n;
};

static void
add_code(void *ctx, const void *bytes, size_t len)
{
	const struct reading *r = ctx;

	fz_hash_add(r->d->hash, bytes, len);
}

/* Push the value of the global whose name is on top. [-1, +1] */
static int
push_global(lua_State *L)
{
	int type;

	lua_pushglobaltable(L);
	lua_insert(L, -2);
	type = lua_rawget(L, -2);
	lua_remove(L, -2);
	return type;
}

static void
add_global(void *ctx, const char *name, size_t len, bool maybe)
{
	struct reading *r = ctx;
	lua_State *L = r->d->L;
	int top = lua_gettop(L);
	bool known;

	luaL_checkstack(L, 10, NULL);
	lua_pushlstring(L, name, len);
	lua_pushvalue(L, -1);
	known = lua_rawget(L, r->names) != LUA_TNIL;
	lua_pushvalue(L, top + 1);
	if (!known && (push_global(L) != LUA_TNIL || !maybe)) {
		lua_pushvalue(L, top + 1);
		lua_rawseti(L, r->names, ++r->n);
		lua_pushvalue(L, top + 1);
		lua_pushboolean(L, 1);
		lua_rawset(L, r->names);
	}
	lua_settop(L, top);
}

static void
add_module(void *ctx, const char *name, size_t len)
{
	const struct reading *r = ctx;

	luaL_checkstack(r->d->L, 10, NULL);
	lua_pushlstring(r->d->L, name, len);
	fz_digest_note_module(r->d);
}

static const struct fz_bytecode_ops reading_ops = { add_code, add_global,
	add_module };

/*
 * The number of the first upvalue after number `after` that holds the globals,
 * from 0; -1 if there is none.
 */
static int
find_env(lua_State *L, int f, int after)
{
	for (int i = after + 2; lua_getupvalue(L, f, i) != NULL; i++) {
		bool same;

		lua_pushglobaltable(L);
		same = lua_rawequal(L, -1, -2);
		lua_pop(L, 2);
		if (same)
			return i - 1;
	}
	return -1;
}

/* Write the bytecode; pushes the list of the globals and returns its length. */
static lua_Integer
put_code(struct fz_digest *d, int f, const struct fz_path *at)
{
	struct reading r = { d, lua_gettop(d->L) + 1, 0 };
	int env = find_env(d->L, f, -1);
	/* Another upvalue may hold the globals, too: local G = _G. */
	bool all = env >= 0 && find_env(d->L, f, env) >= 0;

	lua_newtable(d->L);
	fz_buf_clear(&d->code);
	lua_pushvalue(d->L, f);
	lua_dump(d->L, fz_bytecode_write, &d->code, 1);
	lua_pop(d->L, 1);
	if (d->code.failed) {
		fz_buf_clear(&d->code);
		fz_lerror_nomem(d->L, "a digest");
	}
	if (!fz_bytecode_read(
		d->code.data, d->code.len, env, all, &reading_ops, &r))
		fz_digest_refuse(d, "bytecode of an unknown Lua", at);
	return r.n;
}

static void
put_upvalues(struct fz_digest *d, int f, const struct fz_path *at)
{
	struct fz_path here = { at, FZ_PATH_UPVALUE, 0, 0, NULL };
	lua_State *L = d->L;
	const char *name;

	for (int i = 1; (name = lua_getupvalue(L, f, i)) != NULL; i++) {
		fz_digest_tag(d, FZ_DIGEST_CELL);
		here.name = name;
		if (!fz_digest_put_ref(d, fz_upvalue_id(L, f, i), at))
			fz_digest_held(d, lua_gettop(L), &here);
		lua_pop(L, 1);
	}
}

void
fz_digest_function(struct fz_digest *d, int f, const struct fz_path *at)
{
	struct fz_path here = { at, FZ_PATH_GLOBAL, 0, 0, NULL };
	lua_State *L = d->L;
	int list = lua_gettop(L) + 1;
	lua_Integer n;

	fz_digest_tag(d, FZ_DIGEST_FUNCTION);
	n = put_code(d, f, at);
	put_upvalues(d, f, at);
	for (lua_Integer i = 1; i <= n; i++) {
		size_t len;

		lua_rawgeti(L, list, i);
		here.name = lua_tolstring(L, -1, &len);
		fz_digest_string(d, FZ_DIGEST_GLOBAL, here.name, len);
		lua_pushvalue(L, -1);
		push_global(L);
		fz_digest_held(d, lua_gettop(L), &here);
		lua_pop(L, 2);
	}
	fz_digest_tag(d, FZ_DIGEST_END);
	lua_settop(L, list - 1);
}
