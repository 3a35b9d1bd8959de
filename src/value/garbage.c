#include "value/garbage.h"

#include <limits.h>

#include "proc/proc.h"
#include "value/luserdata.h"

/* KiB of a heap below which a copy of the heap is cheap. */
enum { GARBAGE_HEAP = 32 << 10 };
/* KiB that a child allocates before its first collection. */
enum { GARBAGE_FIRST = 32 << 10 };
/*
 * A collection follows if the big messages since the last one have at least
 * this many KiB, and at least 1/GARBAGE_SHARE of the heap.
 */
enum { GARBAGE_MESSAGES = 16 << 10, GARBAGE_SHARE = 4 };
/* KiB that a worker allocates between two collections of young objects. */
enum { GARBAGE_YOUNG = 16 << 10 };
/* KiB that may be allocated during a delay. */
enum { GARBAGE_DELAY = 1 << 20 };

struct fz_garbage {
	int aged_kib; /* KiB of the heap when it was made old; 0: never */
	int received; /* KiB of big messages since the last collection */
	bool copies;  /* a collection would copy much inherited memory */
	/* number of delays that fz_garbage_catch_up() has to end */
	unsigned ndelays;
};

/* The address of this variable is the registry key of the struct fz_garbage. */
static const char garbage_key;

struct fz_garbage *
fz_garbage_open(lua_State *L)
{
	struct fz_garbage *garbage = fz_luserdata_kept(L, &garbage_key);

	if (garbage != NULL)
		return garbage;
	garbage = lua_newuserdatauv(L, sizeof(*garbage), 0);
	*garbage = (struct fz_garbage){ .aged_kib = 0 };
	lua_rawsetp(L, LUA_REGISTRYINDEX, &garbage_key);
	return garbage;
}

/*
 * Make all objects old. False if the collector is in incremental mode.
 * Switching to incremental mode and back finishes the current cycle.
 */
static bool
make_old(lua_State *L)
{
	if (lua_gc(L, LUA_GCINC, 0, 0, 0) == LUA_GCINC)
		return false;
	lua_gc(L, LUA_GCGEN, 0, 0);
	return true;
}

bool
fz_garbage_age(struct fz_garbage *garbage, lua_State *L, bool collect)
{
	int kib = lua_gc(L, LUA_GCCOUNT);

	if (kib < garbage->aged_kib)
		/*
		 * The heap is smaller than when it was made old: some of the
		 * old objects have been collected.
		 */
		garbage->aged_kib = kib;
	if (kib < GARBAGE_HEAP || !lua_gc(L, LUA_GCISRUNNING))
		return false;
	if (kib <= garbage->aged_kib + garbage->aged_kib / 4)
		return true;
	if (!collect || fz_proc_is_child() || !make_old(L))
		return false;
	garbage->aged_kib = lua_gc(L, LUA_GCCOUNT);
	return true;
}

void
fz_garbage_before_message(lua_State *L, size_t len)
{
	struct fz_garbage *garbage = fz_garbage_open(L);

	if (!garbage->copies && garbage->received >= GARBAGE_MESSAGES &&
	    garbage->received >= lua_gc(L, LUA_GCCOUNT) / GARBAGE_SHARE) {
		lua_gc(L, LUA_GCSTEP, 0);
		garbage->received = 0;
	}
	if (len / 1024 > (size_t)(INT_MAX - garbage->received))
		garbage->received = INT_MAX;
	else
		garbage->received += (int)(len / 1024);
}

void
fz_garbage_delay(struct fz_garbage *garbage, lua_State *L)
{
	if (lua_gc(L, LUA_GCISRUNNING) != 1)
		return; /* the script has stopped the collector */
	lua_gc(L, LUA_GCSTEP, -GARBAGE_DELAY);
	garbage->ndelays++;
}

void
fz_garbage_catch_up(struct fz_garbage *garbage, lua_State *L)
{
	while (garbage->ndelays != 0) {
		garbage->ndelays--;
		lua_gc(L, LUA_GCSTEP, GARBAGE_DELAY);
	}
}

void
fz_garbage_inherit(struct fz_garbage_child *child, lua_State *L, bool aged)
{
	int kib = lua_gc(L, LUA_GCCOUNT);

	*child = (struct fz_garbage_child){ .inherited = kib,
		.kib = kib,
		.collects = aged || kib < GARBAGE_HEAP };
	fz_garbage_open(L)->copies = !child->collects;
	/*
	 * A step of negative size delays the next collection. If the inherited
	 * objects are not old, the delay is the size of the whole heap, because
	 * the first collection copies all of them.
	 */
	if (child->collects)
		kib = GARBAGE_FIRST;
	/*
	 * The collection that made the objects old has kept the debt of the
	 * collection before it. With that debt the heap may double, and the
	 * next collection would be of all objects. Therefore collect the few
	 * young objects now, which sets the debt.
	 */
	if (aged)
		lua_gc(L, LUA_GCSTEP, 0);
	lua_gc(L, LUA_GCSTEP, -kib);
	fz_garbage_catch_up(
	    /* end the delays that the parent had at the fork */
	    fz_garbage_open(L), L);
}

void
fz_garbage_collect_young(struct fz_garbage_child *child, lua_State *L)
{
	int kib, least;

	if (!child->collects)
		return;
	kib = lua_gc(L, LUA_GCCOUNT);
	if (kib < child->kib)
		child->kib = kib;
	/* A worker with much data of its own collects less often. */
	least = (child->kib - child->inherited) / 2;
	if (kib - child->kib <
		(least > GARBAGE_YOUNG ? least : GARBAGE_YOUNG) ||
	    !lua_gc(L, LUA_GCISRUNNING))
		return;
	lua_gc(L, LUA_GCSTEP, 0);
	child->kib = lua_gc(L, LUA_GCCOUNT);
}
