/*
 * edit.h - the line editor of the REPL, which is libedit.
 *
 * An input may have several lines. While the editor waits for a key, the loop
 * turns: tasks run, and their output appears above the prompt.
 */
#ifndef FZ_EDIT_H
#define FZ_EDIT_H

#include <lua.h>

/*
 * editor(callbacks) -> editor | nil if the terminal does not allow editing. The
 * callbacks get the text before the cursor and the text after it:
 *
 *   wait()                    returns when there is input, or editor:has_news()
 *   is_complete(before, after)  whether Enter ends the input
 *   complete(before, after)   returns text to insert at the cursor, or nil
 *
 * An error of a callback is raised by editor:read().
 */
int fz_edit_new(lua_State *L);

#endif
