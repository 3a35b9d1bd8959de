/* cli/interrupt.h - Ctrl-C as an error in the script. */
#ifndef FZ_INTERRUPT_H
#define FZ_INTERRUPT_H

#include <stdbool.h>

#include <lua.h>

/*
 * Catch SIGINT until the Lua state is closed. Does nothing if SIGINT was
 * ignored when the command started (nohup, "&"). The handler sets the debug
 * hook of the running coroutine, which coroutine.resume notes after a call of
 * fz_ltask_follow_coroutines(). [-0, +0, e]
 */
void fz_interrupt_catch(lua_State *L);

/*
 * catch_interrupt(): the error of the last Ctrl-C was handled, so the next one
 * raises an error again. For a command that goes on after an error.
 */
int fz_interrupt_catch_next(lua_State *L);

/*
 * If `only` is set, Ctrl-C only raises an error: a second one does not end the
 * process, even before the error of the first is raised.
 */
void fz_interrupt_only_raise(bool only);

/*
 * Stop catching SIGINT, because no script can be interrupted any more. After
 * this, the first Ctrl-C has no effect, and the second ends the process. The
 * first does not interrupt the write of the last output, because stdio would
 * drop the bytes of a write that fails with EINTR.
 */
void fz_interrupt_uncatch(void);

#endif
