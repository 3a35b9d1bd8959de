#include "codec/decode.h"

#include <lauxlib.h>

#include "base/err.h"
#include "codec/warning.h"
#include "value/allowed.h"
#include "value/byname.h"
#include "value/cells.h"
#include "value/handle.h"
#include "value/lerror.h"
#include "value/registered.h"

static void
need_functions(const struct fz_decoder *d)
{
	if (d->trust < FZ_CODEC_FUNCTIONS)
		fz_decode_refuse(d, "functions are not allowed");
	if (!(d->flags & FZ_FORMAT_HAS_FUNCTIONS))
		fz_decode_refuse(d, "a tag that the flags do not allow");
}

#define EARLIER "before the worker is started, or in its init"

/*
 * Raise an error: nothing is registered here under the name at `name`; `by`
 * names the function that registers it.
 */
static int
raise_unknown(lua_State *L, const char *noun, int name, const char *by)
{
	return fz_lerror_fail(L, FZ_ERR_ERROR,
	    "%s '%.80s' is not registered here (call %s " EARLIER ")", noun,
	    lua_tostring(L, name), by);
}

void
fz_decode_miss_class(struct fz_decoder *d)
{
	lua_State *L = d->L;

	if (d->trust == FZ_CODEC_COMPLETE)
		raise_unknown(L, "class", -1, "fz.register_class");
	if (d->trust < FZ_CODEC_RUN || !fz_registered_miss(L, -1))
		return;
	lua_pushfstring(L,
	    "a table of class '%s' has lost its metatable: the class is not "
	    "registered here (call fz.register_class " EARLIER
	    "; reported once per class)",
	    lua_tostring(L, -1));
	fz_warning(L);
}

/* Raise the error on top for the __fzunpack of the class named at `name`. */
static int
raise_unpacker(lua_State *L, int name)
{
	int cause = lua_gettop(L);

	luaL_checkstack(L, 10, NULL);
	lua_pushfstring(L, "__fzunpack of class '%s': %s",
	    lua_tostring(L, name), fz_lerror_text(L, cause));
	fz_lerror_push(L, FZ_ERR_ERROR, lua_tostring(L, -1));
	fz_lerror_set_cause(L, cause);
	return lua_error(L);
}

/*
 * Replace the class name at `name` by the object that __fzunpack makes of the
 * plain value on top. [-1]
 */
static void
call_unpacker(struct fz_decoder *d, int name)
{
	lua_State *L = d->L;
	int rc;

	if (!fz_registered_metatable(L, name))
		raise_unknown(L, "class", name, "fz.register_class");
	lua_pushliteral(L, "__fzunpack");
	if (lua_rawget(L, -2) == LUA_TNIL)
		fz_decode_refuse(d, "a class without __fzunpack");
	lua_replace(L, -2);
	lua_insert(L, -2);
	rc = lua_pcall(L, 1, 1, 0);
	if (rc == LUA_ERRMEM)
		lua_error(L);
	if (rc != LUA_OK)
		raise_unpacker(L, name);
	if (lua_isnil(L, -1))
		fz_decode_refuse(d, "a class whose __fzunpack returned nil");
	lua_replace(L, name);
}

void
fz_decode_packed(struct fz_decoder *d)
{
	lua_State *L = d->L;
	lua_Integer number = ++d->nobjects;
	lua_Integer mark = d->nlater;
	int name, alias = d->alias;

	d->alias = 0;
	fz_decode_enter(d);
	luaL_checkstack(L, 80, "a message is too deep");
	fz_decode_name(d);
	name = lua_gettop(L);
	fz_decode_value(d);
	fz_decode_later(d, mark);
	call_unpacker(d, name);
	if (d->flags & FZ_FORMAT_HAS_REFS) {
		lua_pushvalue(L, alias != 0 ? alias : -1);
		lua_rawseti(L, d->objects, number);
	}
	d->level--;
}

/* Join upvalue `i` of the function at `f` to the one whose number is next. */
static void
join_upvalue(struct fz_decoder *d, int f, int i)
{
	lua_State *L = d->L;
	uint64_t number = fz_decode_varint(d);

	if (number >= (uint64_t)d->ncells)
		fz_decode_refuse(d, "a reference to an unknown upvalue");
	lua_rawgeti(L, d->cells, (lua_Integer)number * 2 + 1);
	lua_rawgeti(L, d->cells, (lua_Integer)number * 2 + 2);
	lua_upvaluejoin(L, f, i, -2, (int)lua_tointeger(L, -1));
	lua_pop(L, 2);
}

static uint32_t
get_number(struct fz_decoder *d)
{
	uint64_t v = fz_decode_varint(d);

	if (v > UINT32_MAX)
		fz_decode_refuse(d, "a reference to an unknown upvalue");
	return (uint32_t)v;
}

/*
 * Note the last upvalue as cell `number`, to be shared after the message has
 * been read.
 */
static void
note_shared_cell(struct fz_decoder *d, uint32_t number, uint64_t version)
{
	lua_State *L = d->L;
	lua_Integer at = -3 * d->nnamed++;

	lua_pushinteger(L, d->ncells - 1);
	lua_rawseti(L, d->cells, at - 1);
	lua_pushinteger(L, (lua_Integer)number);
	lua_rawseti(L, d->cells, at - 2);
	lua_pushinteger(L, (lua_Integer)version);
	lua_rawseti(L, d->cells, at - 3);
}

void
fz_decode_share(struct fz_decoder *d)
{
	lua_State *L = d->L;
	int top = lua_gettop(L);

	luaL_checkstack(L, 12, NULL);
	for (lua_Integer at = 0; at > -3 * d->nnamed; at -= 3) {
		lua_Integer cell;

		lua_rawgeti(L, d->cells, at - 1);
		cell = lua_tointeger(L, -1);
		lua_rawgeti(L, d->cells, at - 2);
		lua_rawgeti(L, d->cells, at - 3);
		lua_rawgeti(L, d->cells, cell * 2 + 1);
		lua_rawgeti(L, d->cells, cell * 2 + 2);
		fz_cells_add(L, d->shared, top + 4,
		    (int)lua_tointeger(L, top + 5),
		    (uint32_t)lua_tointeger(L, top + 2),
		    (uint64_t)lua_tointeger(L, top + 3));
		lua_settop(L, top);
	}
}

/* Whether a table or a packed object comes next. */
static bool
is_table_next(const struct fz_decoder *d)
{
	if (fz_reader_left(&d->in) == 0)
		return false;
	switch (*d->in.p) {
	case FZ_FORMAT_TABLE:
	case FZ_FORMAT_TABLE_WIDE:
	case FZ_FORMAT_CLASS:
	case FZ_FORMAT_LATER:
	case FZ_FORMAT_PACKED:
		return true;
	default:
		return false;
	}
}

/*
 * Read and drop the value of upvalue `i` of the function at `f`, a cell that
 * this process has. If the value is a table, later references to it become
 * references to the local table.
 */
static void
drop_value(struct fz_decoder *d, int f, int i)
{
	lua_State *L = d->L;
	int top = lua_gettop(L);

	lua_getupvalue(L, f, i);
	if (lua_istable(L, -1) && is_table_next(d))
		d->alias = top + 1;
	fz_decode_value(d);
	lua_settop(L, top);
}

/*
 * Handle a cell that this process has, and whose value is not in the message.
 */
static void
keep_value(struct fz_decoder *d, int f, int i)
{
	if (fz_decode_u8(d) == 0)
		return;
	lua_getupvalue(d->L, f, i);
	fz_decode_remember(d);
	lua_pop(d->L, 1);
}

/*
 * Read upvalue `i` of the function at `f`, a cell that this process may have.
 * If `kept` is set, this process has it. A value that follows is read in any
 * case, because other values may refer to objects in it.
 */
static void
get_cell(struct fz_decoder *d, int f, int i, bool kept)
{
	lua_State *L = d->L;
	uint32_t number;
	uint64_t version;
	bool joined;

	if (d->shared == 0)
		fz_decode_refuse(d, "an upvalue of another pool");
	number = get_number(d);
	version = fz_decode_varint(d);
	if (version == 0)
		fz_decode_refuse(d, "a reference to an unknown upvalue");
	joined = fz_cells_join(L, d->shared, f, i, number, version, kept);
	if (kept && !joined)
		fz_decode_refuse(d, "a reference to an unknown upvalue");
	if (kept) {
		keep_value(d, f, i);
	} else if (joined) {
		drop_value(d, f, i);
	} else {
		note_shared_cell(d, number, version);
		fz_decode_value(d);
		lua_setupvalue(L, f, i);
	}
}

/* If the next upvalue is a cell of the pool, read its tag and return true. */
static bool
take_upvalue_tag(struct fz_decoder *d, bool *kept)
{
	const unsigned char *p = d->in.p;

	if (fz_reader_left(&d->in) < 2 || p[0] != FZ_FORMAT_HERE ||
	    (p[1] != FZ_FORMAT_HERE_UPVALUE && p[1] != FZ_FORMAT_HERE_KEPT))
		return false;
	*kept = p[1] == FZ_FORMAT_HERE_KEPT;
	d->in.p += 2;
	return true;
}

/* Assign the next number to upvalue `i` of the function at `f`. */
static void
number_upvalue(struct fz_decoder *d, int f, int i)
{
	lua_State *L = d->L;

	lua_pushvalue(L, f);
	lua_rawseti(L, d->cells, d->ncells * 2 + 1);
	lua_pushinteger(L, i);
	lua_rawseti(L, d->cells, d->ncells * 2 + 2);
	d->ncells++;
}

/* Read a cell without a function and push its value. */
static void
get_cell_value(struct fz_decoder *d)
{
	lua_State *L = d->L;
	int f = lua_gettop(L) + 1;
	bool kept = false;

	need_functions(d);
	fz_decode_enter(d);
	luaL_checkstack(L, 80, "a message is too deep");
	if (luaL_loadbufferx(L, "", 0, "=cell", "t") != LUA_OK)
		lua_error(L);
	number_upvalue(d, f, 1);
	if (!take_upvalue_tag(d, &kept))
		fz_decode_refuse(d, "a cell that is no upvalue");
	get_cell(d, f, 1, kept);
	lua_getupvalue(L, f, 1);
	lua_replace(L, f);
	d->level--;
}

static void
get_upvalues(struct fz_decoder *d, int f, int n)
{
	lua_State *L = d->L;
	bool kept;

	for (int i = 1; i <= n; i++) {
		if (d->in.p < d->in.end && *d->in.p == FZ_FORMAT_CELL) {
			d->in.p++;
			join_upvalue(d, f, i);
			continue;
		}
		number_upvalue(d, f, i);
		if (take_upvalue_tag(d, &kept)) {
			get_cell(d, f, i, kept);
			continue;
		}
		fz_decode_value(d);
		lua_setupvalue(L, f, i);
	}
}

void
fz_decode_function(struct fz_decoder *d)
{
	lua_State *L = d->L;
	lua_Debug ar;
	uint32_t len;
	const unsigned char *dump;
	int rc;

	need_functions(d);
	fz_decode_enter(d);
	luaL_checkstack(L, 80, "a message is too deep");
	len = fz_le32_load(fz_decode_take(d, 4));
	dump = fz_decode_take(d, len);
	fz_allowed_check_code(L, dump, len);
	rc = luaL_loadbufferx(L, (const char *)dump, len, "=fzlua", "b");
	if (rc == LUA_ERRMEM)
		lua_error(L);
	if (rc != LUA_OK)
		fz_decode_refuse(d, "a function that does not load");
	fz_decode_remember(d);
	lua_pushvalue(L, -1);
	lua_getinfo(L, ">u", &ar);
	if (fz_decode_u8(d) != ar.nups)
		fz_decode_refuse(
		    d, "a function with a wrong number of upvalues");
	get_upvalues(d, lua_gettop(L), ar.nups);
	d->level--;
}

/* Push the module whose name is at `name`. */
static void
push_module(lua_State *L, int name)
{
	const char *why;

	if (fz_byname_require(L, name))
		return;
	why = fz_lerror_text(L, -1);
	fz_lerror_fail(L, FZ_ERR_ERROR,
	    "module '%.80s' cannot be loaded here: %s", lua_tostring(L, name),
	    why);
}

void
fz_decode_cfunction(struct fz_decoder *d)
{
	lua_State *L = d->L;
	int module = lua_gettop(L) + 1, field = module + 1;

	need_functions(d);
	luaL_checkstack(L, 10, NULL);
	fz_decode_name(d);
	fz_decode_name(d);
	fz_allowed_check_name(L, module, field);
	push_module(L, module);
	lua_pushvalue(L, field);
	if (lua_istable(L, -2))
		lua_rawget(L, -2);
	if (!lua_isfunction(L, -1))
		fz_lerror_fail(L, FZ_ERR_ERROR,
		    "the module '%.80s' has no C function '%.80s' here",
		    lua_tostring(L, module), lua_tostring(L, field));
	lua_replace(L, module);
	lua_settop(L, module);
	fz_decode_remember(d);
}

void
fz_decode_module(struct fz_decoder *d)
{
	lua_State *L = d->L;
	int name = lua_gettop(L) + 1;

	need_functions(d);
	luaL_checkstack(L, 10, NULL);
	fz_decode_name(d);
	fz_allowed_check_name(L, name, 0);
	push_module(L, name);
	lua_replace(L, -2);
	fz_decode_remember(d);
}

void
fz_decode_globals(struct fz_decoder *d)
{
	need_functions(d);
	lua_rawgeti(d->L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
}

static void
get_handle(struct fz_decoder *d)
{
	const unsigned char *p;

	if (d->trust < FZ_CODEC_RUN)
		fz_decode_refuse(d, "shared objects are not allowed");
	p = fz_decode_take(d, FZ_HANDLE_BYTES);
	if (!fz_handle_load(d->L, p))
		fz_decode_refuse(d, "an unknown handle");
	fz_decode_remember(d);
}

static void
get_registered(struct fz_decoder *d, bool metatable)
{
	lua_State *L = d->L;

	fz_decode_name(d);
	if (metatable && !fz_registered_metatable(L, -1))
		raise_unknown(L, "class", -1, "fz.register_class");
	if (!metatable && !fz_registered_value(L, -1))
		raise_unknown(L, "value", -1, "fz.register_value");
	lua_replace(L, -2);
	fz_decode_remember(d);
}

void
fz_decode_here(struct fz_decoder *d)
{
	unsigned what = fz_decode_u8(d);

	luaL_checkstack(d->L, 10, NULL);
	switch (what) {
	case FZ_FORMAT_HERE_HANDLE:
		get_handle(d);
		break;
	case FZ_FORMAT_HERE_NULL:
		lua_pushlightuserdata(d->L, NULL);
		break;
	case FZ_FORMAT_HERE_VALUE:
	case FZ_FORMAT_HERE_METATABLE:
		get_registered(d, what == FZ_FORMAT_HERE_METATABLE);
		break;
	case FZ_FORMAT_HERE_CELL:
		get_cell_value(d);
		break;
	default:
		if (what > FZ_FORMAT_HERE_METATABLE)
			fz_decode_refuse(d, "an unknown code of an object");
		fz_byname_push_file(d->L, (int)what);
	}
}
