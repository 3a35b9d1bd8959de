/* warning.h - a line for the log, from C. */
#ifndef FZ_WARNING_H
#define FZ_WARNING_H

#include <lua.h>

/*
 * Log the text at the top as fz.log.warn does; a state without that module logs
 * nothing. Calls Lua code. [-1, +0, m]
 */
void fz_warning(lua_State *L);

#endif
