#include "value/handle.h"

#include <stddef.h>

static const struct fz_handle_binding *bound;

void
fz_handle_bind(const struct fz_handle_binding *binding)
{
	bound = binding;
}

bool
fz_handle_is(lua_State *L, int idx)
{
	return bound != NULL && bound->is(L, idx);
}

bool
fz_handle_store(lua_State *L, int idx, unsigned char *bytes)
{
	return bound != NULL && bound->store(L, idx, bytes);
}

bool
fz_handle_load(lua_State *L, const unsigned char *bytes)
{
	return bound != NULL && bound->load(L, bytes);
}
