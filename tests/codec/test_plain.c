/* test_plain.c - messages that are recognized as plain without Lua. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/buf.h"
#include "codec/codec.h"
#include "codec/format.h"
#include "codec/lists.h"
#include "codec/plain.h"
#include "value/lerror.h"

static struct fz_buf out;

static int
setup(void **state)
{
	lua_State *L = luaL_newstate();

	assert_non_null(L);
	luaL_openlibs(L);
	lua_newtable(L);
	fz_lerror_open(L);
	fz_lcodec_open(L);
	lua_setglobal(L, "core");
	fz_buf_init(&out);
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	fz_buf_fini(&out);
	return 0;
}

/* Encode the values that a chunk returns into `out`. */
static void
encode(lua_State *L, const char *chunk)
{
	lua_settop(L, 0);
	assert_int_equal(luaL_dostring(L, chunk), LUA_OK);
	fz_buf_clear(&out);
	fz_codec_encode(L, 1, lua_gettop(L), &out);
	lua_settop(L, 0);
}

static int
call_decode(lua_State *L)
{
	const struct fz_buf *bytes = lua_touserdata(L, 1);

	lua_settop(L, 0);
	return fz_codec_decode(L, bytes->data, bytes->len, FZ_CODEC_RECORDED);
}

/* The number of values of the message in `out`; -1 if it is none. */
static int
decoded(lua_State *L)
{
	int n;

	lua_settop(L, 0);
	lua_pushcfunction(L, call_decode);
	lua_pushlightuserdata(L, &out);
	n = lua_pcall(L, 1, LUA_MULTRET, 0) == LUA_OK ? lua_gettop(L) : -1;
	lua_settop(L, 0);
	return n;
}

static bool
is_plain(void)
{
	return fz_plain_is(out.data, out.len);
}

static const char *const plain[] = {
	"return nil",
	"return true",
	"return 5",
	"return -5",
	"return 1 << 40",
	"return 0.5",
	"return ''",
	"return ('x'):rep(63)",
	"return ('x'):rep(64)",
	"return ('x'):rep(255)",
	"return ('x'):rep(256)",
	"return ('x'):rep(70000)",
	"return {}",
	"return { 1, 2, 3, 4, 5, nil, 7 }",
	"return { 1.5, 2.5, 3.5, 4.5 }",
	"local t = {} for i = 1, 70000 do t[i] = i end return t",
	"return { a = 1, b = { c = 'x' }, [1.5] = false }",
	"local t = {} for i = 1, 300 do t['k' .. i] = i end return t",
	"local t = {} for i = 1, 50 do t[i] = { n = 'n', no = i } end return t",
	"local t = { {} } t[2] = t[1] t.self = t return t",
	"local t = {} for _ = 1, 150 do t = { t } end return t",
};

static const char *const others[] = {
	"return",
	"return 1, 2",
	"return print",
	"return function() end",
	"return { string }",
	"return core.register_class('Point', {}) and"
	" setmetatable({}, core.classes().Point)",
	"return core.register_class('Packed',"
	" { __fzpack = function() return 1 end }) and"
	" setmetatable({}, core.classes().Packed)",
	"return core.register_value('Value', {})",
	"return core.classes().Point",
	"return io.stdout",
	"local t = {} for _ = 1, 250 do t = { t } end return t",
};

static void
test_plain_values_are_recognized(void **state)
{
	for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++) {
		encode(*state, plain[i]);
		if (!is_plain())
			fail_msg("not plain: %s", plain[i]);
		assert_int_equal(decoded(*state), 1);
	}
}

static void
test_other_values_are_not(void **state)
{
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
		encode(*state, others[i]);
		if (is_plain())
			fail_msg("plain: %s", others[i]);
	}
}

/* Make a list of one element, which is the message in `out`, in `out`. */
static void
join(void)
{
	struct fz_buf list = FZ_BUF_INIT;

	fz_lists_begin(&list, 1);
	assert_int_equal(fz_lists_put_message(&list, out.data, out.len), 0);
	fz_lists_end(&list, 1);
	fz_buf_fini(&out);
	out = list;
}

static void
test_joined_lists(void **state)
{
	/* A message with references is an element as it is. */
	encode(*state, "local t = { {} } t[2] = t[1] return t");
	join();
	assert_true(is_plain());
	assert_int_equal(decoded(*state), 1);
	encode(*state, "return { print }");
	join();
	assert_false(is_plain());
	/* An older build did not note the flag in the list. */
	out.data[1] = 0;
	assert_false(is_plain());
	assert_int_equal(decoded(*state), -1);
}

/*
 * Whatever is done to the bytes: a message that is recognized as plain can be
 * decoded to one value.
 */
static void
check(lua_State *L, const char *chunk)
{
	if (is_plain() && decoded(L) != 1)
		fail_msg("plain, and cannot be decoded: %s", chunk);
}

static void
test_damaged_messages_are_not_plain(void **state)
{
	for (size_t i = 0; i < sizeof(plain) / sizeof(*plain); i++) {
		size_t len;

		encode(*state, plain[i]);
		len = out.len;
		for (size_t at = 0; len < 1000 && at < len; at++) {
			unsigned char before = out.data[at];

			for (unsigned v = 0; v < 256; v += at < 20 ? 1 : 7) {
				out.data[at] = (unsigned char)v;
				check(*state, plain[i]);
			}
			out.data[at] = before;
		}
		for (out.len = 0; out.len < len && out.len < 1000; out.len++)
			assert_false(is_plain());
		out.len = len;
	}
}

static void
test_a_key_that_is_no_key(void **state)
{
	static const unsigned char bytes[] = { FZ_FORMAT_VERSION, 0, 1,
		FZ_FORMAT_TABLE, 0, 1, FZ_FORMAT_FLOAT, 1, 0, 0, 0, 0, 0, 0xf0,
		0xff, 7 };

	fz_buf_clear(&out);
	fz_buf_put(&out, bytes, sizeof(bytes));
	assert_false(is_plain());
	assert_int_equal(decoded(*state), -1);
	out.data[7] = 0; /* infinity */
	assert_true(is_plain());
	assert_int_equal(decoded(*state), 1);
	out.data[6] = FZ_FORMAT_NIL;
	assert_false(is_plain());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_plain_values_are_recognized, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_other_values_are_not, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_joined_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_damaged_messages_are_not_plain, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_a_key_that_is_no_key, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
