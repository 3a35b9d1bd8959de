/* test_codec.c - messages from C: wrong bytes, and allocations that fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "codec/codec.h"
#include "codec/format.h"
#include "codec_test.h"
#include "value/lerror.h"

static const char rich_value[] =
    "local function class(name, mt)\n"
    "  core.register_class(name, mt)\n"
    "  return mt\n"
    "end\n"
    "local P = class('P', {})\n"
    "local Q = class('Q', {})\n"
    "Q.__fzpack = function(q) return { 'q' .. q.v, { q.v } } end\n"
    "Q.__fzunpack = function(t) return setmetatable({ v = t[2][1] }, Q) end\n"
    "local n = 0\n"
    "local function inc() n = n + 1 return print, string, n end\n"
    "local function get() return n, inc end\n"
    "local t = { inc, get, print, io.stdout, _G, 1, 2, 3, 4, 5.5, 6.5 }\n"
    "for i = 1, 300 do t['k' .. i] = { i, id = i, name = 'n' .. i % 7 } end\n"
    "for i = 1, 20 do t[#t + 1] = setmetatable({ i }, P) end\n"
    "for i = 1, 20 do t[#t + 1] = setmetatable({ v = i }, Q) end\n"
    "local deep = {}\n"
    "for i = 1, 500 do deep = { deep, t } end\n"
    "t.deep, t.long = deep, ('x'):rep(70000)\n"
    "return t\n";

static int
call_encode(lua_State *L)
{
	struct fz_buf *out = lua_touserdata(L, 1);

	fz_codec_encode(L, 2, lua_gettop(L) - 1, out);
	return 0;
}

/* Encode the value on top. Returns the status of the call. */
static int
encode(struct codec_test *h)
{
	fz_buf_clear(&h->out);
	lua_pushcfunction(h->L, call_encode);
	lua_pushlightuserdata(h->L, &h->out);
	lua_pushvalue(h->L, -3);
	return lua_pcall(h->L, 2, 0, 0);
}

struct bytes {
	const void *p;
	size_t len;
	bool functions;
};

static int
call_decode(lua_State *L)
{
	const struct bytes *b = lua_touserdata(L, 1);

	lua_settop(L, 0);
	return fz_codec_decode(L, b->p, b->len,
	    b->functions ? FZ_CODEC_FUNCTIONS : FZ_CODEC_VALUES);
}

static int
decode(struct codec_test *h, const void *p, size_t len, bool functions)
{
	struct bytes b = { p, len, functions };

	lua_pushcfunction(h->L, call_decode);
	lua_pushlightuserdata(h->L, &b);
	return lua_pcall(h->L, 1, 1, 0);
}

static void
assert_error(lua_State *L, const char *kind, const char *text)
{
	assert_true(fz_lerror_is(L, -1));
	lua_getfield(L, -1, "kind");
	assert_string_equal(lua_tostring(L, -1), kind);
	lua_getfield(L, -2, "message");
	assert_non_null(strstr(lua_tostring(L, -1), text));
	lua_pop(L, 2);
}

static void
assert_bad(
    struct codec_test *h, const char *bytes, size_t len, const char *text)
{
	assert_int_equal(decode(h, bytes, len, false), LUA_ERRRUN);
	assert_error(h->L, "error", text);
	lua_pop(h->L, 1);
}

static void
test_codec_one_scalar_has_the_bytes_of_any_message(void **state)
{
	static const lua_Number floats[] = { 0.5, -1e300, HUGE_VAL };
	struct codec_test *h = *state;
	struct fz_buf other = FZ_BUF_INIT;

	lua_pushnil(h->L);
	lua_pushboolean(h->L, 0);
	lua_pushboolean(h->L, 1);
	for (int shift = 0; shift < 64; shift++) {
		lua_pushinteger(h->L, (lua_Integer)(UINT64_C(1) << shift));
		lua_pushinteger(
		    h->L, (lua_Integer)(0 - (UINT64_C(1) << shift)));
		luaL_checkstack(h->L, LUA_MINSTACK, NULL);
	}
	for (int i = 0; i < 3; i++)
		lua_pushnumber(h->L, floats[i]);
	for (int i = lua_gettop(h->L); i > 0; i--) {
		fz_buf_clear(&h->out);
		fz_buf_clear(&other);
		fz_codec_encode(h->L, i, 1, &h->out);
		fz_codec_encode_shared(h->L, i, 1, &other, 0, 0);
		assert_int_equal(h->out.len, other.len);
		assert_memory_equal(h->out.data, other.data, other.len);
		assert_true(fz_codec_push_scalar(h->L, other.data, other.len));
		assert_true(lua_rawequal(h->L, i, -1));
		assert_false(
		    fz_codec_push_scalar(h->L, other.data, other.len - 1));
		lua_settop(h->L, i);
	}
	fz_buf_fini(&other);
}

static void
test_codec_appends_to_what_is_there(void **state)
{
	struct codec_test *h = *state;

	fz_buf_put(&h->out, "head", 4);
	lua_pushinteger(h->L, 5);
	lua_pushinteger(h->L, 6);
	fz_codec_encode(h->L, 1, 2, &h->out);
	assert_memory_equal(h->out.data, "head\1\0\2\5\6", 9);
	assert_int_equal(lua_gettop(h->L), 2);
	assert_int_equal(fz_codec_decode(h->L, h->out.data + 4, h->out.len - 4,
			     FZ_CODEC_VALUES),
	    2);
	assert_int_equal(lua_tointeger(h->L, 3), 5);
	assert_int_equal(lua_tointeger(h->L, 4), 6);
	assert_int_equal(lua_gettop(h->L), 4);
}

static void
test_codec_counts_are_not_believed(void **state)
{
	struct codec_test *h = *state;
	char nested[4096];
	size_t n = 3;

	assert_bad(h, "\1\0\1\xce\xff\xff\xff\x7f\0", 9, "beyond the end");
	assert_bad(h, "\1\0\1\xcf\0\xff\xff\xff\x7f", 9, "beyond the end");
	assert_bad(h, "\1\0\1\xc9\xff\xff\xff\xff", 8, "cut short");
	assert_bad(h, "\1\0\xff\xff\3", 5, "too many values");
	assert_bad(h, "\1\0\1\xce\1\0\xd3\xff\xff", 9, "beyond the end");
	memcpy(nested, "\1\0\1", 3);
	for (; n + 3 <= 600; n += 4)
		memcpy(nested + n, "\xce\x80\x04\0", 4);
	memset(nested + n, 0, sizeof(nested) - n);
	h->memory.peak = h->memory.used;
	n = h->memory.used;
	assert_bad(h, nested, sizeof(nested), "beyond the end");
	assert_true(h->memory.peak - n < 64 * sizeof(nested));
}

static void
test_codec_refuses_bad_bytes(void **state)
{
	struct codec_test *h = *state;

	assert_bad(h, "\1\0\1\xdf", 4, "an unknown tag");
	assert_bad(h, "\1\0\1\xe0", 4, "a reference to an unknown string");
	assert_bad(
	    h, "\1\4\1\xcb\xcb\x81x", 7, "a definition without a string");
	assert_bad(
	    h, "\1\0\1\xcb\x81x", 6, "a tag that the flags do not allow");
	assert_bad(h, "\1\0\1\xd6\0", 5, "a reference to an unknown object");
	assert_bad(h, "\1\1\1\xd6\0", 5, "a reference to an unknown object");
	assert_bad(
	    h, "\1\0\1\xd5\xce\0\0", 7, "a tag that the flags do not allow");
	assert_bad(h, "\1\010\1\xd5\xce", 5, "a table body beyond the end");
	assert_bad(h, "\1\010\1\xd5\1\1\1", 7, "a body that is not a table");
	assert_bad(h, "\1\0\1\xce\0\1\xc0\1", 8, "a key that is nil or NaN");
	assert_bad(h, "\1\0\1\xce\0\1\xc7\0\0\0\0\0\0\xf8\x7f\1", 16,
	    "a key that is nil or NaN");
	assert_bad(h, "\1\0\1\xd7\1\xce\0\0", 8, "a name that is no string");
	assert_bad(h, "\1\0\1\xd8\x81x\1", 7, "not registered here");
	assert_bad(h, "\1\0\1\xdd\3", 5, "shared objects are not allowed");
	assert_bad(h, "\1\0\1\xdd\5\x81x", 7, "value 'x' is not registered");
	assert_bad(h, "\1\0\1\xdd\6\x81x", 7, "class 'x' is not registered");
	assert_bad(h, "\1\0\1\xdd\5\1", 6, "a name that is no string");
	assert_bad(h, "\1\0\1\xdd\7", 5, "an unknown code of an object");
	assert_bad(h, "\1\2\1\xdb\x81x", 6, "not allowed");
	assert_bad(h, "\1\2\1\xdc", 4, "not allowed");
}

static void
test_codec_refuses_levels_beyond_the_limit(void **state)
{
	struct codec_test *h = *state;
	static char levels[3 + 4 * 1000];

	memcpy(levels, "\1\0\1", 3);
	for (size_t i = 0; i < 1000; i++)
		memcpy(levels + 3 + i * 3, "\xce\1\0", 3);
	assert_bad(h, levels, sizeof(levels), "nested too deep");
}

static size_t resize_limit;

static int
fail_resize(struct fz_buf *buf, size_t cap)
{
	unsigned char *data =
	    cap > resize_limit ? NULL : realloc(buf->data, cap);

	if (data == NULL)
		return -1;
	buf->data = data;
	buf->cap = cap;
	return 0;
}

static void
free_data(struct fz_buf *buf)
{
	free(buf->data);
}

static void
test_codec_buffers_without_room_are_memory_errors(void **state)
{
	static const struct fz_buf_store store = { fail_resize, free_data };
	struct codec_test *h = *state;

	h->out.store = &store;
	assert_int_equal(luaL_dostring(h->L, rich_value), LUA_OK);
	for (size_t limit = 0; limit <= 1 << 16; limit = limit * 2 + 1) {
		resize_limit = limit;
		assert_int_equal(encode(h), LUA_ERRRUN);
		assert_error(h->L, "memory", "no memory");
		lua_pop(h->L, 1);
		fz_buf_fini(&h->out);
	}
	resize_limit = SIZE_MAX;
	assert_int_equal(encode(h), LUA_OK);
}

/* Call `step` while each allocation fails in turn, until a call succeeds. */
static void
fail_each(struct codec_test *h, bool once, int (*step)(struct codec_test *))
{
	int top = lua_gettop(h->L);
	int rc = LUA_ERRMEM;

	for (long n = 0; rc != LUA_OK || h->memory.left < 0; n++) {
		h->memory.once = once;
		h->memory.left = n;
		rc = step(h);
		if (rc == LUA_OK && h->memory.left > 0)
			break;
		h->memory.left = -1;
		lua_settop(h->L, top);
		assert_int_equal(lua_gc(h->L, LUA_GCISRUNNING), 1);
		assert_true(n < 100000);
	}
	h->memory.left = -1;
	lua_settop(h->L, top);
}

static int
decode_out(struct codec_test *h)
{
	return decode(h, h->out.data, h->out.len, true);
}

static void
test_codec_every_allocation_may_fail(void **state)
{
	struct codec_test *h = *state;

	assert_int_equal(luaL_dostring(h->L, rich_value), LUA_OK);
	fail_each(h, false, encode);
	fail_each(h, true, encode);
	assert_int_equal(encode(h), LUA_OK);
	fail_each(h, false, decode_out);
	fail_each(h, true, decode_out);
	assert_int_equal(decode_out(h), LUA_OK);
	lua_getfield(h->L, -1, "long");
	assert_int_equal(lua_rawlen(h->L, -1), 70000);
}

static void
test_codec_pack_leaks_nothing_when_it_fails(void **state)
{
	struct codec_test *h = *state;

	assert_int_equal(
	    luaL_dostring(h->L,
		"local P = { __fzpack = function() error('x') end }\n"
		"core.register_class('P', P)\n"
		"local p = { ('x'):rep(1e5), setmetatable({}, P) }\n"
		"for _ = 1, 100 do\n"
		"  assert(not pcall(core.pack, p))\n"
		"  assert(core.unpack(core.pack(1)) == 1)\n"
		"end"),
	    LUA_OK);
}

/* Long strings of sizes around the limits, in wide and deep tables. */
static const char long_strings[] =
    "local t = { ('a'):rep(65535), ('b'):rep(65536), ('c'):rep(1e5) }\n"
    "for i = 1, 40 do t['k' .. i] = t[i % 3 + 1] end\n"
    "for n = 253, 257 do\n"
    "  local wide = {}\n"
    "  for i = 1, n do wide['w' .. i] = i end\n"
    "  wide.x, wide.y = ('x'):rep(65535 + n), t[2]\n"
    "  t = { t, wide, wide = wide, long = ('y'):rep(65535 + n) }\n"
    "end\n"
    "for i = 1, 400 do t = { t, i % 100 == 0 and ('z'):rep(7e4 + i) } end\n"
    "return t\n";

static int
pack(struct codec_test *h)
{
	lua_getglobal(h->L, "core");
	lua_getfield(h->L, -1, "pack");
	lua_pushvalue(h->L, -3);
	return lua_pcall(h->L, 1, 1, 0);
}

static void
test_codec_pack_gives_the_bytes_of_encode(void **state)
{
	struct codec_test *h = *state;
	size_t len;
	const char *bytes;

	for (int i = 0; i < 2; i++) {
		const char *chunk = i == 0 ? long_strings : rich_value;

		assert_int_equal(luaL_dostring(h->L, chunk), LUA_OK);
		assert_int_equal(encode(h), LUA_OK);
		fail_each(h, false, pack);
		fail_each(h, true, pack);
		assert_int_equal(pack(h), LUA_OK);
		bytes = lua_tolstring(h->L, -1, &len);
		assert_int_equal(len, h->out.len);
		assert_memory_equal(bytes, h->out.data, len);
		lua_settop(h->L, 0);
	}
}

static void
test_codec_small_messages_allocate_nothing(void **state)
{
	struct codec_test *h = *state;

	lua_createtable(h->L, 1, 0);
	assert_int_equal(encode(h), LUA_OK);
	assert_int_equal(encode(h), LUA_OK);
	h->memory.left = 0;
	assert_int_equal(encode(h), LUA_OK);
}

/* All kinds of values that are written in one pass. */
static const char plain_value[] =
    "local P = core.register_class('P', { __index = { f = print } })\n"
    "local V = core.register_value('V', setmetatable({}, { __call = print }))\n"
    "local t = { _G, io.stdout, P, V, null, 1, 2, 3, 4, 5.5, true }\n"
    "for i = 1, 300 do t['k' .. i] = { i, id = i, name = 'n' .. i % 7 } end\n"
    "for i = 1, 20 do t[#t + 1] = setmetatable({ i, t }, P) end\n"
    "t.bare = setmetatable({ 1 }, { __index = { colour = 'red' } })\n"
    "t.long = ('x'):rep(5000)\n"
    "return t\n";

/*
 * (out, value, weak): encode the value while a garbage collection is due.
 * Returns two booleans: whether a collection after the encoding frees the first
 * element of `weak`, and whether the element was still there before it.
 */
static int
call_encode_in_debt(lua_State *L)
{
	struct fz_buf *out = lua_touserdata(L, 1);

	lua_gc(L, LUA_GCGEN, 0, 0);
	lua_gc(L, LUA_GCSTOP);
	lua_newtable(L); /* the table that grows in the loop below */
	lua_newtable(L);
	lua_rawseti(L, 3, 1);
	lua_gc(L, LUA_GCRESTART);
	for (int i = 1; i <= 1000; i++) {
		lua_pushinteger(L, i);
		lua_rawseti(L, 4, i);
	}
	fz_codec_encode(L, 2, 1, out);
	lua_pushboolean(L, lua_rawgeti(L, 3, 1) != LUA_TNIL);
	lua_replace(L, 1);
	lua_settop(L, 4);
	lua_newtable(L); /* this call may start the collector */
	lua_pushboolean(L, lua_rawgeti(L, 3, 1) == LUA_TNIL);
	lua_pushvalue(L, 1);
	return 2;
}

static void
test_codec_first_pass_lets_no_collector_run(void **state)
{
	struct codec_test *h = *state;
	lua_State *L = h->L;

	lua_pushlightuserdata(L, NULL);
	lua_setglobal(L, "null");
	assert_int_equal(luaL_dostring(L, plain_value), LUA_OK);
	for (int i = 0; i < 3; i++) {
		/* The first call makes the objects that the state keeps. */
		assert_int_equal(encode(h), LUA_OK);
		fz_buf_clear(&h->out);
		lua_pushcfunction(L, call_encode_in_debt);
		lua_pushlightuserdata(L, &h->out);
		lua_pushvalue(L, -3);
		assert_int_equal(
		    luaL_dostring(
			L, "return setmetatable({}, { __mode = 'v' })"),
		    LUA_OK);
		assert_int_equal(lua_pcall(L, 3, 2, 0), LUA_OK);
		assert_true(lua_toboolean(L, -2)); /* a collection was due */
		assert_true(lua_toboolean(L, -1));
		lua_pop(L, 2);
	}
}

static void
test_lerror_text_survives_any_value(void **state)
{
	struct codec_test *h = *state;
	lua_State *L = h->L;

	assert_int_equal(
	    luaL_dostring(L,
		"local bad = { __tostring = function() error('x') end }\n"
		"local odd = { __tostring = function() return {} end }\n"
		"return setmetatable({}, bad), setmetatable({}, odd), nil,\n"
		"  12, 'text', io.stdout, coroutine.create(print), print,\n"
		"  setmetatable({}, { __name = 'Name' })"),
	    LUA_OK);
	assert_int_equal(lua_gettop(L), 9);
	for (int i = 1; i <= 9; i++) {
		assert_non_null(fz_lerror_text(L, i));
		assert_int_equal(lua_gettop(L), 10);
		lua_pop(L, 1);
	}
	assert_string_equal(fz_lerror_text(L, 1), "(a table that has no text)");
	assert_string_equal(fz_lerror_text(L, 3), "nil");
	assert_string_equal(fz_lerror_text(L, 4), "12");
	assert_int_equal(lua_type(L, 4), LUA_TNUMBER);
}

int
main(void)
{
#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, codec_test_setup, codec_test_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_codec_appends_to_what_is_there),
		TEST(test_codec_one_scalar_has_the_bytes_of_any_message),
		TEST(test_codec_counts_are_not_believed),
		TEST(test_codec_refuses_bad_bytes),
		TEST(test_codec_refuses_levels_beyond_the_limit),
		TEST(test_codec_buffers_without_room_are_memory_errors),
		TEST(test_codec_every_allocation_may_fail),
		TEST(test_codec_pack_leaks_nothing_when_it_fails),
		TEST(test_codec_pack_gives_the_bytes_of_encode),
		TEST(test_codec_small_messages_allocate_nothing),
		TEST(test_codec_first_pass_lets_no_collector_run),
		TEST(test_lerror_text_survives_any_value),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
