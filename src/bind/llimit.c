#include "bind/llimit.h"

#include "base/clock.h"
#include "bind/lloop.h"
#include "value/lerror.h"

enum { STEP = 1000 }; /* number of instructions between two checks */

/*
 * Check the time before an allocation of at least this number of bytes, because
 * to fill so much memory takes long.
 */
#define BIG ((int64_t)64 << 10)

static void
check_time(struct fz_llimit *limit)
{
	if (limit->most.ns != 0 && fz_clock_ns() >= limit->deadline_ns)
		limit->over = true;
}

/* Whether the limited stretch may allocate `more` additional bytes. */
static bool
allows(struct fz_llimit *limit, int64_t more)
{
	if (!limit->on || more <= 0)
		return true;
	if (more >= BIG) {
		check_time(limit);
		if (limit->over)
			return false;
	}
	return limit->most.memory == 0 ||
	       more <= limit->most.memory - limit->used;
}

static void *
limited_alloc(void *ctx, void *block, size_t old_size, size_t size)
{
	struct fz_llimit *limit = ctx;
	int64_t more = (int64_t)size - (block != NULL ? (int64_t)old_size : 0);
	void *new_block;

	if (!allows(limit, more))
		return NULL;
	new_block = limit->alloc(limit->alloc_ctx, block, old_size, size);
	if (new_block != NULL || size == 0)
		limit->used += more;
	return new_block;
}

/* The timer has no function of its own: it only ends a turn of the loop. */
static void
fired(struct fz_timer *timer)
{
	(void)timer;
}

void
fz_llimit_init(struct fz_llimit *limit, struct fz_loop *loop)
{
	*limit = (struct fz_llimit){ .loop = loop, .timer.fired = fired };
}

void
fz_llimit_fini(lua_State *L, struct fz_llimit *limit)
{
	if (limit->alloc != NULL)
		lua_setallocf(L, limit->alloc, limit->alloc_ctx);
	limit->alloc = NULL;
	limit->on = false;
	fz_loop_disarm(limit->loop, &limit->timer);
}

void
fz_llimit_in_child(struct fz_llimit *limit)
{
	limit->most = (struct fz_llimits){ 0 };
	limit->on = limit->over = false;
}

void
fz_llimit_set(lua_State *L, const struct fz_llimits *most)
{
	struct fz_llimit *limit = fz_lloop_limit(L);

	limit->most = *most;
	if ((most->memory == 0 && most->ns == 0) || limit->alloc != NULL)
		return;
	limit->alloc = lua_getallocf(L, &limit->alloc_ctx);
	lua_setallocf(L, limited_alloc, limit);
}

static void
fail(lua_State *L, const struct fz_llimit *limit)
{
	if (limit->instructions <= 0)
		fz_lerror_fail(L, FZ_ERR_TIMEOUT,
		    "more than %lld instructions were executed",
		    (long long)limit->most.instructions);
	fz_lerror_fail(L, FZ_ERR_TIMEOUT, "ran longer than its limit of %g s",
	    (double)limit->most.ns / (double)FZ_CLOCK_SECOND);
}

void
fz_llimit_check(lua_State *L, struct fz_llimit *limit)
{
	if (!limit->on)
		return;
	check_time(limit);
	if (limit->over)
		fail(L, limit);
}

/*
 * The hook of a limited stretch. A thread that was made during a stretch keeps
 * the hook for later stretches. Its count is rarely changed, because
 * lua_sethook() visits all calls on the stack.
 */
static void
limit_hook(lua_State *L, lua_Debug *ar)
{
	struct fz_llimit *limit = fz_lloop_limit(L);

	(void)ar;
	if (!limit->on)
		return;
	limit->instructions -= lua_gethookcount(L);
	if (limit->instructions <= 0)
		limit->over = true;
	check_time(limit);
	if (!limit->over)
		return;
	if (lua_gethookcount(L) != 1)
		lua_sethook(L, limit_hook, LUA_MASKCOUNT, 1);
	fail(L, limit);
}

static int
step_of(const struct fz_llimit *limit)
{
	if (limit->over || limit->instructions <= 0)
		return 1;
	return limit->instructions < STEP ? (int)limit->instructions : STEP;
}

void
fz_llimit_begin(
    struct fz_llimit *limit, lua_State *L, struct fz_llimit_hook *before)
{
	const struct fz_llimits *most = &limit->most;

	*before = (struct fz_llimit_hook){ 0 };
	if (limit->on ||
	    (most->ns == 0 && most->instructions == 0 && most->memory == 0))
		return;
	*before = (struct fz_llimit_hook){ lua_gethook(L), lua_gethookmask(L),
		lua_gethookcount(L), true };
	limit->on = true;
	limit->over = false;
	limit->used = 0;
	limit->instructions =
	    most->instructions != 0 ? most->instructions : INT64_MAX;
	limit->deadline_ns = FZ_CLOCK_NEVER;
	if (most->ns != 0)
		limit->deadline_ns = fz_clock_after(fz_clock_ns(), most->ns);
	fz_loop_arm(limit->loop, &limit->timer, limit->deadline_ns);
	lua_sethook(L, limit_hook, LUA_MASKCOUNT, step_of(limit));
}

bool
fz_llimit_is_set(const struct fz_llimit *limit)
{
	return limit->most.ns != 0 || limit->most.instructions != 0;
}

void
fz_llimit_follow(struct fz_llimit *limit, lua_State *L)
{
	if (limit->on)
		lua_sethook(L, limit_hook, LUA_MASKCOUNT, step_of(limit));
}

void
fz_llimit_refuse(lua_State *L, const struct fz_llimit *limit)
{
	if (limit->on && limit->over)
		fail(L, limit);
}

bool
fz_llimit_was_over(
    const struct fz_llimit *limit, const struct fz_llimit_hook *before)
{
	return before->limited && limit->over;
}

int
fz_llimit_raise(lua_State *L)
{
	fail(L, fz_lloop_limit(L));
	return 0;
}

void
fz_llimit_end(
    struct fz_llimit *limit, lua_State *L, const struct fz_llimit_hook *before)
{
	if (!before->limited)
		return;
	check_time(limit);
	limit->on = false;
	fz_loop_disarm(limit->loop, &limit->timer);
	lua_sethook(L, before->hook, before->mask, before->count);
}
