#include "child/process_main.h"

#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>

#include "child/call.h"
#include "child/call_state.h"
#include "child/port_io.h"
#include "child/random.h"
#include "codec/codec.h"
#include "value/garbage.h"
#include "value/lerror.h"
#include "wire/child_port.h"

/* (call, enter, function, arguments ...): call `enter`, then the function. */
static int
process_body(lua_State *L)
{
	struct fz_child_calls *c = lua_touserdata(L, 1);

	fz_random_seed(c->what->random, c->what->seed);
	lua_pushvalue(L, 2);
	lua_call(L, 0, 0);
	c->phase = FZ_CHILD_PHASE_CALL;
	lua_call(L, lua_gettop(L) - 3, LUA_MULTRET);
	c->phase = FZ_CHILD_PHASE_RESULTS;
	c->io->begin(c->io->ctx, false, 1);
	fz_codec_encode(L, 3, lua_gettop(L) - 2, c->io->out);
	c->io->put(c->io->ctx);
	return 0;
}

/*
 * (error, call, name, traced): write the name and the error to standard error,
 * with the kept traceback if `traced` is true. Called in protected mode.
 */
static int
print_error_body(lua_State *L)
{
	struct fz_child_calls *c = lua_touserdata(L, 2);
	bool traced = lua_toboolean(L, 4);
	const char *text;
	size_t len;

	lua_settop(L, 3);
	lua_pushliteral(L, ": ");
	if (c->phase == FZ_CHILD_PHASE_RESULTS &&
	    *fz_child_kind_word(L) != '\0') {
		/* a result cannot be encoded: the message is complete */
		fz_child_push_result_message(L, c);
		traced = false;
	} else {
		fz_lerror_text(L, 1);
	}
	lua_pushliteral(L, "\n");
	if (traced) {
		fz_child_push_traceback(L);
		if (lua_isnil(L, -1))
			lua_pop(L, 1);
		else
			lua_pushliteral(L, "\n");
	}
	lua_concat(L, lua_gettop(L) - 2);
	text = lua_tolstring(L, -1, &len);
	fwrite(text, 1, len, stderr);
	return 0;
}

/* Print the error on top. `status` is that of its lua_pcall(). [-1] */
static void
print_error(lua_State *L, struct fz_child_calls *c, int status)
{
	lua_pushcfunction(L, print_error_body);
	lua_insert(L, -2);
	lua_pushlightuserdata(L, c);
	lua_pushvalue(L, FZ_PROCESS_NAME);
	lua_pushboolean(L, status == LUA_ERRRUN);
	if (lua_pcall(L, 4, 0, 0) != LUA_OK)
		lua_pop(L, 1);
}

/* Make the call of a process and send its reply. Returns the exit status. */
static int
process_call(lua_State *L, struct fz_port_io *pio, struct fz_child_calls *c)
{
	int status, rc;

	/* make the stack: ..., handler, body, c, enter, function, arguments */
	lua_pushcfunction(L, fz_child_note_traceback);
	lua_insert(L, FZ_PROCESS_ENTER);
	lua_pushcfunction(L, process_body);
	lua_insert(L, FZ_PROCESS_ENTER + 1);
	lua_pushlightuserdata(L, c);
	lua_insert(L, FZ_PROCESS_ENTER + 2);
	status = lua_pcall(
	    L, lua_gettop(L) - FZ_PROCESS_ENTER - 1, 0, FZ_PROCESS_ENTER);
	if (status != LUA_OK) {
		fz_child_put_error(L, c, status);
		print_error(L, c, status);
	}
	fflush(stdout);
	rc = pio->io.send(pio);
	if (pio->refused)
		fprintf(stderr, "%s: not enough memory for the results\n",
		    lua_tostring(L, FZ_PROCESS_NAME));
	if (rc != 0 || fz_port_flush(pio->port, NULL) != 0)
		return EXIT_FAILURE; /* the parent is gone */
	return status == LUA_OK && !pio->refused ? EXIT_SUCCESS : EXIT_FAILURE;
}

int
fz_process_main(void *ctx, struct fz_port *port)
{
	const struct fz_process_home *process = ctx;
	lua_State *L = process->L;
	struct fz_random random;
	struct fz_garbage_child garbage;
	struct fz_port_io pio;
	struct fz_child_call what = { .seed = process->seed,
		.random = &random };
	struct fz_child_calls c = { .what = &what,
		.io = &pio.io,
		.phase = FZ_CHILD_PHASE_INIT,
		.all = true };
	int status, rc;

	fz_port_io_init(&pio, port);
	fz_child_enter(L, &random);
	fz_garbage_inherit(&garbage, L, process->aged);
	rc = process_call(L, &pio, &c);
	if (rc != EXIT_SUCCESS)
		return rc;
	c.phase = FZ_CHILD_PHASE_CALL;
	lua_pushvalue(L, FZ_PROCESS_LEAVE);
	status = lua_pcall(L, 0, 0, FZ_PROCESS_ENTER);
	if (status == LUA_OK)
		return EXIT_SUCCESS;
	print_error(L, &c, status);
	return EXIT_FAILURE;
}
