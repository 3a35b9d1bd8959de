/* cli/output.h - the standard output of the command. */
#ifndef FZ_OUTPUT_H
#define FZ_OUTPUT_H

#include <lua.h>

/*
 * Write buffered output at the end of the process. Called by atexit(), but not
 * in workers. If the write fails, prints a message on standard error, unless
 * standard output is a pipe without a reader, and ends the process.
 */
void fz_output_close(void);

/* Called after a write to stdout. Keeps the reason if the write failed. */
void fz_output_check(void);

/* output_failed(errno): note the reason that fz_output_close() prints */
int fz_output_failed(lua_State *L);

/*
 * divert_output(): send the output of this process and of its workers to
 * standard error. restore_output(): send the output to standard output again.
 */
int fz_output_divert(lua_State *L);
int fz_output_restore(lua_State *L);

#endif
