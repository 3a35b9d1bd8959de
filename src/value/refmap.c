#include "value/refmap.h"

#include <string.h>

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

	if (map->slots != NULL)
		alloc(ud, map->slots, map->nslots * sizeof(*map->slots), 0);
	fz_refmap_init(map);
}

void
fz_refmap_clear(struct fz_refmap *map, lua_State *L)
{
	bool unused = map->nslots > REFMAP_KEEP && map->n < map->nslots / 16;

	map->idle = unused ? map->idle + 1 : 0;
	if (map->idle > REFMAP_IDLE_MAX) {
		fz_refmap_fini(map, L);
		return;
	}
	map->n = 0;
	if (++map->stamp == 0) {
		memset(map->slots, 0, map->nslots * sizeof(*map->slots));
		map->stamp = 1;
	}
}

int
fz_refmap_grow(struct fz_refmap *map, lua_State *L)
{
	struct fz_refmap old = *map;
	size_t nslots = old.nslots == 0 ? REFMAP_FIRST : old.nslots * 2;
	void *ud;
	lua_Alloc alloc = lua_getallocf(L, &ud);
	struct fz_refmap_slot *slots;

	if (nslots > SIZE_MAX / sizeof(*slots))
		return -1;
	slots = alloc(ud, NULL, 0, nslots * sizeof(*slots));
	if (slots == NULL)
		return -1;
	memset(slots, 0, nslots * sizeof(*slots));
	map->slots = slots;
	map->nslots = nslots;
	for (size_t i = 0; i < old.nslots; i++) {
		if (old.slots[i].stamp == old.stamp)
			*fz_refmap_probe(map, old.slots[i].key) = old.slots[i];
	}
	if (old.slots != NULL)
		alloc(ud, old.slots, old.nslots * sizeof(*slots), 0);
	return 0;
}
