/* spawned_main.h - the main function of a spawned worker or process. */
#ifndef FZ_SPAWNED_MAIN_H
#define FZ_SPAWNED_MAIN_H

#include <lua.h>

struct fz_node_worker;

/*
 * The version of the library and of Lua in one word. A worker must have the
 * same word as its parent.
 */
#define FZ_SPAWNED_IDENTITY \
	FZLUA_VERSION "/Lua" LUA_VERSION_MAJOR "." LUA_VERSION_MINOR

/*
 * The body of FZ_WIRE_SETUP is an encoded table with these fields. `path`,
 * `cpath`: those of the parent's `package`. `classes`: a table from the name of
 * each registered class to the encoded fields of its metatable. `functions`: a
 * string, the message of a function that returns init and exit, and of a list
 * of functions or nil. A process has two other fields instead of `functions`:
 * `seed`, and the string `process`, the message of the values for the thread of
 * its fz_process_home.
 */
#define FZ_SPAWNED_FUNCTIONS "functions"
#define FZ_SPAWNED_PROCESS "process"
#define FZ_SPAWNED_SEED "seed"
#define FZ_SPAWNED_CLASSES "classes"

/*
 * The code of the function that returns init and exit. Both are its upvalues
 * and are therefore encoded together. Objects to which both refer stay shared,
 * and one snapshot has the cells of both.
 */
#define FZ_SPAWNED_HOLDER \
	"local init, exit = ... return function() return init, exit end"

/*
 * Serve the calls that arrive at the socket `link`, in the new state `L`; or
 * make the one call of a process. Returns the exit status. `node` is what a
 * worker on a node shares with the process beside it; NULL: it is not on a
 * node, and `memory` is the file of its mailbox, which this function closes;
 * -1: none.
 */
int fz_spawned_main(
    lua_State *L, int link, int memory, const struct fz_node_worker *node);

#endif
