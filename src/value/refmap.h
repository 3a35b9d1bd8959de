/*
 * refmap.h - pointers to 32-bit numbers, forgotten all at once.
 *
 * Open addressing in the order of addresses: objects made one after the
 * other lie one after the other. The memory is the Lua state's and stays for
 * the next message; a stamp says which slots are of this one.
 */
#ifndef FZ_REFMAP_H
#define FZ_REFMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

struct fz_refmap_slot {
	const void *key;
	uint32_t stamp; /* in use only where it is the map's */
	uint32_t number;
};

struct fz_refmap {
	struct fz_refmap_slot *slots;
	size_t nslots; /* 0 or a power of two */
	size_t n;      /* slots in use, at most half */
	uint32_t stamp;
	unsigned idle; /* clears in a row that found it nearly unused */
};

/* Empty, without memory. */
void fz_refmap_init(struct fz_refmap *map);

/* Give the memory back to `L`; the map is empty and usable again. */
void fz_refmap_fini(struct fz_refmap *map, lua_State *L);

/* Forget everything; memory that stays unused for long is given back. */
void fz_refmap_clear(struct fz_refmap *map, lua_State *L);

/* Twice the room. Returns 0, or -1 without memory. */
int fz_refmap_grow(struct fz_refmap *map, lua_State *L);

static inline struct fz_refmap_slot *
fz_refmap_probe(const struct fz_refmap *map, const void *key)
{
	size_t mask = map->nslots - 1;
	size_t i = ((uintptr_t)key >> 5) & mask;

	while (map->slots[i].stamp == map->stamp && map->slots[i].key != key)
		i = (i + 1) & mask;
	return &map->slots[i];
}

/* The slot of `key`, or NULL. */
static inline struct fz_refmap_slot *
fz_refmap_find(const struct fz_refmap *map, const void *key)
{
	struct fz_refmap_slot *slot;

	if (map->n == 0)
		return NULL;
	slot = fz_refmap_probe(map, key);
	return slot->stamp == map->stamp ? slot : NULL;
}

/*
 * The slot of `key`. A new one gets `number` and sets `fresh`. Returns NULL
 * without memory. The slot is good until the next call.
 */
static inline struct fz_refmap_slot *
fz_refmap_enter(struct fz_refmap *map, lua_State *L, const void *key,
    uint32_t number, bool *fresh)
{
	struct fz_refmap_slot *slot;

	if (map->n * 2 >= map->nslots && fz_refmap_grow(map, L) != 0)
		return NULL;
	slot = fz_refmap_probe(map, key);
	*fresh = slot->stamp != map->stamp;
	if (*fresh) {
		slot->key = key;
		slot->stamp = map->stamp;
		slot->number = number;
		map->n++;
	}
	return slot;
}

#endif
