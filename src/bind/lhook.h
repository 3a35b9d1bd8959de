/*
 * lhook.h - calls the hooks of a Lua state during waits.
 *
 * The signal handler of a host may set a hook of the main thread, as the
 * handler of lua.c does. But Lua calls hooks only while Lua code runs, and only
 * the hook of the running thread. So a wait must call these hooks itself.
 */
#ifndef FZ_LHOOK_H
#define FZ_LHOOK_H

#include <stdbool.h>

#include <lua.h>

/*
 * The hooks that a wait must call. The wait compares them with earlier ones to
 * notice that a signal handler has set a hook.
 */
struct fz_lhook {
	lua_Hook own, main;
};

/* The current hooks of L, which waits, and of the main thread. */
static inline struct fz_lhook
fz_lhook_get(lua_State *L, lua_State *main)
{
	return (struct fz_lhook){ lua_gethook(L), lua_gethook(main) };
}

static inline bool
fz_lhook_is_same(struct fz_lhook a, struct fz_lhook b)
{
	return a.own == b.own && a.main == b.main;
}

/*
 * Call the hook of L, and the hook of the main thread as if L was that thread.
 * If the latter removes itself, as the hook of lua.c does before it raises its
 * error, it is removed from the main thread, too. [-0, +0, e]
 */
void fz_lhook_run(lua_State *L, lua_State *main);

#endif
