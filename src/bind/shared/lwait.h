/* lwait.h - waiting for what processes share, in C. */
#ifndef FZ_LWAIT_H
#define FZ_LWAIT_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

struct fz_eventcount;

/*
 * Go on with what one waits for if that is possible now: true, and it is done.
 * `late` asks it to look for what takes longer to see too, such as a death: on
 * the first try and every FZ_EVENTCOUNT_LOOK_NS. It must not raise.
 */
typedef bool (*fz_lwait_try)(void *ctx, bool late);

/*
 * Wait at `gate` until `try(ctx)` says true, or `until_ns` has come: false. A
 * process that has something in its loop turns it meanwhile, callbacks are
 * called there; Ctrl-C raises "interrupted". Tries once at least. One that went
 * on after a sleep is to call fz_eventcount_again(): `*slept` says so; NULL:
 * all are woken. [-0, +0, e]
 */
bool fz_lwait(lua_State *L, struct fz_eventcount *gate, fz_lwait_try try,
    void *ctx, int64_t until_ns, bool *slept);

/*
 * The deadline of the optional timeout at `idx`, in seconds: nil is never.
 * Raises for anything but a number. [-0, +0, e]
 */
int64_t fz_lwait_until(lua_State *L, int idx);

#endif
