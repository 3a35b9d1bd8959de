/* cli/make.h - the job slots of a make that runs the command. */
#ifndef FZ_MAKE_H
#define FZ_MAKE_H

#include <lua.h>

/* Find make's pipe. Call it before the process opens descriptors. */
void fz_make_find(void);

/*
 * Under make: run no more functions at once than make allows. Signals that end
 * the process return make's tokens first. [-0, +0, e]
 */
void fz_make_join(lua_State *L);

/* Return make's tokens. For atexit(); workers do not call it. */
void fz_make_leave(void);

/*
 * Let the next signal `sig` end the process, and return make's tokens first.
 * May be called in a signal handler, and be the handler.
 */
void fz_make_end_by_signal(int sig);

#endif
