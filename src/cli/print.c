/* for open_memstream, a POSIX function that -std=c11 hides */
#define _GNU_SOURCE
#include "cli/print.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "bind/lloop.h"
#include "bind/lsink.h"
#include "cli/output.h"
#include "value/luserdata.h"

/* The sink of the Lua state of the command; NULL after the state was closed. */
static struct fz_lsink *sink;

/* The original functions of the Lua library. */
static lua_CFunction lua_print, lua_write, lua_output, lua_file_write,
    lua_execute;

static bool
covers(const FILE *f)
{
	if (sink == NULL || !fz_footer_is_active(&sink->footer))
		return false;
	return (f == stdout && fz_lsink_covers(sink, STDOUT_FILENO)) ||
	       (f == stderr && fz_lsink_covers(sink, STDERR_FILENO));
}

void
fz_print_clear(void)
{
	if (sink != NULL && fz_footer_is_active(&sink->footer))
		fz_footer_hide(&sink->footer);
}

void
fz_print_restore(void)
{
	if (sink != NULL)
		fz_footer_redraw(&sink->footer);
}

/* Check the results of a library function that has written to stdout. */
static int
checked(int nresults)
{
	fz_output_check();
	return nresults;
}

/* replaces print(...) */
static int
print(lua_State *L)
{
	int n = lua_gettop(L);
	luaL_Buffer b;

	if (!covers(stdout))
		return checked(lua_print(L));
	luaL_buffinit(L, &b);
	for (int i = 1; i <= n; i++) {
		if (i > 1)
			luaL_addchar(&b, '\t');
		luaL_tolstring(L, i, NULL);
		luaL_addvalue(&b);
	}
	luaL_addchar(&b, '\n');
	fz_lsink_print(sink, luaL_buffaddr(&b), luaL_bufflen(&b));
	return 0;
}

/*
 * Let `original` write to memory instead of `file`, and print this text above
 * the progress lines and the prompt.
 */
static int
write_above(lua_State *L, luaL_Stream *file, lua_CFunction original)
{
	int n = lua_gettop(L), status;
	FILE *terminal = file->f, *memory;
	char *text = NULL;
	size_t len = 0;

	luaL_checkstack(L, n + 1, "too many values");
	memory = open_memstream(&text, &len);
	if (memory == NULL)
		return luaL_fileresult(L, 0, NULL);
	lua_pushcfunction(L, original);
	for (int i = 1; i <= n; i++)
		lua_pushvalue(L, i);
	file->f = memory;
	status = lua_pcall(L, n, LUA_MULTRET, 0);
	file->f = terminal;
	fclose(memory);
	if (status == LUA_OK && len > 0)
		fz_lsink_print(sink, text, len);
	free(text);
	if (status == LUA_OK)
		return lua_gettop(L) - n;
	/*
	 * An argument is wrong: call the original function, so that the error
	 * names the call in the script.
	 */
	fz_print_clear();
	fz_print_restore();
	lua_settop(L, n);
	return original(L);
}

/*
 * The file at `idx` if progress lines or the prompt are on the terminal to
 * which the file writes; else NULL.
 */
static luaL_Stream *
covered_file(lua_State *L, int idx)
{
	luaL_Stream *file = luaL_testudata(L, idx, LUA_FILEHANDLE);

	return file != NULL && file->closef != NULL && covers(file->f) ? file
								       : NULL;
}

/* replaces file:write(...) */
static int
file_write(lua_State *L)
{
	luaL_Stream *file = covered_file(L, 1);

	return file != NULL ? write_above(L, file, lua_file_write)
			    : checked(lua_file_write(L));
}

/* replaces io.write(...) */
static int
io_write(lua_State *L)
{
	luaL_Stream *file;

	if (!covers(stdout) && !covers(stderr))
		return checked(lua_write(L));
	luaL_checkstack(L, 2, NULL);
	lua_pushcfunction(L, lua_output);
	lua_call(L, 0, 1);
	file = covered_file(L, -1); /* the io library keeps the file alive */
	lua_pop(L, 1);
	return file != NULL ? write_above(L, file, lua_write)
			    : checked(lua_write(L));
}

/* replaces os.execute([command]) */
static int
execute(lua_State *L)
{
	int n;

	fz_print_clear();
	n = lua_execute(L);
	fz_print_restore();
	return n;
}

/* Replace a function in the table on top. Sets `*original` to the old one. */
static void
replace(
    lua_State *L, const char *name, lua_CFunction f, lua_CFunction *original)
{
	lua_getfield(L, -1, name);
	*original = lua_tocfunction(L, -1);
	lua_pop(L, 1);
	lua_pushcfunction(L, f);
	lua_setfield(L, -2, name);
}

void
fz_print_end(void)
{
	if (sink != NULL)
		fz_lsink_set_footer(sink, "", 0, 0, 0);
}

void
fz_print_lost(void)
{
	if (sink != NULL)
		sink->footer.lost = 1;
}

/* Finalizer, called before the Lua state is freed. */
static int
state_closes(lua_State *L)
{
	(void)L;
	fz_print_end();
	sink = NULL;
	return 0;
}

/* Call state_closes() when the state is closed, before the sink is freed. */
static void
watch_close(lua_State *L)
{
	lua_newtable(L);
	fz_luserdata_finalize(L, state_closes);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &sink);
}

void
fz_print_wrap(lua_State *L)
{
	int top = lua_gettop(L);

	watch_close(L);
	sink = fz_lloop_sink(L);
	lua_pushglobaltable(L);
	replace(L, "print", print, &lua_print);
	lua_getglobal(L, LUA_IOLIBNAME);
	lua_getfield(L, -1, "output");
	lua_output = lua_tocfunction(L, -1);
	lua_pop(L, 1);
	replace(L, "write", io_write, &lua_write);
	lua_getglobal(L, LUA_OSLIBNAME);
	replace(L, "execute", execute, &lua_execute);
	luaL_getmetatable(L, LUA_FILEHANDLE);
	lua_getfield(L, -1, "__index");
	replace(L, "write", file_write, &lua_file_write);
	lua_settop(L, top);
}
