/* cli/main.c - the fzlua command: a Lua state, Ctrl-C, and fzlua.cli under it.
 */
#define _GNU_SOURCE /* O_PATH */

#include <errno.h>
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
#include "bind/lloop.h"
#include "child/random.h"
#include "cli/output.h"
#include "cli/state.h"
#include "cli/suspend.h"
#include "os/cwd.h"
#include "os/fd.h"
#include "os/jobserver.h"
#include "os/proc.h"
#include "sched/slots.h"
#include "value/lerror.h"
#include "worker/engine.h"

#define STATUS_INTERRUPTED 130

/* What the handler of SIGINT needs; there is one command in a process. */
static lua_State *main_state;
static volatile sig_atomic_t interrupted; /* until it was raised */
static int wake_fd = -1;
static lua_State *volatile *running_state;    /* runs a function of jobs = 0 */
static lua_State *volatile running_coroutine; /* the innermost, or NULL */

/* Of the make that has started us, or NULL. */
static struct fz_slots *make_slots;
static int make_fd[2] = { -1, -1 };

/* However we end, make gets its tokens back. Workers do not come here. */
static void
leave_make(void)
{
	if (make_slots != NULL)
		fz_slots_leave(make_slots);
}

static void
on_end(int sig)
{
	leave_make();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Let the signal end us. */
static void
end_by(int sig)
{
	signal(sig, make_slots != NULL ? on_end : SIG_DFL);
}

static void
raise_interrupted(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	if (!interrupted)
		return; /* a wait has raised it */
	interrupted = 0;
	fz_lerror_push(L, FZ_ERR_INTERRUPTED, "interrupted");
	lua_error(L);
}

/*
 * The first Ctrl-C becomes an error in the Lua code that runs or waits, a
 * second one ends the process.
 */
static void
on_interrupt(int sig)
{
	const int mask =
	    LUA_MASKCALL | LUA_MASKRET | LUA_MASKLINE | LUA_MASKCOUNT;
	lua_State *running = *running_state;
	lua_State *coroutine = running_coroutine;
	int saved = errno;

	end_by(sig);
	interrupted = 1;
	lua_sethook(main_state, raise_interrupted, mask, 1);
	if (running != NULL)
		lua_sethook(running, raise_interrupted, mask, 1);
	if (coroutine != NULL)
		lua_sethook(coroutine, raise_interrupted, mask, 1);
	if (wake_fd >= 0 && write(wake_fd, "", 1) < 0)
		errno = 0; /* full: it wakes anyway */
	errno = saved;
}

/*
 * No script is left to interrupt. The next Ctrl-C only lets a further one end
 * the process: it does not use the state, and a write of the last output goes
 * on, because stdio would drop the bytes of a write that fails with EINTR.
 */
static void
uncatch_interrupt(void)
{
	struct sigaction action;

	if (sigaction(SIGINT, NULL, &action) != 0 ||
	    action.sa_handler != on_interrupt)
		return;
	action.sa_handler = end_by;
	action.sa_flags = SA_RESTART;
	sigaction(SIGINT, &action, NULL);
}

/* __gc of a table: the state is about to be freed. */
static int
state_closes(lua_State *L)
{
	(void)L;
	uncatch_interrupt();
	return 0;
}

/*
 * Call state_closes() when the state is closed. Finalizers run in the reverse
 * order of their creation: this one behind those of the script, and before that
 * of the loop, whose descriptor the handler writes to.
 */
static void
watch_close(lua_State *L)
{
	lua_newtable(L);
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, state_closes);
	lua_setfield(L, -2, "__gc");
	lua_setmetatable(L, -2);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &main_state);
}

/* A command that was started with SIGINT ignored (nohup, "&") ignores it. */
static void
catch_interrupt(lua_State *L)
{
	struct sigaction action;

	watch_close(L);
	main_state = L;
	wake_fd = fz_lloop_wake_fd(L);
	running_state = fz_lloop_running(L);
	fz_lloop_interrupt(L, &interrupted);
	if (sigaction(SIGINT, NULL, &action) != 0 ||
	    action.sa_handler == SIG_IGN)
		return;
	memset(&action, 0, sizeof(action));
	action.sa_handler = on_interrupt;
	sigaction(SIGINT, &action, NULL);
}

/* Under make run no more functions at once than make says. */
static void
join_make(lua_State *L)
{
	static const int ends[] = { SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGALRM,
		SIGUSR1, SIGUSR2, SIGXCPU, SIGABRT, SIGSEGV, SIGBUS };
	struct sigaction action;

	if (make_fd[0] == -1)
		return;
	make_slots = fz_slots_of_make(fz_lloop_engine(L), make_fd, NULL);
	if (make_slots == NULL)
		luaL_error(L, "not enough memory");
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (sigaction(ends[i], NULL, &action) == 0 &&
		    action.sa_handler == SIG_DFL)
			end_by(ends[i]);
	}
}

/*
 * Resume `co` with the `nargs` values on top of L, as the Lua library does,
 * and know meanwhile that it runs. Returns how many results are on top of L,
 * or -1 and the error there.
 */
static int
resume(lua_State *L, lua_State *co, int nargs)
{
	lua_State *outer = running_coroutine;
	int nres, status;

	if (!lua_checkstack(co, nargs)) {
		lua_pushliteral(L, "too many arguments to resume");
		return -1;
	}
	lua_xmove(L, co, nargs);
	running_coroutine = co;
	status = lua_resume(co, L, nargs, &nres);
	running_coroutine = outer;
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_xmove(co, L, 1);
		return -1;
	}
	if (!lua_checkstack(L, nres + 1)) {
		lua_pop(co, nres);
		lua_pushliteral(L, "too many results to resume");
		return -1;
	}
	lua_xmove(co, L, nres);
	return nres;
}

/* coroutine.resume */
static int
coroutine_resume(lua_State *L)
{
	lua_State *co = lua_tothread(L, 1);
	int n;

	luaL_argexpected(L, co != NULL, 1, "thread");
	n = resume(L, co, lua_gettop(L) - 1);
	lua_pushboolean(L, n >= 0);
	n = n >= 0 ? n : 1;
	lua_insert(L, -(n + 1));
	return n + 1;
}

/* Lua's name for it and its arguments changed twice. */
static int
close_thread(lua_State *co, lua_State *from)
{
#if LUA_VERSION_RELEASE_NUM >= 50406
	return lua_closethread(co, from);
#elif LUA_VERSION_RELEASE_NUM == 50405
	return lua_resetthread(co, from);
#else
	(void)from;
	return lua_resetthread(co);
#endif
}

/*
 * Close the variables of `co`, which ended with an error of this status; the
 * error is on top of L. An error of a variable replaces it. Before Lua 5.4.3
 * only such an error is left in `co`; later versions leave either one there.
 * Returns the status of the error on top of L.
 */
static int
close_variables(lua_State *L, lua_State *co, int status)
{
	int closed = close_thread(co, L);

	if (closed == LUA_OK)
		return status;
	lua_xmove(co, L, 1);
	return closed;
}

/* What coroutine.wrap returns; its upvalue is the coroutine. */
static int
coroutine_call(lua_State *L)
{
	lua_State *co = lua_tothread(L, lua_upvalueindex(1));
	int n = resume(L, co, lua_gettop(L));
	int status;

	if (n >= 0)
		return n;
	status = lua_status(co);
	if (status != LUA_OK && status != LUA_YIELD)
		status = close_variables(L, co, status);
	if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
		luaL_where(L, 1);
		lua_insert(L, -2);
		lua_concat(L, 2);
	}
	return lua_error(L);
}

/* coroutine.wrap */
static int
coroutine_wrap(lua_State *L)
{
	lua_State *co;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	co = lua_newthread(L);
	lua_pushvalue(L, 1);
	lua_xmove(L, co, 1);
	lua_pushcclosure(L, coroutine_call, 1);
	return 1;
}

/* A hook is of one coroutine: the handler must know which one runs. */
static void
follow_coroutines(lua_State *L)
{
	lua_getglobal(L, LUA_COLIBNAME);
	lua_pushcfunction(L, coroutine_resume);
	lua_setfield(L, -2, "resume");
	lua_pushcfunction(L, coroutine_wrap);
	lua_setfield(L, -2, "wrap");
	lua_pop(L, 1);
}

static void
push_args(lua_State *L, int argc, char **argv)
{
	lua_createtable(L, argc, 1);
	for (int i = 0; i < argc; i++) {
		lua_pushstring(L, argv[i]);
		lua_rawseti(L, -2, i);
	}
}

/* What fzlua.cli needs of the command's own C code. */
static const luaL_Reg host[] = {
	{ "divert_output", fz_output_divert },
	{ "restore_output", fz_output_restore },
	{ NULL, NULL },
};

/*
 * Call what the steps of fzlua.cli return, with the message handler, in the
 * frame of the caller: a chunk has the level in the stack that it has in lua.
 * The functions of cli.main() are at `step` and behind it. Pushes the status.
 */
static void
call_steps(lua_State *L, int step)
{
	int handler = step + 1, report = step + 2, n = 0, status;

	for (;;) {
		luaL_checkstack(L, 2, "too many results of the script");
		lua_pushvalue(L, step);
		lua_insert(L, report + 1);
		status = lua_pcall(L, n, LUA_MULTRET, handler);
		if (status != LUA_OK || lua_isinteger(L, report + 1))
			break;
		n = lua_gettop(L) - report - 1;
		status = lua_pcall(L, n, LUA_MULTRET, handler);
		if (status != LUA_OK)
			break;
		n = lua_gettop(L) - report;
	}
	if (status != LUA_OK) {
		lua_pushvalue(L, report);
		lua_insert(L, -2);
		lua_call(L, 1, 1);
	}
}

/* (argc, argv) -> status */
static int
run(lua_State *L)
{
	int argc = (int)lua_tointeger(L, 1);
	char **argv = lua_touserdata(L, 2);

	luaL_checkversion(L);
	lua_gc(L, LUA_GCGEN, 0, 0); /* as lua5.4 does */
	luaL_openlibs(L);
	fz_random_wrap(L);
	follow_coroutines(L);
	lua_pushcfunction(L, luaopen_fzlua);
	lua_call(L, 0, 1);
	lua_setglobal(L, "fz");
	fz_proc_adopt(); /* this process is ours alone */
	join_make(L);
	catch_interrupt(L);
	fz_suspend_catch();
	lua_getglobal(L, "require");
	lua_pushliteral(L, "fzlua.cli");
	lua_call(L, 1, 1);
	lua_getfield(L, -1, "main");
	push_args(L, argc, argv);
	lua_pushliteral(L, FZLUA_VERSION);
	luaL_newlib(L, host);
	lua_call(L, 3, 3);
	call_steps(L, lua_gettop(L) - 2);
	return 1;
}

/*
 * C modules, such as lfs, call these instead of those of the C library: see
 * cwd.h. The attribute puts them where the dynamic linker looks first.
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

/* Where a standard file is closed, no file of ours is to become it. */
static void
hold_standard(void)
{
	int fd;

	do /* such a descriptor fails to read and to write as a closed one */
		fd = open("/dev/null", O_PATH);
	while (fd != -1 && fd <= STDERR_FILENO);
	if (fd != -1)
		close(fd);
}

/* Tell what not even fzlua.cli has caught; returns the exit status. */
static int
report(lua_State *L)
{
	int status = EXIT_FAILURE;

	if (fz_lerror_is(L, -1)) {
		lua_getfield(L, -1, "kind");
		if (lua_type(L, -1) == LUA_TSTRING &&
		    strcmp(lua_tostring(L, -1), "interrupted") == 0)
			status = STATUS_INTERRUPTED;
		lua_pop(L, 1);
	}
	fprintf(stderr, "fzlua: %s\n", fz_lerror_text(L, -1));
	return status;
}

int
main(int argc, char **argv)
{
	lua_State *L;
	int status;

	hold_standard();
	signal(SIGCHLD, SIG_DFL); /* ignored, it would hide exit codes */
	fz_fd_raise_limit();
	fz_cwd_reported();
	fz_jobserver_find(make_fd);
	L = fz_state_new();
	if (L == NULL) {
		fputs("fzlua: not enough memory\n", stderr);
		return EXIT_FAILURE;
	}
	atexit(fz_output_close);
	atexit(uncatch_interrupt); /* before the last output */
	atexit(leave_make);        /* first: the other one may end us */
	lua_pushcfunction(L, run);
	lua_pushinteger(L, argc);
	lua_pushlightuserdata(L, argv);
	if (lua_pcall(L, 2, 1, 0) == LUA_OK)
		status = (int)lua_tointeger(L, -1);
	else
		status = report(L);
	lua_close(L);
	return status;
}
