#include "bind/linterrupt.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "bind/lloop.h"
#include "value/lerror.h"

/*
 * Maximum number of instructions in fzlua's modules before the error of an
 * interrupt is raised. They take about 10 ms.
 */
enum { INSTRUCTIONS_MAX = 100000 };

void
fz_linterrupt_check(lua_State *L, struct fz_linterrupt *interrupt)
{
	if (!atomic_load_explicit(&interrupt->pending, memory_order_relaxed))
		return;
	interrupt->pending = 0;
	interrupt->nput_off = 0;
	fz_lerror_fail(L, FZ_ERR_INTERRUPTED, "interrupted");
}

/* Whether the innermost Lua function is a part of fzlua's modules. */
static bool
in_module(lua_State *L)
{
	lua_Debug ar;

	for (int level = 0; lua_getstack(L, level, &ar) == 1; level++) {
		lua_getinfo(L, "S", &ar);
		if (*ar.what != 'C')
			return strncmp(ar.source, "@fzlua/", 7) == 0;
	}
	return false;
}

/*
 * The hook. An error between two instructions of a module could leave an object
 * half changed. So the hook raises the error after the module has returned to
 * other code. A wait in the module raises it at once.
 */
static void
raise_interrupted(lua_State *L, lua_Debug *ar)
{
	struct fz_linterrupt *interrupt = fz_lloop_interrupt(L);

	(void)ar;
	if (interrupt->pending && in_module(L) &&
	    ++interrupt->nput_off < INSTRUCTIONS_MAX)
		return;
	lua_sethook(L, NULL, 0, 0);
	/* Do nothing if a wait has already raised the error. */
	fz_linterrupt_check(L, interrupt);
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
		errno = 0; /* the pipe is full, so it wakes the loop, too */
	errno = saved;
}
