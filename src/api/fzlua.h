/*
 * api/fzlua.h - parallel pipelines in Lua, for C programs.
 *
 * The library never exits, prints on its own, changes signal handlers or reaps
 * children of other code. It forks: call it from one thread of the process, the
 * one that owns the lua_State. Workers end with the process, even if it is
 * killed.
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
 * Open the library in `L`, where the standard libraries must be open.
 * Afterwards require "fzlua" works, and its table is on top of the stack.
 * Replaces os.exit by a function that does the same here, but leaves a worker
 * at once; load modules that keep os.exit for later afterwards. A
 * lua_CFunction; raises if there is no memory or no descriptor. [-0, +1, e]
 */
FZLUA_API int luaopen_fzlua(lua_State *L);

#ifdef __cplusplus
}
#endif

#endif
