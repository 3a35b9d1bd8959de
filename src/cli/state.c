#include "cli/state.h"

#include <stdio.h>
#include <string.h>

#include <lauxlib.h>

#include "cli/print.h"
#include "os/alloc.h"

/* Print an error outside of any protected call, which ends the process. */
static int
panic(lua_State *L)
{
	const char *message = lua_tostring(L, -1);

	fprintf(stderr, "PANIC: unprotected error in call to Lua API (%s)\n",
	    message != NULL ? message : "error object is not a string");
	fflush(stderr);
	return 0; /* Lua aborts */
}

static void warn_off(void *ud, const char *message, int more);
static void warn_on(void *ud, const char *message, int more);
static void warn_more(void *ud, const char *message, int more);

/* Handle a control message; false: `message` is not one. */
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

/* Write the next piece of a warning. */
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

lua_State *
fz_state_new(void)
{
	lua_State *L = lua_newstate(fz_alloc_alloc, NULL);

	if (L == NULL)
		return NULL;
	lua_atpanic(L, panic);
	lua_setwarnf(L, warn_off, L);
	return L;
}
