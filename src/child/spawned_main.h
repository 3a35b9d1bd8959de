/* spawned_main.h - the main function of a worker that is a program. */
#ifndef FZ_SPAWNED_MAIN_H
#define FZ_SPAWNED_MAIN_H

#include <lua.h>

struct fz_node_worker;

/*
 * The version of the library and of Lua, as one word. A worker and its parent
 * must have the same word.
 */
#define FZ_SPAWNED_IDENTITY \
	FZLUA_VERSION "/Lua" LUA_VERSION_MAJOR "." LUA_VERSION_MINOR

/*
 * The body of FZ_WIRE_SETUP is an encoded table. `path` and `cpath` are those
 * of package. `classes` has, by the name of each registered class, the encoded
 * fields of its metatable. The string in `functions` is the message of a
 * function that returns init and exit, and of a list of functions or nil. In
 * place of `functions`, the table of a process has its `seed` and the string
 * `process`, which is the message of the values of the thread of a
 * fz_process_home.
 */
#define FZ_SPAWNED_FUNCTIONS "functions"
#define FZ_SPAWNED_PROCESS "process"
#define FZ_SPAWNED_SEED "seed"
#define FZ_SPAWNED_CLASSES "classes"

/*
 * The code of the function that returns init and exit. init and exit are its
 * upvalues, so that they share the objects that they refer to, and one record
 * has all their cells.
 */
#define FZ_SPAWNED_HOLDER \
	"local init, exit = ... return function() return init, exit end"

/*
 * Serve the calls that come from the socket `link`, in the new state `L`, or
 * make the one call of a process. Returns the exit status of the process.
 * `node` has what a worker on a node shares with the process there; NULL: the
 * worker is not on a node.
 */
int fz_spawned_main(lua_State *L, int link, const struct fz_node_worker *node);

#endif
