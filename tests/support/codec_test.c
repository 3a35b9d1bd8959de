#include "codec_test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "lua_state.h"

int
codec_test_setup(void **state)
{
	struct codec_test *t = calloc(1, sizeof(*t));

	assert_non_null(t);
	t->L = lua_state_with_codec(&t->memory);
	fz_buf_init(&t->out);
	*state = t;
	return 0;
}

int
codec_test_teardown(void **state)
{
	struct codec_test *t = *state;

	t->memory.left = -1;
	lua_close(t->L);
	fz_buf_fini(&t->out);
	assert_int_equal(t->memory.used, 0);
	free(t);
	return 0;
}
