#include "bind/strip.h"

#include <limits.h>

struct fz_strip_tags fz_strip_tags;

/* Stands before the allocator of a state while one table is made. */
struct catcher {
	lua_Alloc alloc;
	void *ud;
	size_t size;   /* of the block that is waited for */
	void *at;      /* it */
	unsigned came; /* how many such there were */
};

static void *
catch_block(void *ud, void *block, size_t old_size, size_t size)
{
	struct catcher *c = ud;
	void *p = c->alloc(c->ud, block, old_size, size);

	if (p != NULL && block == NULL && size == c->size) {
		c->at = p;
		c->came++;
	}
	return p;
}

/* (catcher, n, nrec) -> table; protected, so that the allocator is set back */
static int
make_list(lua_State *L)
{
	struct catcher *c = lua_touserdata(L, 1);
	int n = (int)lua_tointeger(L, 2), nrec = (int)lua_tointeger(L, 3);

	c->came = 0;
	lua_createtable(L, n, nrec);
	return 1;
}

/* Push a table; the one block of `n` slots that it took, or NULL. */
static struct fz_slot *
push_list(lua_State *L, int n, int nrec)
{
	struct catcher c = { .size = (size_t)n * sizeof(struct fz_slot) };
	int status;

	lua_pushcfunction(L, make_list);
	lua_pushlightuserdata(L, &c);
	lua_pushinteger(L, n);
	lua_pushinteger(L, nrec);
	c.alloc = lua_getallocf(L, &c.ud);
	lua_setallocf(L, catch_block, &c);
	status = lua_pcall(L, 3, 1, 0);
	lua_setallocf(L, c.alloc, c.ud);
	if (status != LUA_OK)
		lua_error(L);
	return c.came == 1 ? c.at : NULL;
}

enum { PROBE_SLOTS = 61, PROBE_AT = 29 };

/*
 * Have the value on top, which goes, stored in the table below it: its tag, or
 * -1 where anything but the one slot changes, or its value is not `value`.
 */
static int
probe(lua_State *L, const struct fz_slot *list, const void *value)
{
	const struct fz_slot *slot = &list[PROBE_AT - 1];
	struct fz_slot before[PROBE_SLOTS];

	memcpy(before, list, sizeof(before));
	lua_rawseti(L, -2, PROBE_AT);
	if (value != NULL && memcmp(slot->value, value, sizeof(lua_Integer)))
		return -1;
	memcpy(&before[PROBE_AT - 1], slot, sizeof(*slot));
	if (memcmp(before, list, sizeof(before)) != 0 || slot->tag >= 64)
		return -1;
	return slot->tag;
}

bool
fz_strip_learn(lua_State *L)
{
	static bool tried;
	lua_Integer i = 0x0123456789abcdef;
	lua_Number n = 0.1;
	const struct fz_slot *list;
	int tags[5];

	if (tried || sizeof(i) != 8 || sizeof(n) != 8)
		return fz_strip_tags.known;
	list = push_list(L, PROBE_SLOTS, 0);
	tried = true;
	if (list == NULL) {
		lua_pop(L, 1);
		return false;
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
		fz_strip_tags.plain |= UINT64_C(1) << tags[a];
	}
	fz_strip_tags.integer = (unsigned char)tags[0];
	fz_strip_tags.number = (unsigned char)tags[1];
	fz_strip_tags.yes = (unsigned char)tags[2];
	fz_strip_tags.no = (unsigned char)tags[3];
	fz_strip_tags.nil = (unsigned char)tags[4];
	return fz_strip_tags.known = true;
}

struct fz_slot *
fz_strip_push_list(lua_State *L, int n, int nrec)
{
	if (n > 0 && fz_strip_tags.known)
		return push_list(L, n, nrec);
	lua_createtable(L, n, nrec);
	return NULL;
}

size_t
fz_strip_copy(struct fz_slot *list, const struct fz_slot *strip, size_t n)
{
	struct fz_slot slot;
	size_t i = 0;

	for (; i < n; i++) {
		/* Once: who broke its results might go on, and write here. */
		slot.tag = *(const volatile unsigned char *)&strip[i].tag;
		if (!fz_strip_is_plain(&slot))
			break;
		memcpy(list[i].value, strip[i].value, sizeof(slot.value));
		list[i].tag = slot.tag;
	}
	return i;
}

void
fz_strip_push(lua_State *L, const struct fz_slot *slot)
{
	lua_Integer i;
	lua_Number n;

	if (slot->tag == fz_strip_tags.integer) {
		memcpy(&i, slot->value, sizeof(i));
		lua_pushinteger(L, i);
	} else if (slot->tag == fz_strip_tags.number) {
		memcpy(&n, slot->value, sizeof(n));
		lua_pushnumber(L, n);
	} else if (slot->tag == fz_strip_tags.nil) {
		lua_pushnil(L);
	} else {
		lua_pushboolean(L, slot->tag == fz_strip_tags.yes);
	}
}
