#include "value/handle.h"

#include <stdatomic.h>
#include <stddef.h>

/* the binding of handles; each state sets the same one */
static _Atomic(const struct fz_handle_binding *) known;

static const struct fz_handle_binding *
binding(void)
{
	return atomic_load_explicit(&known, memory_order_relaxed);
}

void
fz_handle_bind(const struct fz_handle_binding *of_objects)
{
	atomic_store_explicit(&known, of_objects, memory_order_relaxed);
}

bool
fz_handle_is(lua_State *L, int idx)
{
	const struct fz_handle_binding *b = binding();

	return b != NULL && b->is(L, idx);
}

bool
fz_handle_store(lua_State *L, int idx, unsigned char *bytes)
{
	const struct fz_handle_binding *b = binding();

	return b != NULL && b->store(L, idx, bytes);
}

bool
fz_handle_load(lua_State *L, const unsigned char *bytes)
{
	const struct fz_handle_binding *b = binding();

	return b != NULL && b->load(L, bytes);
}
