/* lcondition.h - core.condition: to wait, with a lock, until one is notified.
 */
#ifndef FZ_LCONDITION_H
#define FZ_LCONDITION_H

#include <lua.h>

/* Open: core.condition. The core table is on top. [-0, +0, e] */
int fz_lcondition_open(lua_State *L);

#endif
