#include "cli/state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "cli/print.h"
#include "os/alloc.h"
#include "value/lstate.h"

/* Print an error that no protected call has caught. Lua then aborts. */
static int
panic(lua_State *L)
{
	const char *message = lua_tostring(L, -1);

	fprintf(stderr, "PANIC: unprotected error in call to Lua API (%s)\n",
	    message != NULL ? message : "error object is not a string");
	fflush(stderr);
	return 0; /* Lua calls abort() after this return */
}

static void warn_off(void *ud, const char *message, int more);
static void warn_on(void *ud, const char *message, int more);
static void warn_more(void *ud, const char *message, int more);

/* Handle a control message of warn(). Returns false for other messages. */
static int
handle_control(lua_State *L, const char *message, int more)
{
	if (more || *message != '@')
		return 0;
	if (strcmp(message, "@off") == 0)
		lua_setwarnf(L, warn_off, L);
	else if (strcmp(message, "@on") == 0)
		lua_setwarnf(L, warn_on, L);
	return 1;
}

static void
warn_off(void *ud, const char *message, int more)
{
	handle_control(ud, message, more);
}

static void
warn_more(void *ud, const char *message, int more)
{
	fputs(message, stderr);
	if (!more)
		fputs("\n", stderr);
	fflush(stderr);
	if (!more)
		fz_print_restore();
	lua_setwarnf(ud, more ? warn_more : warn_on, ud);
}

static void
warn_on(void *ud, const char *message, int more)
{
	if (handle_control(ud, message, more))
		return;
	fz_print_clear();
	fputs("Lua warning: ", stderr);
	warn_more(ud, message, more);
}

/*
 * The address of this variable is the registry key of the object whose
 * finalizer runs last.
 */
static const char last_key;

/*
 * The exit status with which exit_at_end() ends the process; -1 if
 * exit_at_end() must do nothing.
 */
static int ending = -1;

/*
 * Finalizer that ends the process. It runs after all other finalizers, because
 * its object got a finalizer first.
 */
static int
exit_at_end(lua_State *L)
{
	(void)L;
	if (ending != -1)
		exit(ending);
	return 0;
}

static int
add_last(lua_State *L)
{
	lua_newuserdatauv(L, 0, 0);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, exit_at_end);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &last_key);
	return 0;
}

lua_State *
fz_state_new(void)
{
	lua_State *L = fz_lstate_new(fz_alloc_alloc, NULL);

	if (L == NULL)
		return NULL;
	lua_atpanic(L, panic);
	lua_setwarnf(L, warn_off, L);
	lua_pushcfunction(L, add_last);
	if (lua_pcall(L, 0, 0, 0) != LUA_OK)
		/* without it, the end only takes longer */
		lua_settop(L, 0);
	return L;
}

_Noreturn void
fz_state_exit(lua_State *L, int status)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(FZ_VALGRIND)
	/* a memory checker must see that each block is freed */
	ending = status;
#endif
	lua_close(L);
	exit(status);
}
