#include "bind/linterrupt.h"

#include <errno.h>
#include <unistd.h>

#include "bind/lloop.h"
#include "value/lerror.h"

void
fz_linterrupt_check(lua_State *L, struct fz_linterrupt *interrupt)
{
	if (!atomic_load_explicit(&interrupt->pending, memory_order_relaxed))
		return;
	interrupt->pending = 0;
	fz_lerror_fail(L, FZ_ERR_INTERRUPTED, "interrupted");
}

static void
raise_interrupted(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	/* unless a wait has raised it already */
	fz_linterrupt_check(L, fz_lloop_interrupt(L));
}

static void
set_hook(lua_State *thread)
{
	const int mask =
	    LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;

	if (thread != NULL)
		lua_sethook(thread, raise_interrupted, mask, 1);
}

void
fz_linterrupt(struct fz_linterrupt *interrupt)
{
	int saved = errno;

	interrupt->pending = 1;
	interrupt->nvisits++;
	set_hook(interrupt->main);
	set_hook(interrupt->local);
	set_hook(interrupt->coroutine);
	interrupt->nvisits--;
	if (interrupt->wake_fd >= 0 && write(interrupt->wake_fd, "", 1) < 0)
		errno = 0; /* a full pipe wakes the loop, too */
	errno = saved;
}
