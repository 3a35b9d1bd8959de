/*
 * Digests from C: memory that runs out, and dumps of functions that are cut.
 *
 * wrap: malloc calloc realloc
 */
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
#include "digest/digest.h"
#include "lua_state.h"
#include "no_memory.h"
#include "value/bytecode.h"

static const char rich_value[] =
    "local P = core.register_class('P', { __fzpack = function(p)\n"
    "  return { p.x, tostring(p.x) } end })\n"
    "local n, key = 0, {}\n"
    "function late(x) return string.rep(x, n), require 'dig_none' end\n"
    "local plain = { 1, { 2 }, k = { key = 'x' } }\n"
    "local function f(x) n = n + 1 return late(x), key, plain end\n"
    "package.preload.dig_none = function() return 1, late end\n"
    "local t = { f, print, io.stdout, _G, 1, 2.5, true, [key] = f }\n"
    "for i = 1, 100 do t['k' .. i], t[i + 0.5] = { i, t = t }, i end\n"
    "for i = 1, 5 do t[{ i, key }] = setmetatable({ x = i }, P) end\n"
    "local deep = {}\n"
    "for i = 1, 300 do deep = { deep, { [{}] = 1, [{}] = 1 } } end\n"
    "t.deep, t.meta = deep, setmetatable({}, { __index = f })\n"
    "return t\n";

static void
end_state(lua_State *L, struct lua_memory *m)
{
	lua_close(L);
	assert_int_equal(m->used, 0);
}

static int
call_digest(lua_State *L)
{
	unsigned char out[FZ_HASH_BYTES];

	lua_newtable(L);
	fz_digest(L, 1, 1, 2, out);
	assert_int_equal(lua_gettop(L), 2);
	lua_pushlstring(L, (const char *)out, sizeof(out));
	return 1;
}

/* Push the digest of the value at 1, or the error. */
static int
digest(lua_State *L)
{
	lua_pushcfunction(L, call_digest);
	lua_pushvalue(L, 1);
	return lua_pcall(L, 1, 1, 0);
}

static void
test_digest_any_allocation_of_the_state_may_fail(void **state)
{
	struct lua_memory m;
	lua_State *L = lua_state_with_codec(&m);
	long n = 0;
	int rc;

	(void)state;
	assert_int_equal(luaL_dostring(L, rich_value), LUA_OK);
	assert_int_equal(digest(L), LUA_OK);
	do {
		lua_settop(L, 2);
		lua_gc(L, LUA_GCCOLLECT);
		m.left = n;
		rc = digest(L);
		m.left = -1;
		n += n / 8 + 1;
	} while (rc != LUA_OK);
	assert_true(n > 100);
	assert_true(lua_rawequal(L, 2, -1));
	end_state(L, &m);
}

static void
test_digest_no_memory_for_a_dump_is_an_error(void **state)
{
	struct lua_memory m;
	lua_State *L = lua_state_with_codec(&m);
	int rc = LUA_OK, nfailed = 0;
	bool came = true;

	(void)state;
	assert_int_equal(luaL_dostring(L, "return function() end"), LUA_OK);
	for (int n = 0; came; n++) {
		lua_settop(L, 1);
		good_mallocs = n;
		rc = digest(L);
		came = good_mallocs < 0;
		good_mallocs = -1;
		/*
		 * Lua repeats a failed allocation after a collection, so only a
		 * failure in the buffer of the dump is an error.
		 */
		nfailed += rc != LUA_OK;
	}
	assert_int_equal(rc, LUA_OK);
	assert_true(nfailed >= 1);
	end_state(L, &m);
}

/* Sizes of the parts of a function. */
struct seen {
	size_t ncode, nglobals, nmodules;
};

static void
see_code(void *ctx, const void *bytes, size_t len)
{
	(void)bytes;
	((struct seen *)ctx)->ncode += len;
}

static void
see_global(void *ctx, const char *name, size_t len, bool maybe)
{
	(void)maybe;
	assert_true(len == 0 || name[0] != '\0');
	((struct seen *)ctx)->nglobals++;
}

static void
see_module(void *ctx, const char *name, size_t len)
{
	assert_memory_equal(name, "abc", len);
	((struct seen *)ctx)->nmodules++;
}

static const struct fz_bytecode_ops see = { see_code, see_global, see_module };

static int
append(lua_State *L, const void *bytes, size_t len, void *out)
{
	(void)L;
	fz_buf_put(out, bytes, len);
	return 0;
}

static void
test_bytecode_that_is_cut_is_refused(void **state)
{
	static const char code[] =
	    "local a, b = require 'abc', print\n"
	    "local function f(...) return a, x, y[1.5], ... end\n"
	    "return function() return f(function() return z, b end) end";
	struct fz_buf out = FZ_BUF_INIT;
	struct seen seen = { 0 };
	struct lua_memory m;
	lua_State *L = lua_state_with_codec(&m);

	(void)state;
	assert_int_equal(luaL_loadstring(L, code), LUA_OK);
	lua_dump(L, append, &out, 0);
	assert_true(fz_bytecode_read(out.data, out.len, 0, false, &see, &seen));
	assert_int_equal(seen.nmodules, 1);
	assert_int_equal(seen.nglobals, 5);
	for (size_t len = 0; len < out.len; len++) {
		unsigned char *copy = malloc(len + 1);

		assert_non_null(copy);
		memcpy(copy, out.data, len);
		assert_false(
		    fz_bytecode_read(copy, len, 0, false, &see, &seen));
		free(copy);
	}
	fz_buf_fini(&out);
	end_state(L, &m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    test_digest_any_allocation_of_the_state_may_fail),
		cmocka_unit_test(test_digest_no_memory_for_a_dump_is_an_error),
		cmocka_unit_test(test_bytecode_that_is_cut_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
