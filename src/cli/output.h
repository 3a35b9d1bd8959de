/* cli/output.h - the standard output of the command. */
#ifndef FZ_OUTPUT_H
#define FZ_OUTPUT_H

#include <lua.h>

/*
 * Write what is buffered. Output that cannot be written is an error: a message
 * on standard error, and the process ends. A closed pipe has no reader, so that
 * there is no message. For atexit(); workers do not come here.
 */
void fz_output_close(void);

/*
 * divert_output(): send what is printed to standard error, by this process and
 * by its workers. restore_output(): to standard output again.
 */
int fz_output_divert(lua_State *L);
int fz_output_restore(lua_State *L);

#endif
