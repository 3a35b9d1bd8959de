#include "bind/encode.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "bind/format.h"
#include "bind/lerror.h"
#include "bind/lhandle.h"
#include "bind/names.h"
#include "bind/registered.h"

/* The names of the classes of fzlua begin so. */
#define OURS "fzlua."

/* The reason that a handle cannot be packed. */
#define SHARED ", shared within one run alone,"

static void
enter_object(struct fz_encoder *e, const struct fz_place *at)
{
	luaL_checkstack(e->L, 80, "an object is too deep");
	if (e->level++ >= FZ_FORMAT_NEST)
		fz_encode_refuse(e, "something nested this deep", at);
}

/* Raise the error on top, from the __fzpack of the class named at `name`. */
static int
raise_packer(struct fz_encoder *e, int name, const struct fz_place *at)
{
	lua_State *L = e->L;
	int cause = lua_gettop(L);

	luaL_checkstack(L, 10, NULL);
	lua_pushfstring(L, "__fzpack of class '%s': %s", lua_tostring(L, name),
	    fz_lerror_text(L, cause));
	fz_place_push_error(L, FZ_ERR_ERROR, at);
	lua_pushinteger(L, e->value);
	lua_setfield(L, -2, "value");
	lua_pushvalue(L, cause);
	lua_setfield(L, -2, "cause");
	if (fz_lerror_is(L, cause)) {
		lua_getfield(L, cause, "kind");
		lua_setfield(L, -2, "kind");
	}
	fz_encode_release(e);
	return lua_error(L);
}

/* The packed form of the object at `idx`; its class name and packer on top. */
static void
put_packed(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	struct fz_place here = { at, FZ_PLACE_PACKED, 0, 0, NULL };
	const void *p = lua_topointer(L, idx);
	struct fz_refmap_slot *slot = fz_refmap_find(&e->objects, p);
	uint32_t number = slot->number;
	int name = lua_gettop(L) - 1;
	lua_Integer mark = e->nlater;
	int rc;

	here.name = lua_tostring(L, name);
	enter_object(e, at);
	slot->number |= FZ_ENCODE_OPEN;
	lua_pushvalue(L, idx);
	rc = lua_pcall(L, 1, 1, 0);
	if (rc == LUA_ERRMEM)
		lua_error(L);
	if (rc != LUA_OK)
		raise_packer(e, name, at);
	fz_encode_u8(e, FZ_FORMAT_PACKED);
	fz_encode_string(e, name);
	fz_encode_value(e, name + 1, &here);
	fz_encode_later(e, mark);
	fz_refmap_find(&e->objects, p)->number = number;
	e->level--;
}

/* True if the table at `t` holds a function. */
static bool
has_function(lua_State *L, int t)
{
	lua_pushnil(L);
	while (lua_next(L, t)) {
		if (lua_isfunction(L, -1)) {
			lua_pop(L, 2);
			return true;
		}
		lua_pop(L, 1);
	}
	return false;
}

/*
 * True and pushes how to call it if the metatable at `mt` looks like a class:
 * it has a name, or methods.
 */
static bool
looks_like_class(lua_State *L, int mt)
{
	int index = lua_gettop(L) + 1;

	if (fz_registered_field(L, mt, FZ_REGISTERED_INDEX) == LUA_TTABLE &&
	    has_function(L, index)) {
		lua_pop(L, 1);
		if (fz_registered_field(L, mt, FZ_REGISTERED_NAME) !=
		    LUA_TSTRING)
			lua_pushliteral(L, "without a name");
		lua_replace(L, index);
		lua_settop(L, index);
		return true;
	}
	lua_pop(L, 1);
	if (fz_registered_field(L, mt, FZ_REGISTERED_NAME) == LUA_TSTRING)
		return true;
	lua_pop(L, 1);
	return false;
}

/* Push "a stage" for "fzlua.Stage", "an async result" for "fzlua.AsyncResult".
 */
static void
push_noun(lua_State *L, const char *class)
{
	const char *p = strncmp(class, OURS, sizeof(OURS) - 1) == 0
			    ? class + sizeof(OURS) - 1
			    : class;
	luaL_Buffer b;

	luaL_buffinit(L, &b);
	luaL_addstring(&b, strchr("AEIOU", *p) != NULL ? "an" : "a");
	for (const char *c = p; *c != '\0'; c++) {
		bool upper = *c >= 'A' && *c <= 'Z';

		if (upper || c == p)
			luaL_addchar(&b, ' ');
		luaL_addchar(&b, (char)(upper ? *c - 'A' + 'a' : *c));
	}
	luaL_pushresult(&b);
}

/* The metatable on top is no class: refuse objects of it if it says so. */
static void
check_sendable(struct fz_encoder *e, const struct fz_place *at)
{
	lua_State *L = e->L;
	int mt = lua_gettop(L);

	if (fz_registered_field(L, mt, FZ_REGISTERED_PACK) == LUA_TBOOLEAN &&
	    fz_registered_field(L, mt, FZ_REGISTERED_NAME) == LUA_TSTRING) {
		fz_encode_need_full(e, FZ_ENCODE_CALLS);
		push_noun(L, lua_tostring(L, -1));
		fz_encode_refuse(e, lua_tostring(L, -1), at);
	}
	lua_settop(L, mt);
}

/* Have it logged that a table goes without the metatable on top. */
static void
log_missed(struct fz_encoder *e)
{
	lua_State *L = e->L;
	int mt = lua_gettop(L);

	if (!looks_like_class(L, mt))
		return;
	lua_pushfstring(L,
	    "a table of class %s is sent without its metatable: "
	    "fz.register_class lets it keep that (said once for each class)",
	    lua_tostring(L, mt + 1));
	lua_rawseti(L, e->kept, -e->nmissed++);
	lua_settop(L, mt);
}

/*
 * The table at `idx` has the metatable on top, which is not registered. True if
 * it goes by name all the same.
 */
static bool
put_bare(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	int mt = lua_gettop(L);

	check_sendable(e, at);
	if (!fz_registered_is_missed(L, mt) ||
	    fz_registered_field(L, mt, FZ_REGISTERED_MODE) != LUA_TNIL)
		fz_encode_need_full(e, FZ_ENCODE_MODULES);
	lua_settop(L, mt);
	if (e->full) {
		if (fz_registered_miss(L, mt))
			log_missed(e);
		fz_encode_keep(e, mt);
	}
	fz_encode_need_modules(e);
	if (fz_encode_named(e, idx))
		return true;
	e->bare = lua_topointer(L, mt);
	return false;
}

/* As the class of the object says; its metatable and name are on top. */
static bool
put_classed(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	int mt = lua_gettop(L) - 1;

	if (fz_registered_field(L, mt, FZ_REGISTERED_PACK) != LUA_TNIL) {
		fz_encode_need_full(e, FZ_ENCODE_CALLS);
		put_packed(e, idx, at);
		return true;
	}
	lua_pop(L, 1);
	if (!lua_istable(L, idx))
		return false;
	if (fz_registered_field(L, mt, FZ_REGISTERED_MODE) != LUA_TNIL)
		fz_encode_need_full(e, FZ_ENCODE_CALLS);
	lua_pop(L, 1);
	e->plain = lua_topointer(L, mt);
	fz_encode_plain(e, idx, true, at);
	return true;
}

bool
fz_encode_object(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	int top = lua_gettop(L);
	bool done = true;

	luaL_checkstack(L, 16, NULL);
	if (!fz_registered_class(L, idx)) {
		lua_getmetatable(L, idx);
		done = lua_istable(L, idx) && put_bare(e, idx, at);
	} else if (!e->full && lua_topointer(L, top + 1) == e->plain) {
		fz_encode_plain(e, idx, true, at);
	} else {
		done = put_classed(e, idx, at);
	}
	lua_settop(L, top);
	return done;
}

/* False where it is no handle, or the message may leave this run. */
static bool
put_handle(struct fz_encoder *e, int idx)
{
	unsigned char bytes[FZ_LHANDLE_BYTES];

	if (e->leaves || !fz_lhandle_store(e->L, idx, bytes))
		return false;
	fz_encode_u8(e, FZ_FORMAT_HERE);
	fz_encode_u8(e, FZ_FORMAT_HERE_HANDLE);
	fz_encode_bytes(e, bytes, sizeof(bytes));
	return true;
}

/* Raise if the place is inside of what one of our own objects is packed into.
 */
static void
refuse_packed(struct fz_encoder *e, const struct fz_place *at)
{
	const struct fz_place *packed = NULL;

	for (const struct fz_place *p = at; p != NULL; p = p->up) {
		if (p->kind == FZ_PLACE_PACKED &&
		    strncmp(p->name, OURS, sizeof(OURS) - 1) == 0)
			packed = p;
	}
	if (packed == NULL)
		return;
	lua_pushfstring(e->L, "a %s%s", packed->name, SHARED);
	fz_encode_refuse(e, lua_tostring(e->L, -1), packed->up);
}

void
fz_encode_userdata(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	int file;

	luaL_checkstack(L, 10, NULL);
	file = fz_names_file(L, idx);
	if (file >= 0) {
		fz_encode_u8(e, FZ_FORMAT_HERE);
		fz_encode_u8(e, (unsigned)file);
		return;
	}
	fz_encode_need_full(e, FZ_ENCODE_MODULES);
	if (fz_encode_known(e, idx, at) || fz_encode_named(e, idx) ||
	    put_handle(e, idx) || fz_encode_object(e, idx, at))
		return;
	refuse_packed(e, at);
	if (luaL_getmetafield(L, idx, "__name") == LUA_TSTRING)
		lua_pushfstring(L, "a %s%s", lua_tostring(L, -1),
		    fz_lhandle_is(L, idx) ? SHARED : "");
	else
		lua_pushliteral(L, "a userdata");
	fz_encode_refuse(e, lua_tostring(L, -1), at);
}

static void
put_cfunction(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;

	if (!fz_names_cfunction(L, idx))
		fz_encode_refuse(e, "a C function of no loaded module", at);
	fz_encode_u8(e, FZ_FORMAT_CFUNCTION);
	fz_encode_string(e, lua_gettop(L) - 1);
	fz_encode_string(e, lua_gettop(L));
	lua_pop(L, 2);
}

static int
append_dump(lua_State *L, const void *bytes, size_t len, void *out)
{
	(void)L;
	fz_buf_put(out, bytes, len);
	return ((struct fz_buf *)out)->failed;
}

static void
put_dump(struct fz_encoder *e, int f)
{
	struct fz_buf *out = e->out;
	size_t at;

	fz_encode_sync(e);
	at = out->len;
	fz_buf_put_u32(out, 0);
	lua_pushvalue(e->L, f);
	lua_dump(e->L, append_dump, out, 0);
	lua_pop(e->L, 1);
	if (out->failed || out->len - at - 4 > UINT32_MAX)
		fz_encode_no_memory(e);
	fz_le32_store(out->data + at, (uint32_t)(out->len - at - 4));
	fz_encode_resume(e);
}

/* Hold an upvalue of the function at `f`: debug.upvaluejoin may take it away.
 */
static void
keep_cell(struct fz_encoder *e, int f, int i)
{
	lua_State *L = e->L;

	/* An empty chunk has one upvalue. */
	if (luaL_loadbufferx(L, "", 0, "=cell", "t") == LUA_ERRMEM)
		lua_error(L);
	lua_upvaluejoin(L, -1, 1, f, i);
	fz_encode_keep(e, lua_gettop(L));
	lua_pop(L, 1);
}

static void
put_upvalues(struct fz_encoder *e, int f, int n, const struct fz_place *at)
{
	lua_State *L = e->L;
	struct fz_place here = { at, FZ_PLACE_UPVALUE, 0, 0, NULL };

	for (int i = 1; i <= n; i++) {
		bool fresh = false;
		const struct fz_refmap_slot *slot = fz_refmap_enter(
		    &e->objects, L, lua_upvalueid(L, f, i), e->ncells, &fresh);

		if (slot == NULL || e->ncells == UINT32_MAX)
			fz_encode_no_memory(e);
		if (!fresh) {
			fz_encode_u8(e, FZ_FORMAT_CELL);
			fz_encode_varint(e, slot->number);
			continue;
		}
		e->ncells++;
		keep_cell(e, f, i);
		here.name = lua_getupvalue(L, f, i);
		fz_encode_value(e, lua_gettop(L), &here);
		lua_pop(L, 1);
	}
}

void
fz_encode_function(struct fz_encoder *e, int idx, const struct fz_place *at)
{
	lua_State *L = e->L;
	lua_Debug ar;

	fz_encode_need_full(e, FZ_ENCODE_MODULES);
	luaL_checkstack(L, 10, NULL);
	e->flags |= FZ_FORMAT_HAS_FUNCTIONS;
	if (fz_encode_known(e, idx, at) || fz_encode_named(e, idx))
		return;
	if (lua_iscfunction(L, idx)) {
		put_cfunction(e, idx, at);
		return;
	}
	enter_object(e, at);
	fz_encode_u8(e, FZ_FORMAT_FUNCTION);
	put_dump(e, idx);
	lua_pushvalue(L, idx);
	lua_getinfo(L, ">u", &ar);
	fz_encode_u8(e, ar.nups);
	put_upvalues(e, idx, ar.nups, at);
	e->level--;
}
