#include "value/refmap.h"

#include <string.h>

#include "value/luserdata.h"

enum { REFMAP_FIRST = 128, REFMAP_KEEP = 4096, REFMAP_IDLE_MAX = 32 };

void
fz_refmap_init(struct fz_refmap *map)
{
	memset(map, 0, sizeof(*map));
	map->stamp = 1;
}

void
fz_refmap_fini(struct fz_refmap *map, lua_State *L)
{
	void *ud;
	lua_Alloc alloc = lua_getallocf(L, &ud);

	if (map->entries != NULL)
		alloc(
		    ud, map->entries, map->capacity * sizeof(*map->entries), 0);
	fz_refmap_init(map);
}

static int
map_gc(lua_State *L)
{
	fz_refmap_fini(lua_touserdata(L, 1), L);
	return 0;
}

struct fz_refmap *
fz_refmap_push(lua_State *L)
{
	struct fz_refmap *map = lua_newuserdatauv(L, sizeof(*map), 0);

	fz_refmap_init(map);
	fz_luserdata_finalize(L, map_gc);
	return map;
}

void
fz_refmap_clear(struct fz_refmap *map, lua_State *L)
{
	bool unused =
	    map->capacity > REFMAP_KEEP && map->n < map->capacity / 16;

	map->idle = unused ? map->idle + 1 : 0;
	if (map->idle > REFMAP_IDLE_MAX) {
		fz_refmap_fini(map, L);
		return;
	}
	map->n = 0;
	if (++map->stamp == 0) {
		memset(map->entries, 0, map->capacity * sizeof(*map->entries));
		map->stamp = 1;
	}
}

int
fz_refmap_grow(struct fz_refmap *map, lua_State *L)
{
	struct fz_refmap old = *map;
	size_t capacity = old.capacity == 0 ? REFMAP_FIRST : old.capacity * 2;
	void *ud;
	lua_Alloc alloc = lua_getallocf(L, &ud);
	struct fz_refmap_entry *entries;

	if (capacity > SIZE_MAX / sizeof(*entries))
		return -1;
	entries = alloc(ud, NULL, 0, capacity * sizeof(*entries));
	if (entries == NULL)
		return -1;
	memset(entries, 0, capacity * sizeof(*entries));
	map->entries = entries;
	map->capacity = capacity;
	for (size_t i = 0; i < old.capacity; i++) {
		if (old.entries[i].stamp == old.stamp)
			*fz_refmap_probe(map, old.entries[i].key) =
			    old.entries[i];
	}
	if (old.entries != NULL)
		alloc(ud, old.entries, old.capacity * sizeof(*entries), 0);
	return 0;
}
