#include "api/fzlua.h"

#include "bind/linterrupt.h"
#include "bind/lloop.h"

struct fzlua_instance *
fzlua_instance_of(lua_State *L)
{
	return (struct fzlua_instance *)fz_lloop_interrupt(L);
}

void
fzlua_interrupt(struct fzlua_instance *instance)
{
	fz_linterrupt((struct fz_linterrupt *)instance);
}
