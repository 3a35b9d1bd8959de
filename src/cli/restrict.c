#include "cli/restrict.h"

#include <string.h>

#include <lauxlib.h>

#include "api/modules.h"
#include "base/buf.h"
#include "base/err.h"
#include "child/spawned_main.h"
#include "node/allow.h"
#include "value/allowed.h"
#include "value/bytecode.h"

/*
 * Modules of the library with functions that submitters send. All functions of
 * these modules only compute.
 */
static const char *const sent_modules[] = { "fzlua.folding", "fzlua.nodes" };

/* Allow the function that is a part of the setup of each worker. */
static int
add_holder(lua_State *L, struct fz_allow *allow)
{
	static const char code[] = FZ_SPAWNED_HOLDER;
	struct fz_buf dump = FZ_BUF_INIT;
	int rc = -1;

	if (luaL_loadbufferx(L, code, sizeof(code) - 1, "=setup", "t") ==
		LUA_OK &&
	    lua_dump(L, fz_bytecode_write, &dump, 0) == 0)
		rc = fz_allowed_add(allow, dump.data, dump.len);
	lua_pop(L, 1);
	fz_buf_fini(&dump);
	return rc;
}

static int
add_module(struct fz_allow *allow, const char *name)
{
	const struct fz_module *m = fz_modules;

	while (m->name != NULL && strcmp(m->name, name) != 0)
		m++;
	return m->name != NULL ? fz_allowed_add(allow, m->bytes, m->len) : -1;
}

/* add_own(allow) -> 0, or -1 on failure. Called protected. */
static int
add_own(lua_State *L)
{
	struct fz_allow *allow = lua_touserdata(L, 1);
	int rc = add_holder(L, allow);

	for (size_t i = 0;
	     rc == 0 && i < sizeof(sent_modules) / sizeof(sent_modules[0]); i++)
		rc = add_module(allow, sent_modules[i]);
	fz_allowed_set(L, allow);
	lua_pushinteger(L, rc);
	return 1;
}

int
fz_restrict(lua_State *L, const char *path, struct fz_err *err)
{
	struct fz_allow *allow = fz_allow_read(path, err);
	int rc = -1;

	if (allow == NULL)
		return -1;
	lua_pushcfunction(L, add_own);
	lua_pushlightuserdata(L, allow);
	if (lua_pcall(L, 1, 1, 0) == LUA_OK)
		rc = (int)lua_tointeger(L, -1);
	lua_pop(L, 1);
	if (rc == 0)
		return 0; /* the memory lives as long as the process */
	fz_allow_free(allow);
	return fz_err_set(
	    err, FZ_ERR_ERROR, "--allow cannot check the bytecode of this Lua");
}
