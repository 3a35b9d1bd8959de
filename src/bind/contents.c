#include "bind/contents.h"

#include <string.h>

#include <lauxlib.h>

#include "base/err.h"
#include "bind/lerror.h"
#include "bind/lhandle.h"
#include "bind/names.h"
#include "bind/registered.h"

struct walk {
	lua_State *L;
	struct fz_contents *c;
	struct fz_contents_sum sum;
	int found; /* stack index, 0: none */
	lua_Integer nfound;
	int due; /* stack index: {tables that were met and are not walked} */
	lua_Integer ndue;
};

void
fz_contents_init(struct fz_contents *c)
{
	fz_refmap_init(&c->seen);
	fz_refmap_init(&c->modules);
	c->filled = false;
}

void
fz_contents_fini(struct fz_contents *c, lua_State *L)
{
	fz_refmap_fini(&c->seen, L);
	fz_refmap_fini(&c->modules, L);
	c->filled = false;
}

void
fz_contents_begin(struct fz_contents *c, lua_State *L)
{
	if (c->filled)
		fz_refmap_clear(&c->modules, L);
	c->filled = false;
}

static int
no_memory(lua_State *L)
{
	struct fz_err err;

	fz_err_nomem(&err, "the comparison of a function");
	return fz_lerror_raise(L, &err);
}

static bool
is_named(struct fz_contents *c, lua_State *L, int idx)
{
	const void *p = lua_topointer(L, idx);
	bool fresh;

	if (!c->filled) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
		if (fz_names_add_modules(L, &c->modules) != 0 ||
		    fz_refmap_enter(&c->modules, L, lua_topointer(L, -1), 0,
			&fresh) == NULL)
			no_memory(L);
		lua_pop(L, 1);
		c->filled = true;
	}
	return fz_refmap_find(&c->modules, p) != NULL ||
	       fz_refmap_find(fz_registered_objects(L), p) != NULL;
}

/* Whether a userdata crosses by value, which only its packer knows. */
static bool
packs_itself(lua_State *L, int idx)
{
	bool packs;

	if (fz_lhandle_is(L, idx))
		return false;
	packs = luaL_getmetafield(L, idx, "__fzpack") == LUA_TFUNCTION;
	lua_settop(L, idx);
	return packs;
}

bool
fz_contents_has(struct fz_contents *c, lua_State *L, int idx)
{
	int type = lua_type(L, idx);

	if (type != LUA_TTABLE && type != LUA_TUSERDATA)
		return false;
	return !is_named(c, L, idx) &&
	       (type == LUA_TTABLE || packs_itself(L, idx));
}

static inline void
add_word(struct walk *w, uint64_t word)
{
	uint64_t h = (w->sum.hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);

	w->sum.hash = h ^ h >> 29;
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

/* The table at the top: its number, and its contents later. */
static void
add_table(struct walk *w)
{
	lua_State *L = w->L;
	bool fresh;
	const struct fz_refmap_slot *slot;

	if (is_named(w->c, L, lua_gettop(L))) {
		add_address(w);
		return;
	}
	slot = fz_refmap_enter(&w->c->seen, L, lua_topointer(L, -1),
	    (uint32_t)w->c->seen.n, &fresh);
	if (slot == NULL)
		no_memory(L);
	add_word(w, slot->number);
	if (!fresh)
		return;
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
		if (!is_named(w->c, L, top) && packs_itself(L, top))
			w->sum.certain = false;
		add_address(w);
		break;
	default:
		add_address(w);
	}
}

/* What is in the table at the top. */
static void
add_contents(struct walk *w)
{
	lua_State *L = w->L;
	int t = lua_gettop(L);

	if (lua_getmetatable(L, t)) {
		add_address(w);
		lua_pop(L, 1);
	}
	lua_pushnil(L);
	while (lua_next(L, t)) {
		add_value(w);
		lua_pushvalue(L, -2);
		add_value(w);
		lua_pop(L, 2);
	}
	add_word(w, UINT64_MAX);
}

struct fz_contents_sum
fz_contents_sum(struct fz_contents *c, lua_State *L, int idx, int found)
{
	struct walk w = { .L = L,
		.c = c,
		.sum = { .certain = true },
		.found = found };
	int top = lua_gettop(L);

	luaL_checkstack(L, 12, NULL);
	fz_refmap_clear(&c->seen, L);
	lua_newtable(L);
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
