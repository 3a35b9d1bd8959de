/* ltext.h - the width of text on a terminal, by utf8proc. */
#ifndef FZ_LTEXT_H
#define FZ_LTEXT_H

#include <lua.h>

/* Put text_width into the table on top. [-0, +0, m] */
int fz_ltext_open(lua_State *L);

#endif
