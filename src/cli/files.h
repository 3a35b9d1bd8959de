/* files.h - what the REPL does with files. */
#ifndef FZ_FILES_H
#define FZ_FILES_H

#include <lua.h>

/*
 * list_files(directory) -> names of its entries, with a slash after those of
 * directories | nil if it cannot be read
 */
int fz_files_list(lua_State *L);

/* make_directory(path): make the directory and those above it, if possible */
int fz_files_make_directory(lua_State *L);

#endif
