/*
 * Each function of fzlua.h while allocations of Lua or of the library fail:
 * a single one, or all from one on. The function returns an error with one
 * value, or succeeds. Nothing is left, and the state is usable afterwards.
 *
 * wrap: malloc calloc realloc
 */
/* mkstemp is not in C11. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "descriptors.h"
#include "host_test.h"
#include "no_memory.h"
#include "world.h"

static size_t used;      /* bytes that the state has allocated */
static const char *path; /* path of a script that fzlua_dofile() runs */
static int tag;

static int
log_nothing(void *ctx, int fd, const char *bytes, size_t len)
{
	(void)ctx;
	(void)fd;
	(void)bytes;
	(void)len;
	return 0;
}

static void
drop_log(void *ctx, const char *line, size_t len)
{
	(void)ctx;
	(void)line;
	(void)len;
}

/* Workers have memory, because only the host is tested here. */
static void
no_faults_in_child(void *ctx, int when)
{
	(void)ctx;
	if (when == FZLUA_FORK_CHILD) {
		good_mallocs = -1;
		no_memory = false;
	}
}

static const struct fzlua_options options = { .size = sizeof(options),
	.alloc = no_memory_alloc,
	.alloc_ctx = &used,
	.output = log_nothing,
	.log = drop_log,
	.forks = no_faults_in_child };

/* A function under test. prepare() pushes what run() needs. */
struct scenario {
	const char *name;
	void (*prepare)(lua_State *L);
	int (*run)(lua_State *L);
	int npushed; /* values on the stack after run() has succeeded */
	/* Check the state after run(); no allocation fails. May be NULL. */
	void (*check)(lua_State *L, int status);
};

static void
push_nothing(lua_State *L)
{
	(void)L;
}

static void
push_chunk(lua_State *L)
{
	host_push_function(L, "return (...) + 1");
	lua_pushinteger(L, 1);
}

static int
run_call(lua_State *L)
{
	return fzlua_call(L, 1, 1);
}

static int
add_one(lua_State *L)
{
	lua_pushinteger(L, luaL_checkinteger(L, 1) + 1);
	return 1;
}

/* Push a chain that has not run, and its inputs. */
static void
push_chain(lua_State *L)
{
	assert_int_equal(fzlua_stage(L, "s"), FZLUA_OK);
	lua_pushcfunction(L, add_one);
	assert_int_equal(fzlua_register(L, 1, "B", "A"), FZLUA_OK);
	assert_int_equal(fzlua_chain(L, 1), FZLUA_OK);
	lua_newtable(L);
	lua_pushinteger(L, 1);
	lua_setfield(L, -2, "A");
}

static void
push_kept_chain(lua_State *L)
{
	lua_getglobal(L, "kept");
	lua_newtable(L);
	lua_pushinteger(L, 1);
	lua_setfield(L, -2, "A");
}

static void
push_pool(lua_State *L)
{
	host_push_function(L,
	    "local n = ... local pool <close> = fz.pool(1) "
	    "local r = pool:map(function(x) return { x + n } end, { 1, 2 }) "
	    "return pool:apply(math.abs, -r[2][1])");
	lua_pushinteger(L, 1);
}

/* Push a function that makes a graph keep names, and counts them. */
static void
push_named(lua_State *L)
{
	host_push_function(
	    L, "return require 'fzlua.core'.graph(true):names {}:count()");
	lua_pushnil(L);
}

/*
 * Push a call whose results are recorded. A file is not used again after an
 * error, so each call has a new one.
 */
static void
push_recorded(lua_State *L)
{
	host_push_function(L,
	    "recorded = (recorded or 0) + 1 "
	    "local store = PATH .. '.db' .. recorded "
	    "local s = fz.stage { name = 's', workers = 1 } "
	    "function s.B(A) return A + 1 end "
	    "function s.C(A) return ('x'):rep(200000) end "
	    "function s.D(A) return fz.map(tostring, { 1 }, { jobs = 0 }) end "
	    "local chain = fz.chain { s } "
	    "chain:invoke({ A = 1 }, { resume = store }) "
	    "function again(a) "
	    "local out = chain:invoke({ A = a }, { resume = store }).output "
	    "assert(#out.C == 200000 and out.D[1] == '1') "
	    "return out.B end");
	assert_int_equal(fzlua_call(L, 0, 0), FZLUA_OK);
	lua_getglobal(L, "again");
	lua_pushinteger(L, 1);
}

/* The result is right, and the file is no longer needed. */
static void
check_recorded(lua_State *L, int status)
{
	if (status == FZLUA_OK)
		assert_int_equal(lua_tointeger(L, -1), 2);
	lua_settop(L, 0);
	host_push_function(L,
	    "for _, suffix in ipairs { '', '-wal', '-shm' } do "
	    "os.remove(PATH .. '.db' .. recorded .. suffix) "
	    "end");
	assert_int_equal(fzlua_call(L, 0, 0), FZLUA_OK);
}

static void
push_shared(lua_State *L)
{
	host_push_function(L,
	    "local q, l = fz.queue(), fz.lock() "
	    "local p <close> = fz.process(function() return q:get(60) + 1 end) "
	    "p:start() l:with(q.put, q, ...) local n = p:result(60) "
	    "return n + fz.exec { 'true' }.exitcode");
	lua_pushinteger(L, 1);
}

static int
run_dofile(lua_State *L)
{
	return fzlua_dofile(L, path, 1);
}

static int
run_stage(lua_State *L)
{
	return fzlua_stage(L, "s");
}

static void
push_stage(lua_State *L)
{
	assert_int_equal(fzlua_stage(L, "s"), FZLUA_OK);
	lua_pushcfunction(L, add_one);
}

static int
run_register(lua_State *L)
{
	return fzlua_register(L, 1, "B", "A");
}

static void
push_two_stages(lua_State *L)
{
	assert_int_equal(fzlua_stage(L, "s"), FZLUA_OK);
	assert_int_equal(fzlua_stage(L, "u"), FZLUA_OK);
}

static int
run_chain(lua_State *L)
{
	return fzlua_chain(L, 2);
}

static int
run_spawn(lua_State *L)
{
	return fzlua_spawn(L, 1, &tag);
}

/* Wait for the task with this tag. Returns its status. */
static int
await(lua_State *L)
{
	void *got;
	int status = host_poll_next(L, 1, &got);

	assert_ptr_equal(got, &tag);
	return status;
}

static void
assert_no_task(lua_State *L)
{
	void *got;

	assert_int_equal(fzlua_step(L, 0), FZLUA_OK);
	assert_int_equal(fzlua_next(L, 1, &got), FZLUA_NONE);
}

/* The task runs if fzlua_spawn() succeeded, and only then. */
static void
check_spawn(lua_State *L, int status)
{
	lua_settop(L, 0);
	if (status == FZLUA_OK) {
		assert_int_equal(await(L), FZLUA_OK);
		assert_int_equal(lua_tointeger(L, -1), 2);
	}
	assert_no_task(L);
	host_assert_status(
	    L, "local n = spawned spawned = nil return n", FZLUA_OK);
	assert_int_equal(lua_tointeger(L, -1), status == FZLUA_OK);
}

static void
push_counted(lua_State *L)
{
	host_push_function(
	    L, "spawned = (spawned or 0) + 1 fz.sleep(0) return (...) + 1");
	lua_pushinteger(L, 1);
}

static void
push_ended_task(lua_State *L)
{
	push_chunk(L);
	assert_int_equal(fzlua_spawn(L, 1, &tag), FZLUA_OK);
	assert_int_equal(fzlua_step(L, 0), FZLUA_OK);
}

static void
push_failed_task(lua_State *L)
{
	host_push_function(L, "error { ... }");
	assert_int_equal(fzlua_spawn(L, 0, &tag), FZLUA_OK);
	assert_int_equal(fzlua_step(L, 0), FZLUA_OK);
}

static void *next_tag;

static int
run_next(lua_State *L)
{
	return fzlua_next(L, 1, &next_tag);
}

/* If fzlua_next() failed, a second call returns the result. */
static void
check_next(lua_State *L, int status)
{
	void *got;

	lua_settop(L, 0);
	if (next_tag == NULL) {
		assert_int_not_equal(status, FZLUA_OK);
		assert_int_not_equal(fzlua_next(L, 1, &got), FZLUA_NONE);
		assert_ptr_equal(got, &tag);
	}
	assert_no_task(L);
}

static void
push_waiting_task(lua_State *L)
{
	host_push_function(L, "fz.sleep(60)");
	assert_int_equal(fzlua_spawn(L, 0, &tag), FZLUA_OK);
	assert_int_equal(fzlua_step(L, 0), FZLUA_OK);
}

static int
run_cancel(lua_State *L)
{
	return fzlua_cancel(L, &tag);
}

/* If fzlua_cancel() failed, a second call cancels the task. */
static void
check_cancel(lua_State *L, int status)
{
	(void)status;
	lua_settop(L, 0);
	assert_int_equal(fzlua_cancel(L, &tag), FZLUA_OK);
	assert_int_equal(await(L), FZLUA_CANCELLED);
	lua_settop(L, 0);
	assert_no_task(L);
}

static void
push_started_chain(lua_State *L)
{
	push_kept_chain(L);
	assert_int_equal(fzlua_spawn(L, 1, &tag), FZLUA_OK);
}

static int
run_step(lua_State *L)
{
	return fzlua_step(L, 0.002);
}

/* After a failed fzlua_step() the task may still wait, and can be cancelled. */
static void
check_step(lua_State *L, int status)
{
	lua_settop(L, 0);
	if (status != FZLUA_OK)
		assert_int_equal(fzlua_cancel(L, &tag), FZLUA_OK);
	await(L);
	lua_settop(L, 0);
	assert_no_task(L);
}

static int
run_finish(lua_State *L)
{
	return fzlua_finish(L);
}

static void
push_process(lua_State *L)
{
	host_push_function(L, "fz.process(function() end):start()");
	assert_int_equal(fzlua_call(L, 0, 0), FZLUA_OK);
}

static void
check_finish(lua_State *L, int status)
{
	(void)status;
	lua_settop(L, 0);
	assert_int_equal(fzlua_finish(L), FZLUA_OK);
}

/* Functions that return no status do not fail. */
static int
run_settings(lua_State *L)
{
	const struct fzlua_limits limits = { .size = sizeof(limits),
		.instructions = 100000 };

	fzlua_set_output(L, log_nothing, NULL);
	fzlua_set_log(L, drop_log, NULL);
	fzlua_set_forks(L, no_faults_in_child, NULL);
	fzlua_limit(L, &limits);
	assert_non_null(fzlua_version());
	return fzlua_instance_of(L) != NULL && fzlua_fd(L) != -1 ? FZLUA_OK
								 : FZLUA_ERROR;
}

static void
check_settings(lua_State *L, int status)
{
	assert_int_equal(status, FZLUA_OK);
	host_assert_status(L, "while true do end", FZLUA_TIMEOUT);
	fzlua_limit(L, NULL);
	lua_settop(L, 0);
}

static int
run_interrupted(lua_State *L)
{
	fzlua_interrupt(fzlua_instance_of(L));
	return fzlua_call(L, 1, 1);
}

/* The interrupt ends one call only, and not the next one. */
static void
check_interrupted(lua_State *L, int status)
{
	assert_int_not_equal(status, FZLUA_OK);
	lua_settop(L, 0);
	host_push_function(L, "return 1");
	fzlua_call(L, 0, 0);
}

static const struct scenario scenarios[] = {
	{ "limit", push_nothing, run_settings, 0, check_settings },
	{ "call", push_chunk, run_call, 1, NULL },
	{ "call of a chain", push_chain, run_call, 1, NULL },
	{ "call of a kept chain", push_kept_chain, run_call, 1, NULL },
	{ "call of a pool", push_pool, run_call, 1, NULL },
	{ "call of a process", push_shared, run_call, 1, NULL },
	{ "names of a graph", push_named, run_call, 1, NULL },
	{ "recorded results", push_recorded, run_call, 1, check_recorded },
	{ "dofile", push_nothing, run_dofile, 1, NULL },
	{ "stage", push_nothing, run_stage, 1, NULL },
	{ "register", push_stage, run_register, 1, NULL },
	{ "chain", push_two_stages, run_chain, 1, NULL },
	{ "spawn", push_counted, run_spawn, 0, check_spawn },
	{ "next", push_ended_task, run_next, 1, check_next },
	{ "next of an error", push_failed_task, run_next, 1, check_next },
	{ "cancel", push_waiting_task, run_cancel, 0, check_cancel },
	{ "step", push_started_chain, run_step, 0, check_step },
	{ "finish", push_process, run_finish, 0, check_finish },
	{ "interrupt", push_chunk, run_interrupted, 1, check_interrupted },
};

static void
fail_from(long n, bool stays)
{
	no_memory_stays = stays;
	good_mallocs = (int)n;
}

/* Whether an allocation has failed. */
static bool
end_failing(void)
{
	bool came = good_mallocs < 0;

	good_mallocs = -1;
	no_memory = no_memory_stays = false;
	return came;
}

static void
assert_usable(lua_State *L)
{
	lua_settop(L, 0);
	push_kept_chain(L);
	assert_int_equal(fzlua_call(L, 1, 1), FZLUA_OK);
	assert_int_equal(lua_getfield(L, -1, "B"), LUA_TNUMBER);
	assert_int_equal(lua_tointeger(L, -1), 2);
	lua_settop(L, 0);
}

/* Returns whether an allocation has failed. */
static bool
run_once(lua_State *L, const struct scenario *s, long n, bool stays)
{
	bool came;
	int status, before, top;

	lua_settop(L, 0);
	s->prepare(L);
	next_tag = NULL;
	before = lua_gettop(L);
	fail_from(n, stays);
	status = s->run(L);
	came = end_failing();
	top = lua_gettop(L);
	assert_in_range(status, FZLUA_OK, FZLUA_GRAPH);
	if (status == FZLUA_OK)
		assert_int_equal(top, s->npushed);
	else
		assert_true(0 < top && top <= before + 1);
	if (status != FZLUA_OK)
		assert_non_null(luaL_tolstring(L, -1, NULL));
	if (s->check != NULL)
		s->check(L, status);
	assert_usable(L);
	return came;
}

static lua_State *
new_state(void)
{
	lua_State *L;

	assert_int_equal(fzlua_new(&L, &options), FZLUA_OK);
	lua_pushstring(L, path);
	lua_setglobal(L, "PATH");
	host_push_function(L, "local s = fz.stage { name = 's', workers = 1 } "
			      "function s.B(A) return A + 1 end "
			      "kept = fz.chain { s }");
	assert_int_equal(fzlua_call(L, 0, 0), FZLUA_OK);
	return L;
}

static void
end_state(lua_State *L, int nfds)
{
	fzlua_close(L);
	assert_int_equal(used, 0);
	assert_int_equal(count_fds(), nfds);
	assert_no_children();
}

static void
run_scenario(const struct scenario *s, int nfds, bool stays)
{
	lua_State *L = new_state();
	long n = 0, nruns = 0;

	alarm(5 * HOST_HANGS_S);
	assert_usable(L);
	while (run_once(L, s, n, stays)) {
		n += 1 + n / 40;
		nruns++;
	}
	end_state(L, nfds);
	print_message("%s%s: %ld allocations, %ld runs\n", s->name,
	    stays ? ", all later ones" : "", n, nruns);
}

static void
test_each_function_without_memory(void **state)
{
	int nfds = count_fds();

	(void)state;
	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		run_scenario(&scenarios[i], nfds, false);
		run_scenario(&scenarios[i], nfds, true);
	}
}

/* fzlua_new() and fzlua_close(): the state is freed, even after a failure. */
static void
test_open_and_close_without_memory(void **state)
{
	int nfds = count_fds();
	bool came = true;

	(void)state;
	for (int stays = 0; stays < 2; stays++) {
		came = true;
		for (long n = 0; came; n += 1 + n / 40) {
			lua_State *L;
			int status;

			fail_from(n, stays);
			status = fzlua_new(&L, &options);
			if (L != NULL && status != FZLUA_OK)
				assert_int_not_equal(lua_gettop(L), 0);
			came = good_mallocs < 0;
			fzlua_close(L); /* while allocations may fail */
			end_failing();
			assert_true(came || status == FZLUA_OK);
			assert_int_equal(used, 0);
			assert_int_equal(count_fds(), nfds);
			assert_no_children();
		}
	}
}

static lua_State *
own_state(void)
{
	lua_State *L = lua_newstate(no_memory_alloc, &used);

	assert_non_null(L);
	luaL_openlibs(L);
	return L;
}

/* If luaopen_fzlua() failed in a state of the host, a second call succeeds. */
static void
test_luaopen_without_memory(void **state)
{
	int nfds = count_fds();
	bool came;

	(void)state;
	for (int stays = 0; stays < 2; stays++) {
		came = true;
		for (long n = 0; came; n += 1 + n / 40) {
			lua_State *L = own_state();
			int status;

			lua_pushcfunction(L, luaopen_fzlua);
			fail_from(n, stays);
			status = lua_pcall(L, 0, 1, 0);
			came = end_failing();
			if (status != LUA_OK) {
				lua_settop(L, 0);
				lua_pushcfunction(L, luaopen_fzlua);
				if (lua_pcall(L, 0, 1, 0) != LUA_OK)
					fail_msg("%ld: %s", n,
					    luaL_tolstring(L, -1, NULL));
			}
			assert_true(lua_istable(L, -1));
			lua_setglobal(L, "fz");
			host_assert_status(L, "return fz.now()", FZLUA_OK);
			lua_close(L);
			assert_int_equal(used, 0);
			assert_int_equal(count_fds(), nfds);
		}
	}
}

static int
write_script(void **state)
{
	static char name[] = "/tmp/fzlua-test-XXXXXX";
	static const char text[] = "return #fz.stage 'x'.name";
	int fd = mkstemp(name);

	(void)state;
	path = name;
	return fd == -1 || write(fd, text, sizeof(text) - 1) == -1 ||
	       close(fd) != 0;
}

static int
remove_script(void **state)
{
	(void)state;
	return unlink(path);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_and_close_without_memory),
		cmocka_unit_test(test_luaopen_without_memory),
		cmocka_unit_test(test_each_function_without_memory),
	};

	return cmocka_run_group_tests(tests, write_script, remove_script);
}
