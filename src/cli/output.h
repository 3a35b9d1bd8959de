/* cli/output.h - the standard output of the command. */
#ifndef FZ_OUTPUT_H
#define FZ_OUTPUT_H

#include <lua.h>

/*
 * For atexit(), in the command alone: write what is buffered. Output that
 * cannot be written gives a message on standard error and ends the process. A
 * closed pipe has no reader and gives no message.
 */
void fz_output_close(void);

/* Right after a write to stdout: keep the reason if it failed. */
void fz_output_check(void);

/* output_failed(errno): fz_output_close() gives this reason. */
int fz_output_failed(lua_State *L);

/*
 * divert_output(): send the output of this process and its workers to standard
 * error. restore_output(): send it to standard output again.
 */
int fz_output_divert(lua_State *L);
int fz_output_restore(lua_State *L);

#endif
