/*
 * print.h - prints the output of the script above the progress lines and the
 * prompt.
 *
 * The functions print, io.write and file:write behave as in the Lua library.
 * Each of them calls the original function, unless it writes to a terminal that
 * shows progress lines or the prompt. Before os.execute runs another program,
 * the progress lines and the prompt are removed.
 */
#ifndef FZ_PRINT_H
#define FZ_PRINT_H

#include <lua.h>

/* Replace the functions of the Lua library. [-0, +0, e] */
void fz_print_wrap(lua_State *L);

/* Remove the prompt, and the progress lines until they are drawn again. */
void fz_print_clear(void);

/* Draw the prompt again if it was removed. */
void fz_print_restore(void);

/* Remove the progress lines before the last output of the process. */
void fz_print_end(void);

/* For signal handlers: another program has used the terminal. */
void fz_print_lost(void);

#endif
