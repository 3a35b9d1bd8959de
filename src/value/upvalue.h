/* upvalue.h - the identity of an upvalue's variable, in every Lua 5.4. */
#ifndef FZ_UPVALUE_H
#define FZ_UPVALUE_H

#include <lua.h>

/*
 * lua_upvalueid(), but NULL if the function at `f` has no upvalue `i`. Old
 * releases of Lua 5.4 would read beyond the upvalues of the function.
 */
static inline void *
fz_upvalue_id(lua_State *L, int f, int i)
{
#if LUA_VERSION_RELEASE_NUM < 50404
	if (lua_getupvalue(L, f, i) == NULL)
		return NULL;
	lua_pop(L, 1);
#endif
	return lua_upvalueid(L, f, i);
}

#endif
