#include "bind/open.h"

#include <string.h>
#include <unistd.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/lloop.h"
#include "bind/lsink.h"
#include "os/loop.h"
#include "os/term.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "worker/change.h"
#include "worker/engine.h"

#define TICKER_TYPE "fzlua.Ticker"

static const struct fz_luserdata_class ticker_class;

/* A timer. core.changed() reports each tick. */
struct ticker {
	struct fz_engine *engine;
	struct fz_timer timer;
	struct fz_change change;
};

/* core.term_size() -> columns, rows | nil if progress lines cannot be shown */
static int
term_size(lua_State *L)
{
	struct fz_term_size size;

	if (!fz_lsink_is_default(fz_lloop_sink(L)) ||
	    !fz_term_has_cursor(STDERR_FILENO) ||
	    !fz_term_get_size(STDERR_FILENO, &size))
		return 0;
	lua_pushinteger(L, size.columns);
	lua_pushinteger(L, size.rows);
	return 2;
}

/*
 * core.term_draw(text, n, widest): show `n` lines below all output. Each line
 * ends with a newline, and is at most `widest` columns wide. Draws nothing if
 * this process is in the background of the terminal.
 */
static int
term_draw(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	lua_Integer n = luaL_checkinteger(L, 2);
	lua_Integer widest = luaL_checkinteger(L, 3);

	luaL_argcheck(L, 0 <= n && n <= UINT16_MAX, 2, "out of range");
	luaL_argcheck(
	    L, 0 <= widest && widest <= UINT16_MAX, 3, "out of range");
	if (n == 0 || !fz_term_is_background(STDERR_FILENO))
		fz_lsink_set_footer(
		    fz_lloop_sink(L), text, len, (unsigned)n, (unsigned)widest);
	return 0;
}

static void
fired(struct fz_timer *timer)
{
	fz_changed(&FZ_CONTAINER_OF(timer, struct ticker, timer)->change);
}

static int
ticker_new(lua_State *L)
{
	struct fz_engine *engine = fz_lloop_engine(L);
	struct ticker *t = lua_newuserdatauv(L, sizeof(*t), 0);

	memset(t, 0, sizeof(*t));
	t->engine = engine;
	t->timer.fired = fired;
	fz_change_init(&t->change, engine);
	fz_luserdata_set(L, &ticker_class);
	return 1;
}

static struct ticker *
check_ticker(lua_State *L)
{
	return luaL_checkudata(L, 1, TICKER_TYPE);
}

/* ticker:id() -> the id that core.changed() returns after each tick */
static int
ticker_id(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)check_ticker(L)->change.id);
	return 1;
}

/* ticker:arm(seconds): tick once after this time */
static int
ticker_arm(lua_State *L)
{
	struct ticker *t = check_ticker(L);
	int64_t after_ns = fz_clock_from_seconds(luaL_checknumber(L, 2));

	if (fz_loop_arm(fz_lloop_engine(L)->loop, &t->timer,
		fz_clock_after(fz_clock_ns(), after_ns)) != 0)
		return luaL_error(L, "not enough memory");
	return 0;
}

static int
ticker_disarm(lua_State *L)
{
	struct ticker *t = check_ticker(L);

	if (t->engine->loop != NULL)
		fz_loop_disarm(t->engine->loop, &t->timer);
	return 0;
}

static int
ticker_gc(lua_State *L)
{
	struct ticker *t = check_ticker(L);

	ticker_disarm(L);
	if (t->engine->loop != NULL)
		fz_change_fini(&t->change);
	return 0;
}

static const luaL_Reg functions[] = {
	{ "term_size", term_size },
	{ "term_draw", term_draw },
	{ "ticker", ticker_new },
	{ NULL, NULL },
};

static const luaL_Reg methods[] = {
	{ "id", ticker_id },
	{ "arm", ticker_arm },
	{ "disarm", ticker_disarm },
	{ NULL, NULL },
};

static const luaL_Reg metamethods[] = {
	{ "__gc", ticker_gc },
	{ NULL, NULL },
};

static const struct fz_luserdata_class ticker_class = {
	.name = TICKER_TYPE, .methods = methods, .metamethods = metamethods
};

int
fz_lterm_open(lua_State *L)
{
	luaL_setfuncs(L, functions, 0);
	return 0;
}
