/*
 * digest_state.h - what the files of the digest share.
 *
 * The digest is the hash of a text without a decoder. Each value in it begins
 * with a tag, and each list ends with one, so that different values have
 * different texts. Objects are numbered in the order in which they are met, and
 * one that is met again is a reference. An object nested too deep is only
 * numbered, and its contents follow after those of the values.
 */
#ifndef FZ_DIGEST_STATE_H
#define FZ_DIGEST_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "base/hash.h"
#include "value/path.h"
#include "value/refmap.h"

enum fz_digest_tag {
	FZ_DIGEST_NIL = 'n',
	FZ_DIGEST_FALSE = '-',
	FZ_DIGEST_TRUE = '+',
	FZ_DIGEST_INTEGER = 'i',
	FZ_DIGEST_FLOAT = 'f',
	FZ_DIGEST_NULL = '0', /* the light userdata NULL */
	FZ_DIGEST_STRING = 's',
	FZ_DIGEST_TABLE = 't',
	FZ_DIGEST_BARE = 'm',  /* a metatable without a name, before a table */
	FZ_DIGEST_CLASS = 'C', /* a name, before a table */
	FZ_DIGEST_PACKED =
	    'P', /* a name and the value in place of the object */
	FZ_DIGEST_END = ')',
	FZ_DIGEST_REF = 'r',
	FZ_DIGEST_LATER = 'l',
	FZ_DIGEST_FUNCTION = 'F',
	FZ_DIGEST_CELL = 'u',
	FZ_DIGEST_GLOBAL = 'g',
	FZ_DIGEST_GLOBALS = 'G',
	FZ_DIGEST_NAMED = 'N', /* a kind and a name */
	FZ_DIGEST_MODULE = 'M',
	FZ_DIGEST_APART = 'A', /* the digest of a table alone */
};

/* Numbers of the objects that were met; a scope that ends forgets its own. */
struct fz_digest_scope {
	struct fz_refmap map;
	struct fz_digest_scope *up;
};

/* Numbers of the objects of one of several entries that look the same. */
struct fz_digest_range {
	uint32_t from, end;
};

struct fz_digest {
	lua_State *L;
	struct fz_hash *hash;
	struct fz_digest_scope scope, *inner;
	const struct fz_refmap *loaded; /* modules; NULL until needed */
	const struct fz_refmap *registered;
	const void *globals;
	struct fz_buf code;
	uint32_t nobjects;
	unsigned level, nested; /* objects around; scopes around */
	int value;              /* the number of the value */
	int later, kept;        /* stack indexes of lists: postponed, alive */
	lua_Integer nlater, nkept;
	int modules; /* stack index of the list and set of modules to add */
	int ranges;  /* stack index of the list of ranges of equal entries */
	lua_Integer nranges;
	int session;                   /* its stack index; 0: none */
	struct fz_digest_use *uses;    /* tables apart that were met */
	struct fz_digest_apart *apart; /* the one that is being read */
};

enum {
	FZ_DIGEST_DEPTH = 100, /* objects around one that is postponed */
	FZ_DIGEST_NEST = 8,    /* tables as keys inside of others */
};

/* digest.c: write a tag, a tag and a string, any value. */
void fz_digest_tag(struct fz_digest *d, enum fz_digest_tag tag);
void fz_digest_string(
    struct fz_digest *d, enum fz_digest_tag tag, const char *s, size_t len);
void fz_digest_value(struct fz_digest *d, int idx, const struct fz_path *at);

/*
 * If the object or variable at `p` was met before, write a reference and return
 * true; else give it a number.
 */
bool fz_digest_known(
    struct fz_digest *d, const void *p, const struct fz_path *at);

/* Append the value on top to a list of `n`, made if it is nil. [-1, +0, m] */
void fz_digest_append(struct fz_digest *d, int list, lua_Integer *n);

/* Keep the object at `idx` alive until the end. */
void fz_digest_keep(struct fz_digest *d, int idx);

/* Write postponed objects until `mark` are left. */
void fz_digest_rest(struct fz_digest *d, lua_Integer mark);

/* Raise that the value at `at`, `what`, has no digest. */
void fz_digest_refuse(
    struct fz_digest *d, const char *what, const struct fz_path *at);

/*
 * digest_apart.c: write the value at `idx`, which a function holds: if it is a
 * plain table, by a digest of its own.
 */
void fz_digest_held(struct fz_digest *d, int idx, const struct fz_path *at);

/* In such a table: whether the value at `idx` is plain; notes if it is not. */
bool fz_digest_is_plain(struct fz_digest *d, int idx, int type);

/* Whether it is still of use to read on. */
bool fz_digest_goes_on(const struct fz_digest *d);

/* If the object at `p` is in a table apart that was met, set its number. */
bool fz_digest_find_apart(
    const struct fz_digest *d, const void *p, uint32_t *number);

/* digest_table.c: write the contents of the table at `t`. */
void fz_digest_table(struct fz_digest *d, int t, const struct fz_path *at);

/* digest_function.c: write the Lua function at `f`. */
void fz_digest_function(struct fz_digest *d, int f, const struct fz_path *at);

/*
 * digest_module.c: note that a function uses the module whose name is on top.
 * Names of Lua and of this library are not noted. [-1, +0, m]
 */
void fz_digest_note_module(struct fz_digest *d);

/* Whether the object at `p` is a module that has been loaded. [-0, +0, m] */
bool fz_digest_is_module(struct fz_digest *d, const void *p);

/* Write all that was noted, and what these modules use. */
void fz_digest_modules(struct fz_digest *d, int session);

/*
 * digest.c: call `body` with a new state that writes into `hash`, whose list of
 * modules is at `modules`. [-0, +0, e]
 */
void fz_digest_with(lua_State *L, struct fz_hash *hash, int modules,
    void (*body)(struct fz_digest *d, void *ctx), void *ctx);

#endif
