#include "bind/contents.h"

#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/lerror.h"
#include "bind/lhandle.h"
#include "bind/names.h"
#include "bind/registered.h"
#include "bind/strip.h"

enum {
	DEPTH = 100, /* tables nested deeper come later */
	ROOM = 5     /* stack that one takes */
};

struct walk {
	lua_State *L;
	struct fz_contents *c;
	struct fz_contents_sum sum;
	int found; /* stack index, 0: none */
	lua_Integer nfound;
	const struct fz_refmap *registered;
	unsigned depth;
	int due; /* stack index: {tables that come later}, or nil */
	lua_Integer ndue;
};

void
fz_contents_init(struct fz_contents *c)
{
	memset(c, 0, sizeof(*c));
	fz_refmap_init(&c->seen);
	fz_refmap_init(&c->modules);
	fz_refmap_init(&c->owners);
}

void
fz_contents_fini(struct fz_contents *c, lua_State *L)
{
	fz_refmap_fini(&c->seen, L);
	fz_refmap_fini(&c->modules, L);
	fz_refmap_fini(&c->owners, L);
	c->filled = false;
}

void
fz_contents_begin(struct fz_contents *c, lua_State *L,
    void (*shared)(lua_State *L, void *ctx, uint32_t owner), void *ctx)
{
	if (c->filled)
		fz_refmap_clear(&c->modules, L);
	c->filled = false;
	if (c->owners.n != 0)
		fz_refmap_clear(&c->owners, L);
	c->shared = shared;
	c->ctx = ctx;
}

static int
no_memory(lua_State *L)
{
	struct fz_err err;

	fz_err_nomem(&err, "the comparison of a function");
	return fz_lerror_raise(L, &err);
}

static void
fill_modules(struct fz_contents *c, lua_State *L)
{
	bool fresh;

	if (c->filled)
		return;
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
	if (fz_names_add_modules(L, &c->modules) != 0 ||
	    fz_refmap_enter(&c->modules, L, lua_topointer(L, -1), 0, &fresh) ==
		NULL)
		no_memory(L);
	lua_pop(L, 1);
	c->filled = true;
}

/* The type of the __fzpack that the value at the top has. */
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

/*
 * Whether the table or userdata at the top has contents that cross. What never
 * crosses is compared by its address: a pool for one changes with each use.
 */
static bool
has_contents(const struct fz_contents *c, lua_State *L,
    const struct fz_refmap *registered)
{
	const void *p = lua_topointer(L, -1);

	if (fz_refmap_find(&c->modules, p) != NULL ||
	    fz_refmap_find(registered, p) != NULL)
		return false;
	if (lua_istable(L, -1))
		return packer_type(L) != LUA_TBOOLEAN;
	return !fz_lhandle_is(L, -1) && packer_type(L) == LUA_TFUNCTION;
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

static inline void
add_word(struct walk *w, uint64_t word)
{
	uint64_t h = (w->sum.hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);

	w->sum.hash = h ^ h >> 29;
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

/* The value at the top counts by its address. */
static void
add_address(struct walk *w)
{
	add_word(w, (uintptr_t)lua_topointer(w->L, -1));
	if (w->found == 0)
		return;
	lua_pushvalue(w->L, -1);
	lua_rawseti(w->L, w->found, ++w->nfound);
}

/*
 * Whether the object at the top, which has a packer, is one of ours: what those
 * are packed into does not change. That of others may lie anywhere.
 */
static bool
is_ours(lua_State *L)
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

/* The table at the top is in the sum at hand. */
static void
note_owner(struct walk *w)
{
	struct fz_contents *c = w->c;
	bool fresh;
	const struct fz_refmap_slot *slot = fz_refmap_enter(
	    &c->owners, w->L, lua_topointer(w->L, -1), c->owner, &fresh);

	if (slot == NULL)
		no_memory(w->L);
	else if (!fresh && slot->number != c->owner)
		c->shared(w->L, c->ctx, slot->number);
}

static void add_contents(struct walk *w);

/* The table at the top: its number, and the first time its contents. */
static void
add_table(struct walk *w)
{
	lua_State *L = w->L;
	bool fresh;
	const struct fz_refmap_slot *slot;

	if (!has_contents(w->c, L, w->registered)) {
		add_address(w);
		return;
	}
	if (packer_type(L) == LUA_TFUNCTION && !is_ours(L))
		w->sum.certain = false;
	slot = fz_refmap_enter(&w->c->seen, L, lua_topointer(L, -1),
	    (uint32_t)w->c->seen.n, &fresh);
	if (slot == NULL) {
		no_memory(L);
		return;
	}
	add_word(w, slot->number);
	if (!fresh)
		return;
	if (w->found != 0 && w->c->shared != NULL)
		note_owner(w);
	if (w->depth < DEPTH) {
		add_contents(w);
		return;
	}
	if (w->ndue == 0) {
		lua_newtable(L);
		lua_replace(L, w->due);
	}
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
 * Numbers that lie side by side from the first element on: most of what big
 * tables hold. Returns how many.
 */
static lua_Integer
add_numbers(struct walk *w, const void *table)
{
	lua_Integer i = 1;
	const struct fz_slot *slot;
	uint64_t bits;

	while ((slot = fz_strip_look(table, (uint64_t)i)) != NULL &&
	       fz_strip_is_number(slot)) {
		memcpy(&bits, slot->value, sizeof(bits));
		add_word(w, slot->tag);
		add_word(w, bits);
		i++;
	}
	return i - 1;
}

/* All pairs of the table at `t` but for the first `n` elements. */
static void
add_pairs(struct walk *w, int t, lua_Integer n)
{
	lua_State *L = w->L;

	if (n != 0)
		lua_pushinteger(L, n);
	else
		lua_pushnil(L);
	while (lua_next(L, t)) {
		add_value(w);
		lua_pushvalue(L, -2);
		add_value(w);
		lua_pop(L, 2);
	}
}

/* What is in the table at the top. */
static void
add_contents(struct walk *w)
{
	lua_State *L = w->L;
	int t = lua_gettop(L);
	lua_Integer n = 0;

	w->depth++;
	if (lua_getmetatable(L, t)) {
		add_address(w);
		lua_pop(L, 1);
	}
	if (fz_strip_table.known)
		n = add_numbers(w, lua_topointer(L, t));
	add_word(w, (uint64_t)n);
	if (n == 0 || !fz_strip_is_whole(lua_topointer(L, t), (uint64_t)n))
		add_pairs(w, t, n);
	add_word(w, UINT64_MAX);
	w->depth--;
}

struct fz_contents_sum
fz_contents_sum(struct fz_contents *c, lua_State *L, int idx, int found)
{
	struct walk w = { .L = L,
		.c = c,
		.sum = { .certain = true },
		.registered = fz_registered_objects(L),
		.found = found };
	int top = lua_gettop(L);

	luaL_checkstack(L, (DEPTH + 2) * ROOM, NULL);
	fill_modules(c, L);
	fz_refmap_clear(&c->seen, L);
	lua_pushnil(L);
	w.due = lua_gettop(L);
	lua_pushvalue(L, idx);
	add_value(&w);
	lua_settop(L, w.due);
	for (lua_Integer i = 1; i <= w.ndue; i++) {
		lua_rawgeti(L, w.due, i);
		lua_pushnil(L); /* a long list is not held to its end */
		lua_rawseti(L, w.due, i);
		add_contents(&w);
		lua_settop(L, w.due);
	}
	lua_settop(L, top);
	return w.sum;
}
