/* lprogram.h - core.exec: another program under way; core.executable: our own.
 */
#ifndef FZ_LPROGRAM_H
#define FZ_LPROGRAM_H

#include <lua.h>

/* Open: core.exec, .executable. The core table is on top. [-0, +0, e] */
int fz_lexec_open(lua_State *L);

#endif
