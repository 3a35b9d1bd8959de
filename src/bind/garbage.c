#include "bind/garbage.h"

#include "os/proc.h"

/* KiB of a heap below which copying it is cheap. */
enum { GARBAGE_HEAP = 32 << 10 };
/* KiB that a child allocates before its first collection. */
enum { GARBAGE_FIRST = 32 << 10 };
/* KiB that a worker allocates between two collections of young objects. */
enum { GARBAGE_YOUNG = 16 << 10 };

struct fz_garbage {
	int aged_kib; /* the heap when its objects were made old; 0: never */
};

/* Its address is the key in the registry. */
static const char garbage_key;

struct fz_garbage *
fz_garbage_open(lua_State *L)
{
	struct fz_garbage *garbage;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &garbage_key);
	garbage = lua_touserdata(L, -1);
	lua_pop(L, 1);
	if (garbage != NULL)
		return garbage;
	garbage = lua_newuserdatauv(L, sizeof(*garbage), 0);
	garbage->aged_kib = 0;
	lua_rawsetp(L, LUA_REGISTRYINDEX, &garbage_key);
	return garbage;
}

/*
 * Whether the collector is in generational mode, with all objects old. The
 * first call ends what was under way in that mode; incremental mode, where the
 * script has chosen it, comes back at once.
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
		garbage->aged_kib = kib; /* what was old has died */
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
fz_garbage_inherit(struct fz_garbage_child *child, lua_State *L, bool aged)
{
	int kib = lua_gc(L, LUA_GCCOUNT);

	*child = (struct fz_garbage_child){ aged, kib, kib };
	/*
	 * A step of negative size is a credit. If the inherited objects are
	 * not old, the first collection copies all of them: it comes late.
	 */
	if (aged || kib < GARBAGE_FIRST)
		kib = GARBAGE_FIRST;
	lua_gc(L, LUA_GCSTEP, -kib);
}

void
fz_garbage_collect_young(struct fz_garbage_child *child, lua_State *L)
{
	int kib;

	if (!child->aged)
		return;
	kib = lua_gc(L, LUA_GCCOUNT);
	if (kib < child->kib)
		child->kib = kib;
	/* A heap that has grown by half has its own data: Lua's own pace. */
	if (kib - child->kib < GARBAGE_YOUNG ||
	    kib - child->inherited > child->inherited / 2 ||
	    !lua_gc(L, LUA_GCISRUNNING))
		return;
	lua_gc(L, LUA_GCSTEP, 0);
	child->kib = lua_gc(L, LUA_GCCOUNT);
}
