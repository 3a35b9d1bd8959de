#include "digest/digest_state.h"

#include <string.h>

#include <lauxlib.h>

#include "value/lerror.h"
#include "value/luserdata.h"

/*
 * A table apart. A table that a function holds is often large and shared by
 * many functions. If it is plain, with all tables inside, and shares no table
 * with the values before it, its own digest stands for it, and the session
 * keeps this digest for the next function. Whether a table is apart follows
 * only from the values, so the digest of the function is the same with and
 * without a session.
 *
 * Metatables without a name are outside of the table, because their functions
 * may use any value. The digest of the table has numbers for its metatables,
 * and each function that holds the table writes these numbers after that
 * digest.
 */
struct fz_digest_apart {
	struct fz_digest_scope scope; /* the tables in the table apart */
	uint32_t n;                   /* number of tables in `scope` */
	struct fz_refmap classes;     /* metatables of these tables */
	/* number of `classes`, which the user value lists */
	uint32_t nclasses;
	int list; /* stack index of the list while the table is read */
	bool plain;
	unsigned char digest[FZ_HASH_BYTES];
};

/*
 * A use of a table apart in a digest. The tables in it have the numbers from
 * `base` on.
 */
struct fz_digest_use {
	const struct fz_digest_apart *apart;
	uint32_t base;
	struct fz_digest_use *next;
};

bool
fz_digest_is_plain(struct fz_digest *d, int idx, int type)
{
	struct fz_digest_apart *a = d->apart;
	const void *p;

	if (!a->plain)
		return false;
	switch (type) {
	case LUA_TNIL:
	case LUA_TBOOLEAN:
	case LUA_TNUMBER:
	case LUA_TSTRING:
		break;
	case LUA_TTABLE:
		p = lua_topointer(d->L, idx);
		a->plain = p != d->globals &&
			   fz_refmap_find(d->registered, p) == NULL &&
			   !fz_digest_is_module(d, p);
		if (lua_getmetatable(d->L, idx)) {
			/*
			 * Metatables are numbered in the order in which they
			 * are read. In keys this order is arbitrary, because
			 * keys are sorted later. Therefore a table with a
			 * metatable in a key is not apart.
			 */
			a->plain = a->plain && d->nested == 0 &&
				   fz_digest_has_plain_class(d, idx);
			lua_pop(d->L, 1);
		}
		break;
	default:
		a->plain = false;
	}
	return a->plain;
}

uint32_t
fz_digest_class_apart(struct fz_digest *d, int mt)
{
	struct fz_digest_apart *a = d->apart;
	lua_State *L = d->L;
	const struct fz_refmap_entry *entry;
	bool fresh = false;

	entry = fz_refmap_enter(
	    &a->classes, L, lua_topointer(L, mt), a->nclasses, &fresh);
	if (entry == NULL)
		fz_lerror_nomem(L, "a digest");
	if (fresh) {
		lua_pushvalue(L, mt);
		lua_rawseti(L, a->list, ++a->nclasses);
	}
	return entry->number;
}

bool
fz_digest_goes_on(const struct fz_digest *d)
{
	return d->apart == NULL || d->apart->plain;
}

bool
fz_digest_find_apart(const struct fz_digest *d, const void *p, uint32_t *number)
{
	const struct fz_digest_use *use = d->uses;

	for (; use != NULL; use = use->next) {
		const struct fz_refmap_entry *entry =
		    fz_refmap_find(&use->apart->scope.map, p);

		if (entry == NULL)
			continue;
		*number = use->base + entry->number;
		return true;
	}
	return false;
}

static bool
is_met(const struct fz_digest *d, const void *p)
{
	const struct fz_digest_scope *scope = d->inner;
	uint32_t number;

	for (; scope != NULL; scope = scope->up) {
		if (fz_refmap_find(&scope->map, p) != NULL)
			return true;
	}
	return fz_digest_find_apart(d, p, &number);
}

/* Whether the two maps have an object in common. */
static bool
meet(const struct fz_refmap *a, const struct fz_refmap *b)
{
	if (a->n > b->n)
		return meet(b, a);
	for (size_t i = 0; i < a->capacity && a->n != 0; i++) {
		if (a->entries[i].stamp == a->stamp &&
		    fz_refmap_find(b, a->entries[i].key) != NULL)
			return true;
	}
	return false;
}

static bool
meets(const struct fz_digest *d, const struct fz_digest_apart *a)
{
	const struct fz_digest_scope *scope = d->inner;
	const struct fz_digest_use *use = d->uses;

	for (; scope != NULL; scope = scope->up) {
		if (meet(&scope->map, &a->scope.map))
			return true;
	}
	for (; use != NULL; use = use->next) {
		if (meet(&use->apart->scope.map, &a->scope.map))
			return true;
	}
	return false;
}

static int
apart_gc(lua_State *L)
{
	struct fz_digest_apart *a = lua_touserdata(L, 1);

	fz_refmap_fini(&a->scope.map, L);
	fz_refmap_fini(&a->classes, L);
	return 0;
}

/* Digest the table at `t` as if it were the only value. */
static void
digest_alone(struct fz_digest *d, int t, struct fz_digest_apart *a,
    const struct fz_path *at)
{
	struct fz_digest alone = *d;
	struct fz_hash hash;

	fz_hash_init(&hash);
	lua_pushnil(d->L);
	alone.ranges = lua_gettop(d->L);
	alone.inner = &a->scope;
	alone.hash = &hash;
	alone.apart = a;
	alone.uses = NULL;
	alone.nested = alone.level = 0;
	alone.nobjects = 0;
	alone.nranges = 0;
	fz_digest_value(&alone, t, at);
	fz_digest_put_later(&alone, d->nlater);
	fz_hash_end(&hash, a->digest);
	a->n = alone.nobjects;
	d->nkept = alone.nkept;
}

/* Push the object for the table at `t` as a table apart, and fill it. */
static struct fz_digest_apart *
push_apart(struct fz_digest *d, int t, const struct fz_path *at)
{
	struct fz_digest_apart *a;
	lua_State *L = d->L;
	int top;

	a = lua_newuserdatauv(L, sizeof(*a), 1);
	memset(a, 0, sizeof(*a));
	a->plain = true;
	fz_refmap_init(&a->scope.map);
	fz_refmap_init(&a->classes);
	fz_luserdata_finalize(L, apart_gc);
	top = lua_gettop(L);
	lua_newtable(L);
	lua_pushvalue(L, -1);
	lua_setiuservalue(L, top, 1);
	a->list = top + 1;
	digest_alone(d, t, a, at);
	lua_settop(L, top);
	return a;
}

/*
 * Push the table apart for `t`, which is that of the session if the session has
 * a list of tables apart. The caller pops it.
 */
static const struct fz_digest_apart *
find(struct fz_digest *d, int t, const struct fz_path *at)
{
	lua_State *L = d->L;
	int list = lua_gettop(L) + 1;
	const struct fz_digest_apart *a;

	lua_pushboolean(L, 1);
	if (d->session != 0)
		lua_rawget(L, d->session);
	if (!lua_istable(L, list)) {
		a = push_apart(d, t, at);
		fz_digest_keep(d, lua_gettop(L));
		return a;
	}
	lua_pushvalue(L, t);
	if (lua_rawget(L, list) != LUA_TNIL)
		return lua_touserdata(L, -1);
	a = push_apart(d, t, at);
	lua_pushvalue(L, t);
	lua_pushvalue(L, -2);
	lua_rawset(L, list);
	return a;
}

/* Write the table apart on top. */
static void
put(struct fz_digest *d, const struct fz_digest_apart *a,
    const struct fz_path *at)
{
	lua_State *L = d->L;
	int top = lua_gettop(L);
	struct fz_digest_use *use = lua_newuserdatauv(L, sizeof(*use), 0);

	fz_digest_keep(d, top + 1);
	*use = (struct fz_digest_use){ a, d->nobjects, d->uses };
	fz_digest_tag(d, FZ_DIGEST_APART);
	fz_hash_add(d->hash, a->digest, sizeof(a->digest));
	d->uses = use;
	d->nobjects += a->n;
	lua_getiuservalue(L, top, 1);
	for (uint32_t i = 1; i <= a->nclasses; i++) {
		lua_rawgeti(L, top + 2, i);
		fz_digest_value(d, top + 3, at);
		lua_pop(L, 1);
	}
}

void
fz_digest_held(struct fz_digest *d, int idx, const struct fz_path *at)
{
	lua_State *L = d->L;
	int top = lua_gettop(L);
	const struct fz_digest_apart *a = NULL;

	luaL_checkstack(L, 20, "no stack left for a digest");
	if (lua_istable(L, idx) && !is_met(d, lua_topointer(L, idx)))
		a = find(d, idx, at);
	if (a != NULL && a->plain && a->n <= UINT32_MAX - d->nobjects &&
	    !meets(d, a))
		put(d, a, at);
	else
		fz_digest_value(d, idx, at);
	lua_settop(L, top);
}
