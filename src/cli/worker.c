#include "cli/worker.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "api/fzlua.h"
#include "base/err.h"
#include "bind/ltask.h"
#include "child/spawned_main.h"
#include "cli/state.h"
#include "os/proc.h"
#include "value/lerror.h"
#include "worker/child_spawned.h"
#include "worker/child_stream.h"
#include "worker/node.h"

/* Open the libraries as for a script; protected. */
static int
open_libraries(lua_State *L)
{
	luaL_checkversion(L);
	lua_gc(L, LUA_GCGEN, 0, 0);
	luaL_openlibs(L);
	lua_pushcfunction(L, luaopen_fzlua);
	lua_call(L, 0, 1);
	lua_setglobal(L, "fz");
	luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
	lua_getfield(L, -1, "fzlua.core");
	lua_pushliteral(L, "fzlua"); /* fz.run_scripts() runs this program */
	lua_setfield(L, -2, "command");
	lua_pop(L, 2);
	fz_ltask_follow_coroutines(L);
	lua_getglobal(L, "require"); /* so that an error keeps its class */
	lua_pushliteral(L, "fzlua.error");
	lua_call(L, 1, 0);
	return 0;
}

static int
serve(lua_State *L, int link)
{
	struct fz_err err = { 0 };

	if (L == NULL) {
		fz_child_stream_refuse(
		    link, FZ_ERR_MEMORY, "not enough memory");
		return EXIT_FAILURE;
	}
	lua_pushcfunction(L, open_libraries);
	if (lua_pcall(L, 0, 0, 0) == LUA_OK)
		return fz_spawned_main(L, link);
	fz_lerror_pop(L, &err);
	fz_child_stream_refuse(link, err.kind, err.text);
	return EXIT_FAILURE;
}

_Noreturn void
fz_worker_serve(char **argv)
{
	struct fz_child_spawned spawned;
	int status = EXIT_FAILURE;

	if (fz_child_spawned_enter(&spawned, argv) == 0)
		status = serve(fz_state_new(), spawned.link);
	fz_proc_exit(status);
}

bool
fz_worker_is_on_node(int argc, char **argv)
{
	return (argc == 2 || (argc == 3 && argv[2][0] != '-')) &&
	       strcmp(argv[1], "--worker") == 0;
}

static int
serve_on_node(int link)
{
	return serve(fz_state_new(), link);
}

int
fz_worker_serve_node(char **argv)
{
	return fz_node_main(argv[2], FZ_SPAWNED_IDENTITY, serve_on_node);
}
