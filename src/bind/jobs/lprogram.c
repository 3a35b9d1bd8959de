#define _POSIX_C_SOURCE 200809L /* readlink, access */
#include "bind/open.h"

#include <stdint.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/lloop.h"
#include "proc/death.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "worker/program.h"

#define PROGRAM_TYPE "fzlua.Program"

static const struct fz_luserdata_class program_class;

/*
 * User values: objects that a program keeps alive. The program may read the
 * input at any time, and the names of files in the options are used.
 */
enum { PROGRAM_INPUT = 1, PROGRAM_OPTIONS, PROGRAM_NUSER = PROGRAM_OPTIONS };

struct lprogram {
	/* NULL before the start and after close() */
	struct fz_program *program;
};

static struct lprogram *
to_lprogram(lua_State *L)
{
	return luaL_checkudata(L, 1, PROGRAM_TYPE);
}

static struct fz_program *
check_program(lua_State *L)
{
	struct lprogram *lp = to_lprogram(L);

	if (lp->program == NULL)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the program is closed");
	return lp->program;
}

/*
 * Push a userdata with a NULL-terminated array of the strings in the list at
 * `idx`. The list owns the strings. [-0, +1, e]
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
		/*
		 * The cast is safe: exec and putenv do not write to the
		 * strings.
		 */
		strings[i] = (char *)(uintptr_t)lua_tostring(L, -1);
		lua_pop(L, 1);
	}
	strings[n] = NULL;
	return strings;
}

/* The string in the field `name` of the options, or NULL. [-0, +0, e] */
static const char *
opt_string(lua_State *L, const char *name)
{
	const char *text = NULL;

	if (lua_getfield(L, 2, name) != LUA_TNIL)
		text = luaL_checkstring(L, -1);
	lua_pop(L, 1); /* the options keep the string alive */
	return text;
}

static bool
opt_boolean(lua_State *L, const char *name)
{
	bool value;

	lua_getfield(L, 2, name);
	value = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return value;
}

/*
 * Read the options. Pushes the object that keeps opts->env alive, or nil. [-0,
 * +1, e]
 */
static void
read_options(lua_State *L, struct fz_program_opts *opts)
{
	static const char *const files[] = { "stdin_file", "stdout_file",
		"stderr_file" };

	opts->file = opt_string(L, "file");
	opts->cwd = opt_string(L, "cwd");
	for (int i = 0; i < 3; i++)
		opts->files[i] = opt_string(L, files[i]);
	opts->feed = opt_boolean(L, "feed");
	opts->follow[0] = opt_boolean(L, "follow_stdout");
	opts->follow[1] = opt_boolean(L, "follow_stderr");
	if (lua_getfield(L, 2, "timeout") != LUA_TNIL)
		opts->timeout_ns =
		    fz_clock_from_seconds(luaL_checknumber(L, -1));
	lua_pop(L, 1);
	if (lua_getfield(L, 2, "env") != LUA_TNIL)
		opts->env = push_strings(L, lua_gettop(L));
	else
		lua_pushnil(L);
}

/*
 * core.exec(words, options) -> program. Options: file, cwd, timeout; stdin, a
 * string; env, a list of "NAME=value" and, to remove one, "NAME"; stdin_file,
 * stdout_file, stderr_file; feed, follow_stdout and follow_stderr (program.h).
 */
static int
program_new(lua_State *L)
{
	struct fz_program_opts opts = { .timeout_ns = FZ_CLOCK_NEVER };
	struct fz_err err = { 0 };
	struct lprogram *lp;

	lua_settop(L, 2);
	luaL_checktype(L, 2, LUA_TTABLE);
	opts.argv = push_strings(L, 1);
	luaL_argcheck(L, opts.argv[0] != NULL, 1, "the program is missing");
	read_options(L, &opts);
	if (opts.file == NULL)
		opts.file = opts.argv[0];
	lua_getfield(L, 2, "stdin");
	opts.input = luaL_optlstring(L, -1, "", &opts.ninput);
	opts.engine = fz_lloop_engine(L);
	lp = lua_newuserdatauv(L, sizeof(*lp), PROGRAM_NUSER);
	lp->program = NULL; /* so that __gc frees nothing if the start fails */
	fz_luserdata_set(L, &program_class);
	lua_pushvalue(L, -2);
	lua_setiuservalue(L, -2, PROGRAM_INPUT);
	lp->program = fz_program_new(&opts, &err);
	return lp->program != NULL ? 1 : fz_lerror_raise(L, &err);
}

/* program:id() -> integer that core.changed() returns after a change */
static int
program_id(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)fz_program_id(check_program(L)));
	return 1;
}

/* program:ready() -> whether it is done, hungry, or has bytes for take() */
static int
program_ready(lua_State *L)
{
	lua_pushboolean(L, fz_program_ready(check_program(L)));
	return 1;
}

/* program:hungry() -> whether the program waits for feed() */
static int
program_hungry(lua_State *L)
{
	lua_pushboolean(L, fz_program_hungry(check_program(L)));
	return 1;
}

/*
 * program:feed([bytes]): write these bytes to the input of the program. Without
 * bytes, close the input.
 */
static int
program_feed(lua_State *L)
{
	struct fz_program *program = check_program(L);
	size_t n;
	const char *bytes = luaL_optlstring(L, 2, "", &n);

	lua_settop(L, 2);
	if (!fz_program_hungry(program))
		return 0;
	lua_setiuservalue(L, 1, PROGRAM_INPUT);
	fz_program_feed(program, bytes, n);
	return 0;
}

/*
 * program:take(which) -> the bytes that the program has written to its standard
 * output (1) or standard error (2) since the last call
 */
static int
program_take(lua_State *L)
{
	struct fz_program *program = check_program(L);
	int which = luaL_checkinteger(L, 2) == 1 ? 0 : 1;
	struct fz_buf *bytes = fz_program_output(program, which);

	lua_pushlstring(L, (const char *)bytes->data, bytes->len);
	fz_buf_clear(bytes);
	return 1;
}

static int
program_done(lua_State *L)
{
	lua_pushboolean(L, fz_program_end(check_program(L)) != NULL);
	return 1;
}

/* Move the bytes to a string field of the table on top. */
static void
set_bytes(lua_State *L, const char *field, struct fz_buf *buf)
{
	lua_pushlstring(L, (const char *)buf->data, buf->len);
	fz_buf_fini(buf);
	lua_setfield(L, -2, field);
}

/*
 * program:result() -> { exitcode | signal, stdout, stderr [, timed_out] }, and
 * a text that says how the program ended. Called when the program is done.
 * Raises an error if the program could not be started, or if its input or
 * output failed.
 */
static int
program_result(lua_State *L)
{
	struct fz_program_end *end = fz_program_end(check_program(L));
	struct fz_death death = { 0 };
	char text[160];

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
	death.signal = end->signal;
	death.exitcode = end->exitcode;
	lua_pushstring(L, fz_death_text(&death, text, sizeof(text)));
	return 2;
}

/* program:close(): end the program if it runs. A second call does nothing. */
static int
program_close(lua_State *L)
{
	struct lprogram *lp = to_lprogram(L);

	fz_program_free(lp->program);
	lp->program = NULL;
	return 0;
}

/*
 * core.executable() -> path of the file that this process executes, or
 * /proc/self/exe if that file was replaced
 */
static int
program_executable(lua_State *L)
{
	static const char kernels[] = "/proc/self/exe";
	char path[4096];
	ssize_t n = readlink(kernels, path, sizeof(path) - 1);

	path[n > 0 ? n : 0] = '\0';
	lua_pushstring(L, access(path, X_OK) == 0 ? path : kernels);
	return 1;
}

static const luaL_Reg methods[] = {
	{ "id", program_id },
	{ "done", program_done },
	{ "ready", program_ready },
	{ "hungry", program_hungry },
	{ "feed", program_feed },
	{ "take", program_take },
	{ "result", program_result },
	{ "close", program_close },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", program_close },
	{ "__close", program_close },
	{ NULL, NULL },
};

static const struct fz_luserdata_class program_class = {
	.name = PROGRAM_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lprogram_open(lua_State *L)
{
	lua_pushcfunction(L, program_new);
	lua_setfield(L, -2, "exec");
	lua_pushcfunction(L, program_executable);
	lua_setfield(L, -2, "executable");
	return 0;
}
