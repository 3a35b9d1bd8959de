#include "bind/linterrupt.h"

#include <errno.h>
#include <unistd.h>

#include "bind/lloop.h"
#include "value/lerror.h"

void
fz_linterrupt_check(lua_State *L, struct fz_linterrupt *interrupt)
{
	if (!interrupt->pending)
		return;
	interrupt->pending = 0;
	fz_lerror_fail(L, FZ_ERR_INTERRUPTED, "interrupted");
}

static void
raise_interrupted(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	fz_linterrupt_check(L, fz_lloop_interrupt(L)); /* or a wait raised it */
}

void
fz_linterrupt(struct fz_linterrupt *interrupt)
{
	const int mask =
	    LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
	lua_State *local = *interrupt->local;
	lua_State *coroutine = *interrupt->coroutine;
	int saved = errno;

	interrupt->pending = 1;
	lua_sethook(interrupt->main, raise_interrupted, mask, 1);
	if (local != NULL)
		lua_sethook(local, raise_interrupted, mask, 1);
	if (coroutine != NULL)
		lua_sethook(coroutine, raise_interrupted, mask, 1);
	if (interrupt->wake_fd >= 0 && write(interrupt->wake_fd, "", 1) < 0)
		errno = 0; /* a full pipe wakes the loop, too */
	errno = saved;
}
