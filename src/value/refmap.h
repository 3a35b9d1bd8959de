/*
 * refmap.h - a map from pointers to 32-bit numbers that can be cleared in one
 * step.
 *
 * It uses open addressing in the order of addresses, because objects created in
 * a row are neighbours in memory. The memory comes from the allocator of the
 * Lua state, and is kept for the next message; a stamp says which entries are
 * in use.
 */
#ifndef FZ_REFMAP_H
#define FZ_REFMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lua.h>

struct fz_refmap_entry {
	const void *key;
	uint32_t stamp; /* in use if this equals the stamp of the map */
	uint32_t number;
};

struct fz_refmap {
	struct fz_refmap_entry *entries;
	size_t capacity; /* 0 or a power of two */
	/* number of entries in use; at most half of the capacity */
	size_t n;
	uint32_t stamp;
	/*
	 * number of times in a row that the map was nearly unused when it was
	 * cleared
	 */
	unsigned idle;
};

/* Initialise an empty map, without memory. */
void fz_refmap_init(struct fz_refmap *map);

/*
 * Push an empty map, a userdata that frees the memory of the map. [-0, +1, m]
 */
struct fz_refmap *fz_refmap_push(lua_State *L);

/* Free the memory by the allocator of `L`; the map is empty and usable. */
void fz_refmap_fini(struct fz_refmap *map, lua_State *L);

/* Remove all entries; frees memory that was not needed for long. */
void fz_refmap_clear(struct fz_refmap *map, lua_State *L);

/* Double the capacity. Returns 0, or -1 if there is no memory. */
int fz_refmap_grow(struct fz_refmap *map, lua_State *L);

static inline struct fz_refmap_entry *
fz_refmap_probe(const struct fz_refmap *map, const void *key)
{
	size_t mask = map->capacity - 1;
	size_t i = ((uintptr_t)key >> 5) & mask;

	while (
	    map->entries[i].stamp == map->stamp && map->entries[i].key != key)
		i = (i + 1) & mask;
	return &map->entries[i];
}

/* The entry of `key`, or NULL. */
static inline struct fz_refmap_entry *
fz_refmap_find(const struct fz_refmap *map, const void *key)
{
	struct fz_refmap_entry *entry;

	if (map->n == 0)
		return NULL;
	entry = fz_refmap_probe(map, key);
	return entry->stamp == map->stamp ? entry : NULL;
}

/*
 * The entry of `key`. A new entry gets `number`, and `*fresh` is set. Returns
 * NULL if there is no memory. The entry is valid until the next call.
 */
static inline struct fz_refmap_entry *
fz_refmap_enter(struct fz_refmap *map, lua_State *L, const void *key,
    uint32_t number, bool *fresh)
{
	struct fz_refmap_entry *entry;

	if (map->n * 2 >= map->capacity && fz_refmap_grow(map, L) != 0)
		return NULL;
	entry = fz_refmap_probe(map, key);
	*fresh = entry->stamp != map->stamp;
	if (*fresh) {
		entry->key = key;
		entry->stamp = map->stamp;
		entry->number = number;
		map->n++;
	}
	return entry;
}

#endif
