#include "value/contents.h"

#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "value/byname.h"
#include "value/handle.h"
#include "value/lerror.h"
#include "value/rawarray.h"
#include "value/registered.h"

enum {
	/* maximum depth of tables; deeper ones are postponed */
	DEPTH_MAX = 100,
	STACK_PER_LEVEL = 5 /* stack slots of one level */
};

struct walk {
	lua_State *L;
	struct fz_contents *c;
	struct fz_contents_sum sum;
	/* the layout of tables; NULL: use the Lua API */
	const struct fz_rawarray *raw;
	int found; /* stack index of the list; 0: none */
	lua_Integer nfound;
	const struct fz_refmap *registered;
	bool weak; /* the current table, or one around it, is weak */
	unsigned depth;
	int due; /* stack index: {postponed tables}, or nil */
	lua_Integer ndue;
};

void
fz_contents_init(struct fz_contents *c)
{
	memset(c, 0, sizeof(*c));
	fz_refmap_init(&c->seen);
	fz_refmap_init(&c->modules);
}

void
fz_contents_fini(struct fz_contents *c, lua_State *L)
{
	fz_refmap_fini(&c->seen, L);
	fz_refmap_fini(&c->modules, L);
	c->filled = false;
}

void
fz_contents_begin(struct fz_contents *c, lua_State *L,
    void (*met)(lua_State *L, void *ctx), void *ctx)
{
	if (c->filled)
		fz_refmap_clear(&c->modules, L);
	c->filled = false;
	c->met = met;
	c->ctx = ctx;
}

static int
no_memory(lua_State *L)
{
	return fz_lerror_fail(
	    L, FZ_ERR_MEMORY, "not enough memory to compare functions");
}

static void
fill_modules(struct fz_contents *c, lua_State *L)
{
	bool fresh;

	if (c->filled)
		return;
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
	if (fz_byname_add_modules(L, &c->modules) != 0 ||
	    fz_refmap_enter(&c->modules, L, lua_topointer(L, -1), 0, &fresh) ==
		NULL)
		no_memory(L);
	lua_pop(L, 1);
	c->filled = true;
}

/* Push the __fzpack of the value at the top; returns its type. */
static int
packer_type(lua_State *L)
{
	int type;

	if (!lua_getmetatable(L, -1))
		return LUA_TNIL;
	lua_pushliteral(L, "__fzpack");
	type = lua_rawget(L, -2);
	lua_pop(L, 2);
	return type;
}

/* Whether the object at the top crosses processes by a name. */
static inline bool
is_named(const struct fz_contents *c, lua_State *L,
    const struct fz_refmap *registered)
{
	const void *p = lua_topointer(L, -1);

	return fz_refmap_find(&c->modules, p) != NULL ||
	       fz_refmap_find(registered, p) != NULL;
}

/*
 * Whether the table or userdata at the top has contents that cross processes.
 * An object that cannot cross is compared by address, because it may change all
 * the time, as a pool does at each use.
 */
static bool
has_contents(const struct fz_contents *c, lua_State *L,
    const struct fz_refmap *registered)
{
	if (is_named(c, L, registered))
		return false;
	if (lua_istable(L, -1))
		return packer_type(L) != LUA_TBOOLEAN;
	return !fz_handle_is(L, -1) && packer_type(L) == LUA_TFUNCTION;
}

bool
fz_contents_has(struct fz_contents *c, lua_State *L, int idx)
{
	int type = lua_type(L, idx);
	bool has;

	if (type != LUA_TTABLE && type != LUA_TUSERDATA)
		return false;
	fill_modules(c, L);
	lua_pushvalue(L, idx);
	has = has_contents(c, L, fz_registered_objects(L));
	lua_pop(L, 1);
	return has;
}

__extension__ typedef unsigned __int128 double_word;

/*
 * An arbitrary number, so that the sum does not stay 0 after a word that is
 * equal to it.
 */
#define SEED UINT64_C(0x85ebca77c2b2ae63)

static inline void
add_word(struct walk *w, uint64_t word)
{
	/*
	 * Both halves of the product count, so that a difference in the top
	 * bits spreads, too.
	 */
	double_word product =
	    (double_word)(w->sum.hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);

	w->sum.hash = (uint64_t)product ^ (uint64_t)(product >> 64) ^ SEED;
	w->sum.size++;
}

static void
add_string(struct walk *w, int idx)
{
	size_t len;
	const char *s = lua_tolstring(w->L, idx, &len);
	uint64_t word;

	add_word(w, len);
	for (; len >= sizeof(word); len -= sizeof(word), s += sizeof(word)) {
		memcpy(&word, s, sizeof(word));
		add_word(w, word);
	}
	word = 0;
	memcpy(&word, s, len);
	add_word(w, word);
}

static void
add_number(struct walk *w, int idx)
{
	lua_Number number;
	uint64_t bits;

	if (lua_isinteger(w->L, idx)) {
		add_word(w, 0);
		add_word(w, (uint64_t)lua_tointeger(w->L, idx));
		return;
	}
	number = lua_tonumber(w->L, idx);
	memcpy(&bits, &number, sizeof(bits));
	add_word(w, 1);
	add_word(w, bits);
}

/*
 * Add the address of the value at the top. Keep the value alive while its
 * address counts, unless it is in a weak table.
 */
static void
add_address(struct walk *w)
{
	add_word(w, (uintptr_t)lua_topointer(w->L, -1));
	if (w->weak)
		w->sum.certain = false;
	if (w->found == 0 || w->weak)
		return;
	lua_pushvalue(w->L, -1);
	lua_rawseti(w->L, w->found, ++w->nfound);
}

/*
 * Whether the object on top, which has a packer, belongs to fzlua. The packed
 * form of such an object never changes. The packer of any other class may read
 * any value.
 */
static bool
is_fzlua_object(lua_State *L)
{
	const char *name;
	bool ours = false;

	lua_getmetatable(L, -1);
	lua_pushliteral(L, "__name");
	lua_rawget(L, -2);
	name = lua_tostring(L, -1);
	if (name != NULL)
		ours = strncmp(name, FZ_REGISTERED_OURS,
			   sizeof(FZ_REGISTERED_OURS) - 1) == 0;
	lua_pop(L, 2);
	return ours;
}

/* Whether the metatable on top makes tables weak. */
static bool
is_weak(lua_State *L)
{
	bool weak;

	lua_pushliteral(L, "__mode");
	weak = lua_rawget(L, -2) == LUA_TSTRING;
	lua_pop(L, 1);
	return weak;
}

static void add_contents(struct walk *w);

/*
 * Add the table at the top: its number and, at its first visit, its contents.
 */
static void
add_table(struct walk *w)
{
	lua_State *L = w->L;
	bool fresh, classed = lua_getmetatable(L, -1) != 0;
	const struct fz_refmap_entry *entry;

	if (classed)
		lua_pop(L, 1);
	if (is_named(w->c, L, w->registered) ||
	    (classed && packer_type(L) == LUA_TBOOLEAN)) {
		add_address(w);
		return;
	}
	if (classed && packer_type(L) == LUA_TFUNCTION && !is_fzlua_object(L))
		w->sum.certain = false;
	entry = fz_refmap_enter(&w->c->seen, L, lua_topointer(L, -1),
	    (uint32_t)w->c->seen.n, &fresh);
	if (entry == NULL) {
		no_memory(L);
		return;
	}
	add_word(w, entry->number);
	if (!fresh)
		return;
	if (w->found != 0 && w->c->met != NULL)
		w->c->met(L, w->c->ctx);
	if (w->depth < DEPTH_MAX) {
		add_contents(w);
		return;
	}
	if (w->ndue == 0) {
		lua_newtable(L);
		lua_replace(L, w->due);
	}
	/* the later visit does not know that this is in a weak table */
	if (w->weak)
		w->sum.certain = false;
	lua_pushvalue(L, -1);
	lua_rawseti(L, w->due, ++w->ndue);
}

static void
add_value(struct walk *w)
{
	lua_State *L = w->L;
	int top = lua_gettop(L);
	int type = lua_type(L, top);

	add_word(w, (uint64_t)type);
	switch (type) {
	case LUA_TBOOLEAN:
		add_word(w, (uint64_t)lua_toboolean(L, top));
		break;
	case LUA_TNUMBER:
		add_number(w, top);
		break;
	case LUA_TSTRING:
		add_string(w, top);
		break;
	case LUA_TTABLE:
		add_table(w);
		break;
	case LUA_TUSERDATA:
		if (has_contents(w->c, L, w->registered))
			w->sum.certain = false;
		w->sum.opaque = true;
		add_address(w);
		break;
	default:
		w->sum.opaque = w->sum.opaque || type != LUA_TNIL;
		add_address(w);
	}
}

/*
 * Add the numbers that the table at `t` has in a row from element 1 on. Most
 * big tables consist of such numbers. Returns how many there are. `*seen` is
 * set to the number of elements that were read directly from the array part,
 * whose length may change with each access.
 */
static lua_Integer
add_numbers(struct walk *w, int t, lua_Integer *seen)
{
	lua_State *L = w->L;
	const void *table = lua_topointer(L, t);
	const struct fz_raw_value *element = NULL;
	lua_Integer i = 1;
	uint64_t bits;

	for (; (element = fz_rawarray_find(w->raw, table, (uint64_t)i)) != NULL;
	     i++) {
		if (!fz_rawarray_is_number(w->raw, element))
			break;
		memcpy(&bits, element->value, sizeof(bits));
		add_word(w, element->tag == w->raw->number);
		add_word(w, bits);
	}
	*seen = i - 1;
	if (element == NULL &&
	    !fz_rawarray_is_whole(w->raw, table, (uint64_t)*seen)) {
		for (; lua_rawgeti(L, t, i) == LUA_TNUMBER; i++) {
			add_number(w, -1);
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	add_word(w, (uint64_t)i);
	return i - 1;
}

/*
 * Add all pairs of the table at `t` except the first `n` elements. The first
 * `seen` elements are in the array part.
 */
static void
add_pairs(struct walk *w, int t, lua_Integer n, lua_Integer seen)
{
	lua_State *L = w->L;

	if (n != 0 && n == seen)
		lua_pushinteger(L, n);
	else
		lua_pushnil(L);
	while (lua_next(L, t)) {
		if (n == seen || !lua_isinteger(L, -2) ||
		    lua_tointeger(L, -2) < 1 || lua_tointeger(L, -2) > n) {
			add_value(w);
			lua_pushvalue(L, -2);
			add_value(w);
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
}

static void
add_contents(struct walk *w)
{
	lua_State *L = w->L;
	int t = lua_gettop(L);
	lua_Integer n = 0, seen = 0;
	bool outer = w->weak;

	w->depth++;
	if (lua_getmetatable(L, t)) {
		add_address(w);
		w->weak = w->weak || is_weak(L);
		lua_pop(L, 1);
	}
	if (w->raw != NULL)
		n = add_numbers(w, t, &seen);
	if (n == 0 || n != seen ||
	    !fz_rawarray_is_whole(w->raw, lua_topointer(L, t), (uint64_t)n))
		add_pairs(w, t, n, seen);
	add_word(w, UINT64_MAX);
	w->weak = outer;
	w->depth--;
}

struct fz_contents_sum
fz_contents_sum(struct fz_contents *c, lua_State *L, int idx, int found)
{
	struct walk w = { .L = L,
		.c = c,
		.sum = { .certain = true },
		.raw = fz_rawarray_known(),
		.registered = fz_registered_objects(L),
		.found = found };
	int top = lua_gettop(L);

	luaL_checkstack(L, (DEPTH_MAX + 2) * STACK_PER_LEVEL + 10, NULL);
	fill_modules(c, L);
	fz_refmap_clear(&c->seen, L);
	lua_pushnil(L);
	w.due = lua_gettop(L);
	lua_pushvalue(L, idx);
	add_value(&w);
	lua_settop(L, w.due);
	for (lua_Integer i = 1; i <= w.ndue; i++) {
		lua_rawgeti(L, w.due, i);
		lua_pushnil(L); /* let the collector free the visited table */
		lua_rawseti(L, w.due, i);
		add_contents(&w);
		lua_settop(L, w.due);
	}
	lua_settop(L, top);
	return w.sum;
}
