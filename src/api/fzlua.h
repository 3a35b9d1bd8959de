/*
 * api/fzlua.h - parallel pipelines in Lua, for C programs.
 *
 * The library never exits, changes signal handlers or reaps children of other
 * code, and prints what workers print, and its log, through fzlua_set_output()
 * and fzlua_set_log() only. Several states of a process may have the library
 * open, each in a thread of its own: one thread at a time uses a state. Objects
 * and workers of one state are unknown to the others. A worker is a fork of the
 * thread that uses its state. Workers end with the process, even if it is
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

/*
 * Takes what workers print, whole lines at a time, in order; `fd` is 1 or 2.
 * Returns 0, or the errno of a failure, which the wait that is under way then
 * raises. Must not call Lua.
 */
typedef int (*fzlua_output)(void *ctx, int fd, const char *bytes, size_t len);

/* Takes an entry of the log with the newline at its end. Must not call Lua. */
typedef void (*fzlua_log)(void *ctx, const char *line, size_t len);

/*
 * Send what workers print, and the log, to functions of the host from now on;
 * NULL: to stdout and stderr, as at first. After luaopen_fzlua(). [-0, +0, -]
 */
FZLUA_API void fzlua_set_output(lua_State *L, fzlua_output output, void *ctx);
FZLUA_API void fzlua_set_log(lua_State *L, fzlua_log log, void *ctx);

#ifdef __cplusplus
}
#endif

#endif
