/* sigaction is POSIX, which -std=c11 hides. */
#define _GNU_SOURCE
#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>

#include "bind/lloop.h"
#include "cli/make.h"
#include "value/lerror.h"
#include "value/luserdata.h"

/* State for the handler of SIGINT; a process has one command. */
static lua_State *main_state;
static volatile sig_atomic_t interrupted; /* set until the error is raised */
static int wake_fd = -1;
static lua_State *volatile *running_state;     /* it runs a call of jobs = 0 */
static lua_State *volatile *running_coroutine; /* the innermost */

static void
raise_interrupted(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	if (!interrupted)
		return; /* a wait has raised the error */
	interrupted = 0;
	fz_lerror_push(L, FZ_ERR_INTERRUPTED, "interrupted");
	lua_error(L);
}

/* The first Ctrl-C raises an error in Lua; a second one ends the process. */
static void
on_interrupt(int sig)
{
	const int mask =
	    LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
	lua_State *running = *running_state;
	lua_State *coroutine = *running_coroutine;
	int saved = errno;

	fz_make_end_by_signal(sig);
	interrupted = 1;
	lua_sethook(main_state, raise_interrupted, mask, 1);
	if (running != NULL)
		lua_sethook(running, raise_interrupted, mask, 1);
	if (coroutine != NULL)
		lua_sethook(coroutine, raise_interrupted, mask, 1);
	if (wake_fd >= 0 && write(wake_fd, "", 1) < 0)
		errno = 0; /* a full pipe wakes the loop, too */
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

/* A finalizer: the state is about to be freed. */
static int
state_closes(lua_State *L)
{
	(void)L;
	fz_interrupt_uncatch();
	return 0;
}

/*
 * Call state_closes() when the state is closed. Finalizers run in the reverse
 * order of their creation: this one after those of the script, but before that
 * of the loop, whose descriptor the handler writes to.
 */
static void
watch_close(lua_State *L)
{
	lua_newtable(L);
	fz_luserdata_finalize(L, state_closes);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &main_state);
}

void
fz_interrupt_catch(lua_State *L)
{
	struct sigaction action;

	watch_close(L);
	main_state = L;
	wake_fd = fz_lloop_wake_fd(L);
	running_state = fz_lloop_running(L);
	running_coroutine = &fz_lloop_tasks(L)->running;
	fz_lloop_interrupt(L, &interrupted);
	if (sigaction(SIGINT, NULL, &action) != 0 ||
	    action.sa_handler == SIG_IGN)
		return;
	memset(&action, 0, sizeof(action));
	action.sa_handler = on_interrupt;
	sigaction(SIGINT, &action, NULL);
}
