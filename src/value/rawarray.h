/*
 * rawarray.h - plain values side by side, as the array part of a table has
 * them.
 *
 * A worker stores what its calls returned into a strip of shared memory; its
 * parent copies them into the array part of its list. Nothing is encoded, and
 * no value is pushed for itself. That part is Lua's own affair, so how it looks
 * is asked of Lua when it is first needed: where it is not what we know, or an
 * allocator is not what it should be, there are no strips.
 *
 * Plain values are nil, booleans and numbers: what is not in a heap.
 */
#ifndef FZ_RAWARRAY_H
#define FZ_RAWARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <lua.h>

struct fz_raw_value {
	unsigned char value[8]; /* of a number, in the machine's order */
	unsigned char tag, unused[7];
};

/* How Lua tags plain values; learned once, `known` is false before. */
struct fz_rawarray_tags {
	bool known;
	unsigned char nil, no, yes, integer, number;
	uint64_t plain; /* bit n: the tag n is that of a plain value */
};

extern struct fz_rawarray_tags fz_rawarray_tags;

/*
 * Where a table has what is asked here, learned likewise: the bytes from its
 * address (lua_topointer()) to the address of its array part, to how many slots
 * that has if it has a power of two of them, and to what is `nothing` where it
 * has no other part. And the tag of a table in a slot, whose value its address
 * is then.
 */
struct fz_rawarray_table {
	bool known;
	unsigned char tag, array, limit, rest;
	const void *nothing;
};

extern struct fz_rawarray_table fz_rawarray_table;

/* Whether there can be strips: ask before the others. [-0, +0, m] */
bool fz_rawarray_learn(lua_State *L);

/*
 * Push a table with room for `n` elements and `nrec` fields. Returns where its
 * array part is, until a field beyond these is set; NULL where that cannot be
 * known. [-0, +1, m]
 */
struct fz_raw_value *fz_rawarray_push_list(lua_State *L, int n, int nrec);

/*
 * Copy `n` values into the array part of a list. Returns how many come before
 * one that is not plain, which no worker of ours has written: `n` for none.
 */
size_t fz_rawarray_copy(
    struct fz_raw_value *list, const struct fz_raw_value *strip, size_t n);

/* Push the value there, which is plain. [-0, +1, -] */
void fz_rawarray_push(lua_State *L, const struct fz_raw_value *slot);

/* The slot of element `i` of a table, NULL: look there as ever. */
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

/* True if its first `n` elements are all that a table has; false: perhaps. */
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
 * How many elements the table in a slot has, where these are one, two or four
 * numbers and all it has; `*array` are they. 0: it may be anything.
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
