/* cli/make.h - the job slots of make, if make runs the command. */
#ifndef FZ_MAKE_H
#define FZ_MAKE_H

#include <lua.h>

/* Find the pipe of make. Call it before the process opens descriptors. */
void fz_make_find(void);

/*
 * Under make, run no more functions at once than make allows. A signal that
 * ends the process first returns the tokens. [-0, +0, e]
 */
void fz_make_join(lua_State *L);

/* Return the tokens to make. Called by atexit(), but not in workers. */
void fz_make_leave(void);

/*
 * Make the next signal `sig` end the process, after the tokens were returned to
 * make. Can be called in a signal handler, and can itself be the handler.
 */
void fz_make_end_by_signal(int sig);

#endif
