#include "bind/shared/lsuspended.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/container.h"
#include "bind/lloop.h"
#include "shared/eventcount.h"
#include "value/lerror.h"
#include "value/luserdata.h"
#include "worker/change.h"
#include "worker/engine.h"

enum {
	NBUCKETS = 256,
	/* number of lists that are woken in FZ_EVENTCOUNT_CHECK_NS */
	LISTS_PER_CHECK = 1000,
};

/* The suspended tasks that wait for changes of one eventcount. */
struct fz_lsuspended_list {
	struct waits *of;
	struct fz_list link; /* link in the list of its bucket */
	struct fz_eventcount *at;
	uint32_t seq; /* value of at->seq at the last try */
	unsigned n;   /* number of tasks, including the woken tasks */
	/* value of waits.forks in the process that made the list */
	unsigned forks;
	struct fz_list first; /* the tasks that are not woken */
};

/* The suspended tasks of a Lua state. */
struct waits {
	struct fz_engine *engine; /* NULL: the state is closed */
	struct fz_list buckets[NBUCKETS];
	struct fz_list woken;
	unsigned nlists, n;
	unsigned ntimed; /* number of tasks that wait with a timeout */
	uint64_t nbegun; /* number of waits that have begun */
	/* number of forks from the first process to this one */
	unsigned forks;
	unsigned ntries; /* number of late tries of all waits */
	struct fz_timer late;
	struct fz_change change;
	struct fz_fork_hook hook;
};

/* The address of this variable is the registry key of the suspended tasks. */
static const char waits_key;

static struct waits *
get(lua_State *L)
{
	return fz_luserdata_kept(L, &waits_key);
}

static struct fz_list *
bucket(struct waits *w, const struct fz_eventcount *at)
{
	uintptr_t address = (uintptr_t)at;

	return &w->buckets[(address >> 3 ^ address >> 11) % NBUCKETS];
}

static struct fz_lsuspended_list *
find(struct waits *w, const struct fz_eventcount *at)
{
	struct fz_list *head = bucket(w, at);

	for (struct fz_list *l = head->next; l != head; l = l->next) {
		struct fz_lsuspended_list *list =
		    FZ_CONTAINER_OF(l, struct fz_lsuspended_list, link);

		if (list->at == at)
			return list;
	}
	return NULL;
}

static void
arm_late(struct waits *w)
{
	int64_t n = 1 + w->nlists / LISTS_PER_CHECK;

	if (w->late.index == 0)
		fz_loop_arm(w->engine->loop, &w->late,
		    fz_clock_after(fz_clock_ns(), n * FZ_EVENTCOUNT_CHECK_NS));
}

static struct fz_lsuspended_list *
new_list(lua_State *L, struct waits *w, struct fz_eventcount *at)
{
	struct fz_lsuspended_list *list = calloc(1, sizeof(*list));

	if (list == NULL) {
		fz_lerror_nomem(L, "a wait");
		return NULL;
	}
	list->of = w;
	list->at = at;
	list->forks = w->forks;
	fz_list_init(&list->first);
	fz_list_push(bucket(w, at), &list->link);
	w->nlists++;
	return list;
}

static void
leave_list(struct fz_lsuspended *s)
{
	struct fz_lsuspended_list *list = s->list;

	s->list = NULL;
	list->of->n--;
	list->of->ntimed -= s->timed;
	if (--list->n != 0)
		return;
	fz_list_remove(&list->link);
	list->of->nlists--;
	free(list);
}

static void
wake(struct fz_lsuspended *s, bool late)
{
	struct waits *w = s->list->of;

	fz_loop_disarm(w->engine->loop, &s->timer);
	fz_list_remove(&s->link);
	fz_list_push(&w->woken, &s->link);
	s->late = late;
	fz_changed(&w->change);
}

static void
wake_first(struct fz_lsuspended_list *list, bool late)
{
	struct fz_list *first = fz_list_first(&list->first);

	if (first != NULL)
		wake(FZ_CONTAINER_OF(first, struct fz_lsuspended, link), late);
}

static void
time_out(struct fz_timer *timer)
{
	wake(FZ_CONTAINER_OF(timer, struct fz_lsuspended, timer), false);
}

/* Append the task to its list, or insert it as the first task. */
static void
join_list(struct fz_lsuspended *s, bool first)
{
	struct fz_list *head = &s->list->first;

	if (first)
		head = head->next; /* fz_list_push() inserts before it */
	fz_list_push(head, &s->link);
}

void
fz_lsuspended_begin(lua_State *L, struct fz_lsuspended *s,
    struct fz_eventcount *at, uint32_t seq, int64_t until_ns, bool again)
{
	struct waits *w = get(L);
	struct fz_lsuspended_list *list = again ? s->list : find(w, at);

	if (list == NULL)
		list = new_list(L, w, at);
	if (!again) {
		list->n++;
		w->n++;
		w->nbegun++;
		s->timed = until_ns != FZ_CLOCK_NEVER;
		w->ntimed += s->timed;
	}
	s->list = list;
	list->seq = seq;
	fz_list_remove(&s->link); /* from the list of woken tasks */
	join_list(s, again);
	arm_late(w);
	s->timer.fired = time_out;
	if (fz_loop_arm(w->engine->loop, &s->timer, until_ns) == 0)
		return;
	fz_lsuspended_end(s, false);
	fz_lerror_nomem(L, "a timer");
}

void
fz_lsuspended_end(struct fz_lsuspended *s, bool more)
{
	if (s->list == NULL || s->list->forks != s->list->of->forks)
		return; /* the task belongs to the parent process */
	fz_list_remove(&s->link);
	fz_loop_disarm(s->list->of->engine->loop, &s->timer);
	if (more)
		wake_first(s->list, false);
	leave_list(s);
}

/*
 * Wake the first task of each list whose eventcount has changed. If `late` is
 * set, wake the first task of every list.
 */
static void
wake_lists(struct waits *w, bool late)
{
	for (int i = 0; i < NBUCKETS && w->nlists != 0; i++) {
		struct fz_list *head = &w->buckets[i];

		for (struct fz_list *l = head->next; l != head; l = l->next) {
			struct fz_lsuspended_list *list =
			    FZ_CONTAINER_OF(l, struct fz_lsuspended_list, link);
			uint32_t seq = atomic_load(&list->at->seq);

			if (late || list->seq != seq)
				wake_first(list, late);
			list->seq = seq;
		}
	}
}

/*
 * Called by the timer. Makes waits check for deaths: a process may have died
 * before it notified, or while it held a lock.
 */
static void
check_late(struct fz_timer *timer)
{
	struct waits *w = FZ_CONTAINER_OF(timer, struct waits, late);

	wake_lists(w, true);
	if (w->nlists != 0)
		arm_late(w);
}

void
fz_lsuspended_begin_check(lua_State *L)
{
	get(L)->nbegun++;
}

unsigned
fz_lsuspended_ntries(lua_State *L)
{
	return get(L)->ntries;
}

/*
 * core.waits_try([late]): wake tasks, because shared objects have changed. If
 * `late` is true, wake the first task of every list. These tasks, and the waits
 * outside of tasks, then also check whether processes have died.
 */
static int
waits_try(lua_State *L)
{
	bool late = lua_toboolean(L, 1);

	wake_lists(get(L), late);
	get(L)->ntries += late;
	return 0;
}

/* core.waits_woken() -> the wait of a task that must be resumed | nil */
static int
waits_woken(lua_State *L)
{
	struct fz_list *link = fz_list_first(&get(L)->woken);

	if (link == NULL)
		return 0;
	fz_list_remove(link);
	lua_pushlightuserdata(
	    L, FZ_CONTAINER_OF(link, struct fz_lsuspended, link));
	return 1;
}

/*
 * core.waits_count() -> number of tasks that wait for shared objects, number of
 * such waits with a timeout, and a counter. The counter grows when a wait for a
 * shared object begins, and when a task is resumed and does not continue the
 * same wait.
 */
static int
waits_count(lua_State *L)
{
	lua_pushinteger(L, get(L)->n);
	lua_pushinteger(L, get(L)->ntimed);
	lua_pushinteger(
	    L, (lua_Integer)(get(L)->nbegun + fz_lloop_tasks(L)->advances));
	return 3;
}

/*
 * core.is_working(n) -> whether the engine does work that may end a wait, or a
 * hook of the caller may; n timers only show progress
 */
static int
is_working(lua_State *L)
{
	unsigned n = (unsigned)luaL_checkinteger(L, 1);

	n += get(L)->late.index != 0;
	lua_pushboolean(
	    L, lua_gethookmask(L) != 0 || fz_lloop_is_working(L, n));
	return 1;
}

/*
 * core.is_idle() -> whether this process has no tasks, and its engine has no
 * work
 */
static int
is_idle(lua_State *L)
{
	lua_pushboolean(L, fz_lloop_is_idle(L));
	return 1;
}

/* core.wait_what(wait) -> a text that names the object of the wait */
static int
wait_what(lua_State *L)
{
	const struct fz_lsuspended *s = lua_touserdata(L, 1);

	lua_pushstring(L, s->what);
	return 1;
}

static void
drop_all(struct waits *w)
{
	for (int i = 0; i < NBUCKETS; i++)
		fz_list_init(&w->buckets[i]);
	fz_list_init(&w->woken);
	w->n = w->nlists = w->ntimed = 0;
}

/* In a forked child: forget the tasks of the parent. */
static void
in_child(struct fz_fork_hook *hook)
{
	struct waits *w = FZ_CONTAINER_OF(hook, struct waits, hook);

	drop_all(w);
	w->forks++;
}

/* Lua calls this before it frees the loop, because the loop was made first. */
static int
waits_gc(lua_State *L)
{
	struct waits *w = lua_touserdata(L, 1);

	if (w->engine == NULL)
		return 0;
	fz_loop_disarm(w->engine->loop, &w->late);
	fz_loop_unhook(&w->hook);
	fz_change_fini(&w->change);
	w->engine = NULL;
	return 0;
}

static const luaL_Reg functions[] = {
	{ "waits_try", waits_try },
	{ "waits_woken", waits_woken },
	{ "waits_count", waits_count },
	{ "wait_what", wait_what },
	{ "is_working", is_working },
	{ "is_idle", is_idle },
	{ NULL, NULL },
};

int
fz_lsuspended_open(lua_State *L)
{
	struct waits *w;

	luaL_setfuncs(L, functions, 0);
	if (get(L) != NULL)
		return 0;
	w = lua_newuserdatauv(L, sizeof(*w), 0);
	memset(w, 0, sizeof(*w));
	drop_all(w);
	fz_luserdata_finalize(L, waits_gc);
	w->engine = fz_lloop_engine(L);
	w->late.fired = check_late;
	w->hook.in_child = in_child;
	fz_loop_hook(w->engine->loop, &w->hook);
	fz_change_init(&w->change, w->engine);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &waits_key);
	return 0;
}
