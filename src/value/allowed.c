#define _DEFAULT_SOURCE /* for the types of sha2.h */
#include "value/allowed.h"

#include <stdio.h>
#include <string.h>

#include <lauxlib.h>
#include <sha2.h>

#include "base/err.h"
#include "node/allow.h"
#include "value/bytecode.h"
#include "value/lerror.h"

enum { ALLOWED_DIGITS = 2 * FZ_ALLOW_DIGEST };

/* The address of this variable is the registry key of the struct fz_allow. */
static const char allow_key;

void
fz_allowed_set(lua_State *L, struct fz_allow *allow)
{
	lua_pushlightuserdata(L, allow);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &allow_key);
}

static const struct fz_allow *
find_allow(lua_State *L)
{
	const struct fz_allow *allow;

	lua_rawgetp(L, LUA_REGISTRYINDEX, &allow_key);
	allow = lua_touserdata(L, -1);
	lua_pop(L, 1);
	return allow;
}

bool
fz_allowed_is_set(lua_State *L)
{
	return find_allow(L) != NULL;
}

static void
digest_function(const void *head, const struct fz_bytecode_function *f,
    unsigned char out[FZ_ALLOW_DIGEST])
{
	SHA2_CTX sha;

	SHA256Init(&sha);
	SHA256Update(&sha, head, FZ_BYTECODE_HEAD);
	SHA256Update(&sha, &f->nupvalues, 1);
	SHA256Update(&sha, f->body, f->len);
	SHA256Final(out, &sha);
}

struct adding {
	struct fz_allow *allow;
	const void *dump;
	int rc;
};

static void
add_function(void *ctx, const struct fz_bytecode_function *f)
{
	struct adding *a = ctx;
	unsigned char digest[FZ_ALLOW_DIGEST];

	digest_function(a->dump, f, digest);
	if (fz_allow_add(a->allow, digest) != 0)
		a->rc = -1;
}

int
fz_allowed_add(struct fz_allow *allow, const void *dump, size_t len)
{
	struct adding adding = { allow, dump, 0 };

	if (!fz_bytecode_each(dump, len, add_function, &adding))
		return -1;
	return adding.rc;
}

static void
write_digits(
    char text[ALLOWED_DIGITS + 1], const unsigned char digest[FZ_ALLOW_DIGEST])
{
	for (size_t i = 0; i < FZ_ALLOW_DIGEST; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

/*
 * Shorten a source for messages: the last part of its path is enough to find
 * the function. The name of a source begins with "@" or "=".
 */
static const char *
base_of(const struct fz_bytecode_function *f, int *len)
{
	size_t at = f->source_len;

	while (at > 0 && strchr("/@=", f->source[at - 1]) == NULL)
		at--;
	*len = f->source_len - at < 60 ? (int)(f->source_len - at) : 60;
	return f->source_len != 0 ? f->source + at : "?";
}

void
fz_allowed_check_code(lua_State *L, const void *dump, size_t len)
{
	const struct fz_allow *allow = find_allow(L);
	struct fz_bytecode_function f;
	unsigned char digest[FZ_ALLOW_DIGEST];
	char digits[ALLOWED_DIGITS + 1];
	const char *base;
	int base_len;

	if (allow == NULL)
		return;
	if (!fz_bytecode_outer(dump, len, &f)) {
		fz_lerror_fail(L, FZ_ERR_ERROR,
		    "a function whose code is not bytecode of this Lua is not "
		    "allowed here");
		return;
	}
	digest_function(dump, &f, digest);
	if (fz_allow_has(allow, digest))
		return;
	write_digits(digits, digest);
	base = base_of(&f, &base_len);
	fz_lerror_fail(L, FZ_ERR_ERROR,
	    "the function at %.*s:%d is not allowed here: the file of --allow "
	    "does not have %s",
	    base_len, base, (int)f.line, digits);
}

void
fz_allowed_check_name(lua_State *L, int module, int field)
{
	const struct fz_allow *allow = find_allow(L);
	const char *name = lua_tostring(L, module);
	const char *function = field != 0 ? lua_tostring(L, field) : NULL;

	if (allow == NULL || name == NULL ||
	    fz_allow_has_name(allow, name, function))
		return;
	fz_lerror_fail(L, FZ_ERR_ERROR,
	    "%s%.80s%s%.60s is not allowed here: the file of --allow does not "
	    "have this name",
	    function != NULL ? "" : "the module ", name,
	    function != NULL ? "." : "", function != NULL ? function : "");
}

struct listing {
	lua_State *L;
	const void *dump;
	lua_Integer n;
};

static void
list_function(void *ctx, const struct fz_bytecode_function *f)
{
	struct listing *l = ctx;
	unsigned char digest[FZ_ALLOW_DIGEST];
	char digits[ALLOWED_DIGITS + 1];

	digest_function(l->dump, f, digest);
	write_digits(digits, digest);
	lua_createtable(l->L, 0, 2);
	lua_pushinteger(l->L, (lua_Integer)f->line);
	lua_setfield(l->L, -2, "line");
	lua_pushstring(l->L, digits);
	lua_setfield(l->L, -2, "digest");
	lua_rawseti(l->L, -2, ++l->n);
}

static int
code_digests(lua_State *L)
{
	size_t len;
	struct listing listing = { .L = L,
		.dump = luaL_checklstring(L, 1, &len) };

	lua_newtable(L);
	if (!fz_bytecode_each(listing.dump, len, list_function, &listing))
		return fz_lerror_fail(L, FZ_ERR_ERROR,
		    "the argument is not bytecode of this Lua");
	return 1;
}

int
fz_allowed_open(lua_State *L)
{
	lua_pushcfunction(L, code_digests);
	lua_setfield(L, -2, "code_digests");
	return 0;
}
