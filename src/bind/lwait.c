#include "bind/lwait.h"

#include <lauxlib.h>

#include "base/clock.h"
#include "bind/lloop.h"
#include "os/gate.h"
#include "os/host.h"

#define LWAIT_SPIN_NS (10 * FZ_CLOCK_MS / 1000)
enum { LWAIT_SPINS = 20 }; /* between two looks at the clock */

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
	int64_t look = fz_clock_after(fz_clock_ns(), FZ_GATE_LOOK_NS);

	fz_lloop_step(L, until_ns < look ? until_ns : look);
}

/*
 * Who is to wake us is mostly at work on another processor, and a sleep takes
 * two switches: look for as long as these take. Not where there is none.
 */
static bool
spin(fz_lwait_try try, void *ctx, int64_t until_ns)
{
	static int ncpus;
	int64_t end = fz_clock_after(fz_clock_ns(), LWAIT_SPIN_NS);

	if (ncpus == 0)
		ncpus = fz_host_cpus();
	if (ncpus == 1)
		return false;
	while (fz_clock_ns() < end && end < until_ns) {
		for (int i = 0; i < LWAIT_SPINS; i++) {
			if (try(ctx, false))
				return true;
			fz_gate_pause();
		}
	}
	return false;
}

bool
fz_lwait(lua_State *L, struct fz_gate *gate, fz_lwait_try try, void *ctx,
    int64_t until_ns, bool *slept)
{
	int64_t now, look;
	bool idle = fz_lloop_is_idle(L);

	fz_lloop_check_free(L);
	if (slept != NULL)
		*slept = false;
	if (spin(try, ctx, until_ns))
		return true;
	now = look = fz_clock_ns();
	if (!idle)
		fz_lloop_listen(L);
	for (;;) {
		uint32_t seq =
		    fz_gate_enter(gate, idle ? FZ_GATE_SLEEP : FZ_GATE_LOOP);
		bool late = now >= look;

		if (try(ctx, late))
			return true;
		if (now >= until_ns)
			return false;
		if (late)
			look = fz_clock_after(now, FZ_GATE_LOOK_NS);
		if (idle) {
			fz_gate_sleep(gate, seq, until_ns);
			fz_lloop_check(L);
		} else {
			turn(L, until_ns);
		}
		if (slept != NULL)
			*slept = idle;
		now = fz_clock_ns();
		idle = fz_lloop_is_idle(L);
		if (!idle)
			fz_lloop_listen(L);
	}
}
