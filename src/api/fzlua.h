/*
 * api/fzlua.h - parallel pipelines in Lua, for C programs.
 *
 * The library never exits, prints of its own accord, changes signal handlers
 * or reaps children that are not its own. It forks: call it from one thread,
 * the one that owns the lua_State. Workers end with the process, also when it
 * is killed.
 */
#ifndef FZLUA_H
#define FZLUA_H

#include <lua.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FZLUA_VERSION_NUM 100 /* major * 10000 + minor * 100 + patch */

#if defined(__GNUC__)
#define FZLUA_API __attribute__((visibility("default")))
#else
#define FZLUA_API
#endif

/* "0.1.0" */
FZLUA_API const char *fzlua_version(void);

/*
 * Open the library in `L`, which has the standard libraries open already:
 * afterwards require "fzlua" works, and its table is on top of the stack.
 * Replaces os.exit by a function that does the same here, and leaves a worker
 * at once; modules that keep os.exit for later should be loaded afterwards. A
 * lua_CFunction: raises for lack of memory or descriptors. [-0, +1, e]
 */
FZLUA_API int luaopen_fzlua(lua_State *L);

#ifdef __cplusplus
}
#endif

#endif
