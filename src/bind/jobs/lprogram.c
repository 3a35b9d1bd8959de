#define _POSIX_C_SOURCE 200809L /* readlink, access */
#include "bind/open.h"

#include <stdint.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/lloop.h"
#include "value/lerror.h"
#include "worker/program.h"

#define EXEC_TYPE "fzlua.Program"

/* User values. The input stays alive while the program may read it. */
enum { EXEC_INPUT = 1, EXEC_NUSER = EXEC_INPUT };

struct lexec {
	struct fz_program *exec; /* NULL before its start and after close() */
};

static struct lexec *
to_lexec(lua_State *L)
{
	return luaL_checkudata(L, 1, EXEC_TYPE);
}

static struct fz_program *
check_exec(lua_State *L)
{
	struct lexec *le = to_lexec(L);

	if (le->exec == NULL)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the program is closed");
	return le->exec;
}

/*
 * Push a userdata with a NULL-terminated array of the strings in the list at
 * `idx`; the list owns the strings. [-0, +1, e]
 */
static char **
push_strings(lua_State *L, int idx)
{
	lua_Integer n;
	char **strings;

	luaL_checktype(L, idx, LUA_TTABLE);
	n = (lua_Integer)lua_rawlen(L, idx);
	strings = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof(*strings), 0);
	for (lua_Integer i = 0; i < n; i++) {
		luaL_argcheck(L, lua_rawgeti(L, idx, i + 1) == LUA_TSTRING, idx,
		    "must be a list of strings");
		/* exec and putenv do not write to them, in spite of their
		 * types. */
		strings[i] = (char *)(uintptr_t)lua_tostring(L, -1);
		lua_pop(L, 1);
	}
	strings[n] = NULL;
	return strings;
}

/*
 * exec(words, file, stdin, env, cwd, timeout) -> program. `env` is a list of
 * "NAME=value" and, to remove one, "NAME". All but `words` may be nil.
 */
static int
exec_new(lua_State *L)
{
	struct fz_program_opts opts = { .timeout_ns = FZ_CLOCK_NEVER };
	struct fz_err err = { 0 };
	struct lexec *le;

	lua_settop(L, 6);
	opts.argv = push_strings(L, 1);
	luaL_argcheck(L, opts.argv[0] != NULL, 1, "no program");
	opts.file = luaL_optstring(L, 2, opts.argv[0]);
	opts.input = luaL_optlstring(L, 3, "", &opts.ninput);
	if (!lua_isnil(L, 4))
		opts.env = push_strings(L, 4);
	opts.cwd = luaL_optstring(L, 5, NULL);
	if (!lua_isnil(L, 6))
		opts.timeout_ns = fz_clock_from_seconds(luaL_checknumber(L, 6));
	opts.engine = fz_lloop_engine(L);
	le = lua_newuserdatauv(L, sizeof(*le), EXEC_NUSER);
	le->exec = NULL; /* for __gc, if the start fails */
	luaL_setmetatable(L, EXEC_TYPE);
	lua_pushvalue(L, 3);
	lua_setiuservalue(L, -2, EXEC_INPUT);
	le->exec = fz_program_new(&opts, &err);
	return le->exec != NULL ? 1 : fz_lerror_raise(L, &err);
}

/* program:done() -> boolean */
static int
exec_done(lua_State *L)
{
	lua_pushboolean(L, fz_program_end(check_exec(L)) != NULL);
	return 1;
}

/* Move the bytes of the buffer to a Lua string in the table on top. */
static void
set_bytes(lua_State *L, const char *field, struct fz_buf *buf)
{
	lua_pushlstring(L, (const char *)buf->data, buf->len);
	fz_buf_fini(buf);
	lua_setfield(L, -2, field);
}

/*
 * program:result() -> { exitcode | signal, stdout, stderr [, timed_out] },
 * once it is done; raises its error.
 */
static int
exec_result(lua_State *L)
{
	struct fz_program_end *end = fz_program_end(check_exec(L));

	if (end == NULL)
		return fz_lerror_fail(
		    L, FZ_ERR_ERROR, "the program is not done");
	if (end->err.kind != FZ_ERR_NONE)
		return fz_lerror_raise(L, &end->err);
	lua_createtable(L, 0, 4);
	lua_pushinteger(L, end->signal != 0 ? end->signal : end->exitcode);
	lua_setfield(L, -2, end->signal != 0 ? "signal" : "exitcode");
	if (end->timed_out) {
		lua_pushboolean(L, 1);
		lua_setfield(L, -2, "timed_out");
	}
	set_bytes(L, "stdout", &end->out);
	set_bytes(L, "stderr", &end->errors);
	return 1;
}

/* program:close(): end it if it runs; idempotent */
static int
exec_close(lua_State *L)
{
	struct lexec *le = to_lexec(L);

	fz_program_free(le->exec);
	le->exec = NULL;
	return 0;
}

static int
exec_tostring(lua_State *L)
{
	lua_pushfstring(L, EXEC_TYPE ": %p", (void *)to_lexec(L));
	return 1;
}

/*
 * executable() -> path of the file that this process runs: its own path, or the
 * path of the kernel if that file was replaced.
 */
static int
exec_executable(lua_State *L)
{
	static const char kernels[] = "/proc/self/exe";
	char path[4096];
	ssize_t n = readlink(kernels, path, sizeof(path) - 1);

	path[n > 0 ? n : 0] = '\0';
	lua_pushstring(L, access(path, X_OK) == 0 ? path : kernels);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "done", exec_done },
	{ "result", exec_result },
	{ "close", exec_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", exec_close },
	{ "__close", exec_close },
	{ "__tostring", exec_tostring },
	{ NULL, NULL },
};

int
fz_lprogram_open(lua_State *L)
{
	if (luaL_newmetatable(L, EXEC_TYPE)) {
		luaL_setfuncs(L, metamethods, 0);
		luaL_newlib(L, methods);
		lua_setfield(L, -2, "__index");
	}
	lua_pop(L, 1);
	lua_pushcfunction(L, exec_new);
	lua_setfield(L, -2, "exec");
	lua_pushcfunction(L, exec_executable);
	lua_setfield(L, -2, "executable");
	return 0;
}
