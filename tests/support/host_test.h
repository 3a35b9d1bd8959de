/* host_test.h - for the tests of fzlua.h: a state for each test. */
#ifndef HOST_TEST_H
#define HOST_TEST_H

#include <lua.h>

enum { HOST_HANGS_S = 120 };

/* The state of a test is *state. At its end no child must be left. */
int host_open_state(void **state);
int host_close_state(void **state);
#define HOST_TEST(test) \
	cmocka_unit_test_setup_teardown(test, host_open_state, host_close_state)

void host_push_function(lua_State *L, const char *code);

/* Call a chunk, which must end with this status; its result is on top. */
void host_assert_status(lua_State *L, const char *code, int status);

/* A field of the table on top, as a text that lasts as long as the table. */
const char *host_field(lua_State *L, const char *name);

/* Step only if the descriptor is ready, until fzlua_next() has a task. */
int host_poll_next(lua_State *L, int nresults, void **tag);

#endif
