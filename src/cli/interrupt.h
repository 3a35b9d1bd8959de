/* cli/interrupt.h - Ctrl-C as an error in the script. */
#ifndef FZ_INTERRUPT_H
#define FZ_INTERRUPT_H

#include <lua.h>

/*
 * Catch SIGINT until the state is closed, unless the command was started with
 * SIGINT ignored (nohup, "&"). The handler sets the debug hook of the coroutine
 * that runs, which fz_ltask_follow_coroutines() notes. [-0, +0, e]
 */
void fz_interrupt_catch(lua_State *L);

/*
 * Stop catching SIGINT, because no script is left to interrupt. The next Ctrl-C
 * only makes a further one end the process. A write of the last output goes on,
 * because stdio would drop the bytes of a write that fails with EINTR.
 */
void fz_interrupt_uncatch(void);

#endif
