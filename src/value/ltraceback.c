#include "value/ltraceback.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

enum frame {
	FRAME_USER,
	FRAME_OURS, /* in a Lua file of fzlua */
	FRAME_C,    /* a C function; hidden if a Lua file of fzlua calls it */
	FRAME_TAIL  /* "(...tail calls...)"; hidden beside a hidden frame */
};

static bool
starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool
shows_all(void)
{
	const char *debug = getenv("FZLUA_DEBUG");

	return debug != NULL && strcmp(debug, "1") == 0;
}

static enum frame
kind_of(const char *line)
{
	if (starts_with(line, "\n\tfzlua/"))
		return FRAME_OURS;
	if (starts_with(line, "\n\t[C]:"))
		return FRAME_C;
	if (starts_with(line, "\n\t(..."))
		return FRAME_TAIL;
	return FRAME_USER;
}

/* The newline before the next line, or the end of the text. */
static const char *
next_line(const char *line)
{
	const char *next = strchr(line + 1, '\n');

	return next != NULL ? next : line + strlen(line);
}

/* Whether the nearest Lua caller of the frame at `line` is in fzlua. */
static bool
is_called_by_ours(const char *line)
{
	enum frame kind;

	do {
		line = next_line(line);
		kind = *line != '\0' ? kind_of(line) : FRAME_USER;
	} while (kind == FRAME_C || kind == FRAME_TAIL);
	return kind == FRAME_OURS;
}

/* Whether this is the C function that runs the first function of a state. */
static bool
is_bottom(const char *line)
{
	return strcmp(line, "\n\t[C]: in ?") == 0;
}

/* Add the visible frames of the list at `line`. Returns their number. */
static unsigned
add_frames(luaL_Buffer *b, const char *line)
{
	bool ours_before = false;
	unsigned n = 0;

	for (const char *next; *line != '\0'; line = next) {
		enum frame kind = kind_of(line);
		bool ours = kind == FRAME_OURS || is_bottom(line) ||
			    (kind != FRAME_USER && is_called_by_ours(line)) ||
			    (kind == FRAME_TAIL && ours_before);

		next = next_line(line);
		if (!ours) {
			luaL_addlstring(b, line, (size_t)(next - line));
			n++;
		}
		ours_before = ours;
	}
	return n;
}

void
fz_ltraceback_push(lua_State *L, lua_State *co, int level)
{
	const char *text, *frames;
	luaL_Buffer b;
	unsigned n;
	int top;

	luaL_traceback(L, co, NULL, level);
	if (shows_all())
		return;
	top = lua_gettop(L);
	text = lua_tostring(L, top);
	frames = next_line(text);
	luaL_buffinit(L, &b);
	luaL_addlstring(&b, text, (size_t)(frames - text));
	n = add_frames(&b, frames);
	luaL_pushresult(&b);
	if (n == 0)
		lua_pushnil(L);
	lua_replace(L, top);
	lua_settop(L, top);
}

/*
 * traceback([coroutine,] [message [, level]]) -> string | nil if there is
 * nothing to show. The level is 1 by default, and 0 for a coroutine.
 */
static int
traceback(lua_State *L)
{
	lua_State *co = lua_tothread(L, 1);
	const char *message;
	int level;

	if (co != NULL)
		lua_remove(L, 1); /* the caller keeps the coroutine alive */
	message = luaL_optstring(L, 1, NULL);
	level = (int)luaL_optinteger(L, 2, co == NULL);
	lua_settop(L, 1);
	fz_ltraceback_push(L, co != NULL ? co : L, level);
	if (message == NULL)
		return 1;
	if (lua_isnil(L, 2)) {
		lua_settop(L, 1);
		return 1;
	}
	lua_pushliteral(L, "\n");
	lua_insert(L, 2);
	lua_concat(L, 3);
	return 1;
}

int
fz_ltraceback_open(lua_State *L)
{
	lua_pushcfunction(L, traceback);
	lua_setfield(L, -2, "traceback");
	return 0;
}
