/*
 * print.h - prints the output of the script above the progress lines and the
 * prompt.
 *
 * print, io.write and file:write behave as those of the Lua library. Each calls
 * the original function, unless progress lines or the prompt are on the
 * terminal that it writes to. Before os.execute runs another program, the
 * progress lines and the prompt are removed.
 */
#ifndef FZ_PRINT_H
#define FZ_PRINT_H

#include <lua.h>

/* Wrap the functions of the Lua library. [-0, +0, e] */
void fz_print_wrap(lua_State *L);

/* Remove the prompt, and the progress lines until they are drawn again. */
void fz_print_clear(void);

/* Draw the prompt again, if there is one. */
void fz_print_restore(void);

/* Remove the lines at the end of the process, before its last output. */
void fz_print_end(void);

/* For signal handlers: another program has used the terminal. */
void fz_print_lost(void);

#endif
