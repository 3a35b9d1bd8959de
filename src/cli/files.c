/* for fstatat, which is not in C11 */
#define _GNU_SOURCE
#include "cli/files.h"

#include <dirent.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include <lauxlib.h>

#include "value/luserdata.h"

static int
directory_gc(lua_State *L)
{
	DIR **dir = lua_touserdata(L, 1);

	if (*dir != NULL)
		closedir(*dir);
	*dir = NULL;
	return 0;
}

/* Push a userdata that closes the directory after an error. */
static DIR **
open_directory(lua_State *L, const char *path)
{
	DIR **dir = lua_newuserdatauv(L, sizeof(DIR *), 0);

	*dir = NULL;
	fz_luserdata_finalize(L, directory_gc);
	*dir = opendir(path);
	return dir;
}

static bool
is_directory(DIR *dir, const char *name)
{
	struct stat status;

	return fstatat(dirfd(dir), name, &status, 0) == 0 &&
	       S_ISDIR(status.st_mode);
}

int
fz_files_list(lua_State *L)
{
	DIR **dir = open_directory(L, luaL_checkstring(L, 1));
	struct dirent *entry;

	if (*dir == NULL)
		return 0;
	lua_newtable(L);
	while ((entry = readdir(*dir)) != NULL) {
		bool slash = is_directory(*dir, entry->d_name);

		lua_pushfstring(L, slash ? "%s/" : "%s", entry->d_name);
		lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	}
	closedir(*dir);
	*dir = NULL;
	return 1;
}

int
fz_files_make_directory(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);

	for (const char *end = path; *end != '\0';) {
		end += strspn(end, "/");
		end += strcspn(end, "/");
		lua_pushlstring(L, path, (size_t)(end - path));
		mkdir(lua_tostring(L, -1), 0700);
		lua_pop(L, 1);
	}
	return 0;
}
