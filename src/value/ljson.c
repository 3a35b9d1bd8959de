#include "value/ljson.h"

#include <float.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <lauxlib.h>
#include <lualib.h>

#include "value/lerror.h"
#include "value/registered.h"

#define TREE_TYPE "fzlua.json"

/*
 * The class of tables that are JSON objects though they look like lists, as {}
 * does. Its name crosses processes; dkjson and rapidjson read `__jsontype`.
 */
#define OBJECT_TYPE "fzlua.Object"
#define OBJECT_FIELD "__jsontype"
#define OBJECT_VALUE "object"

/* Nesting of tables at most; jansson reads no more. */
#define DEPTH_MAX 2000
#define HOLES_MAX \
	1000 /* length of a list in which any elements may be missing */
#define REFUSED_MAX 20 /* listed messages about values without a JSON form */

/*
 * A decoded tree. A userdata, because pushing its values may raise for memory.
 */
struct tree {
	json_t *root; /* NULL once freed */
};

static int
tree_free(lua_State *L)
{
	struct tree *tree = luaL_checkudata(L, 1, TREE_TYPE);

	json_decref(tree->root);
	tree->root = NULL;
	return 0;
}

static void push_json(lua_State *L, json_t *json);

/*
 * Push the list of an array's values; sets `n` to its length if it contains a
 * null.
 */
static void
push_array(lua_State *L, json_t *json)
{
	size_t n = json_array_size(json);
	bool whole = true;

	lua_createtable(L, n <= INT_MAX ? (int)n : 0, 0);
	for (size_t i = 0; i < n; i++) {
		json_t *value = json_array_get(json, i);

		push_json(L, value);
		lua_rawseti(L, -2, (lua_Integer)i + 1);
		whole = whole && !json_is_null(value);
	}
	if (!whole) {
		lua_pushinteger(L, (lua_Integer)n);
		lua_setfield(L, -2, "n");
	}
}

/* Whether the pair on top is "n" and a possible length. */
static bool
is_length(lua_State *L)
{
	return lua_type(L, -2) == LUA_TSTRING && lua_isinteger(L, -1) &&
	       strcmp(lua_tostring(L, -2), "n") == 0 &&
	       lua_tointeger(L, -1) >= 0;
}

/*
 * The length of the table at `idx` as a list; -1 if it is not a list. A list
 * has keys from 1 up, and `n` if it ends in nil. At most half of the elements
 * may be missing, so that a table with one large key is not written as a
 * million nulls.
 */
static lua_Integer
list_length(lua_State *L, int idx)
{
	lua_Integer count = 0, most = 0, n = 0;

	lua_pushnil(L);
	while (lua_next(L, idx) != 0) {
		lua_Integer key =
		    lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;

		if (key >= 1) {
			count++;
			most = key > most ? key : most;
		} else if (is_length(L)) {
			n = lua_tointeger(L, -1);
		} else {
			lua_pop(L, 2);
			return -1;
		}
		lua_pop(L, 1);
	}
	if (n != 0 && (n < most || count == 0))
		return -1;
	most = n != 0 ? n : most;
	return most / 2 <= count || most <= HOLES_MAX ? most : -1;
}

/* Push the table of an object's values. */
static void
push_object(lua_State *L, json_t *json)
{
	const char *key;
	json_t *value;

	lua_newtable(L);
	json_object_foreach(json, key, value)
	{
		push_json(L, value);
		lua_setfield(L, -2, key);
	}
	if (list_length(L, lua_gettop(L)) >= 0)
		luaL_setmetatable(L, OBJECT_TYPE);
}

/* Push the value of `json`; null is nil. [-0, +1, m] */
static void
push_json(lua_State *L, json_t *json)
{
	luaL_checkstack(L, 4, "JSON is nested too deep");
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		push_object(L, json);
		break;
	case JSON_ARRAY:
		push_array(L, json);
		break;
	case JSON_STRING:
		lua_pushlstring(
		    L, json_string_value(json), json_string_length(json));
		break;
	case JSON_INTEGER:
		lua_pushinteger(L, json_integer_value(json));
		break;
	case JSON_REAL:
		lua_pushnumber(L, json_real_value(json));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		lua_pushboolean(L, json_is_true(json));
		break;
	case JSON_NULL:
		lua_pushnil(L);
		break;
	}
}

/* json_decode(text) -> value */
static int
json_decode(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	struct tree *tree = lua_newuserdatauv(L, sizeof(*tree), 0);
	json_error_t error;

	tree->root = NULL;
	luaL_setmetatable(L, TREE_TYPE);
	tree->root =
	    json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
	if (tree->root == NULL) {
		lua_pushfstring(L, "not JSON: line %d, column %d: %s",
		    error.line, error.column, error.text);
		fz_lerror_push(L, FZ_ERR_ERROR, lua_tostring(L, -1));
		return lua_error(L);
	}
	push_json(L, tree->root);
	json_decref(tree->root);
	tree->root = NULL;
	return 1;
}

/*
 * The position in the value: a list of nodes on the stack frames of the
 * callers.
 */
struct place {
	const struct place *up;
	const char *key; /* NULL: `index` is used */
	lua_Integer index;
};

/*
 * The output: a table of pieces, because a luaL_Buffer and a walk of a table
 * cannot both use the top of the stack.
 */
struct writer {
	lua_State *L;
	int pieces; /* stack index of the finished pieces */
	lua_Integer npieces;
	int ancestors; /* stack index of the set of tables that contain the
			  current value */
	int refused;   /* stack index of the list of messages; 0: raise them */
	lua_Integer nrefused;
	int depth;
	size_t len;
	char text[4096]; /* the piece being filled */
};

static void
flush(struct writer *w)
{
	lua_pushlstring(w->L, w->text, w->len);
	lua_rawseti(w->L, w->pieces, ++w->npieces);
	w->len = 0;
}

static void
put(struct writer *w, const char *bytes, size_t len)
{
	while (len > 0) {
		size_t n = sizeof(w->text) - w->len;

		n = n < len ? n : len;
		memcpy(w->text + w->len, bytes, n);
		w->len += n;
		bytes += n;
		len -= n;
		if (w->len == sizeof(w->text))
			flush(w);
	}
}

static void
push_place(lua_State *L, const struct place *place)
{
	if (place == NULL) {
		lua_pushliteral(L, "");
		return;
	}
	luaL_checkstack(L, 4, NULL);
	push_place(L, place->up);
	if (place->key != NULL)
		lua_pushfstring(L, ".%s", place->key);
	else
		lua_pushfstring(L, "[%I]", (LUAI_UACINT)place->index);
	lua_concat(L, 2);
}

/*
 * A value has no JSON form: raise an error, or list a message if the caller
 * asked for that.
 */
static void
refuse(struct writer *w, const struct place *place, const char *what)
{
	lua_State *L = w->L;

	if (w->refused != 0 && ++w->nrefused > REFUSED_MAX)
		return;
	luaL_checkstack(L, 4, NULL);
	push_place(L, place);
	lua_pushfstring(L, "%s%s%s: %s", w->refused == 0 ? "JSON" : "",
	    w->refused == 0 && place != NULL ? " " : "", lua_tostring(L, -1),
	    what);
	if (w->refused == 0) {
		fz_lerror_push(L, FZ_ERR_ERROR, lua_tostring(L, -1));
		lua_error(L);
	}
	lua_rawseti(L, w->refused, w->nrefused);
	lua_pop(L, 1);
}

/* Call refuse() and write null in place of the value. */
static void
put_refused(struct writer *w, const struct place *place, const char *what)
{
	refuse(w, place, what);
	put(w, "null", 4);
}

static bool
is_utf8(const char *s, size_t len)
{
	json_t *checked = json_stringn(s, len);

	json_decref(checked);
	return checked != NULL;
}

/* Write a string in UTF-8. */
static void
put_string(struct writer *w, const char *s, size_t len)
{
	static const char hex[] = "0123456789abcdef";

	put(w, "\"", 1);
	for (const char *end = s + len; s < end; s++) {
		unsigned char c = (unsigned char)*s;
		char escape[6] = { '\\', 'u', '0', '0', hex[c >> 4],
			hex[c & 15] };

		if (c == '"' || c == '\\') {
			put(w, "\\", 1);
			put(w, s, 1);
		} else if (c == '\n') {
			put(w, "\\n", 2);
		} else if (c == '\t') {
			put(w, "\\t", 2);
		} else if (c < 0x20 || c == 0x7f) {
			put(w, escape, sizeof(escape));
		} else {
			put(w, s, 1);
		}
	}
	put(w, "\"", 1);
}

/*
 * Write the fewest digits that read back as `x`, with a point or an exponent so
 * that it stays a float. 15 digits are enough for most numbers; only denormal
 * numbers may need fewer.
 */
static size_t
real_text(double x, char *text, size_t size)
{
	int digits = fabs(x) < DBL_MIN ? 1 : 15;
	size_t len;
	char *point;

	do {
		len = (size_t)snprintf(text, size, "%.*g", digits, x);
	} while (digits++ < 17 && strtod(text, NULL) != x);
	point = strchr(text, localeconv()->decimal_point[0]);
	if (point != NULL)
		*point = '.';
	if (strpbrk(text, ".e") == NULL) {
		memcpy(text + len, ".0", 3);
		len += 2;
	}
	return len;
}

static void
put_number(struct writer *w, int idx, const struct place *place)
{
	char text[40];
	size_t len;

	if (lua_isinteger(w->L, idx)) {
		len = (size_t)snprintf(text, sizeof(text), LUA_INTEGER_FMT,
		    (LUAI_UACINT)lua_tointeger(w->L, idx));
	} else {
		double x = lua_tonumber(w->L, idx);

		if (!isfinite(x)) {
			put_refused(w, place,
			    isnan(x) ? "NaN has no JSON form"
				     : "infinity has no JSON form");
			return;
		}
		len = real_text(x, text, sizeof(text));
	}
	put(w, text, len);
}

static void put_value(struct writer *w, int idx, const struct place *place);

static void
put_list(struct writer *w, int idx, lua_Integer n, const struct place *place)
{
	struct place element = { place, NULL, 0 };

	put(w, "[", 1);
	for (lua_Integer i = 1; i <= n; i++) {
		element.index = i;
		if (i > 1)
			put(w, ",", 1);
		lua_rawgeti(w->L, idx, i);
		put_value(w, lua_gettop(w->L), &element);
		lua_pop(w->L, 1);
	}
	put(w, "]", 1);
}

/*
 * Why the key on top cannot name a member; NULL if it can. `keys` maps the
 * texts of the keys before it.
 */
static const char *
wrong_key(lua_State *L, int keys)
{
	const char *text;
	size_t len;
	bool twice;

	if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)
		return "a key that is neither string nor number has no JSON "
		       "form";
	lua_pushvalue(L, -1);
	text = lua_tolstring(L, -1, &len);
	if (!is_utf8(text, len)) {
		lua_pop(L, 1);
		return "a key that is not UTF-8 has no JSON form";
	}
	twice = lua_rawget(L, keys) != LUA_TNIL;
	lua_pop(L, 1);
	return twice ? "two keys have the same JSON form" : NULL;
}

/*
 * Push a sorted list of the texts of the table's keys, and a map from texts to
 * keys. Returns NULL, or why the keys have no JSON form. [+2]
 */
static const char *
push_sorted_keys(lua_State *L, int idx)
{
	int list, keys;
	lua_Integer n = 0;

	lua_newtable(L);
	list = lua_gettop(L);
	lua_newtable(L);
	keys = list + 1;
	lua_pushnil(L);
	while (lua_next(L, idx) != 0) {
		const char *wrong;

		lua_pop(L, 1);
		wrong = wrong_key(L, keys);
		if (wrong != NULL) {
			lua_settop(L, keys);
			return wrong;
		}
		lua_pushvalue(L, -1);
		lua_tostring(L, -1);
		lua_pushvalue(L, -1);
		lua_rawseti(L, list, ++n);
		lua_pushvalue(L, -2);
		lua_rawset(L, keys);
	}
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, LUA_TABLIBNAME);
	lua_getfield(L, -1, "sort");
	lua_pushvalue(L, list);
	lua_call(L, 1, 0);
	lua_settop(L, keys);
	return NULL;
}

/*
 * Write the members named in the list at `list`; `keys` maps the names to keys,
 * 0: they are the keys.
 */
static void
put_members(
    struct writer *w, int idx, int list, int keys, const struct place *place)
{
	lua_State *L = w->L;
	struct place member = { place, NULL, 0 };
	lua_Integer n = luaL_len(L, list);
	bool first = true;

	put(w, "{", 1);
	for (lua_Integer i = 1; i <= n; i++) {
		size_t len;

		lua_rawgeti(L, list, i);
		member.key = luaL_checklstring(L, -1, &len);
		if (keys == 0 && !is_utf8(member.key, len)) {
			refuse(w, &member,
			    "a name that is not UTF-8 has no JSON form");
			lua_pop(L, 1);
			continue;
		}
		if (!first)
			put(w, ",", 1);
		first = false;
		put_string(w, member.key, len);
		put(w, ":", 1);
		lua_pushvalue(L, -1);
		if (keys != 0)
			lua_rawget(L, keys);
		lua_rawget(L, idx);
		put_value(w, lua_gettop(L), &member);
		lua_pop(L, 2);
	}
	put(w, "}", 1);
}

/* Whether the metatable of the table at `idx` says that it is an object. */
static bool
is_object(lua_State *L, int idx)
{
	bool object = false;

	if (!lua_getmetatable(L, idx))
		return false;
	lua_pushliteral(L, OBJECT_FIELD);
	if (lua_rawget(L, -2) == LUA_TSTRING)
		object = strcmp(lua_tostring(L, -1), OBJECT_VALUE) == 0;
	lua_pop(L, 2);
	return object;
}

static void
put_object(struct writer *w, int idx, const struct place *place)
{
	int top = lua_gettop(w->L);
	const char *wrong = push_sorted_keys(w->L, idx);

	if (wrong != NULL)
		put_refused(w, place, wrong);
	else
		put_members(w, idx, top + 1, top + 2, place);
}

static void
put_table(struct writer *w, int idx, const struct place *place)
{
	lua_State *L = w->L;
	lua_Integer n;
	int top = lua_gettop(L);

	luaL_checkstack(L, 12, "nested too deep for JSON");
	lua_pushvalue(L, idx);
	if (lua_rawget(L, w->ancestors) != LUA_TNIL) {
		put_refused(
		    w, place, "a table that contains itself has no JSON form");
		lua_settop(L, top);
		return;
	}
	if (w->depth == DEPTH_MAX) {
		put_refused(w, NULL, "nested too deep for JSON");
		lua_settop(L, top);
		return;
	}
	w->depth++;
	lua_pushvalue(L, idx);
	lua_pushboolean(L, true);
	lua_rawset(L, w->ancestors);
	n = is_object(L, idx) ? -1 : list_length(L, idx);
	if (n >= 0)
		put_list(w, idx, n, place);
	else
		put_object(w, idx, place);
	w->depth--;
	lua_pushvalue(L, idx);
	lua_pushnil(L);
	lua_rawset(L, w->ancestors);
	lua_settop(L, top);
}

static void
put_value(struct writer *w, int idx, const struct place *place)
{
	lua_State *L = w->L;
	const char *s;
	size_t len;

	switch (lua_type(L, idx)) {
	case LUA_TNIL:
		put(w, "null", 4);
		break;
	case LUA_TBOOLEAN:
		s = lua_toboolean(L, idx) ? "true" : "false";
		put(w, s, strlen(s));
		break;
	case LUA_TNUMBER:
		put_number(w, idx, place);
		break;
	case LUA_TSTRING:
		s = lua_tolstring(L, idx, &len);
		if (is_utf8(s, len))
			put_string(w, s, len);
		else
			put_refused(w, place,
			    "a string that is not UTF-8 has no JSON form");
		break;
	case LUA_TTABLE:
		put_table(w, idx, place);
		break;
	default:
		lua_pushfstring(
		    L, "a %s has no JSON form", luaL_typename(L, idx));
		put_refused(w, place, lua_tostring(L, -1));
		lua_pop(L, 1);
	}
}

/*
 * json_encode(value [, keys [, refused]]) -> text [, count]
 *
 * With `keys`, value is an object with these members in this order. A value
 * without a JSON form raises an error. With the list `refused` it becomes null
 * (a member whose name has no JSON form is left out), the list gets messages,
 * and `count` is the number of such values.
 */
static int
json_encode(lua_State *L)
{
	bool ordered = !lua_isnoneornil(L, 2);
	struct writer *w;

	luaL_checkany(L, 1);
	if (ordered) {
		luaL_checktype(L, 1, LUA_TTABLE);
		luaL_checktype(L, 2, LUA_TTABLE);
	}
	if (!lua_isnoneornil(L, 3))
		luaL_checktype(L, 3, LUA_TTABLE);
	lua_settop(L, 3);
	w = lua_newuserdatauv(L, sizeof(*w), 0);
	w->L = L;
	w->refused = lua_isnil(L, 3) ? 0 : 3;
	w->nrefused = 0;
	w->npieces = 0;
	w->depth = 0;
	w->len = 0;
	lua_newtable(L);
	w->pieces = lua_gettop(L);
	lua_newtable(L);
	w->ancestors = lua_gettop(L);
	if (ordered)
		put_members(w, 1, 2, 0, NULL);
	else
		put_value(w, 1, NULL);
	flush(w);
	lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, LUA_TABLIBNAME);
	lua_getfield(L, -1, "concat");
	lua_pushvalue(L, w->pieces);
	lua_call(L, 1, 1);
	if (w->refused == 0)
		return 1;
	lua_pushinteger(L, w->nrefused);
	return 2;
}

static const luaL_Reg tree_meta[] = {
	{ "__gc", tree_free },
	{ NULL, NULL },
};

static const luaL_Reg functions[] = {
	{ "json_decode", json_decode },
	{ "json_encode", json_encode },
	{ NULL, NULL },
};

int
fz_ljson_open(lua_State *L)
{
	luaL_newmetatable(L, TREE_TYPE);
	luaL_setfuncs(L, tree_meta, 0);
	lua_pop(L, 1);
	luaL_newmetatable(L, OBJECT_TYPE);
	lua_pushliteral(L, OBJECT_VALUE);
	lua_setfield(L, -2, OBJECT_FIELD);
	fz_registered_open(L);
	fz_registered_add_class(L, OBJECT_TYPE);
	luaL_setfuncs(L, functions, 0);
	return 0;
}
