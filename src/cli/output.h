/* cli/output.h - the standard output of the command. */
#ifndef FZ_OUTPUT_H
#define FZ_OUTPUT_H

#include <lua.h>

/*
 * For atexit(), in the command alone: write buffered output. If that fails,
 * print a message on standard error, except for a pipe without a reader, and
 * end the process.
 */
void fz_output_close(void);

/* Called right after a write to stdout: if it failed, keep the reason. */
void fz_output_check(void);

/* output_failed(errno): note the reason that fz_output_close() prints. */
int fz_output_failed(lua_State *L);

/*
 * divert_output(): send the output of this process and its workers to standard
 * error. restore_output(): send it to standard output again.
 */
int fz_output_divert(lua_State *L);
int fz_output_restore(lua_State *L);

#endif
