/* rawarray_test.h - a Lua state whose layout of tables is known. */
#ifndef RAWARRAY_TEST_H
#define RAWARRAY_TEST_H

#include <stddef.h>
#include <stdint.h>

#include <lua.h>

#include "value/rawarray.h"

extern const struct fz_rawarray *raw; /* the layout that the setup learned */

/* `*state` is a new lua_State with the standard libraries. */
int rawarray_setup(void **state);
int rawarray_teardown(void **state);

/*
 * Copy one value into element `i` of the table at `idx`. Returns 0 if the
 * element is not in the array part, or the value is not plain.
 */
size_t rawarray_copy_one(
    lua_State *L, int idx, uint64_t i, const struct fz_raw_value *value);

/*
 * Run the tests, each with a state of its own. If the build has no rawarray, it
 * runs none of them, and prints a message.
 */
struct CMUnitTest;
int rawarray_run(const struct CMUnitTest *tests, size_t n);

#endif
