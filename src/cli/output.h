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

/*
 * Called immediately after a write to stdout. If the write failed, the reason
 * is kept.
 */
void fz_output_check(void);

/*
 * output_failed(errno): keep the reason of a failure, which fz_output_close()
 * prints
 */
int fz_output_failed(lua_State *L);

/*
 * divert_output(): send the output of this process and of its workers to
 * standard error. restore_output(): send the output to standard output again.
 */
int fz_output_divert(lua_State *L);
int fz_output_restore(lua_State *L);

#endif
