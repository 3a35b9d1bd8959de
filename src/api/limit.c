#include "api/fzlua.h"

#include <string.h>

#include "base/clock.h"
#include "bind/llimit.h"
#include "bind/llimited.h"
#include "bind/lloop.h"

static int64_t
bytes_of(size_t n)
{
	return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

/* () -> nothing; the body of a protected call */
static int
install(lua_State *L)
{
	fz_llimited_install(L);
	return 0;
}

void
fzlua_limit(lua_State *L, const struct fzlua_limits *limits)
{
	struct fzlua_limits l = { 0 };
	struct fz_llimits most = { 0 };

	if (limits != NULL)
		memcpy(&l, limits,
		    limits->size < sizeof(l) ? limits->size : sizeof(l));
	if (l.seconds > 0)
		most.ns = fz_clock_from_seconds(l.seconds);
	if (l.seconds > 0 && most.ns == 0)
		most.ns = 1; /* 0 would mean no limit */
	most.instructions = l.instructions > 0 ? l.instructions : 0;
	most.memory = bytes_of(l.memory);
	fz_llimit_set(L, &most);
	/*
	 * If there is no memory for the replaced functions, the limits hold
	 * except in the three places that bind/llimited.h names.
	 */
	if (fz_llimit_is_set(fz_lloop_limit(L)) && lua_checkstack(L, 1)) {
		lua_pushcfunction(L, install);
		if (lua_pcall(L, 0, 0, 0) != LUA_OK)
			lua_pop(L, 1);
	}
}
