/* unsetenv is not in C11. */
#define _GNU_SOURCE
#include "rawarray_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include <lauxlib.h>
#include <lualib.h>

const struct fz_rawarray *raw;

int
rawarray_setup(void **state)
{
	lua_State *L = luaL_newstate();

	assert_non_null(L);
	luaL_openlibs(L);
	raw = fz_rawarray_learn(L);
	assert_non_null(raw);
	*state = L;
	return 0;
}

int
rawarray_teardown(void **state)
{
	lua_close(*state);
	return 0;
}

size_t
rawarray_copy_one(
    lua_State *L, int idx, uint64_t i, const struct fz_raw_value *value)
{
	return fz_rawarray_copy(raw, lua_topointer(L, idx), i, value, 1);
}

int
rawarray_run(const struct CMUnitTest *tests, size_t n)
{
	if (!FZ_RAWARRAY) {
		print_message("built without rawarray: not run\n");
		return 0;
	}
	/* `make test-lua-noraw` sets this variable. */
	unsetenv("FZLUA_RAWARRAY");
	return _cmocka_run_group_tests("rawarray", tests, n, NULL, NULL);
}
