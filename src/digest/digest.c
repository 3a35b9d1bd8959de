#include "digest/digest.h"

#include <math.h>
#include <string.h>

#include <lauxlib.h>

#include "digest/digest_state.h"
#include "value/byname.h"
#include "value/handle.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "value/registered.h"

void
fz_digest_tag(struct fz_digest *d, enum fz_digest_tag tag)
{
	unsigned char byte = (unsigned char)tag;

	fz_hash_add(d->hash, &byte, 1);
}

static void
put_number(struct fz_digest *d, enum fz_digest_tag tag, uint64_t number)
{
	unsigned char bytes[9];

	bytes[0] = (unsigned char)tag;
	fz_le64_store(bytes + 1, number);
	fz_hash_add(d->hash, bytes, sizeof(bytes));
}

void
fz_digest_string(
    struct fz_digest *d, enum fz_digest_tag tag, const char *s, size_t len)
{
	put_number(d, tag, len);
	fz_hash_add(d->hash, s, len);
}

void
fz_digest_refuse(
    struct fz_digest *d, const char *what, const struct fz_path *at)
{
	lua_State *L = d->L;

	luaL_checkstack(L, 10, NULL);
	lua_pushfstring(L, "%s cannot be digested", what);
	fz_path_push_error(L, FZ_ERR_UNSENDABLE, at);
	if (d->value != 0) {
		lua_pushinteger(L, d->value);
		lua_setfield(L, -2, "value");
	}
	lua_error(L);
}

void
fz_digest_append(struct fz_digest *d, int list, lua_Integer *n)
{
	lua_State *L = d->L;

	if (!lua_istable(L, list)) { /* most digests need no list */
		lua_newtable(L);
		lua_replace(L, list);
	}
	lua_rawseti(L, list, ++*n);
}

void
fz_digest_keep(struct fz_digest *d, int idx)
{
	lua_pushvalue(d->L, idx);
	fz_digest_append(d, d->kept, &d->nkept);
}

/*
 * Raise if object number `number` is in an entry whose digests equal those of
 * another entry: the order of such entries is arbitrary, and so is the number.
 */
static void
check_ranges(struct fz_digest *d, uint32_t number, const struct fz_path *at)
{
	lua_State *L = d->L;

	for (lua_Integer i = 1; i <= d->nranges; i++) {
		const struct fz_digest_range *range;

		lua_rawgeti(L, d->ranges, i);
		range = lua_touserdata(L, -1);
		lua_pop(L, 1);
		if (range->from <= number && number < range->end)
			fz_digest_refuse(d,
			    "an object inside a table key that has the same "
			    "contents as another key",
			    at);
	}
}

/* Write a reference to the object or variable with this number. */
static void
put_ref(struct fz_digest *d, uint32_t number, const struct fz_path *at)
{
	if (d->nranges != 0)
		check_ranges(d, number, at);
	put_number(d, FZ_DIGEST_REF, number);
}

/* Find the number of an object or variable that was met before. */
static bool
find_number(const struct fz_digest *d, const void *p, uint32_t *number)
{
	const struct fz_digest_scope *scope = d->inner;

	for (; scope != NULL; scope = scope->up) {
		const struct fz_refmap_entry *entry =
		    fz_refmap_find(&scope->map, p);

		if (entry == NULL)
			continue;
		*number = entry->number;
		return true;
	}
	return fz_digest_find_apart(d, p, number);
}

bool
fz_digest_put_ref(struct fz_digest *d, const void *p, const struct fz_path *at)
{
	uint32_t number;
	bool fresh;

	if (find_number(d, p, &number)) {
		put_ref(d, number, at);
		return true;
	}
	if (d->nobjects == UINT32_MAX || fz_refmap_enter(&d->inner->map, d->L,
					     p, d->nobjects, &fresh) == NULL)
		fz_lerror_nomem(d->L, "a digest");
	d->nobjects++;
	return false;
}

static void
put_named(struct fz_digest *d, char kind)
{
	size_t len;
	const char *name = lua_tolstring(d->L, -1, &len);

	fz_digest_string(d, FZ_DIGEST_NAMED, name, len);
	fz_hash_add(d->hash, &kind, 1);
	lua_pop(d->L, 1);
}

/* If the object at `idx` has a name, write the name and return true. */
static bool
put_by_name(struct fz_digest *d, int idx)
{
	const void *p = lua_topointer(d->L, idx);
	lua_State *L = d->L;

	if (fz_refmap_find(d->registered, p) != NULL) {
		if (fz_registered_value(L, idx)) {
			put_named(d, 'v');
			return true;
		}
		if (fz_registered_metatable(L, idx)) {
			lua_pushvalue(L, -1);
			put_named(d, 'c');
			fz_digest_note_class(d);
			return true;
		}
	}
	if (!fz_digest_is_module(d, p) || !fz_byname_module(L, idx))
		return false;
	lua_pushvalue(L, -1);
	put_named(d, 'm');
	fz_digest_note_module(d);
	return true;
}

/*
 * Write the value that the function `field` of the class makes of the object.
 */
static void
put_made(
    struct fz_digest *d, int idx, const char *name, const struct fz_path *at)
{
	struct fz_path here = { at, FZ_PATH_PACKED, 0, 0, name };
	int value;

	lua_pushvalue(d->L, idx);
	lua_call(d->L, 1, 1);
	value = lua_gettop(d->L);
	fz_digest_keep(d, value);
	fz_digest_string(d, FZ_DIGEST_PACKED, name, strlen(name));
	fz_digest_value(d, value, &here);
}

/* Push __fzdigest or __fzpack of the metatable at `mt`, if it is a function. */
static bool
push_maker(lua_State *L, int mt)
{
	lua_pushliteral(L, "__fzdigest");
	if (lua_rawget(L, mt) == LUA_TFUNCTION)
		return true;
	lua_pop(L, 1);
	if (fz_registered_field(L, mt, FZ_REGISTERED_PACK) == LUA_TFUNCTION)
		return true;
	lua_pop(L, 1);
	return false;
}

static void
refuse_object(struct fz_digest *d, int idx, const struct fz_path *at)
{
	lua_State *L = d->L;
	const char *name = "userdata";

	if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING)
		name = lua_tostring(L, -1);
	lua_pushfstring(L, "a %s%s", name,
	    fz_handle_is(L, idx) ? ", which belongs to one run," : "");
	fz_digest_refuse(d, lua_tostring(L, -1), at);
}

bool
fz_digest_has_plain_class(struct fz_digest *d, int idx)
{
	lua_State *L = d->L;
	int mt = lua_gettop(L);
	bool plain;

	if (fz_registered_class(L, idx))
		plain = !push_maker(L, mt);
	else
		plain = fz_registered_field(L, mt, FZ_REGISTERED_PACK) !=
			LUA_TBOOLEAN;
	lua_settop(L, mt);
	return plain;
}

/* Write the metatable on top, which has no registered name. */
static void
put_bare(struct fz_digest *d, int idx, const struct fz_path *at)
{
	lua_State *L = d->L;
	int mt = lua_gettop(L);

	if (!lua_istable(L, idx) ||
	    fz_registered_field(L, mt, FZ_REGISTERED_PACK) == LUA_TBOOLEAN)
		refuse_object(d, idx, at);
	lua_settop(L, mt);
	fz_digest_tag(d, FZ_DIGEST_BARE);
	if (d->apart != NULL)
		put_number(d, FZ_DIGEST_REF, fz_digest_class_apart(d, mt));
	else
		fz_digest_value(d, mt, at);
}

/*
 * Write the metatable of an object. False: the value that the class makes of
 * the object is written, too.
 */
static bool
put_class(struct fz_digest *d, int idx, const struct fz_path *at)
{
	lua_State *L = d->L;
	int top = lua_gettop(L);
	bool table = true;

	if (fz_registered_class(L, idx)) {
		const char *name = lua_tostring(L, top + 2);

		/* the functions that hold the table write its class */
		if (d->apart != NULL) {
			fz_digest_class_apart(d, top + 1);
		} else {
			lua_pushvalue(L, top + 2);
			fz_digest_note_class(d);
		}
		if (push_maker(L, top + 1)) {
			put_made(d, idx, name, at);
			table = false;
		} else if (lua_istable(L, idx)) {
			fz_digest_string(
			    d, FZ_DIGEST_CLASS, name, strlen(name));
		} else {
			refuse_object(d, idx, at);
		}
	} else if (lua_getmetatable(L, idx)) {
		put_bare(d, idx, at);
	} else if (!lua_istable(L, idx)) {
		refuse_object(d, idx, at);
	}
	lua_settop(L, top);
	return table;
}

/* Write the contents of an object that has a number, or a name. */
void
fz_digest_contents(struct fz_digest *d, int idx, const struct fz_path *at)
{
	d->level++;
	if (lua_isfunction(d->L, idx))
		fz_digest_function(d, idx, at);
	else if (put_class(d, idx, at))
		fz_digest_table(d, idx, at);
	d->level--;
}

static void
put_object(struct fz_digest *d, int idx, const struct fz_path *at)
{
	lua_State *L = d->L;

	if (put_by_name(d, idx) ||
	    fz_digest_put_ref(d, lua_topointer(L, idx), at))
		return;
	if (d->level < FZ_DIGEST_DEPTH) {
		fz_digest_contents(d, idx, at);
		return;
	}
	fz_digest_tag(d, FZ_DIGEST_LATER);
	lua_pushvalue(L, idx);
	fz_digest_append(d, d->later, &d->nlater);
}

void
fz_digest_put_later(struct fz_digest *d, lua_Integer mark)
{
	struct fz_path deep = { NULL, FZ_PATH_DEEP, 0, 0, NULL };
	lua_State *L = d->L;
	unsigned level = d->level;

	d->level = 0;
	for (lua_Integer i = mark + 1; i <= d->nlater; i++) {
		luaL_checkstack(L, 20, NULL);
		lua_rawgeti(L, d->later, i);
		fz_digest_contents(d, lua_gettop(L), &deep);
		lua_pop(L, 1);
		lua_pushnil(L);
		lua_rawseti(L, d->later, i);
	}
	d->level = level;
	d->nlater = mark;
}

static void
put_float(struct fz_digest *d, lua_Number x)
{
	uint64_t bits;

	if (isnan(x))
		x = (lua_Number)NAN; /* all NaNs are the same value */
	memcpy(&bits, &x, sizeof(bits));
	if (isnan(x))
		bits &= INT64_MAX;
	put_number(d, FZ_DIGEST_FLOAT, bits);
}

static void
put_scalar(struct fz_digest *d, int idx, int type, const struct fz_path *at)
{
	lua_State *L = d->L;

	switch (type) {
	case LUA_TNIL:
		fz_digest_tag(d, FZ_DIGEST_NIL);
		break;
	case LUA_TBOOLEAN:
		fz_digest_tag(d,
		    lua_toboolean(L, idx) ? FZ_DIGEST_TRUE : FZ_DIGEST_FALSE);
		break;
	case LUA_TNUMBER:
		if (lua_isinteger(L, idx))
			put_number(d, FZ_DIGEST_INTEGER,
			    (uint64_t)lua_tointeger(L, idx));
		else
			put_float(d, lua_tonumber(L, idx));
		break;
	case LUA_TLIGHTUSERDATA:
		if (lua_touserdata(L, idx) != NULL)
			fz_digest_refuse(d, "a light userdata", at);
		fz_digest_tag(d, FZ_DIGEST_NULL);
		break;
	default:
		fz_digest_refuse(d, "a coroutine", at);
	}
}

/*
 * If a module has the function, write the name of the function there and return
 * true.
 */
static bool
put_function_name(struct fz_digest *d, int idx)
{
	lua_State *L = d->L;

	if (!fz_byname_cfunction(L, idx))
		return false;
	lua_pushfstring(L, "%s.%s", lua_tostring(L, -2), lua_tostring(L, -1));
	put_named(d, 'f');
	lua_pop(L, 2);
	return true;
}

/* Whether the Lua function at `idx` is one of this library. */
static bool
is_ours(lua_State *L, int idx)
{
	lua_Debug ar;

	lua_pushvalue(L, idx);
	lua_getinfo(L, ">S", &ar);
	return strncmp(ar.source, "@fzlua/", 7) == 0;
}

static void
put_function(struct fz_digest *d, int idx, const struct fz_path *at)
{
	if (lua_iscfunction(d->L, idx)) {
		if (!put_by_name(d, idx) && !put_function_name(d, idx))
			fz_digest_refuse(
			    d, "a C function that no loaded module has", at);
		return;
	}
	if (!is_ours(d->L, idx) || !put_function_name(d, idx))
		put_object(d, idx, at);
}

static void
put_userdata(struct fz_digest *d, int idx, const struct fz_path *at)
{
	int file = fz_byname_file(d->L, idx);

	if (file >= 0) {
		lua_pushinteger(d->L, file);
		put_named(d, 's');
	} else {
		put_object(d, idx, at);
	}
}

void
fz_digest_value(struct fz_digest *d, int idx, const struct fz_path *at)
{
	lua_State *L = d->L;
	int type = lua_type(L, idx);
	size_t len;

	luaL_checkstack(L, 20, "no stack left for a digest");
	if (d->apart != NULL && !fz_digest_is_plain(d, idx, type))
		return;
	switch (type) {
	case LUA_TSTRING: {
		const char *s = lua_tolstring(L, idx, &len);

		fz_digest_string(d, FZ_DIGEST_STRING, s, len);
		break;
	}
	case LUA_TTABLE:
		if (lua_topointer(L, idx) == d->globals)
			fz_digest_tag(d, FZ_DIGEST_GLOBALS);
		else
			put_object(d, idx, at);
		break;
	case LUA_TFUNCTION:
		put_function(d, idx, at);
		break;
	case LUA_TUSERDATA:
		put_userdata(d, idx, at);
		break;
	default:
		put_scalar(d, idx, type, at);
	}
}

static int
digest_gc(lua_State *L)
{
	struct fz_digest *d = lua_touserdata(L, 1);

	fz_refmap_fini(&d->scope.map, L);
	fz_buf_fini(&d->code);
	return 0;
}

/* The key of the state that a session keeps for its next digest. */
static const char kept_state;

/* Push a state without memory, for the session at index `session`. */
static struct fz_digest *
push_new_state(lua_State *L, int session)
{
	struct fz_digest *d = lua_newuserdatauv(L, sizeof(*d), 0);

	d->busy = false;
	fz_refmap_init(&d->scope.map);
	fz_buf_init(&d->code);
	fz_luserdata_finalize(L, digest_gc);
	if (session != 0) {
		lua_pushvalue(L, -1);
		lua_rawsetp(L, session, &kept_state);
	}
	return d;
}

/*
 * Push the state of the session. Push a new state if that one is in use, or if
 * an error has ended its last digest.
 */
static struct fz_digest *
push_state(lua_State *L, int session)
{
	struct fz_digest *d;

	if (session == 0)
		return push_new_state(L, 0);
	lua_rawgetp(L, session, &kept_state);
	d = lua_touserdata(L, -1);
	if (d != NULL && !d->busy)
		return d;
	lua_pop(L, 1);
	return push_new_state(L, session);
}

void
fz_digest_with(lua_State *L, struct fz_hash *hash, int session, int modules,
    void (*body)(struct fz_digest *d, void *ctx), void *ctx)
{
	int top = lua_gettop(L);
	struct fz_digest *d;

	luaL_checkstack(L, 20, "no stack left for a digest");
	d = push_state(L, session);
	*d = (struct fz_digest){ .L = L,
		.hash = hash,
		.session = session,
		.modules = modules,
		.scope.map = d->scope.map,
		.code = d->code,
		.busy = true };
	d->registered = fz_registered_objects(L);
	lua_pushglobaltable(L);
	d->globals = lua_topointer(L, -1);
	lua_pop(L, 1);
	d->inner = &d->scope;
	d->later = top + 2;
	d->kept = top + 3;
	d->ranges = top + 4;
	lua_settop(L, d->ranges);
	body(d, ctx);
	fz_refmap_clear(&d->scope.map, L);
	fz_buf_clear(&d->code);
	d->busy = false;
	lua_settop(L, top);
}

struct values {
	int first, n;
};

static void
put_values(struct fz_digest *d, void *ctx)
{
	const struct values *values = ctx;
	const struct fz_path root = { NULL, FZ_PATH_ROOT, 0, 0, NULL };

	for (d->value = 1; d->value <= values->n; d->value++)
		fz_digest_value(d, values->first + d->value - 1, &root);
	fz_digest_put_later(d, 0);
	fz_digest_tag(d, FZ_DIGEST_END);
	d->value = 0;
	fz_digest_modules(d);
}

static bool
are_scalars(lua_State *L, int first, int n)
{
	for (int i = first; i < first + n; i++) {
		if (lua_type(L, i) > LUA_TSTRING)
			return false;
	}
	return true;
}

/* Write values that are no objects, which needs no memory. */
static void
put_scalars(lua_State *L, struct fz_hash *hash, int first, int n)
{
	const struct fz_path root = { NULL, FZ_PATH_ROOT, 0, 0, NULL };
	struct fz_digest d = { .L = L, .hash = hash };

	for (d.value = 1; d.value <= n; d.value++)
		fz_digest_value(&d, first + d.value - 1, &root);
	fz_digest_tag(&d, FZ_DIGEST_END);
}

void
fz_digest(lua_State *L, int first, int n, int session,
    unsigned char out[FZ_HASH_BYTES])
{
	struct values values = { first, n };
	struct fz_hash hash;

	fz_hash_init(&hash);
	if (are_scalars(L, first, n)) {
		put_scalars(L, &hash, first, n);
		fz_hash_end(&hash, out);
		return;
	}
	lua_pushnil(L);
	fz_digest_with(L, &hash, session, lua_gettop(L), put_values, &values);
	lua_pop(L, 1);
	fz_hash_end(&hash, out);
}
