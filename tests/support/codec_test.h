/* codec_test.h - a state with the codec, whose allocations fail on demand. */
#ifndef CODEC_TEST_H
#define CODEC_TEST_H

#include <lua.h>

#include "base/buf.h"
#include "lua_memory.h"

struct codec_test {
	lua_State *L;
	struct lua_memory memory;
	struct fz_buf out; /* bytes that the codec has written */
};

/* *state is a struct codec_test. */
int codec_test_setup(void **state);

/* The test fails if closing the state leaves memory in use. */
int codec_test_teardown(void **state);

#endif
