/* files.h - functions of the REPL for files and directories. */
#ifndef FZ_FILES_H
#define FZ_FILES_H

#include <lua.h>

/*
 * list_files(directory) -> names of the entries of a directory | nil if it
 * cannot be read. The name of a directory ends with a slash.
 */
int fz_files_list(lua_State *L);

/* make_directory(path): make a directory and its parents, if possible */
int fz_files_make_directory(lua_State *L);

#endif
