#include "value/rawarray.h"

#include <lauxlib.h>

struct fz_rawarray_tags fz_rawarray_tags;
struct fz_rawarray_table fz_rawarray_table;

/* An allocator that finds a block while one table is created. */
struct catcher {
	lua_Alloc alloc;
	void *ud;
	size_t size;     /* of the block to find, in bytes */
	void *at;        /* the block */
	unsigned nfound; /* how many blocks had this size */
};

static void *
catch_alloc(void *ud, void *block, size_t old_size, size_t size)
{
	struct catcher *c = ud;
	void *p = c->alloc(c->ud, block, old_size, size);

	if (p != NULL && block == NULL && size == c->size) {
		c->at = p;
		c->nfound++;
	}
	return p;
}

/*
 * (catcher, n, nrec) -> table. Called protected, so that the allocator is
 * restored.
 */
static int
make_list(lua_State *L)
{
	struct catcher *c = lua_touserdata(L, 1);
	int n = (int)lua_tointeger(L, 2), nrec = (int)lua_tointeger(L, 3);

	c->nfound = 0;
	lua_createtable(L, n, nrec);
	return 1;
}

/*
 * Push a table. Returns its block of `n` slots; NULL if it is not the only
 * block of that size.
 */
static struct fz_raw_value *
push_list(lua_State *L, int n, int nrec)
{
	struct catcher c = { .size = (size_t)n * sizeof(struct fz_raw_value) };
	int status;

	lua_pushcfunction(L, make_list);
	lua_pushlightuserdata(L, &c);
	lua_pushinteger(L, n);
	lua_pushinteger(L, nrec);
	c.alloc = lua_getallocf(L, &c.ud);
	lua_setallocf(L, catch_alloc, &c);
	status = lua_pcall(L, 3, 1, 0);
	lua_setallocf(L, c.alloc, c.ud);
	if (status != LUA_OK)
		lua_error(L);
	return c.nfound == 1 ? c.at : NULL;
}

enum { PROBE_SLOTS = 61, PROBE_INDEX = 29 };

static bool
is_equal(const struct fz_raw_value *a, const struct fz_raw_value *b)
{
	return a->tag == b->tag &&
	       memcmp(a->value, b->value, sizeof(a->value)) == 0;
}

/*
 * Store the value on top in the table below it. Returns its tag; -1 if any
 * other slot changes, or if the slot does not hold `value`. [-1]
 */
static int
probe(lua_State *L, const struct fz_raw_value *list, const void *value)
{
	const struct fz_raw_value *slot = &list[PROBE_INDEX - 1];
	struct fz_raw_value before[PROBE_SLOTS];

	memcpy(before, list, sizeof(before));
	lua_rawseti(L, -2, PROBE_INDEX);
	if (value != NULL && memcmp(slot->value, value, sizeof(lua_Integer)))
		return -1;
	for (int i = 0; i < PROBE_SLOTS; i++) {
		if (&list[i] != slot && !is_equal(&list[i], &before[i]))
			return -1;
	}
	return slot->tag < 64 ? slot->tag : -1;
}

/* Bytes of a table that are compared. */
enum { TABLE_BYTES = 40 };

/* A table to learn from: its address and its array part. */
struct sample {
	const unsigned char *at;
	const struct fz_raw_value *array;
};

static struct sample
push_sample(lua_State *L, int n, int nrec)
{
	struct sample s = { .array = push_list(L, n, nrec) };

	s.at = lua_topointer(L, -1);
	return s;
}

static bool
has_pointer(const struct sample *s, int at, const void *pointer)
{
	return memcmp(s->at + at, &pointer, sizeof(pointer)) == 0;
}

static bool
has_limit(const struct sample *s, int at, uint32_t limit)
{
	return memcmp(s->at + at, &limit, sizeof(limit)) == 0;
}

/*
 * Learn from tables with four slots, eight slots, and four slots and a field.
 */
static void
compare(const struct sample *four, const struct sample *eight,
    const struct sample *field)
{
	struct fz_rawarray_table t = { .known = false };
	int narrays = 0, nlimits = 0, nrests = 0;

	for (int at = TABLE_BYTES - 4; at >= 0; at -= 4) {
		if (has_limit(four, at, 4) && has_limit(eight, at, 8) &&
		    has_limit(field, at, 4)) {
			t.limit = (unsigned char)at;
			nlimits++;
		}
		if (at % 8 != 0)
			continue;
		if (has_pointer(four, at, four->array) &&
		    has_pointer(eight, at, eight->array) &&
		    has_pointer(field, at, field->array)) {
			t.array = (unsigned char)at;
			narrays++;
		}
		if (memcmp(four->at + at, eight->at + at, 8) == 0 &&
		    memcmp(four->at + at, field->at + at, 8) != 0) {
			t.rest = (unsigned char)at;
			memcpy(&t.nothing, four->at + at, sizeof(t.nothing));
			nrests++;
		}
	}
	t.known = narrays == 1 && nlimits == 1 && nrests != 0;
	fz_rawarray_table = t;
}

/* Learn from the list on top, whose slots are at `list`. [-1] */
static bool
learn_tags(lua_State *L, const struct fz_raw_value *list)
{
	lua_Integer i = 0x0123456789abcdef;
	lua_Number n = 0.1;
	int tags[5];

	for (int at = 1; at <= PROBE_SLOTS; at++) {
		lua_pushinteger(L, at);
		lua_rawseti(L, -2, at);
	}
	lua_pushinteger(L, i);
	tags[0] = probe(L, list, &i);
	lua_pushnumber(L, n);
	tags[1] = probe(L, list, &n);
	lua_pushboolean(L, 1);
	tags[2] = probe(L, list, NULL);
	lua_pushboolean(L, 0);
	tags[3] = probe(L, list, NULL);
	lua_pushnil(L);
	tags[4] = probe(L, list, NULL);
	lua_pop(L, 1);
	for (int a = 0; a < 5; a++) {
		if (tags[a] == -1)
			return false;
		for (int b = 0; b < a; b++)
			if (tags[a] == tags[b])
				return false;
		fz_rawarray_tags.plain |= UINT64_C(1) << tags[a];
	}
	fz_rawarray_tags.integer = (unsigned char)tags[0];
	fz_rawarray_tags.number = (unsigned char)tags[1];
	fz_rawarray_tags.yes = (unsigned char)tags[2];
	fz_rawarray_tags.no = (unsigned char)tags[3];
	fz_rawarray_tags.nil = (unsigned char)tags[4];
	return true;
}

/* Learn from the three tables on top; `field` is the topmost. [-3] */
static void
learn_table(lua_State *L, const struct sample *four, const struct sample *eight,
    const struct sample *field)
{
	compare(four, eight, field);
	lua_rawseti(L, -3, 1); /* four[1] = field */
	fz_rawarray_table.tag = four->array->tag;
	if (memcmp(four->array->value, &field->at, sizeof(field->at)) != 0)
		fz_rawarray_table.known = false;
	lua_pop(L, 2);
}

bool
fz_rawarray_learn(lua_State *L)
{
	static bool tried;
	struct sample four, eight, field, list;
	int top = lua_gettop(L);

	if (tried || sizeof(lua_Integer) != 8 || sizeof(lua_Number) != 8)
		return fz_rawarray_tags.known;
	luaL_checkstack(L, 8, NULL);
	four = push_sample(L, 4, 0);
	eight = push_sample(L, 8, 0);
	field = push_sample(L, 4, 1);
	list = push_sample(L, PROBE_SLOTS, 0);
	tried = true; /* the rest allocates no memory */
	if (four.array != NULL && eight.array != NULL && field.array != NULL &&
	    list.array != NULL && learn_tags(L, list.array)) {
		fz_rawarray_tags.known = true;
		learn_table(L, &four, &eight, &field);
	}
	lua_settop(L, top);
	return fz_rawarray_tags.known;
}

struct fz_raw_value *
fz_rawarray_push_list(lua_State *L, int n, int nrec)
{
	if (n > 0 && fz_rawarray_tags.known)
		return push_list(L, n, nrec);
	lua_createtable(L, n, nrec);
	return NULL;
}

size_t
fz_rawarray_copy(
    struct fz_raw_value *list, const struct fz_raw_value *results, size_t n)
{
	struct fz_raw_value slot;
	size_t i = 0;

	for (; i < n; i++) {
		/*
		 * Read the tag once, because a misbehaving worker may still
		 * write here.
		 */
		slot.tag = *(const volatile unsigned char *)&results[i].tag;
		if (!fz_rawarray_is_plain(&slot))
			break;
		memcpy(list[i].value, results[i].value, sizeof(slot.value));
		list[i].tag = slot.tag;
	}
	return i;
}

void
fz_rawarray_push(lua_State *L, const struct fz_raw_value *slot)
{
	if (fz_rawarray_is_number(slot))
		fz_rawarray_push_number(L, slot);
	else if (slot->tag == fz_rawarray_tags.nil)
		lua_pushnil(L);
	else
		lua_pushboolean(L, slot->tag == fz_rawarray_tags.yes);
}
