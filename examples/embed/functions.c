/*
 * functions.c - an example for each function of fzlua.h. The page fzlua.3 has
 * them beside the functions.
 *
 *   cc functions.c $(pkg-config --cflags --libs fzlua) -o functions
 *   ./functions functions.lua
 */
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <fzlua.h>
#include <lauxlib.h>
#include <lualib.h>

/* Example: fzlua_version */
static void
print_version(void)
{
	printf("fzlua %s\n", fzlua_version());
}

/* Example: luaopen_fzlua */
static lua_State *
open_own_state(void)
{
	lua_State *L = luaL_newstate();

	if (L == NULL)
		return NULL;
	luaL_openlibs(L);
	lua_pushcfunction(L, luaopen_fzlua);
	if (lua_pcall(L, 0, 1, 0) == LUA_OK)
		lua_setglobal(L, "fz");
	return L; /* lua_close() ends its workers, too */
}

/* Example: fzlua_new, fzlua_close */
static int
with_state(int (*use)(lua_State *L))
{
	lua_State *L;
	int status = fzlua_new(&L, NULL);

	if (status == FZLUA_OK)
		status = use(L);
	if (status != FZLUA_OK)
		fprintf(stderr, "%s\n",
		    L != NULL ? luaL_tolstring(L, -1, NULL) : "no memory");
	fzlua_close(L);
	return status;
}

/* Example: fzlua_set_output, fzlua_set_log */
static int
print_output(void *ctx, int fd, const char *bytes, size_t len)
{
	(void)ctx;
	printf("worker, to %d: %.*s", fd, (int)len, bytes);
	return 0;
}

static void
print_log(void *ctx, const char *line, size_t len)
{
	(void)ctx;
	printf("log: %.*s", (int)len, line);
}

static int
redirect(lua_State *L)
{
	fzlua_set_output(L, print_output, NULL);
	fzlua_set_log(L, print_log, NULL);
	luaL_loadstring(L, "local pool <close> = fz.pool(1)\n"
			   "pool:apply(print, 'hello')");
	return fzlua_call(L, 0, 0);
}

/* Example: fzlua_set_forks */
static void
close_in_child(void *fd, int when)
{
	if (when == FZLUA_FORK_CHILD)
		close(*(int *)fd);
}

static int
keep_from_workers(lua_State *L)
{
	static int fd[2];
	char byte;

	if (pipe(fd) != 0)
		return FZLUA_ERROR;
	fzlua_set_forks(L, close_in_child, &fd[1]);
	luaL_loadstring(L, "pool = fz.pool(1) pool:apply(math.abs, 1)");
	if (fzlua_call(L, 0, 0) != FZLUA_OK)
		return FZLUA_ERROR;
	close(fd[1]);
	printf("end of the pipe: %d\n", read(fd[0], &byte, 1) == 0);
	close(fd[0]);
	return FZLUA_OK;
}

/* Example: fzlua_call */
static int
call_lua(lua_State *L)
{
	luaL_loadstring(L, "local a, b = ... return a + b, a * b");
	lua_pushinteger(L, 3);
	lua_pushinteger(L, 4);
	if (fzlua_call(L, 2, 2) != FZLUA_OK)
		return FZLUA_ERROR;
	printf("%d %d\n", (int)lua_tointeger(L, -2), (int)lua_tointeger(L, -1));
	return FZLUA_OK;
}

/* Example: fzlua_dofile, fzlua_finish */
static const char *script;

static int
run_script(lua_State *L)
{
	int status = fzlua_dofile(L, script, 0);

	/* Tasks and processes that the script has started may still run. */
	return status == FZLUA_OK ? fzlua_finish(L) : status;
}

/* Example: fzlua_stage, fzlua_register, fzlua_chain */
static int
square(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 1);

	lua_pushinteger(L, n * n);
	return 1;
}

static int
run_chain(lua_State *L)
{
	int status = fzlua_stage(L, "square");

	if (status != FZLUA_OK)
		return status;
	lua_pushcfunction(L, square);
	if ((status = fzlua_register(L, -2, "area", "side")) != FZLUA_OK ||
	    (status = fzlua_chain(L, 1)) != FZLUA_OK)
		return status;
	lua_createtable(L, 0, 1);
	lua_pushinteger(L, 12);
	lua_setfield(L, -2, "side");
	if ((status = fzlua_call(L, 1, 1)) != FZLUA_OK)
		return status;
	lua_getfield(L, -1, "area");
	printf("area %d\n", (int)lua_tointeger(L, -1));
	return FZLUA_OK;
}

/* Example: fzlua_spawn, fzlua_next, fzlua_fd, fzlua_step */
static int
poll_tasks(lua_State *L)
{
	static char tags[2];
	struct pollfd p = { .fd = fzlua_fd(L), .events = POLLIN };
	int nrunning = 2, status;
	void *tag;

	for (int i = 0; i < 2; i++) {
		luaL_loadstring(L, "fz.sleep(...) return 'slept'");
		lua_pushnumber(L, i == 0 ? 0.2 : 0.01);
		if ((status = fzlua_spawn(L, 1, &tags[i])) != FZLUA_OK)
			return status;
	}
	while (nrunning > 0) {
		poll(&p, 1, -1); /* beside the descriptors of the host */
		if ((status = fzlua_step(L, 0)) != FZLUA_OK)
			return status;
		while ((status = fzlua_next(L, 1, &tag)) != FZLUA_NONE) {
			printf("task %d: %s\n", (int)((char *)tag - tags),
			    luaL_tolstring(L, -1, NULL));
			lua_settop(L, 0);
			nrunning--;
		}
	}
	return FZLUA_OK;
}

/* Example: fzlua_cancel */
static int
cancel_task(lua_State *L)
{
	void *tag = L;
	int status;

	luaL_loadstring(L, "fz.sleep(60)");
	if ((status = fzlua_spawn(L, 0, tag)) != FZLUA_OK ||
	    (status = fzlua_cancel(L, tag)) != FZLUA_OK)
		return status;
	while ((status = fzlua_next(L, 0, &tag)) == FZLUA_NONE)
		fzlua_step(L, -1);
	printf("cancelled: %d\n", status == FZLUA_CANCELLED);
	return FZLUA_OK;
}

/* Example: fzlua_limit */
static int
limit_script(lua_State *L)
{
	const struct fzlua_limits limits = { .size = sizeof(limits),
		.instructions = 1000000 };
	int status;

	fzlua_limit(L, &limits);
	luaL_loadstring(L, "while true do end");
	status = fzlua_call(L, 0, 0);
	fzlua_limit(L, NULL);
	printf("limited: %d\n", status == FZLUA_TIMEOUT);
	return FZLUA_OK;
}

/* Example: fzlua_instance_of, fzlua_interrupt */
static struct fzlua_instance *instance;

static void
on_alarm(int sig)
{
	(void)sig;
	fzlua_interrupt(instance);
}

static int
interrupt_wait(lua_State *L)
{
	instance = fzlua_instance_of(L);
	signal(SIGALRM, on_alarm);
	alarm(1);
	luaL_loadstring(L, "fz.sleep(60)");
	printf("interrupted: %d\n", fzlua_call(L, 0, 0) == FZLUA_INTERRUPTED);
	return FZLUA_OK;
}

/* All examples, each in a state of its own. */
int
main(int argc, char **argv)
{
	static int (*const examples[])(lua_State * L) = { redirect,
		keep_from_workers, call_lua, run_script, run_chain, poll_tasks,
		cancel_task, limit_script, interrupt_wait };
	lua_State *L;

	if (argc != 2) {
		fprintf(stderr, "usage: functions SCRIPT\n");
		return 2;
	}
	script = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	print_version();
	L = open_own_state();
	if (L != NULL)
		lua_close(L);
	for (size_t i = 0; i < sizeof(examples) / sizeof(*examples); i++) {
		if (with_state(examples[i]) != FZLUA_OK)
			return 1;
	}
	return 0;
}
