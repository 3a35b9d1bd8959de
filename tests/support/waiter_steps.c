#include "waiter_steps.h"

#include "members.h"

bool
__wrap_fz_waiter_begin(uint32_t self, uint32_t name, uint32_t number)
{
	bool began;

	members_step();
	began = __real_fz_waiter_begin(self, name, number);
	members_step();
	return began;
}

bool
__wrap_fz_waiter_notify(const struct fz_waiter *w, enum fz_waiter_state state)
{
	bool notified;

	members_step();
	notified = __real_fz_waiter_notify(w, state);
	members_step();
	return notified;
}
