/*
 * A host that uses the functions of fzlua.h: states, calls, chains of C
 * functions, and tasks that its own loop steps.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <lauxlib.h>

#include "api/fzlua.h"
#include "host_test.h"
#include "lua_memory.h"
#include "sanitized.h"

static void
test_a_call_returns_the_results(void **state)
{
	lua_State *L = *state;

	host_push_function(L, "local a, b = ... return a + b, a * b, 'more'");
	lua_pushinteger(L, 3);
	lua_pushinteger(L, 4);
	assert_int_equal(fzlua_call(L, 2, 2), FZLUA_OK);
	assert_int_equal(lua_gettop(L), 2);
	assert_int_equal(lua_tointeger(L, 1), 7);
	assert_int_equal(lua_tointeger(L, 2), 12);
}

static void
test_statuses_are_the_kinds_of_errors(void **state)
{
	lua_State *L = *state;

	host_assert_status(L, "error 'oops'", FZLUA_ERROR);
	assert_non_null(strstr(host_field(L, "message"), "oops"));
	assert_non_null(strstr(host_field(L, "traceback"), "stack traceback"));
	host_assert_status(L, "error {code = 7}", FZLUA_ERROR);
	lua_getfield(L, -1, "cause");
	lua_getfield(L, -1, "code");
	assert_int_equal(lua_tointeger(L, -1), 7);
	host_assert_status(L,
	    "local pool <close> = fz.pool(1) pool:apply(os.exit)", FZLUA_CRASH);
	host_assert_status(L,
	    "local pool <close> = fz.pool{workers = 1, timeout = 0.05}"
	    "pool:apply(fz.sleep, 60)",
	    FZLUA_TIMEOUT);
	host_assert_status(
	    L, "fz.pack(print, coroutine.create(print))", FZLUA_UNSENDABLE);
	host_assert_status(
	    L, "local q = fz.queue() q:close() q:put(1)", FZLUA_CLOSED);
	host_assert_status(L,
	    "local s = fz.stage 's' function s.A(B) end"
	    " fz.chain{s}:invoke{}",
	    FZLUA_GRAPH);
	host_assert_status(L,
	    "local t = fz.spawn(fz.sleep, 60) t:cancel() t:await()",
	    FZLUA_CANCELLED);
}

static void
test_a_missing_file_is_an_error(void **state)
{
	lua_State *L = *state;

	assert_int_equal(
	    fzlua_dofile(L, "/nonexistent/file.lua", 1), FZLUA_ERROR);
	assert_non_null(
	    strstr(host_field(L, "message"), "/nonexistent/file.lua"));
	assert_int_equal(lua_gettop(L), 1);
}

/* (number) -> number plus the upvalue */
static int
add(lua_State *L)
{
	lua_pushinteger(
	    L, luaL_checkinteger(L, 1) + lua_tointeger(L, lua_upvalueindex(1)));
	return 1;
}

static int
divide(lua_State *L)
{
	lua_Integer by = luaL_checkinteger(L, 2);

	if (by == 0)
		return luaL_error(L, "division by zero");
	lua_pushinteger(L, luaL_checkinteger(L, 1) / by);
	lua_pushinteger(L, luaL_checkinteger(L, 1) % by);
	return 2;
}

/* Push a chain of C functions: quotient, rest = divide(A + 10, B). */
static void
push_chain(lua_State *L)
{
	assert_int_equal(fzlua_stage(L, "first"), FZLUA_OK);
	lua_pushinteger(L, 10);
	lua_pushcclosure(L, add, 1);
	assert_int_equal(fzlua_register(L, -2, "A", NULL), FZLUA_OK);
	assert_int_equal(fzlua_stage(L, "second"), FZLUA_OK);
	lua_pushcfunction(L, divide);
	assert_int_equal(
	    fzlua_register(L, -2, "quotient, rest", "A,B"), FZLUA_OK);
	assert_int_equal(fzlua_chain(L, 2), FZLUA_OK);
}

static void
push_inputs(lua_State *L, lua_Integer a, lua_Integer b)
{
	lua_createtable(L, 0, 2);
	lua_pushinteger(L, a);
	lua_setfield(L, -2, "A");
	lua_pushinteger(L, b);
	lua_setfield(L, -2, "B");
}

static lua_Integer
integer_field(lua_State *L, const char *name)
{
	lua_Integer n;

	lua_getfield(L, -1, name);
	n = lua_tointeger(L, -1);
	lua_pop(L, 1);
	return n;
}

static void
test_c_functions_run_in_workers(void **state)
{
	lua_State *L = *state;

	push_chain(L);
	push_inputs(L, 7, 5);
	assert_int_equal(fzlua_call(L, 1, 1), FZLUA_OK);
	assert_int_equal(lua_gettop(L), 1);
	assert_int_equal(integer_field(L, "quotient"), 3);
	assert_int_equal(integer_field(L, "rest"), 2);
}

static void
test_an_error_of_a_c_function_names_its_output(void **state)
{
	lua_State *L = *state;

	push_chain(L);
	push_inputs(L, 7, 0);
	assert_int_equal(fzlua_call(L, 1, 1), FZLUA_ERROR);
	assert_non_null(strstr(host_field(L, "message"), "division by zero"));
	assert_string_equal(host_field(L, "stage"), "second");
}

static void
test_wrong_registrations_are_errors(void **state)
{
	lua_State *L = *state;

	assert_int_equal(fzlua_stage(L, "s"), FZLUA_OK);
	lua_pushinteger(L, 1);
	assert_int_equal(fzlua_register(L, 1, "A", NULL), FZLUA_ERROR);
	lua_settop(L, 1);
	lua_pushcfunction(L, add);
	assert_int_equal(fzlua_register(L, 1, " , ", NULL), FZLUA_ERROR);
	lua_settop(L, 1);
	lua_pushinteger(L, 1);
	assert_int_equal(fzlua_chain(L, 2), FZLUA_ERROR);
	assert_int_equal(lua_gettop(L), 1);
}

static void
test_chains_run_while_the_host_polls(void **state)
{
	enum { N = 40 };
	lua_State *L = *state;
	bool seen[N] = { false };
	void *tag;

	push_chain(L);
	for (lua_Integer i = 0; i < N; i++) {
		lua_pushvalue(L, 1);
		push_inputs(L, i, 3);
		assert_int_equal(fzlua_spawn(L, 1, &seen[i]), FZLUA_OK);
	}
	for (int n = 0; n < N; n++) {
		lua_Integer i;

		assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_OK);
		i = (bool *)tag - seen;
		assert_in_range(i, 0, N - 1);
		assert_false(seen[i]);
		seen[i] = true;
		assert_int_equal(integer_field(L, "rest"), (i + 10) % 3);
		lua_pop(L, 1);
	}
	assert_int_equal(fzlua_next(L, 1, &tag), FZLUA_NONE);
	assert_int_equal(lua_gettop(L), 1);
}

static void
test_the_descriptor_covers_timers(void **state)
{
	lua_State *L = *state;
	void *tag;

	host_push_function(L, "fz.sleep(0.05) fz.sleep(0.02) return 'late'");
	assert_int_equal(fzlua_spawn(L, 0, L), FZLUA_OK);
	host_push_function(L, "return fz.with_timeout(0.03, fz.sleep, 60)");
	assert_int_equal(fzlua_spawn(L, 0, NULL), FZLUA_OK);
	assert_int_equal(host_poll_next(L, 2, &tag), FZLUA_OK);
	assert_null(tag);
	assert_string_equal(lua_tostring(L, 2), "timeout");
	lua_settop(L, 0);
	assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_OK);
	assert_ptr_equal(tag, L);
	assert_string_equal(lua_tostring(L, 1), "late");
}

/* How often the descriptor is ready although no task has ended. */
static int
count_steps(lua_State *L, int ms)
{
	struct pollfd p = { .fd = fzlua_fd(L), .events = POLLIN };
	void *tag;
	int n = 0;

	while (poll(&p, 1, ms) == 1) {
		assert_int_equal(fzlua_step(L, 0), FZLUA_OK);
		assert_int_equal(fzlua_next(L, 0, &tag), FZLUA_NONE);
		n++;
	}
	return n;
}

static void
test_an_idle_descriptor_is_not_ready(void **state)
{
	lua_State *L = *state;
	void *tag;

	push_chain(L);
	push_inputs(L, 1, 1);
	assert_int_equal(fzlua_spawn(L, 1, NULL), FZLUA_OK);
	assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_OK);
	host_push_function(L, "fz.sleep(3600)");
	assert_int_equal(fzlua_spawn(L, 0, NULL), FZLUA_OK);
	/* Unused memory is freed within a second or two. */
	assert_in_range(count_steps(L, 5000), 0, 100);
}

static void
test_cancelled_tasks_end_their_work(void **state)
{
	lua_State *L = *state;
	char first, second;
	void *tag;

	host_push_function(
	    L, "local p <close> = fz.pool(1) p:apply(fz.sleep, 60)");
	lua_pushvalue(L, 1);
	assert_int_equal(fzlua_spawn(L, 0, &first), FZLUA_OK);
	assert_int_equal(fzlua_spawn(L, 0, &second), FZLUA_OK);
	for (int i = 0; i < 20; i++)
		assert_int_equal(fzlua_step(L, 0.005), FZLUA_OK);
	assert_int_equal(fzlua_cancel(L, &second), FZLUA_OK);
	assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_CANCELLED);
	assert_ptr_equal(tag, &second);
	lua_settop(L, 0);
	assert_int_equal(fzlua_cancel(L, &second), FZLUA_OK); /* it has ended */
	assert_int_equal(fzlua_cancel(L, &first), FZLUA_OK);
	assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_CANCELLED);
	assert_ptr_equal(tag, &first);
}

static void
test_a_task_that_fails_has_its_traceback(void **state)
{
	lua_State *L = *state;
	void *tag;

	host_push_function(L, "local function f() error('deep', 0) end f()");
	assert_int_equal(fzlua_spawn(L, 0, NULL), FZLUA_OK);
	assert_int_equal(host_poll_next(L, 1, &tag), FZLUA_ERROR);
	assert_string_equal(host_field(L, "message"), "deep");
	assert_non_null(strstr(host_field(L, "traceback"), "local 'f'"));
}

static void
test_a_task_must_be_callable(void **state)
{
	lua_State *L = *state;
	void *tag;

	lua_pushnil(L);
	assert_int_equal(fzlua_spawn(L, 0, L), FZLUA_OK);
	assert_int_equal(host_poll_next(L, 0, &tag), FZLUA_ERROR);
	assert_string_equal(
	    host_field(L, "message"), "attempt to call a nil value");
}

static void
test_finish_waits_for_all(void **state)
{
	lua_State *L = *state;

	host_assert_status(L,
	    "ended = 0 "
	    "fz.spawn(function() fz.sleep(0.03) ended = ended + 1 end)"
	    "fz.process(fz.sleep, 0.03):start()",
	    FZLUA_OK);
	assert_int_equal(fzlua_finish(L), FZLUA_OK);
	lua_getglobal(L, "ended");
	assert_int_equal(lua_tointeger(L, -1), 1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void *
interrupt_later(void *instance)
{
	const struct timespec nap = { 0, 50000000 };

	nanosleep(&nap, NULL);
	fzlua_interrupt(instance);
	return NULL;
}

static void
test_another_thread_interrupts(void **state)
{
	static const char *const codes[] = { "while true do end",
		"fz.sleep(60)", "fz.queue():get(60)",
		"local p <close> = fz.pool(1) p:apply(fz.sleep, 60)",
		"fz.await(fz.spawn(function() while true do end end))" };
	lua_State *L = *state;
	pthread_t thread;

	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		assert_int_equal(pthread_create(&thread, NULL, interrupt_later,
				     fzlua_instance_of(L)),
		    0);
		host_assert_status(L, codes[i], FZLUA_INTERRUPTED);
		pthread_join(thread, NULL);
		host_assert_status(L, "fz.sleep(0)", FZLUA_OK);
	}
}

struct forks {
	int before, parent, pipe;
};

static void
count_forks(void *ctx, int when)
{
	struct forks *f = ctx;
	const char child = 'c';

	f->before += when == FZLUA_FORK_BEFORE;
	f->parent += when == FZLUA_FORK_PARENT;
	if (when == FZLUA_FORK_CHILD && write(f->pipe, &child, 1) != 1)
		_exit(1);
}

static void
test_the_host_is_told_of_forks(void **state)
{
	struct forks forks = { 0 };
	char bytes[16];
	int fd[2];

	assert_int_equal(pipe(fd), 0);
	forks.pipe = fd[1];
	fzlua_set_forks(*state, count_forks, &forks);
	/* The handler is not called for the forks of a worker. */
	host_assert_status(*state,
	    "local pool <close> = fz.pool(2) pool:map(function() "
	    "fz.process(fz.now):start():join() end, {1, 2, 3, 4})",
	    FZLUA_OK);
	fzlua_set_forks(*state, NULL, NULL);
	assert_int_equal(forks.before, 2);
	assert_int_equal(forks.parent, 2);
	assert_int_equal(read(fd[0], bytes, sizeof(bytes)), 2);
	close(fd[0]);
	close(fd[1]);
}

static void
test_a_lack_of_memory_has_its_status(void **state)
{
	static const char *const codes[] = { "return ('x'):rep(1 << 24)",
		"local s = 'x' while true do s = s .. s end",
		"local t = {} for i = 1, 1 << 24 do t[i] = i end" };
	struct lua_memory f = { .left = -1, .most = 1 << 20 };
	const struct fzlua_options options = { .size = sizeof(options),
		.alloc = lua_memory_allocate,
		.alloc_ctx = &f };
	lua_State *L;

	(void)state;
	assert_int_equal(fzlua_new(&L, &options), FZLUA_OK);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		host_assert_status(L, codes[i], FZLUA_MEMORY);
		assert_string_equal(host_field(L, "kind"), "memory");
	}
	fzlua_close(L);
}

static int
use_full_stack(lua_State *L, int which)
{
	void *tag;

	switch (which) {
	case 0:
		return fzlua_stage(L, "s");
	case 1:
		return fzlua_step(L, 0);
	case 2:
		return fzlua_next(L, 0, &tag);
	case 3:
		return fzlua_cancel(L, L);
	case 4:
		return fzlua_finish(L);
	case 5:
		return fzlua_dofile(L, "/dev/null", 0);
	case 6: /* this call and all below pop a value */
		return fzlua_spawn(L, 0, L);
	case 7:
		return fzlua_call(L, 0, 0);
	case 8:
		return fzlua_register(L, 1, "A", NULL);
	default:
		return fzlua_chain(L, 1);
	}
}

static void
test_a_full_stack_is_an_error_with_a_value(void **state)
{
	lua_State *L = *state;
	int top;

	while (lua_checkstack(L, 1))
		lua_pushboolean(L, 1);
	lua_pop(L, 1); /* make room for the error */
	top = lua_gettop(L);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(use_full_stack(L, i), FZLUA_MEMORY);
		assert_int_equal(lua_gettop(L), i < 6 ? top + 1 : top);
		assert_true(lua_istable(L, -1));
		lua_settop(L, top - 1);
		lua_pushboolean(L, 1);
	}
	lua_settop(L, 0);
	host_assert_status(L, "return 1", FZLUA_OK);
}

/* Call each function of use_full_stack() in a state without fzlua. */
static void
test_a_state_without_the_library_is_an_error(void **state)
{
	lua_State *L = luaL_newstate();

	(void)state;
	assert_non_null(L);
	for (int i = 0; i < 10; i++) {
		lua_settop(L, 0);
		lua_newtable(L);
		lua_pushboolean(L, 1);
		assert_int_equal(use_full_stack(L, i), FZLUA_ERROR);
		assert_int_equal(lua_gettop(L), i < 6 ? 3 : 2);
		assert_non_null(strstr(lua_tostring(L, -1), "luaopen_fzlua"));
	}
	assert_int_equal(fzlua_fd(L), -1);
	lua_close(L);
}

/* Pipes that report the begin of the use and allow its end. */
static int started_use[2], end_use[2];

/* The thread that is in a call may make another call. */
static int
be_used(lua_State *L)
{
	char c;

	lua_settop(L, 0);
	host_push_function(L, "return 1");
	lua_pushboolean(L, fzlua_call(L, 0, 0) == FZLUA_OK);
	if (write(started_use[1], "", 1) != 1 || read(end_use[0], &c, 1) != 1)
		luaL_error(L, "no pipe");
	return 1;
}

static void *
use_state(void *state)
{
	lua_pushcfunction(state, be_used);
	return fzlua_call(state, 0, 1) == FZLUA_OK ? state : NULL;
}

static void
test_a_state_that_another_thread_uses_is_left_alone(void **state)
{
	lua_State *L = *state, *other;
	pthread_t thread;
	void *good;
	char c;

	assert_int_equal(pipe(started_use) | pipe(end_use), 0);
	assert_int_equal(pthread_create(&thread, NULL, use_state, L), 0);
	assert_int_equal(read(started_use[0], &c, 1), 1);
	for (int i = 0; i < 10; i++)
		assert_int_equal(use_full_stack(L, i), FZLUA_IN_USE);
	assert_int_equal(fzlua_new(&other, NULL), FZLUA_OK);
	host_assert_status(other, "return 1", FZLUA_OK);
	fzlua_close(other);
	assert_int_equal(write(end_use[1], "", 1), 1);
	assert_int_equal(pthread_join(thread, &good), 0);
	assert_ptr_equal(good, L);
	assert_int_equal(lua_gettop(L), 1);
	assert_true(lua_toboolean(L, 1));
	host_assert_status(L, "return 1", FZLUA_OK);
	for (int i = 0; i < 2; i++) {
		close(started_use[i]);
		close(end_use[i]);
	}
}

static void
test_a_step_of_no_number_does_not_wait(void **state)
{
	assert_int_equal(fzlua_step(*state, NAN), FZLUA_OK);
}

/*
 * Returns whether all calls succeeded, which means that no allocation failed.
 */
static bool
run_with(struct lua_memory *f)
{
	const struct fzlua_options options = { .size = sizeof(options),
		.alloc = lua_memory_allocate,
		.alloc_ctx = f };
	lua_State *L;
	void *tag;
	int status = fzlua_new(&L, &options);

	if (status == FZLUA_OK)
		status = fzlua_stage(L, "s");
	if (status == FZLUA_OK && lua_checkstack(L, 1)) {
		lua_pushcfunction(L, divide);
		status = fzlua_register(L, 1, "C", "A, B");
	}
	if (status == FZLUA_OK)
		status = fzlua_chain(L, 1);
	if (status == FZLUA_OK)
		status = fzlua_fd(L) != -1 ? FZLUA_OK : FZLUA_ERROR;
	if (status == FZLUA_OK)
		status = fzlua_spawn(L, 0, f);
	while (status == FZLUA_OK &&
	       (status = fzlua_next(L, 1, &tag)) == FZLUA_NONE)
		status = fzlua_step(L, -1);
	fzlua_close(L);
	/* If no allocation fails, the chain fails because it has no inputs. */
	assert_int_not_equal(status, FZLUA_OK);
	return status == FZLUA_GRAPH;
}

static void
test_each_allocation_may_fail(void **state)
{
	(void)state;
	if (UNDER_TSAN) /* the test has one thread, and would take minutes */
		skip();
	alarm(HOST_HANGS_S);
	for (int once = 0; once < 2; once++) {
		struct lua_memory f = { .once = once, .left = -1 };
		long n = 0;
		bool done = false;

		for (; !done; n += 1 + n / 100) {
			f.left = n;
			done = run_with(&f) && f.left > 0;
		}
		assert_true(n > 100);
	}
	alarm(0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		HOST_TEST(test_a_call_returns_the_results),
		HOST_TEST(test_statuses_are_the_kinds_of_errors),
		HOST_TEST(test_a_missing_file_is_an_error),
		HOST_TEST(test_c_functions_run_in_workers),
		HOST_TEST(test_an_error_of_a_c_function_names_its_output),
		HOST_TEST(test_wrong_registrations_are_errors),
		HOST_TEST(test_chains_run_while_the_host_polls),
		HOST_TEST(test_the_descriptor_covers_timers),
		HOST_TEST(test_an_idle_descriptor_is_not_ready),
		HOST_TEST(test_cancelled_tasks_end_their_work),
		HOST_TEST(test_a_task_that_fails_has_its_traceback),
		HOST_TEST(test_a_task_must_be_callable),
		HOST_TEST(test_finish_waits_for_all),
		HOST_TEST(test_another_thread_interrupts),
		HOST_TEST(test_the_host_is_told_of_forks),
		HOST_TEST(test_a_full_stack_is_an_error_with_a_value),
		cmocka_unit_test(test_a_state_without_the_library_is_an_error),
		HOST_TEST(test_a_state_that_another_thread_uses_is_left_alone),
		HOST_TEST(test_a_step_of_no_number_does_not_wait),
		cmocka_unit_test(test_a_lack_of_memory_has_its_status),
		cmocka_unit_test(test_each_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
