#include "digest/digest_state.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "value/luserdata.h"

/* maximum number of keys that are sorted on the C stack, without a list */
enum { KEYS_FEW = 8 };

/* The order of keys: by these types, then by their values. */
enum kind { KEY_BOOLEAN, KEY_INTEGER, KEY_FLOAT, KEY_STRING, KEY_OBJECT };

struct key {
	enum kind kind;
	int index; /* index in the list of keys */
	lua_Integer i;
	lua_Number x;
	const char *s;
	size_t len;
	/*
	 * the digests of the key and of its value; set if the key is an object
	 */
	unsigned char digest[2 * FZ_HASH_BYTES];
};

static int
compare_numbers(const struct key *a, const struct key *b)
{
	if (a->kind == KEY_FLOAT)
		return (a->x > b->x) - (a->x < b->x);
	return (a->i > b->i) - (a->i < b->i);
}

static int
compare(const void *first, const void *second)
{
	const struct key *a = first, *b = second;
	int c;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->kind == KEY_OBJECT)
		return memcmp(a->digest, b->digest, sizeof(a->digest));
	if (a->kind != KEY_STRING)
		return compare_numbers(a, b);
	c = memcmp(a->s, b->s, a->len < b->len ? a->len : b->len);
	return c != 0 ? c : (a->len > b->len) - (a->len < b->len);
}

static void
read_key(lua_State *L, int idx, struct key *key)
{
	switch (lua_type(L, idx)) {
	case LUA_TBOOLEAN:
		key->kind = KEY_BOOLEAN;
		key->i = lua_toboolean(L, idx);
		break;
	case LUA_TNUMBER:
		key->kind = lua_isinteger(L, idx) ? KEY_INTEGER : KEY_FLOAT;
		key->i = lua_tointeger(L, idx);
		key->x = lua_tonumber(L, idx);
		break;
	case LUA_TSTRING:
		key->kind = KEY_STRING;
		key->s = lua_tolstring(L, idx, &key->len);
		break;
	default:
		key->kind = KEY_OBJECT;
	}
}

/* Whether the key at `idx` is one of 1 to `n`. */
static bool
in_array(lua_State *L, int idx, lua_Integer n)
{
	return lua_isinteger(L, idx) && 1 <= lua_tointeger(L, idx) &&
	       lua_tointeger(L, idx) <= n;
}

/*
 * Push the keys of `t` except 1 to `n`, and return their number. If there are
 * more than KEYS_FEW, push nothing and return KEYS_FEW + 1.
 */
static lua_Integer
push_few(lua_State *L, int t, lua_Integer n)
{
	int top = lua_gettop(L);

	luaL_checkstack(L, KEYS_FEW + 20, NULL);
	for (lua_pushnil(L); lua_next(L, t);) {
		lua_pop(L, 1);
		if (in_array(L, -1, n))
			continue;
		if (lua_gettop(L) - top > KEYS_FEW) {
			lua_settop(L, top);
			return KEYS_FEW + 1;
		}
		lua_pushvalue(L, -1); /* a copy for lua_next(), which pops it */
	}
	return lua_gettop(L) - top;
}

/* Push the list of the keys of `t` except 1 to `n`; returns their number. */
static lua_Integer
push_list(lua_State *L, int t, lua_Integer n)
{
	lua_Integer count = 0;
	int list = lua_gettop(L) + 1;

	lua_newtable(L);
	for (lua_pushnil(L); lua_next(L, t); lua_pop(L, 1)) {
		if (in_array(L, -2, n))
			continue;
		lua_pushvalue(L, -2);
		lua_rawseti(L, list, ++count);
	}
	return count;
}

/*
 * Push key number `index` of the list; if there is no list, the value at stack
 * index `index`.
 */
static void
push_key(lua_State *L, int list, int index)
{
	if (list != 0)
		lua_rawgeti(L, list, index);
	else
		lua_pushvalue(L, index);
}

static void
push_entry(lua_State *L, int t, int list, int index)
{
	push_key(L, list, index);
	lua_pushvalue(L, -1);
	lua_rawget(L, t);
}

/* Write the entry whose key and value are on top. [-2] */
static void
put_entry(struct fz_digest *d, const struct fz_path *at)
{
	int key = lua_gettop(d->L) - 1;
	struct fz_path here = { at, FZ_PATH_KEY, 0, 0, NULL };

	fz_digest_value(d, key, &here);
	here.kind = FZ_PATH_FIELD;
	here.key = key;
	fz_digest_value(d, key + 1, &here);
	lua_pop(d->L, 2);
}

static int
scope_gc(lua_State *L)
{
	struct fz_digest_scope *scope = lua_touserdata(L, 1);

	fz_refmap_fini(&scope->map, L);
	return 0;
}

/* The hash that the value at `idx` would have if it were the next value. */
static void
look_ahead(struct fz_digest *d, int idx, const struct fz_path *at,
    unsigned char out[FZ_HASH_BYTES])
{
	struct fz_digest saved = *d;
	struct fz_digest_scope *scope;
	struct fz_hash hash;

	scope = lua_newuserdatauv(d->L, sizeof(*scope), 0);
	fz_refmap_init(&scope->map);
	fz_luserdata_finalize(d->L, scope_gc);
	scope->up = d->inner;
	fz_hash_init(&hash);
	d->inner = scope;
	d->hash = &hash;
	d->nested++;
	fz_digest_value(d, idx, at);
	fz_digest_put_later(d, saved.nlater);
	fz_hash_end(&hash, out);
	fz_refmap_fini(&scope->map, d->L);
	d->inner = saved.inner;
	d->hash = saved.hash;
	d->nested = saved.nested;
	d->nobjects = saved.nobjects;
	d->nranges = saved.nranges;
	d->uses = saved.uses;
	lua_pop(d->L, 1);
}

/*
 * Sort the keys that are objects by the digests of the keys and their values.
 */
static void
order_objects(struct fz_digest *d, int t, int list, struct key *keys,
    lua_Integer n, const struct fz_path *at)
{
	struct fz_path here = { at, FZ_PATH_KEY, 0, 0, NULL };
	lua_State *L = d->L;

	if (d->nested >= FZ_DIGEST_NEST)
		fz_digest_refuse(
		    d, "a table whose keys are tables nested this deep", at);
	for (lua_Integer i = 0; i < n; i++) {
		int key = lua_gettop(L) + 1;

		if (keys[i].kind != KEY_OBJECT)
			continue;
		push_entry(L, t, list, keys[i].index);
		look_ahead(d, key, &here, keys[i].digest);
		look_ahead(d, key + 1, &here, keys[i].digest + FZ_HASH_BYTES);
		lua_settop(L, key - 1);
	}
}

/* Note that the objects from number `from` on are in a tied entry. */
static void
add_range(struct fz_digest *d, uint32_t from)
{
	struct fz_digest_range *range =
	    lua_newuserdatauv(d->L, sizeof(*range), 0);

	range->from = from;
	range->end = d->nobjects;
	fz_digest_append(d, d->ranges, &d->nranges);
}

/*
 * Whether entry `i` of the sorted keys is tied: a neighbour has the same
 * digests of key and value, so that the order of the two is arbitrary.
 */
static bool
is_tied(const struct key *keys, lua_Integer i, lua_Integer n)
{
	if (keys[i].kind != KEY_OBJECT)
		return false;
	return (i > 0 && compare(&keys[i], &keys[i - 1]) == 0) ||
	       (i + 1 < n && compare(&keys[i], &keys[i + 1]) == 0);
}

/* Write `n` entries whose keys have the indexes from `first` on. */
static void
put_keys(struct fz_digest *d, int t, int list, int first, struct key *keys,
    lua_Integer n, const struct fz_path *at)
{
	lua_State *L = d->L;
	lua_Integer nobjects = 0;

	for (lua_Integer i = 0; i < n; i++) {
		keys[i].index = first + (int)i;
		push_key(L, list, keys[i].index);
		read_key(L, -1, &keys[i]);
		nobjects += keys[i].kind == KEY_OBJECT;
		lua_pop(L, 1);
	}
	if (nobjects > 1)
		order_objects(d, t, list, keys, n, at);
	if (n > 1)
		qsort(keys, (size_t)n, sizeof(*keys), compare);
	for (lua_Integer i = 0; i < n; i++) {
		bool tied = nobjects > 1 && is_tied(keys, i, n);
		uint32_t first_object = d->nobjects;
		lua_Integer nlater = d->nlater;

		push_entry(L, t, list, keys[i].index);
		put_entry(d, at);
		if (!tied)
			continue;
		/*
		 * The numbers of the objects in a tied entry depend on the
		 * arbitrary order: a later reference to one of them is refused.
		 * Write the postponed ones now, so that their numbers are in
		 * the range, too.
		 */
		fz_digest_put_later(d, nlater);
		add_range(d, first_object);
	}
}

/* Write the entries of `t` except those whose keys are 1 to `first`. */
static void
put_many(
    struct fz_digest *d, int t, lua_Integer first, const struct fz_path *at)
{
	int list = lua_gettop(d->L) + 1;
	lua_Integer n = push_list(d->L, t, first);
	struct key *keys =
	    lua_newuserdatauv(d->L, (size_t)n * sizeof(*keys), 0);

	put_keys(d, t, list, 1, keys, n, at);
}

void
fz_digest_table(struct fz_digest *d, int t, const struct fz_path *at)
{
	struct fz_path here = { at, FZ_PATH_INDEX, 0, 1, NULL };
	lua_State *L = d->L;
	int top = lua_gettop(L);
	struct key few[KEYS_FEW];
	lua_Integer n;

	fz_digest_tag(d, FZ_DIGEST_TABLE);
	while (
	    fz_digest_goes_on(d) && lua_rawgeti(L, t, here.index) != LUA_TNIL) {
		fz_digest_value(d, top + 1, &here);
		lua_settop(L, top);
		here.index++;
	}
	lua_settop(L, top);
	fz_digest_tag(d, FZ_DIGEST_END);
	n = push_few(L, t, here.index - 1);
	if (n <= KEYS_FEW)
		put_keys(d, t, 0, top + 1, few, n, at);
	else
		put_many(d, t, here.index - 1, at);
	lua_settop(L, top);
	fz_digest_tag(d, FZ_DIGEST_END);
}
