/* test_lists.c - lists that are read and joined without Lua. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/buf.h"
#include "codec/codec.h"
#include "codec/format.h"
#include "codec/items.h"
#include "codec/lists.h"
#include "value/lerror.h"
#include "value/rawarray.h"

static struct fz_buf out, part;

static int
setup(void **state)
{
	lua_State *L = luaL_newstate();

	assert_non_null(L);
	luaL_openlibs(L);
	lua_newtable(L);
	fz_lerror_open(L);
	fz_lcodec_open(L);
	lua_settop(L, 0);
	fz_buf_init(&out);
	fz_buf_init(&part);
	*state = L;
	return 0;
}

static int
teardown(void **state)
{
	lua_close(*state);
	fz_buf_fini(&out);
	fz_buf_fini(&part);
	return 0;
}

/* Encode the value of an expression into `part`. */
static void
encode(lua_State *L, const char *expression)
{
	lua_pushfstring(L, "return %s", expression);
	assert_int_equal(luaL_dostring(L, lua_tostring(L, -1)), LUA_OK);
	fz_buf_clear(&part);
	fz_codec_encode(L, lua_gettop(L), 1, &part);
	lua_settop(L, 0);
}

/* Decode `out` and check it by a condition on `v`. */
static void
assert_list(lua_State *L, const char *condition)
{
	assert_int_equal(
	    fz_codec_decode(L, out.data, out.len, FZ_CODEC_RUN), 1);
	lua_setglobal(L, "v");
	lua_pushfstring(L, "return %s", condition);
	assert_int_equal(luaL_dostring(L, lua_tostring(L, -1)), LUA_OK);
	assert_true(lua_toboolean(L, -1));
	lua_settop(L, 0);
}

static void
test_lists_length_is_known_of_plain_lists(void **state)
{
	static const struct {
		const char *list;
		bool known;
		uint64_t n;
	} cases[] = {
		{ "{}", true, 0 },
		{ "{ 1, 2, 3 }", true, 3 },
		{ "{ {}, 'a', false }", true, 3 },
		{ "{ 1, 2, n = 3 }", false, 0 },
		{ "{ 1, x = 2 }", false, 0 },
		{ "'text'", false, 0 },
		{ "5", false, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t n;

		encode(*state, cases[i].list);
		assert_int_equal(
		    fz_lists_length(part.data, part.len, &n), cases[i].known);
		if (cases[i].known)
			assert_int_equal(n, cases[i].n);
	}
}

static void
test_lists_bytes_that_are_cut_short_are_no_list(void **state)
{
	uint64_t n;

	encode(*state, "{ 1, 2, 3 }");
	for (size_t len = 0; len < 6; len++)
		assert_false(fz_lists_length(part.data, len, &n));
}

static void
test_lists_join_messages_items_and_holes(void **state)
{
	lua_State *L = *state;
	unsigned char item[FZ_ITEMS_SMALL];
	struct fz_reader items;
	uint64_t n;

	fz_lists_begin(&out, 6);
	encode(L, "{ a = 'same', b = 'same', c = { 'same' } }");
	assert_int_equal(fz_lists_put_message(&out, part.data, part.len), 0);
	encode(L, "(function() local t = {} return { t, t } end)()");
	assert_int_equal(fz_lists_put_message(&out, part.data, part.len), 0);
	encode(L, "2.5");
	assert_int_equal(fz_lists_put_message(&out, part.data, part.len), 0);
	fz_lists_put_nils(&out, 2);
	lua_pushliteral(L, "short");
	fz_reader_init(&items, item, fz_items_store(L, -1, item));
	lua_settop(L, 0);
	assert_int_equal(fz_lists_put_items(&out, &items, 1), 0);
	fz_lists_end(&out, 6);
	assert_false(out.failed);
	assert_true(fz_lists_length(out.data, out.len, &n));
	assert_int_equal(n, 6);
	assert_list(L, "v.n == 6 and v[1].a == 'same' and v[1].c[1] == 'same'"
		       " and v[2][1] == v[2][2] and v[3] == 2.5 and v[4] == nil"
		       " and v[5] == nil and v[6] == 'short'");
}

static void
test_lists_refuse_items_that_are_incomplete(void **state)
{
	struct fz_reader items;

	(void)state;
	fz_reader_init(&items, (const unsigned char *)"\x83no", 3);
	assert_int_equal(fz_lists_put_items(&out, &items, 1), -1);
}

static void
test_lists_join_plain_values_as_they_are(void **state)
{
	lua_State *L = *state;
	const struct fz_rawarray *raw = fz_rawarray_learn(L);
	struct fz_raw_value slots[100];

	if (raw == NULL)
		skip();
	assert_int_equal(
	    luaL_dostring(L,
		"values = {}\n"
		"for i = 1, 20 do values[i] = i - 10 end\n"
		"for i = 21, 40 do values[i] = i / 4 end\n"
		"for i = 41, 60 do values[i] = i << 40 end\n"
		"for i = 61, 80 do values[i] = i * -300 end\n"
		"for i = 81, 100, 4 do\n"
		"  values[i], values[i + 1], values[i + 2] = true, false, i\n"
		"end"),
	    LUA_OK);
	lua_getglobal(L, "values");
	for (int i = 0; i < 100; i++) {
		lua_rawgeti(L, 1, i + 1);
		assert_true(fz_rawarray_store(raw, L, -1, &slots[i]));
		lua_pop(L, 1);
	}
	fz_lists_begin(&out, 100);
	assert_int_equal(fz_lists_put_raw(&out, raw, slots, 100), 0);
	fz_lists_end(&out, 100);
	assert_list(L, "(function()\n"
		       "  for i = 1, 100 do\n"
		       "    if v[i] ~= values[i] then return false end\n"
		       "    if math.type(v[i]) ~= math.type(values[i]) then\n"
		       "      return false\n"
		       "    end\n"
		       "  end\n"
		       "  return v.n == 100\n"
		       "end)()");
	slots[50].tag = raw->table;
	assert_int_equal(fz_lists_put_raw(&out, raw, slots, 100), -1);
}

static int
decode_body(lua_State *L)
{
	return fz_codec_decode(L, out.data, out.len, FZ_CODEC_RUN);
}

static void
test_lists_elements_nest_no_deeper_than_values(void **state)
{
	lua_State *L = *state;

	fz_buf_put(&part, "\1\4\1\xcb\x81x", 6); /* a numbered string */
	for (int i = 0; i < 2000; i++) {
		fz_buf_clear(&out);
		fz_buf_put(&out, "\1\4\1", 3);
		fz_lists_put_message(&out, part.data, part.len);
		fz_buf_clear(&part);
		fz_buf_put(&part, out.data, out.len);
	}
	lua_pushcfunction(L, decode_body);
	assert_int_equal(lua_pcall(L, 0, 1, 0), LUA_ERRRUN);
	lua_getfield(L, -1, "message");
	assert_non_null(strstr(lua_tostring(L, -1), "nested too deep"));
}

static void
test_lists_have_the_flag_for_functions_of_their_elements(void **state)
{
	lua_State *L = *state;
	struct fz_reader items;

	for (int i = 0; i < 3; i++) {
		fz_buf_clear(&out);
		fz_lists_begin(&out, 1);
		encode(L, i == 0 ? "{ {}, {} }" : "{ function() end }");
		if (i == 2) {
			unsigned char head[FZ_ITEMS_HEAD];
			struct fz_buf item = FZ_BUF_INIT;

			fz_items_store_head(head, (uint32_t)part.len);
			fz_buf_put(&item, head, sizeof(head));
			fz_buf_put(&item, part.data, part.len);
			fz_reader_init(&items, item.data, item.len);
			assert_int_equal(
			    fz_lists_put_items(&out, &items, 1), 0);
			fz_buf_fini(&item);
		} else {
			assert_int_equal(
			    fz_lists_put_message(&out, part.data, part.len), 0);
		}
		fz_lists_end(&out, 1);
		assert_false(out.failed);
		assert_int_equal(
		    out.data[1], i == 0 ? 0 : FZ_FORMAT_HAS_FUNCTIONS);
		assert_list(L, i == 0 ? "#v[1] == 2" : "v[1][1]() == nil");
		if (i == 0)
			continue;
		out.data[1] = 0;
		lua_pushcfunction(L, decode_body);
		assert_int_equal(lua_pcall(L, 0, 1, 0), LUA_ERRRUN);
		lua_getfield(L, -1, "message");
		assert_non_null(
		    strstr(lua_tostring(L, -1), "an inner message with"));
		lua_settop(L, 0);
	}
}

int
main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_lists_length_is_known_of_plain_lists),
		TEST(test_lists_bytes_that_are_cut_short_are_no_list),
		TEST(test_lists_join_messages_items_and_holes),
		TEST(test_lists_refuse_items_that_are_incomplete),
		TEST(test_lists_join_plain_values_as_they_are),
		TEST(test_lists_elements_nest_no_deeper_than_values),
		TEST(test_lists_have_the_flag_for_functions_of_their_elements),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
