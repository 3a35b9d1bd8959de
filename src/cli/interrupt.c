/* for sigaction, a POSIX function that -std=c11 hides */
#define _GNU_SOURCE
#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "cli/make.h"
#include "value/luserdata.h"

/* State of the handler of SIGINT. A process has only one command. */
static struct fzlua_instance *instance;
/* whether a second SIGINT does not end the process */
static volatile sig_atomic_t only_raises;

/* The first Ctrl-C raises an error in Lua, and a second ends the process. */
static void
on_interrupt(int sig)
{
	int saved = errno;

	if (!only_raises)
		fz_make_end_by_signal(sig);
	fzlua_interrupt(instance);
	errno = saved;
}

void
fz_interrupt_uncatch(void)
{
	struct sigaction action;

	if (sigaction(SIGINT, NULL, &action) != 0 ||
	    action.sa_handler != on_interrupt)
		return;
	action.sa_handler = fz_make_end_by_signal;
	action.sa_flags = SA_RESTART;
	sigaction(SIGINT, &action, NULL);
}

/* Finalizer, called before the Lua state is freed. */
static int
state_closes(lua_State *L)
{
	(void)L;
	fz_interrupt_uncatch();
	return 0;
}

/*
 * Call state_closes() when the state is closed. Finalizers run in the reverse
 * order of their creation: this one after those of the script, and before that
 * of the loop, whose descriptor the signal handler uses.
 */
static void
watch_close(lua_State *L)
{
	lua_newtable(L);
	fz_luserdata_finalize(L, state_closes);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &instance);
}

static void
catch_next(void)
{
	struct sigaction action;

	if (sigaction(SIGINT, NULL, &action) != 0 ||
	    action.sa_handler == SIG_IGN)
		return;
	memset(&action, 0, sizeof(action));
	action.sa_handler = on_interrupt;
	sigaction(SIGINT, &action, NULL);
}

int
fz_interrupt_catch_next(lua_State *L)
{
	(void)L;
	catch_next();
	return 0;
}

void
fz_interrupt_only_raise(bool only)
{
	only_raises = only;
}

void
fz_interrupt_catch(lua_State *L)
{
	watch_close(L);
	instance = fzlua_instance_of(L);
	catch_next();
}
