#include "bind/shared/lwait.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/lloop.h"
#include "os/spin.h"
#include "shared/eventcount.h"

enum { LWAIT_LOOKS = 5 };

int64_t
fz_lwait_until(lua_State *L, int idx)
{
	double seconds;

	if (lua_isnoneornil(L, idx))
		return FZ_CLOCK_NEVER;
	seconds = luaL_checknumber(L, idx);
	return fz_clock_after(fz_clock_ns(), fz_clock_from_seconds(seconds));
}

/* Where others are to be looked after meanwhile: their news end the wait. */
static void
turn(lua_State *L, int64_t until_ns)
{
	int64_t look = fz_clock_after(fz_clock_ns(), FZ_EVENTCOUNT_LOOK_NS);

	fz_lloop_step(L, until_ns < look ? until_ns : look);
}

static bool
look(fz_lwait_try try, void *ctx)
{
	static struct fz_spin spin;

	do {
		for (int i = 0; i < LWAIT_LOOKS; i++) {
			if (try(ctx, false)) {
				fz_spin_paid(&spin);
				return true;
			}
			fz_eventcount_pause();
		}
	} while (fz_spin_again(&spin));
	return false;
}

bool
fz_lwait(lua_State *L, struct fz_eventcount *gate, fz_lwait_try try, void *ctx,
    int64_t until_ns, bool *slept)
{
	int64_t now, late_ns;
	bool idle;

	fz_lloop_check_free(L);
	idle = fz_lloop_is_idle(L);
	if (slept != NULL)
		*slept = false;
	if (look(try, ctx))
		return true;
	now = late_ns = fz_clock_ns();
	if (!idle)
		fz_lloop_listen(L);
	for (;;) {
		uint32_t seq = fz_eventcount_enter(
		    gate, idle ? FZ_EVENTCOUNT_SLEEP : FZ_EVENTCOUNT_LOOP);
		bool late = now >= late_ns;

		if (try(ctx, late))
			return true;
		if (now >= until_ns)
			return false;
		if (late)
			late_ns = fz_clock_after(now, FZ_EVENTCOUNT_LOOK_NS);
		if (idle) {
			int64_t rest_ns = fz_lloop_rest(L);

			fz_eventcount_sleep(
			    gate, seq, until_ns < rest_ns ? until_ns : rest_ns);
			fz_lloop_check(L);
		} else {
			turn(L, until_ns);
		}
		if (slept != NULL && idle)
			*slept = true;
		now = fz_clock_ns();
		idle = fz_lloop_is_idle(L);
		if (!idle)
			fz_lloop_listen(L);
	}
}
