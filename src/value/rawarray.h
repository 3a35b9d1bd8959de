/*
 * rawarray.h - plain values in a row, laid out as in the array part of a table.
 *
 * A worker stores the results of its calls as raw values in shared memory, and
 * its parent copies them into the array part of its list. This encodes nothing
 * and pushes no single value. Lua does not document the layout of that part, so
 * it is probed in the running Lua at the first use. If it is not as expected,
 * or the allocator does not take part, raw values are not used.
 *
 * Plain values are nil, booleans and numbers: those without an object in the
 * heap.
 */
#ifndef FZ_RAWARRAY_H
#define FZ_RAWARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <lua.h>

struct fz_raw_value {
	unsigned char
	    value[8]; /* bits of a number, in the machine's byte order */
	unsigned char tag, unused[7];
};

/* The tags of plain values in Lua. `known` is false until they are learned. */
struct fz_rawarray_tags {
	bool known;
	unsigned char nil, no, yes, integer, number;
	uint64_t plain; /* bit n: tag n is that of a plain value */
};

extern struct fz_rawarray_tags fz_rawarray_tags;

/*
 * The layout of a table, learned like the tags. `array`, `limit` and `rest` are
 * offsets in bytes from the table's address (lua_topointer()): to the address
 * of its array part; to the number of slots in that part, valid for powers of
 * two; and to a pointer that equals `nothing` if the table has no hash part.
 * `tag` is the tag of a slot that holds a table; the slot's value is then the
 * table's address.
 */
struct fz_rawarray_table {
	bool known;
	unsigned char tag, array, limit, rest;
	const void *nothing;
};

extern struct fz_rawarray_table fz_rawarray_table;

/*
 * Whether raw values can be used; call this before the functions below. [-0,
 * +0, m]
 */
bool fz_rawarray_learn(lua_State *L);

/*
 * Push a table with room for `n` elements and `nrec` fields. Returns its array
 * part, which moves once more fields than these are set; NULL if it is unknown.
 * [-0, +1, m]
 */
struct fz_raw_value *fz_rawarray_push_list(lua_State *L, int n, int nrec);

/*
 * Copy `n` values into the array part of a list. Returns `n`, or how many
 * values precede one that is not plain, which an intact worker never writes.
 */
size_t fz_rawarray_copy(
    struct fz_raw_value *list, const struct fz_raw_value *results, size_t n);

/* Push the plain value in a slot. [-0, +1, -] */
void fz_rawarray_push(lua_State *L, const struct fz_raw_value *slot);

/*
 * The slot of element `i` of a table, or NULL: then read it through the Lua
 * API.
 */
static inline const struct fz_raw_value *
fz_rawarray_look(const void *table, uint64_t i)
{
	const unsigned char *t = table;
	const struct fz_raw_value *array;
	uint32_t limit;

	memcpy(&limit, t + fz_rawarray_table.limit, sizeof(limit));
	if (i - 1 >= limit)
		return NULL;
	memcpy(&array, t + fz_rawarray_table.array, sizeof(array));
	return &array[i - 1];
}

static inline bool
fz_rawarray_is_number(const struct fz_raw_value *slot)
{
	return slot->tag == fz_rawarray_tags.integer ||
	       slot->tag == fz_rawarray_tags.number;
}

/* Whether the first `n` elements are all that a table has. False: unknown. */
static inline bool
fz_rawarray_is_whole(const void *table, uint64_t n)
{
	const unsigned char *t = table;
	const void *rest;
	uint32_t limit;

	memcpy(&limit, t + fz_rawarray_table.limit, sizeof(limit));
	memcpy(&rest, t + fz_rawarray_table.rest, sizeof(rest));
	return rest == fz_rawarray_table.nothing && n == limit &&
	       (n & (n - 1)) == 0;
}

/*
 * If the table in a slot has one, two or four elements, all of them numbers,
 * and nothing else, return how many and set `*array` to them. 0: it may be any
 * value.
 */
static inline unsigned
fz_rawarray_look_into(
    const struct fz_raw_value *slot, const struct fz_raw_value **array)
{
	const unsigned char *t;
	const void *rest;
	uint32_t n;

	if (slot->tag != fz_rawarray_table.tag)
		return 0;
	memcpy(&t, slot->value, sizeof(t));
	memcpy(&n, t + fz_rawarray_table.limit, sizeof(n));
	memcpy(&rest, t + fz_rawarray_table.rest, sizeof(rest));
	if (rest != fz_rawarray_table.nothing || (n != 2 && n != 1 && n != 4))
		return 0;
	memcpy(array, t + fz_rawarray_table.array, sizeof(*array));
	for (uint32_t i = 0; i < n; i++) {
		if (!fz_rawarray_is_number(&(*array)[i]))
			return 0;
	}
	return n;
}

/* Push the number in a slot. [-0, +1, -] */
static inline void
fz_rawarray_push_number(lua_State *L, const struct fz_raw_value *slot)
{
	lua_Integer i;
	lua_Number n;

	if (slot->tag == fz_rawarray_tags.integer) {
		memcpy(&i, slot->value, sizeof(i));
		lua_pushinteger(L, i);
	} else {
		memcpy(&n, slot->value, sizeof(n));
		lua_pushnumber(L, n);
	}
}

static inline bool
fz_rawarray_is_plain(const struct fz_raw_value *slot)
{
	return slot->tag < 64 && (fz_rawarray_tags.plain >> slot->tag & 1);
}

/* Store the value at `idx`; false: it is not plain. [-0, +0, -] */
static inline bool
fz_rawarray_store(lua_State *L, int idx, struct fz_raw_value *slot)
{
	lua_Integer i;
	lua_Number n;

	if (lua_isinteger(L, idx)) {
		i = lua_tointeger(L, idx);
		memcpy(slot->value, &i, sizeof(i));
		slot->tag = fz_rawarray_tags.integer;
		return true;
	}
	switch (lua_type(L, idx)) {
	case LUA_TNUMBER:
		n = lua_tonumber(L, idx);
		memcpy(slot->value, &n, sizeof(n));
		slot->tag = fz_rawarray_tags.number;
		return true;
	case LUA_TBOOLEAN:
		slot->tag = lua_toboolean(L, idx) ? fz_rawarray_tags.yes
						  : fz_rawarray_tags.no;
		return true;
	case LUA_TNIL:
		slot->tag = fz_rawarray_tags.nil;
		return true;
	default:
		return false;
	}
}

#endif
