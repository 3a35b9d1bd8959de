/* cli/main.c - the fzlua command: a Lua state that runs fzlua.cli. */
#define _GNU_SOURCE /* O_PATH */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "base/clock.h"
#include "bind/llimit.h"
#include "bind/lloop.h"
#include "bind/ltask.h"
#include "cli/edit.h"
#include "cli/edit_tty.h"
#include "cli/files.h"
#include "cli/interrupt.h"
#include "cli/join.h"
#include "cli/make.h"
#include "cli/output.h"
#include "cli/print.h"
#include "cli/state.h"
#include "cli/suspend.h"
#include "cli/worker_command.h"
#include "os/cwd.h"
#include "os/fd.h"
#include "os/process.h"
#include "proc/proc.h"
#include "value/lerror.h"
#include "wire/child_spawned.h"

#define STATUS_INTERRUPTED 130

/*
 * KiB that the script allocates before the first collection. What is loaded at
 * the start has no garbage, so an earlier collection would free nothing.
 */
enum { START_KIB = 20 };

static void
push_args(lua_State *L, int argc, char **argv)
{
	lua_createtable(L, argc, 1);
	for (int i = 0; i < argc; i++) {
		lua_pushstring(L, argv[i]);
		lua_rawseti(L, -2, i);
	}
}

/*
 * Overwrite the user and the password in a URL on the command line, because all
 * users of the machine can read command lines.
 */
static void
hide_secret(char *url)
{
	char *at = strstr(url, "://"), *end;

	if (at == NULL)
		return;
	at += 3;
	for (end = at + strcspn(at, "/"); end > at && *end != '@'; end--)
		continue;
	memset(at, '*', (size_t)(end - at));
}

static void
hide_secrets(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (strncmp(argv[i], "--engine=", 9) == 0)
			hide_secret(argv[i]);
		else if (strcmp(argv[i], "--engine") == 0 && i + 1 < argc)
			hide_secret(argv[i + 1]);
	}
}

static int
input_is_terminal(lua_State *L)
{
	lua_pushboolean(L, isatty(STDIN_FILENO));
	return 1;
}

/*
 * ignore_environment(): set package.path and package.cpath as if LUA_PATH and
 * LUA_CPATH were not set. lua5.4 -E does the same: the package library is
 * opened again, and only these fields of its new table are used.
 */
static int
ignore_environment(lua_State *L)
{
	static const char *const fields[] = { "path", "cpath" };

	lua_pushboolean(L, 1);
	lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
	/* keep this require, which uses the first package table */
	lua_getglobal(L, "require");
	lua_getglobal(L, LUA_LOADLIBNAME);
	lua_pushcfunction(L, luaopen_package);
	lua_call(L, 0, 1);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		lua_getfield(L, -1, fields[i]);
		lua_setfield(L, -3, fields[i]);
	}
	lua_pop(L, 2);
	lua_setglobal(L, "require");
	return 0;
}

/*
 * Call the reporter at `report` with the error on top, and replace the error by
 * its result: the exit status, or nil to go on. If Ctrl-C raises in the
 * reporter, it is called again with that error.
 */
static void
call_report(lua_State *L, int report)
{
	for (int tries = 2; tries > 0; tries--) {
		lua_pushvalue(L, report);
		lua_insert(L, -2);
		if (lua_pcall(L, 1, 1, 0) == LUA_OK)
			return;
	}
	lua_error(L);
}

/*
 * Run the steps of fzlua.cli and the functions that the steps return, with the
 * message handler of fzlua.cli. All calls come from this C function, so that a
 * chunk has the same stack level as in lua. The step, the handler and the
 * reporter of cli.main() are at `step` and the next indexes. Pushes the exit
 * status.
 */
static void
call_steps(lua_State *L, int step)
{
	int handler = step + 1, report = step + 2, status;

	for (int n = 0;; n = lua_gettop(L) - report) {
		luaL_checkstack(L, 2, "too many results of the script");
		lua_pushvalue(L, step);
		lua_insert(L, report + 1);
		status = lua_pcall(L, n, LUA_MULTRET, handler);
		if (status == LUA_OK && lua_isinteger(L, report + 1))
			return;
		if (status == LUA_OK)
			status = lua_pcall(L, lua_gettop(L) - report - 1,
			    LUA_MULTRET, handler);
		if (status == LUA_OK)
			continue;
		call_report(L, report);
		if (lua_isinteger(L, -1))
			return;
		lua_settop(L, report);
	}
}

/*
 * call_steps(step, handler, report) -> status: run a loop like that of
 * fzlua.cli during a step. The loop goes on after an error if the reporter
 * returns nil.
 */
static int
steps_call(lua_State *L)
{
	lua_settop(L, 3);
	call_steps(L, 1);
	return 1;
}

/*
 * call_limited(seconds, handler, f, ...) -> the results of f. If f runs longer
 * than `seconds`, an fz.Error of kind "timeout" is raised.
 */
static int
call_limited(lua_State *L)
{
	double seconds = luaL_checknumber(L, 1);
	struct fz_llimits most = { .ns = fz_clock_from_seconds(seconds) };
	struct fz_llimit *limit = fz_lloop_limit(L);
	struct fz_llimit_hook before;
	int status;

	fz_llimit_set(L, &most);
	fz_llimit_begin(limit, L, &before);
	status = lua_pcall(L, lua_gettop(L) - 3, LUA_MULTRET, 2);
	fz_llimit_end(limit, L, &before);
	fz_llimit_set(L, &(struct fz_llimits){ 0 });
	return status == LUA_OK ? lua_gettop(L) - 2 : lua_error(L);
}

/* C functions of the command that fzlua.cli calls. */
static const luaL_Reg host[] = {
	{ "call_limited", call_limited },
	{ "call_steps", steps_call },
	{ "catch_interrupt", fz_interrupt_catch_next },
	{ "divert_output", fz_output_divert },
	{ "editor", fz_edit_new },
	{ "ignore_environment", ignore_environment },
	{ "input_is_terminal", input_is_terminal },
	{ "list_files", fz_files_list },
	{ "make_directory", fz_files_make_directory },
	{ "output_failed", fz_output_failed },
	{ "restore_output", fz_output_restore },
	{ NULL, NULL },
};

static int
run(lua_State *L)
{
	int argc = (int)lua_tointeger(L, 1);
	char **argv = lua_touserdata(L, 2);

	luaL_checkversion(L);
	lua_gc(L, LUA_GCGEN, 0, 0); /* generational mode, as in lua5.4 */
	/* there is no garbage before the script runs */
	lua_gc(L, LUA_GCSTOP);
	luaL_openlibs(L);
	lua_pushcfunction(L, luaopen_fzlua);
	lua_call(L, 0, 1);
	lua_setglobal(L, "fz");
	fz_ltask_follow_coroutines(L);
	fz_proc_adopt(); /* this process has no other children */
	fz_make_join(L);
	fz_print_wrap(L);
	fz_interrupt_catch(L);
	fz_suspend_catch();
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua.cli");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "main");
	push_args(L, argc, argv);
	hide_secrets(argc, argv);
	lua_pushliteral(L, FZLUA_VERSION);
	luaL_newlib(L, host);
	lua_call(L, 3, 3);
	lua_gc(L, LUA_GCRESTART);
	lua_gc(L, LUA_GCSTEP, -START_KIB);
	call_steps(L, lua_gettop(L) - 2);
	return 1;
}

/*
 * These functions replace those of the C library for C modules such as lfs, so
 * that each change of the directory is reported: see cwd.h. The dynamic linker
 * finds a visible function of the program first.
 */
__attribute__((visibility("default"))) int
chdir(const char *path)
{
	fz_cwd_moving();
	return (int)syscall(SYS_chdir, path);
}

__attribute__((visibility("default"))) int
fchdir(int fd)
{
	fz_cwd_moving();
	return (int)syscall(SYS_fchdir, fd);
}

/* Open each closed standard file, so that no other file gets its number. */
static void
fill_standard_files(void)
{
	int fd;

	do /* reads and writes fail, as if it was closed */
		fd = open("/dev/null", O_PATH);
	while (fd != -1 && fd <= STDERR_FILENO);
	if (fd != -1)
		close(fd);
}

static void
on_size_limit(int sig)
{
	(void)sig;
}

/*
 * Catch SIGXFSZ, so that a write beyond the limit of file sizes fails, and the
 * command reports which file it could not write. Programs that the command
 * starts get the default action.
 */
static void
catch_size_limit(void)
{
	struct sigaction action;

	if (sigaction(SIGXFSZ, NULL, &action) == -1 ||
	    action.sa_handler != SIG_DFL)
		return;
	action.sa_handler = on_size_limit;
	action.sa_flags = SA_RESTART;
	sigaction(SIGXFSZ, &action, NULL);
}

/* Print an error that fzlua.cli has not caught. Returns the exit status. */
static int
report(lua_State *L)
{
	int status = EXIT_FAILURE;

	if (fz_lerror_has_kind(L, -1, FZ_ERR_INTERRUPTED))
		status = STATUS_INTERRUPTED;
	fprintf(stderr, "fzlua: %s\n", fz_lerror_text(L, -1));
	return status;
}

int
main(int argc, char **argv)
{
	lua_State *L;
	int status;

	fill_standard_files();
	/* If SIGCHLD were ignored, exit statuses of children would be lost. */
	signal(SIGCHLD, SIG_DFL);
	fz_fd_raise_limit();
	fz_cwd_reported();
	fz_process.program = "/proc/self/exe";
	if (fz_child_spawned_is(argc, argv))
		fz_worker_command_serve(argv);
	if (fz_worker_command_is_on_node(argc, argv))
		return fz_worker_command_serve_node(argc, argv);
	if (fz_join_is(argc, argv))
		return fz_join_main(argc, argv);
	catch_size_limit();
	fz_make_find();
	L = fz_state_new();
	if (L == NULL) {
		fputs("fzlua: not enough memory\n", stderr);
		return EXIT_FAILURE;
	}
	atexit(fz_output_close);
	atexit(fz_print_end);
	/* registered here, so that it runs before the last output */
	atexit(fz_interrupt_uncatch);
	atexit(fz_edit_tty_end);
	/* runs first, because the output may end the process */
	atexit(fz_make_leave);
	lua_pushcfunction(L, run);
	lua_pushinteger(L, argc);
	lua_pushlightuserdata(L, argv);
	if (lua_pcall(L, 2, 1, 0) == LUA_OK)
		status = (int)lua_tointeger(L, -1);
	else
		status = report(L);
	fz_state_exit(L, status);
}
