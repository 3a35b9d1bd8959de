/*
 * rawarray.h - plain values in a row, laid out as in the array part of a table.
 *
 * A worker stores the results of its calls as raw values in shared memory, and
 * its parent copies them into the array part of its list. So no value is
 * encoded, nor pushed on a stack. Lua does not document the layout of a table.
 * So the layout is learned from the running Lua at the first long map, and a
 * self-test compares what is read and written this way with what Lua reads. If
 * any of this fails, or the module is off, callers get no layout and use the
 * Lua API. It is off with a Lua other than 5.4, in a build with FZ_RAWARRAY=0,
 * and with FZLUA_RAWARRAY=0 in the environment.
 *
 * Plain values are nil, booleans and numbers, which have no object in the heap.
 */
#ifndef FZ_RAWARRAY_H
#define FZ_RAWARRAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <lua.h>

#ifndef FZ_RAWARRAY
#define FZ_RAWARRAY (LUA_VERSION_NUM == 504)
#endif
_Static_assert(!FZ_RAWARRAY || LUA_VERSION_NUM == 504,
    "only the tables of Lua 5.4 are known");

struct fz_raw_value {
	unsigned char value[8]; /* the bits in the byte order of the machine */
	unsigned char tag, unused[7];
};

/*
 * The layout of tables and values in this Lua. An element whose tag is `table`
 * holds the table's address (lua_topointer()). `array`, `limit` and `rest` are
 * offsets in bytes from that address. At `array` is the address of the array
 * part. At `limit` is a lower bound of the number of elements of the array
 * part; it is the exact number if it is a power of two. At `rest` is a pointer
 * that equals `nothing` if the table has no hash part.
 */
struct fz_rawarray {
	/* the tags of values */
	unsigned char nil, no, yes, integer, number, table;
	unsigned char array, limit, rest;
	uint64_t plain; /* bit n: tag n is that of a plain value */
	const void *nothing;
};

/*
 * Learn the layout at the first call, and test it. NULL: use the Lua API.
 * Workers inherit a layout that was learned before their fork. [-0, +0, e]
 */
const struct fz_rawarray *fz_rawarray_learn(lua_State *L);

/* The learned layout; NULL if there is none, or none yet. */
const struct fz_rawarray *fz_rawarray_known(void);

/*
 * The self-test: whether a layout is that of tables with holes, of tables with
 * a hash part, and of tables that Lua has resized or whose length Lua has
 * computed. [-0, +0, e]
 */
bool fz_rawarray_holds(const struct fz_rawarray *raw, lua_State *L);

/*
 * Copy up to `n` values into a table, the first as element `first`. Returns the
 * number of copied values. It is less than `n` if the array part ends earlier,
 * or if a value is not plain, which only a faulty worker writes. Each call
 * reads the address of the array part, because the part may have moved since
 * the last call.
 */
size_t fz_rawarray_copy(const struct fz_rawarray *raw, const void *table,
    uint64_t first, const struct fz_raw_value *values, size_t n);

/* Push the plain value in an element. [-0, +1, -] */
void fz_rawarray_push(const struct fz_rawarray *raw, lua_State *L,
    const struct fz_raw_value *element);

/* The array part of a table has at least this number of elements. */
static inline uint32_t
fz_rawarray_limit(const struct fz_rawarray *raw, const void *table)
{
	uint32_t limit;

	memcpy(&limit, (const char *)table + raw->limit, sizeof(limit));
	return limit;
}

static inline struct fz_raw_value *
fz_rawarray_elements(const struct fz_rawarray *raw, const void *table)
{
	struct fz_raw_value *array;

	memcpy(&array, (const char *)table + raw->array, sizeof(array));
	return array;
}

static inline bool
fz_rawarray_has_hash(const struct fz_rawarray *raw, const void *table)
{
	const void *rest;

	memcpy(&rest, (const char *)table + raw->rest, sizeof(rest));
	return rest != raw->nothing;
}

/* Element `i` of a table; NULL: read it by the Lua API. */
static inline const struct fz_raw_value *
fz_rawarray_find(const struct fz_rawarray *raw, const void *table, uint64_t i)
{
	if (i - 1 >= fz_rawarray_limit(raw, table))
		return NULL;
	return &fz_rawarray_elements(raw, table)[i - 1];
}

static inline bool
fz_rawarray_is_number(
    const struct fz_rawarray *raw, const struct fz_raw_value *element)
{
	return element->tag == raw->integer || element->tag == raw->number;
}

/*
 * Whether the first `n` elements are all the contents of a table. False:
 * unknown.
 */
static inline bool
fz_rawarray_is_whole(
    const struct fz_rawarray *raw, const void *table, uint64_t n)
{
	return !fz_rawarray_has_hash(raw, table) &&
	       n == fz_rawarray_limit(raw, table) && (n & (n - 1)) == 0;
}

/*
 * If an element is a table with one, two or four elements, all of them numbers,
 * and nothing else, return their number and set `*array` to them. 0: the
 * element may be any value.
 */
static inline unsigned
fz_rawarray_tuple(const struct fz_rawarray *raw,
    const struct fz_raw_value *element, const struct fz_raw_value **array)
{
	const void *table;
	uint32_t n;

	if (element->tag != raw->table)
		return 0;
	memcpy(&table, element->value, sizeof(table));
	n = fz_rawarray_limit(raw, table);
	if (fz_rawarray_has_hash(raw, table) || (n != 2 && n != 1 && n != 4))
		return 0;
	*array = fz_rawarray_elements(raw, table);
	for (uint32_t i = 0; i < n; i++) {
		if (!fz_rawarray_is_number(raw, &(*array)[i]))
			return 0;
	}
	return n;
}

/* Push the number in an element. [-0, +1, -] */
static inline void
fz_rawarray_push_number(const struct fz_rawarray *raw, lua_State *L,
    const struct fz_raw_value *element)
{
	lua_Integer i;
	lua_Number n;

	if (element->tag == raw->integer) {
		memcpy(&i, element->value, sizeof(i));
		lua_pushinteger(L, i);
	} else {
		memcpy(&n, element->value, sizeof(n));
		lua_pushnumber(L, n);
	}
}

static inline bool
fz_rawarray_is_plain(
    const struct fz_rawarray *raw, const struct fz_raw_value *element)
{
	return element->tag < 64 && (raw->plain >> element->tag & 1);
}

/* Store the value at `idx`; false if it is not plain. [-0, +0, -] */
static inline bool
fz_rawarray_store(const struct fz_rawarray *raw, lua_State *L, int idx,
    struct fz_raw_value *element)
{
	lua_Integer i;
	lua_Number n;

	if (lua_isinteger(L, idx)) {
		i = lua_tointeger(L, idx);
		memcpy(element->value, &i, sizeof(i));
		element->tag = raw->integer;
		return true;
	}
	switch (lua_type(L, idx)) {
	case LUA_TNUMBER:
		n = lua_tonumber(L, idx);
		memcpy(element->value, &n, sizeof(n));
		element->tag = raw->number;
		return true;
	case LUA_TBOOLEAN:
		element->tag = lua_toboolean(L, idx) ? raw->yes : raw->no;
		return true;
	case LUA_TNIL:
		element->tag = raw->nil;
		return true;
	default:
		return false;
	}
}

#endif
