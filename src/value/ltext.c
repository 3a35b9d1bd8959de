#include "value/ltext.h"

#include <lauxlib.h>
#include <utf8proc.h>

/* Maximum number of columns of a grapheme cluster; even a family of emoji has
 * only two. */
#define CLUSTER_MAX 2

/*
 * text_width(s) -> columns of `s` on a terminal
 *
 * A cluster of code points, such as a letter and its accents or the two letters
 * of a flag, takes the columns of its parts, but two at most. A byte that is
 * not UTF-8 takes one column.
 */
static int
text_width(lua_State *L)
{
	size_t len;
	const char *s = luaL_checklstring(L, 1, &len);
	utf8proc_int32_t code, previous = 0, state = 0;
	lua_Integer total = 0;
	int cluster = 0;

	for (size_t i = 0; i < len; previous = code) {
		utf8proc_ssize_t n =
		    utf8proc_iterate((const utf8proc_uint8_t *)s + i,
			(utf8proc_ssize_t)(len - i), &code);
		int width = n > 0 ? utf8proc_charwidth(code) : 1;

		if (n <= 0)
			code = 0;
		if (i > 0 &&
		    utf8proc_grapheme_break_stateful(previous, code, &state)) {
			total += cluster;
			cluster = 0;
		}
		cluster += width;
		if (cluster > CLUSTER_MAX)
			cluster = CLUSTER_MAX;
		i += n > 0 ? (size_t)n : 1;
	}
	lua_pushinteger(L, total + cluster);
	return 1;
}

static const luaL_Reg functions[] = {
	{ "text_width", text_width },
	{ NULL, NULL },
};

int
fz_ltext_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
