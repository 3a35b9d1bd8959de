/* test_items.c - results of items in one buffer, with every kind of value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "codec/codec.h"
#include "codec/format.h"
#include "codec/items.h"
#include "codec_test.h"
#include "value/lerror.h"

static void
push(struct codec_test *h, const char *expression)
{
	lua_pushfstring(h->L, "return %s", expression);
	assert_int_equal(luaL_dostring(h->L, lua_tostring(h->L, -1)), LUA_OK);
	lua_remove(h->L, -2);
}

/* Whether the values are equal; 1 and 1.0 differ, and two NaN are equal. */
static bool
is_same(lua_State *L, int a, int b)
{
	if (lua_isinteger(L, a) != lua_isinteger(L, b))
		return false;
	if (lua_type(L, a) == LUA_TNUMBER && !lua_isinteger(L, a)) {
		lua_Number x = lua_tonumber(L, a), y = lua_tonumber(L, b);

		return memcmp(&x, &y, sizeof(x)) == 0;
	}
	return lua_rawequal(L, a, b);
}

static int
push_body(lua_State *L)
{
	fz_items_push(L, lua_touserdata(L, 1));
	return 1;
}

/* Push the next item. Returns the status of the call. */
static int
push_item(struct codec_test *h, struct fz_reader *items)
{
	lua_pushcfunction(h->L, push_body);
	lua_pushlightuserdata(h->L, items);
	return lua_pcall(h->L, 1, 1, 0);
}

static void
assert_raises(
    struct codec_test *h, const void *bytes, size_t len, const char *text)
{
	struct fz_reader items;

	fz_reader_init(&items, bytes, len);
	assert_int_equal(push_item(h, &items), LUA_ERRRUN);
	assert_true(fz_lerror_is(h->L, -1)); /* an fz.Error, as in a map */
	assert_non_null(strstr(fz_lerror_text(h->L, -1), text));
	lua_settop(h->L, 0);
}

static void
test_items_small_values_come_back(void **state)
{
	static const struct {
		const char *value;
		size_t len;
	} cases[] = {
		{ "nil", 1 },
		{ "true", 1 },
		{ "false", 1 },
		{ "0", 1 },
		{ "127", 1 },
		{ "128", 3 },
		{ "-1", 2 },
		{ "-128", 2 },
		{ "-129", 3 },
		{ "32767", 3 },
		{ "-32768", 3 },
		{ "32768", 5 },
		{ "-32769", 5 },
		{ "2147483647", 5 },
		{ "-2147483648", 5 },
		{ "2147483648", 9 },
		{ "-2147483649", 9 },
		{ "math.maxinteger", 9 },
		{ "math.mininteger", 9 },
		{ "0.0", 9 },
		{ "-0.0", 9 },
		{ "1.5", 9 },
		{ "1/0", 9 },
		{ "-1/0", 9 },
		{ "0/0", 9 },
		{ "''", 1 },
		{ "'a\\0b'", 4 },
		{ "('x'):rep(63)", 64 },
	};
	struct codec_test *h = *state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		unsigned char bytes[2 * FZ_ITEMS_SMALL] = { 0 };
		size_t len;
		struct fz_reader items;
		bool pushed;

		push(h, cases[i].value);
		len = fz_items_store(h->L, 1, bytes);
		assert_int_equal(len, cases[i].len);
		assert_true(len <= FZ_ITEMS_SMALL);
		fz_reader_init(&items, bytes, len);
		assert_int_equal(fz_items_skip(&items), 0);
		assert_int_equal(fz_reader_left(&items), 0);
		fz_reader_init(&items, bytes, len);
		assert_int_equal(push_item(h, &items), LUA_OK);
		assert_int_equal(fz_reader_left(&items), 0);
		assert_true(is_same(h->L, 1, 2));
		/* fz_items_push_number() pushes the same value, or nothing. */
		fz_reader_init(&items, bytes, sizeof(bytes));
		pushed = fz_items_push_number(h->L, &items);
		assert_int_equal(items.p - bytes, pushed ? len : 0);
		assert_int_equal(lua_gettop(h->L), pushed ? 3 : 2);
		if (pushed)
			assert_true(is_same(h->L, 1, 3));
		if (len > 2 && lua_type(h->L, 1) == LUA_TNUMBER)
			assert_true(pushed);
		/* fz_items_push_number() does not read beyond the end. */
		fz_reader_init(&items, bytes, 8);
		assert_false(fz_items_push_number(h->L, &items));
		lua_settop(h->L, 0);
	}
}

static void
test_items_other_values_are_no_small_ones(void **state)
{
	static const char *const values[] = { "('x'):rep(64)", "{}", "print",
		"function() end", "coroutine.create(print)", "io.stdout" };
	unsigned char bytes[FZ_ITEMS_SMALL];
	struct codec_test *h = *state;

	for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
		push(h, values[i]);
		assert_int_equal(fz_items_store(h->L, 1, bytes), 0);
		lua_settop(h->L, 0);
	}
}

/* Append the `n` values from index 1 on as an item that is a message. */
static void
put_message(struct codec_test *h, int n)
{
	size_t at = h->out.len;

	assert_non_null(fz_buf_reserve(&h->out, FZ_ITEMS_HEAD));
	h->out.len += FZ_ITEMS_HEAD;
	fz_codec_encode(h->L, 1, n, &h->out);
	fz_items_store_head(
	    h->out.data + at, (uint32_t)(h->out.len - at - FZ_ITEMS_HEAD));
	lua_settop(h->L, 0);
}

static void
test_items_of_all_sizes_follow_each_other(void **state)
{
	struct codec_test *h = *state;
	struct fz_reader items;

	for (int i = 0; i < 100; i++) {
		unsigned char small[FZ_ITEMS_SMALL];

		push(h, i % 3 == 0 ? "{ 1, { x = 'y' } }" : "'between'");
		if (i % 3 == 0)
			put_message(h, 1);
		else
			fz_buf_put(
			    &h->out, small, fz_items_store(h->L, 1, small));
		lua_settop(h->L, 0);
	}
	fz_reader_init(&items, h->out.data, h->out.len);
	for (int i = 0; i < 100; i++) {
		if (i % 7 == 0) {
			assert_int_equal(fz_items_skip(&items), 0);
			continue;
		}
		assert_int_equal(push_item(h, &items), LUA_OK);
		if (i % 3 != 0) {
			assert_string_equal(lua_tostring(h->L, -1), "between");
		} else {
			lua_geti(h->L, -1, 2);
			lua_getfield(h->L, -1, "x");
			assert_string_equal(lua_tostring(h->L, -1), "y");
		}
		lua_settop(h->L, 0);
	}
	assert_int_equal(fz_reader_left(&items), 0);
	assert_int_equal(fz_items_skip(&items), -1);
}

static void
test_items_a_message_has_one_value(void **state)
{
	struct codec_test *h = *state;

	for (int n = 0; n <= 2; n++) {
		fz_buf_clear(&h->out);
		for (int i = 0; i < n; i++)
			lua_newtable(h->L);
		put_message(h, n);
		if (n != 1)
			assert_raises(h, h->out.data, h->out.len,
			    "a result does not decode to exactly one Lua "
			    "value");
	}
}

static int
push_message_body(lua_State *L)
{
	return fz_items_push_message(L, lua_touserdata(L, 1));
}

/* Push all values of the next item. Returns the status of the call. */
static int
push_message(struct codec_test *h, const void *bytes, size_t len)
{
	struct fz_reader items;

	lua_settop(h->L, 0);
	fz_reader_init(&items, bytes, len);
	lua_pushcfunction(h->L, push_message_body);
	lua_pushlightuserdata(h->L, &items);
	return lua_pcall(h->L, 1, LUA_MULTRET, 0);
}

static void
test_items_a_message_may_be_taken_with_all_its_values(void **state)
{
	struct codec_test *h = *state;

	for (int n = 0; n <= 3; n++) {
		fz_buf_clear(&h->out);
		for (int i = 1; i <= n; i++)
			lua_pushinteger(h->L, i);
		put_message(h, n);
		assert_int_equal(
		    push_message(h, h->out.data, h->out.len), LUA_OK);
		assert_int_equal(lua_gettop(h->L), n);
		if (n > 0)
			assert_int_equal(lua_tointeger(h->L, -1), n);
		lua_settop(h->L, 0);
	}
	for (size_t len = 0; len < h->out.len; len++)
		assert_int_equal(push_message(h, h->out.data, len), LUA_ERRRUN);
	assert_int_equal(push_message(h, "\5", 1), LUA_ERRRUN);
}

/* Every first byte, with fewer bytes after it than its kind needs. */
static void
test_items_cut_short_are_refused(void **state)
{
	struct codec_test *h = *state;

	for (unsigned tag = 0; tag < 256; tag++) {
		unsigned char bytes[FZ_ITEMS_SMALL] = { (unsigned char)tag };
		struct fz_reader items;
		size_t whole = 1; /* the bytes of a complete item */
		bool known;

		fz_reader_init(&items, bytes, sizeof(bytes));
		known = fz_items_skip(&items) == 0;
		if (known)
			whole = (size_t)(items.p - bytes);
		assert_int_equal(
		    known, tag <= FZ_FORMAT_FLOAT || tag == FZ_FORMAT_ITEM);
		for (size_t len = 0; len < whole; len++) {
			/*
			 * A block of the item's size, so that ASan sees its
			 * end.
			 */
			unsigned char *exact = malloc(len + (len == 0));

			memcpy(exact, bytes, len);
			fz_reader_init(&items, exact, len);
			assert_int_equal(fz_items_skip(&items), -1);
			assert_true(items.failed);
			assert_int_equal(fz_items_skip(&items), -1);
			fz_reader_init(&items, exact, len);
			assert_false(fz_items_push_number(h->L, &items));
			assert_raises(h, exact, len, "incomplete");
			free(exact);
		}
		if (!known)
			assert_raises(h, bytes, sizeof(bytes), "incomplete");
	}
}

static void
test_items_lengths_are_not_believed(void **state)
{
	static const uint32_t lengths[] = { 1, 100, INT32_MAX, UINT32_MAX };
	unsigned char bytes[FZ_ITEMS_HEAD];
	struct codec_test *h = *state;
	struct fz_reader items;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		fz_items_store_head(bytes, lengths[i]);
		fz_reader_init(&items, bytes, sizeof(bytes));
		assert_int_equal(fz_items_skip(&items), -1);
		assert_raises(h, bytes, sizeof(bytes), "incomplete");
	}
	fz_items_store_head(bytes, 0); /* an item with an empty message */
	fz_reader_init(&items, bytes, sizeof(bytes));
	assert_int_equal(fz_items_skip(&items), 0);
	fz_reader_init(&items, bytes, sizeof(bytes));
	assert_int_equal(push_item(h, &items), LUA_ERRRUN);
	assert_true(fz_lerror_is(h->L, -1));
}

static void
test_items_without_memory_raise(void **state)
{
	static const char *const values[] = { "('x'):rep(63)",
		"{ 1, { x = ('y'):rep(100) } }" };
	struct codec_test *h = *state;

	for (size_t i = 0; i < 2; i++) {
		int status, nfailed = 0;
		long n = 0;

		fz_buf_clear(&h->out);
		push(h, values[i]);
		if (i == 1) {
			put_message(h, 1);
		} else {
			fz_buf_reserve(&h->out, FZ_ITEMS_SMALL);
			h->out.len = fz_items_store(h->L, 1, h->out.data);
			lua_settop(h->L, 0);
		}
		do {
			struct fz_reader items;

			fz_reader_init(&items, h->out.data, h->out.len);
			lua_pushcfunction(h->L, push_body);
			lua_pushlightuserdata(h->L, &items);
			h->memory.left = n++;
			status = lua_pcall(h->L, 1, 1, 0);
			h->memory.left = -1;
			nfailed += status != LUA_OK;
			lua_settop(h->L, 0);
		} while (status == LUA_ERRMEM);
		assert_int_equal(status, LUA_OK);
		assert_true(nfailed > 0);
	}
}

#define TEST(name)                       \
	cmocka_unit_test_setup_teardown( \
	    name, codec_test_setup, codec_test_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_items_small_values_come_back),
		TEST(test_items_other_values_are_no_small_ones),
		TEST(test_items_of_all_sizes_follow_each_other),
		TEST(test_items_a_message_has_one_value),
		TEST(test_items_a_message_may_be_taken_with_all_its_values),
		TEST(test_items_cut_short_are_refused),
		TEST(test_items_lengths_are_not_believed),
		TEST(test_items_without_memory_raise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
