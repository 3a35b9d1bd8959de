/* files.h - what the REPL does with files. */
#ifndef FZ_FILES_H
#define FZ_FILES_H

#include <lua.h>

/*
 * list_files(directory) -> names of its entries, those of directories with a
 * slash | nil: it cannot be read
 */
int fz_files_list(lua_State *L);

/* make_directory(path): with those above it, as far as that is possible */
int fz_files_make_directory(lua_State *L);

/*
 * lock_file(file) -> whether this process has the file for itself until the
 * file is closed; waits for other processes
 */
int fz_files_lock(lua_State *L);

#endif
