#include "value/rawarray.h"

#include <stdatomic.h>
#include <stdlib.h>

#include <lauxlib.h>

/* An allocator that finds a block while one table is created. */
struct catcher {
	lua_Alloc alloc;
	void *ud;
	size_t size;     /* bytes of the block to find */
	void *at;        /* the block that was found */
	unsigned nfound; /* number of blocks of this size */
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

/* (catcher, n, nrec) -> table; protected, to restore the allocator */
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
 * Push a table with `n` elements, and return the address of these. NULL if
 * several blocks have this size.
 */
static const struct fz_raw_value *
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

enum { PROBE_SIZE = 61, PROBE_INDEX = 29 };

static bool
is_equal(const struct fz_raw_value *a, const struct fz_raw_value *b)
{
	return a->tag == b->tag &&
	       memcmp(a->value, b->value, sizeof(a->value)) == 0;
}

/*
 * Store the value on top in the list below it, and learn its tag. False if the
 * element does not hold `value`, or if another element has changed. [-1]
 */
static bool
probe(lua_State *L, const struct fz_raw_value *list, const void *value,
    unsigned char *tag)
{
	const struct fz_raw_value *element = &list[PROBE_INDEX - 1];
	struct fz_raw_value before[PROBE_SIZE];

	memcpy(before, list, sizeof(before));
	lua_rawseti(L, -2, PROBE_INDEX);
	if (value != NULL && memcmp(element->value, value, sizeof(lua_Integer)))
		return false;
	for (int i = 0; i < PROBE_SIZE; i++) {
		if (&list[i] != element && !is_equal(&list[i], &before[i]))
			return false;
	}
	*tag = element->tag;
	return element->tag < 64;
}

static bool
probe_boolean(lua_State *L, const struct fz_raw_value *list, bool value,
    unsigned char *tag)
{
	lua_pushboolean(L, value);
	return probe(L, list, NULL, tag);
}

static bool
probe_all(
    lua_State *L, const struct fz_raw_value *list, struct fz_rawarray *raw)
{
	lua_Integer i = 0x0123456789abcdef;
	lua_Number n = 0.1;

	lua_pushinteger(L, i);
	if (!probe(L, list, &i, &raw->integer))
		return false;
	lua_pushnumber(L, n);
	if (!probe(L, list, &n, &raw->number) ||
	    !probe_boolean(L, list, true, &raw->yes) ||
	    !probe_boolean(L, list, false, &raw->no))
		return false;
	lua_pushnil(L);
	return probe(L, list, NULL, &raw->nil);
}

/* Learn the tags from the list on top, whose elements are at `list`. */
static bool
learn_tags(
    lua_State *L, const struct fz_raw_value *list, struct fz_rawarray *raw)
{
	for (int at = 1; at <= PROBE_SIZE; at++) {
		lua_pushinteger(L, at);
		lua_rawseti(L, -2, at);
	}
	if (!probe_all(L, list, raw))
		return false;
	raw->plain = UINT64_C(1) << raw->nil | UINT64_C(1) << raw->no |
		     UINT64_C(1) << raw->yes | UINT64_C(1) << raw->integer |
		     UINT64_C(1) << raw->number;
	/* no two tags are equal */
	return __builtin_popcountll(raw->plain) == 5;
}

/* The number of bytes of a table that are compared. */
enum { TABLE_BYTES = 40 };

/* A table to learn from: its address and its array part. */
struct sample {
	const unsigned char *at;
	const struct fz_raw_value *array;
};

/*
 * Tables with four elements, with eight, with four and a field, and with many.
 */
struct samples {
	struct sample four, eight, field, list;
};

static struct sample
push_sample(lua_State *L, int n, int nrec)
{
	struct sample s = { .array = push_list(L, n, nrec) };

	s.at = lua_topointer(L, -1);
	return s;
}

static bool
has_array(const struct sample *s, int at)
{
	return memcmp(s->at + at, &s->array, sizeof(s->array)) == 0;
}

static bool
has_limit(const struct sample *s, int at, uint32_t limit)
{
	return memcmp(s->at + at, &limit, sizeof(limit)) == 0;
}

static bool
learn_limit(const struct samples *s, struct fz_rawarray *raw)
{
	int nfound = 0;

	for (int at = 0; at < TABLE_BYTES; at += 4) {
		if (has_limit(&s->four, at, 4) && has_limit(&s->eight, at, 8) &&
		    has_limit(&s->field, at, 4)) {
			raw->limit = (unsigned char)at;
			nfound++;
		}
	}
	return nfound == 1;
}

static bool
learn_array(const struct samples *s, struct fz_rawarray *raw)
{
	int nfound = 0;

	for (int at = 0; at < TABLE_BYTES; at += 8) {
		if (has_array(&s->four, at) && has_array(&s->eight, at) &&
		    has_array(&s->field, at)) {
			raw->array = (unsigned char)at;
			nfound++;
		}
	}
	return nfound == 1;
}

/* Find the pointer that is the same in all tables without a hash part. */
static bool
learn_rest(const struct samples *s, struct fz_rawarray *raw)
{
	for (int at = 0; at < TABLE_BYTES; at += 8) {
		if (memcmp(s->four.at + at, s->eight.at + at, 8) != 0 ||
		    memcmp(s->four.at + at, s->field.at + at, 8) == 0)
			continue;
		raw->rest = (unsigned char)at;
		memcpy(&raw->nothing, s->four.at + at, sizeof(raw->nothing));
		return true;
	}
	return false;
}

/*
 * Learn the tag of tables: store the sample `field` in element 1 of `four`. The
 * four samples are on top.
 */
static bool
learn_table_tag(lua_State *L, const struct samples *s, struct fz_rawarray *raw)
{
	lua_pushvalue(L, -2);
	lua_rawseti(L, -5, 1);
	raw->table = s->four.array->tag;
	return memcmp(s->four.array->value, &s->field.at,
		   sizeof(s->field.at)) == 0;
}

/* Learn the layout. Leaves the samples on the stack. [-0, +4, m] */
static bool
learn(lua_State *L, struct fz_rawarray *raw)
{
	struct samples s;

	s.four = push_sample(L, 4, 0);
	s.eight = push_sample(L, 8, 0);
	s.field = push_sample(L, 4, 1);
	s.list = push_sample(L, PROBE_SIZE, 0);
	return s.four.array != NULL && s.eight.array != NULL &&
	       s.field.array != NULL && s.list.array != NULL &&
	       learn_limit(&s, raw) && learn_array(&s, raw) &&
	       learn_rest(&s, raw) && learn_table_tag(L, &s, raw) &&
	       learn_tags(L, s.list.array, raw);
}

/*
 * Lua code that returns tables whose layout Lua has chosen and changed in
 * various ways: with holes, with a hash part, resized, and with `#` at several
 * lengths.
 */
static const char shapes[] =
    "local list = { { nil, 2, nil, 4.5 }, { [1] = 1, [2] = 2.5 },\n"
    "  { 1, 2, n = 2 }, { 1, { 2 }, 's', true, false },\n"
    "  { 1, 2.5 }, {}, { x = 1 } }\n"
    "local change = {\n"
    "  function(t, n) end,\n"
    "  function(t, n) t[n // 2] = nil t[n // 2 + 1] = nil end,\n"
    "  function(t, n) t.x = true end,\n"
    "  function(t, n) t.x = true t.x = nil end,\n"
    "  function(t, n) t[n + 1] = n + 0.5 t[2 * n] = 1 end,\n"
    "  function(t, n) local v = t[n] t[n] = nil t[n] = #t and v end,\n"
    "  function(t, n)\n"
    "    for i = n, n // 2 + 1, -1 do t[i] = nil t[-1] = #t end\n"
    "  end,\n"
    "  function(t, n) for i = n, 2, -1 do t[i] = nil end t[-1] = 1 end,\n"
    "}\n"
    "for n = 1, 7, 3 do\n"
    "  for k = 1, #change do\n"
    "    local t = {}\n"
    "    for i = 1, n do t[i] = i % 2 == 0 and i or i + 0.5 end\n"
    "    change[k](t, n)\n"
    "    list[#list + 1] = t\n"
    "  end\n"
    "end\n"
    "return list\n";

/* Whether the element is the value on top. */
static bool
is_element(lua_State *L, const struct fz_rawarray *raw,
    const struct fz_raw_value *element)
{
	const void *table = lua_topointer(L, -1);
	struct fz_raw_value stored;
	bool same;

	if (lua_istable(L, -1))
		return element->tag == raw->table &&
		       memcmp(element->value, &table, sizeof(table)) == 0;
	if (element->tag == raw->table || !fz_rawarray_is_plain(raw, element))
		return element->tag != raw->table && !lua_isnumber(L, -1);
	fz_rawarray_push(raw, L, element);
	same = lua_rawequal(L, -1, -2) &&
	       lua_isinteger(L, -1) == lua_isinteger(L, -2) &&
	       fz_rawarray_store(raw, L, -1, &stored) &&
	       stored.tag == element->tag;
	lua_pop(L, 1);
	return same;
}

/* Compare each element of the table on top with what Lua reads. */
static bool
test_elements(lua_State *L, const struct fz_rawarray *raw)
{
	const void *table = lua_topointer(L, -1);
	const struct fz_raw_value *element;
	bool same = true;
	lua_Integer i = 0;

	while (same && (element = fz_rawarray_find(
			    raw, table, (uint64_t)++i)) != NULL) {
		lua_rawgeti(L, -1, i);
		same = is_element(L, raw, element);
		lua_pop(L, 1);
	}
	return same;
}

/*
 * Whether a table that seems to have only an array part has really no other
 * key.
 */
static bool
test_whole(lua_State *L, const struct fz_rawarray *raw)
{
	const void *table = lua_topointer(L, -1);
	uint32_t n = fz_rawarray_limit(raw, table);
	bool whole = fz_rawarray_is_whole(raw, table, n), inside = true;

	lua_pushnil(L);
	while (lua_next(L, -2)) {
		lua_pop(L, 1);
		inside = inside && lua_isinteger(L, -1) &&
			 (uint64_t)lua_tointeger(L, -1) - 1 < n;
	}
	return inside || !whole;
}

/*
 * Whether element `i` of the list at `list` has as many elements as
 * fz_rawarray_tuple() finds. The element is on top.
 */
static bool
test_arguments(
    lua_State *L, const struct fz_rawarray *raw, int list, lua_Integer i)
{
	const struct fz_raw_value *array,
	    *element =
		fz_rawarray_find(raw, lua_topointer(L, list), (uint64_t)i);
	unsigned n =
	    element != NULL ? fz_rawarray_tuple(raw, element, &array) : 0;

	return n == 0 || n == lua_rawlen(L, -1);
}

/*
 * Fill the array part of the table on top. Returns whether Lua reads what was
 * written.
 */
static bool
test_copy(lua_State *L, const struct fz_rawarray *raw)
{
	const struct fz_raw_value yes = { .tag = raw->yes };
	const void *table = lua_topointer(L, -1);
	bool same = true;
	lua_Integer i = 1;

	for (; same && fz_rawarray_copy(raw, table, (uint64_t)i, &yes, 1);
	     i++) {
		lua_rawgeti(L, -1, i);
		same = lua_isboolean(L, -1) && lua_toboolean(L, -1);
		lua_pop(L, 1);
	}
	return same && lua_rawlen(L, -1) >= (lua_Unsigned)i - 1;
}

bool
fz_rawarray_holds(const struct fz_rawarray *raw, lua_State *L)
{
	int list = lua_gettop(L) + 1;
	bool holds = true;

	luaL_checkstack(L, 8, NULL);
	if (luaL_loadbuffer(L, shapes, sizeof(shapes) - 1, "=rawarray") !=
	    LUA_OK)
		lua_error(L);
	lua_call(L, 0, 1);
	for (lua_Integer i = 1; holds && lua_rawgeti(L, list, i) != LUA_TNIL;
	     i++) {
		holds = test_arguments(L, raw, list, i) &&
			test_elements(L, raw) && test_whole(L, raw) &&
			test_copy(L, raw);
		lua_settop(L, list);
	}
	lua_settop(L, list - 1);
	return holds;
}

/* The layout of this Lua library. The first thread that learns it stores it. */
static struct fz_rawarray learned;
static _Atomic int progress; /* state of `learned`; see below */
enum { UNTRIED, STORING, KNOWN, NONE };

static bool
is_on(void)
{
	const char *text = getenv("FZLUA_RAWARRAY");

	return FZ_RAWARRAY && sizeof(lua_Integer) == 8 &&
	       sizeof(lua_Number) == 8 && sizeof(void *) == 8 &&
	       (text == NULL || strcmp(text, "0") != 0);
}

static void
store(const struct fz_rawarray *raw)
{
	int before = UNTRIED;

	if (!atomic_compare_exchange_strong(&progress, &before, STORING))
		return;
	learned = *raw;
	atomic_store(&progress, KNOWN);
}

const struct fz_rawarray *
fz_rawarray_learn(lua_State *L)
{
	struct fz_rawarray raw = { .plain = 0 };
	int top = lua_gettop(L), before = UNTRIED;

	if (atomic_load(&progress) == UNTRIED && is_on()) {
		luaL_checkstack(L, 12, NULL);
		if (learn(L, &raw) && fz_rawarray_holds(&raw, L))
			store(&raw);
		lua_settop(L, top);
	}
	/*
	 * The layout was not learned, and memory was not the reason: do not try
	 * again.
	 */
	atomic_compare_exchange_strong(&progress, &before, NONE);
	return fz_rawarray_known();
}

const struct fz_rawarray *
fz_rawarray_known(void)
{
	return atomic_load_explicit(&progress, memory_order_acquire) == KNOWN
		   ? &learned
		   : NULL;
}

size_t
fz_rawarray_copy(const struct fz_rawarray *raw, const void *table,
    uint64_t first, const struct fz_raw_value *values, size_t n)
{
	uint32_t limit = fz_rawarray_limit(raw, table);
	struct fz_raw_value element, *to;
	size_t i = 0;

	if (first - 1 >= limit)
		return 0;
	if (n > limit - (first - 1))
		n = limit - (first - 1);
	to = fz_rawarray_elements(raw, table) + (first - 1);
	for (; i < n; i++) {
		/*
		 * Read the tag once: a misbehaving worker may still write here.
		 */
		element.tag = *(const volatile unsigned char *)&values[i].tag;
		if (!fz_rawarray_is_plain(raw, &element))
			break;
		memcpy(to[i].value, values[i].value, sizeof(element.value));
		to[i].tag = element.tag;
	}
	return i;
}

void
fz_rawarray_push(const struct fz_rawarray *raw, lua_State *L,
    const struct fz_raw_value *element)
{
	if (fz_rawarray_is_number(raw, element))
		fz_rawarray_push_number(raw, L, element);
	else if (element->tag == raw->nil)
		lua_pushnil(L);
	else
		lua_pushboolean(L, element->tag == raw->yes);
}
