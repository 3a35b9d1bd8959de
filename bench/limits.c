/*
 * limits.c - what the machine and bare Lua need for the work fzlua does.
 *
 * It is a module for the fzlua command, so that a limit is measured in the same
 * process, with the same allocator and heap, as fzlua's own time. Times are in
 * seconds. The garbage collector is stopped during the measurement, so that a
 * limit is the minimum time for the work.
 */

/* pipe2, sched_setaffinity and posix_spawnp are not in plain C11. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>

enum { MESSAGE = 64, MAX_ARGS = 16, MAX_PEERS = 16 };

static double
now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int
raise_errno(lua_State *L, const char *what)
{
	return luaL_error(L, "%s: %s", what, strerror(errno));
}

/* Wait for the end of a process. Returns the status of waitpid(). */
static int
wait_for(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

/* clock() -> seconds */
static int
limits_clock(lua_State *L)
{
	lua_pushnumber(L, now_s());
	return 1;
}

/* pin(): this process and its later children stay on one core. */
static int
limits_pin(lua_State *L)
{
	cpu_set_t all, one;
	size_t cpu = 0;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return raise_errno(L, "sched_getaffinity");
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one) < 0)
		return raise_errno(L, "sched_setaffinity");
	return 0;
}

/* watchdog(seconds): SIGALRM ends this process after that time. */
static int
limits_watchdog(lua_State *L)
{
	alarm((unsigned)luaL_checkinteger(L, 1));
	return 0;
}

/* spawn(program, arg...) -> seconds, exit status; or seconds, nil, signal */
static int
limits_spawn(lua_State *L)
{
	int n = lua_gettop(L), status;
	/* The parameter of posix_spawnp() is not const, but is only read. */
	union {
		const char *in[MAX_ARGS + 1];
		char *out[MAX_ARGS + 1];
	} argv = { { NULL } };
	double t;
	pid_t pid;

	luaL_argcheck(L, 0 < n && n <= MAX_ARGS, 1, "1 to 16 arguments");
	for (int i = 0; i < n; i++)
		argv.in[i] = luaL_checkstring(L, i + 1);
	t = now_s();
	errno = posix_spawnp(&pid, argv.in[0], NULL, NULL, argv.out, environ);
	if (errno != 0)
		return raise_errno(L, argv.in[0]);
	status = wait_for(pid);
	lua_pushnumber(L, now_s() - t);
	if (WIFEXITED(status)) {
		lua_pushinteger(L, WEXITSTATUS(status));
		return 2;
	}
	lua_pushnil(L);
	lua_pushinteger(L, WTERMSIG(status));
	return 3;
}

/* A forked child at the other ends of two pipes. */
struct peer {
	pid_t pid;
	int to, from;
	double forked_s;
};

typedef void (*serve_fn)(lua_State *L, int in, int out);

static void
close_both(const int fd[2])
{
	if (fd[0] >= 0)
		close(fd[0]);
	if (fd[1] >= 0)
		close(fd[1]);
}

/* Raises on failure. The child runs `serve` and exits. */
static void
peer_start(lua_State *L, struct peer *peer, serve_fn serve)
{
	int down[2] = { -1, -1 }, up[2] = { -1, -1 };

	if (pipe2(down, O_CLOEXEC) < 0 || pipe2(up, O_CLOEXEC) < 0)
		goto fail;
	fflush(NULL);
	peer->forked_s = now_s();
	peer->pid = fork();
	if (peer->pid < 0)
		goto fail;
	if (peer->pid == 0) {
		close(down[1]);
		close(up[0]);
		serve(L, down[0], up[1]);
		_exit(0);
	}
	close(down[0]);
	close(up[1]);
	peer->to = down[1];
	peer->from = up[0];
	return;
fail:
	close_both(down);
	close_both(up);
	raise_errno(L, "child");
}

static void
peer_end(struct peer *peer)
{
	close(peer->to);
	close(peer->from);
	wait_for(peer->pid);
}

static void
serve_call(lua_State *L, int in, int out)
{
	char answer;

	(void)in;
	lua_pushinteger(L, 1);
	if (lua_pcall(L, 1, 1, 0) != LUA_OK)
		return;
	answer = (char)lua_tointeger(L, -1);
	if (write(out, &answer, 1) < 0)
		_exit(1);
}

/* fork(f) -> seconds from a fork until the child's result of f(1) has come */
static int
limits_fork(lua_State *L)
{
	struct peer peer;
	double t;
	char answer;
	ssize_t got;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_settop(L, 1);
	peer_start(L, &peer, serve_call);
	got = read(peer.from, &answer, 1);
	t = now_s() - peer.forked_s;
	peer_end(&peer);
	if (got != 1)
		return luaL_error(L, "the forked state did not answer");
	lua_pushnumber(L, t);
	return 1;
}

static void
serve_when_told(lua_State *L, int in, int out)
{
	char go;

	lua_pushvalue(L, 1);
	if (read(in, &go, 1) == 1 && lua_pcall(L, 0, 0, 0) == LUA_OK &&
	    write(out, &go, 1) != 1)
		_exit(1);
}

/* beside(f, n) -> seconds until n forked states, at once, have each called f */
static int
limits_beside(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 2);
	struct peer peers[MAX_PEERS];
	char go = 1;
	double t;
	int rc = 0;

	luaL_checktype(L, 1, LUA_TFUNCTION);
	luaL_argcheck(L, 0 < n && n <= MAX_PEERS, 2, "1 to 16 states");
	for (lua_Integer i = 0; i < n; i++)
		peer_start(L, &peers[i], serve_when_told);
	t = now_s();
	for (lua_Integer i = 0; i < n; i++)
		rc |= write(peers[i].to, &go, 1) != 1;
	for (lua_Integer i = 0; i < n; i++)
		rc |= read(peers[i].from, &go, 1) != 1;
	t = now_s() - t;
	for (lua_Integer i = 0; i < n; i++)
		peer_end(&peers[i]);
	if (rc != 0)
		return luaL_error(L, "a forked state did not answer");
	lua_pushnumber(L, t);
	return 1;
}

static void
serve_echo(lua_State *L, int in, int out)
{
	char message[MESSAGE];

	(void)L;
	while (read(in, message, MESSAGE) == MESSAGE &&
	       write(out, message, MESSAGE) == MESSAGE)
		;
}

static int
echo(const struct peer *peer, lua_Integer n)
{
	char message[MESSAGE] = { 0 };

	for (; n > 0; n--)
		if (write(peer->to, message, MESSAGE) != MESSAGE ||
		    read(peer->from, message, MESSAGE) != MESSAGE)
			return -1;
	return 0;
}

/* pingpong(n) -> seconds per round trip of 64 bytes, after n trips before */
static int
limits_pingpong(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 1);
	struct peer peer;
	double t;
	int rc;

	peer_start(L, &peer, serve_echo);
	rc = echo(&peer, n);
	t = now_s();
	rc |= echo(&peer, n);
	t = now_s() - t;
	peer_end(&peer);
	if (rc != 0)
		return luaL_error(L, "the echo ended early");
	lua_pushnumber(L, t / (double)n);
	return 1;
}

/* push(s) -> seconds to make a copy of the string */
static int
limits_push(lua_State *L)
{
	size_t len;
	const char *s = luaL_checklstring(L, 1, &len);
	double t;

	lua_gc(L, LUA_GCSTOP);
	t = now_s();
	lua_pushlstring(L, s, len);
	t = now_s() - t;
	lua_gc(L, LUA_GCRESTART);
	lua_pushnumber(L, t);
	return 1;
}

static lua_Integer
walk(lua_State *L, int t)
{
	lua_Integer n = 1;

	if (lua_type(L, t) != LUA_TTABLE)
		return n;
	luaL_checkstack(L, 4, NULL);
	lua_pushnil(L);
	while (lua_next(L, t)) {
		n += walk(L, lua_gettop(L));
		lua_pop(L, 1);
	}
	return n;
}

/* walk(value) -> seconds, number of values seen */
static int
limits_walk(lua_State *L)
{
	double t;
	lua_Integer n;

	luaL_checkany(L, 1);
	t = now_s();
	n = walk(L, 1);
	lua_pushnumber(L, now_s() - t);
	lua_pushinteger(L, n);
	return 2;
}

static void
build_ints(lua_State *L)
{
	lua_createtable(L, 1000000, 0);
	for (int i = 1; i <= 1000000; i++) {
		lua_pushinteger(L, i);
		lua_rawseti(L, -2, i);
	}
}

static void
build_floats(lua_State *L)
{
	lua_createtable(L, 1000000, 0);
	for (int i = 1; i <= 1000000; i++) {
		lua_pushnumber(L, i * 0.5);
		lua_rawseti(L, -2, i);
	}
}

static void
build_record(lua_State *L, int i)
{
	static const char *const tags[] = { "red", "green", "blue" };
	char name[32];
	int len = snprintf(name, sizeof(name), "name%06d", i);

	lua_createtable(L, 0, 4);
	lua_pushinteger(L, i);
	lua_setfield(L, -2, "id");
	lua_pushlstring(L, name, (size_t)len);
	lua_setfield(L, -2, "name");
	lua_pushnumber(L, i * 0.25);
	lua_setfield(L, -2, "score");
	lua_createtable(L, 3, 0);
	for (int k = 0; k < 3; k++) {
		lua_pushstring(L, tags[k]);
		lua_rawseti(L, -2, k + 1);
	}
	lua_setfield(L, -2, "tags");
}

static void
build_records(lua_State *L)
{
	lua_createtable(L, 100000, 0);
	for (int i = 1; i <= 100000; i++) {
		build_record(L, i);
		lua_rawseti(L, -2, i);
	}
}

/* 1,000 chains of tables, each 100 deep. */
static void
build_deep(lua_State *L)
{
	lua_createtable(L, 1000, 0);
	for (int i = 1; i <= 1000; i++) {
		lua_createtable(L, 0, 0);
		for (int depth = 1; depth < 100; depth++) {
			lua_createtable(L, 1, 0);
			lua_insert(L, -2);
			lua_rawseti(L, -2, 1);
		}
		lua_rawseti(L, -2, i);
	}
}

/* build("ints" | "floats" | "records" | "deep") -> value, seconds */
static int
limits_build(lua_State *L)
{
	static const char *const names[] = { "ints", "floats", "records",
		"deep", NULL };
	static void (*const builders[])(lua_State *) = { build_ints,
		build_floats, build_records, build_deep };
	int which = luaL_checkoption(L, 1, NULL, names);
	double t;

	lua_gc(L, LUA_GCSTOP);
	t = now_s();
	builders[which](L);
	t = now_s() - t;
	lua_gc(L, LUA_GCRESTART);
	lua_pushnumber(L, t);
	return 2;
}

/* Read and drop the output to a terminal until it is closed. */
static void
drop_output(int master)
{
	char bytes[4096];

	while (read(master, bytes, sizeof(bytes)) > 0)
		continue;
	_exit(0);
}

/*
 * terminal(): make standard error a terminal; another process reads and drops
 * the output
 */
static int
limits_terminal(lua_State *L)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;

	if (master == -1 || grantpt(master) != 0 || unlockpt(master) != 0)
		return raise_errno(L, "posix_openpt");
	switch (fork()) {
	case -1:
		return raise_errno(L, "fork");
	case 0:
		drop_output(master);
	}
	slave = open(ptsname(master), O_RDWR | O_NOCTTY);
	if (slave == -1 || dup2(slave, STDERR_FILENO) == -1)
		return raise_errno(L, "open of a terminal");
	close(slave);
	close(master);
	return setenv("TERM", "xterm", 1) == 0 ? 0 : raise_errno(L, "setenv");
}

__attribute__((visibility("default"))) int luaopen_limits(lua_State *L);

int
luaopen_limits(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "clock", limits_clock },
		{ "pin", limits_pin },
		{ "watchdog", limits_watchdog },
		{ "spawn", limits_spawn },
		{ "fork", limits_fork },
		{ "beside", limits_beside },
		{ "pingpong", limits_pingpong },
		{ "push", limits_push },
		{ "walk", limits_walk },
		{ "build", limits_build },
		{ "terminal", limits_terminal },
		{ NULL, NULL },
	};

	luaL_newlib(L, functions);
	return 1;
}
