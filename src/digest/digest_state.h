/*
 * digest_state.h - what the files of the digest share.
 *
 * The digest is the hash of a text that is never decoded. Each value in it
 * begins with a tag, and each list ends with one, so that different values have
 * different texts. Objects are numbered in the order in which they are met; an
 * object that is met again is written as a reference. If an object is nested
 * too deep, only its number is written, and its contents follow after the
 * values.
 */
#ifndef FZ_DIGEST_STATE_H
#define FZ_DIGEST_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include <lua.h>

#include "base/buf.h"
#include "base/hash.h"
#include "codec/path.h"
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
	/* precedes a table: its metatable, which has no name */
	FZ_DIGEST_BARE = 'm',
	FZ_DIGEST_CLASS = 'C', /* precedes a table: the name of its class */
	/* the name of a class; a value follows in place of the object */
	FZ_DIGEST_PACKED = 'P',
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

/*
 * The numbers of the objects that were met. The end of a scope removes the
 * objects that were met in it.
 */
struct fz_digest_scope {
	struct fz_refmap map;
	struct fz_digest_scope *up;
};

/*
 * The numbers of the objects in an entry whose digests equal those of another
 * entry.
 */
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
	unsigned level;  /* number of objects around the current value */
	unsigned nested; /* number of scopes around the current value */
	int value;       /* number of the current value, from 1 */
	int later;       /* stack index of the list of postponed objects */
	int kept;        /* stack index of the list of objects to keep alive */
	lua_Integer nlater, nkept;
	/*
	 * stack index of the list and set of modules and classes to add; nil:
	 * none yet
	 */
	int modules;
	int ranges; /* stack index of the list of ranges of equal entries */
	lua_Integer nranges;
	int session;                   /* stack index of the session; 0: none */
	bool busy;                     /* between begin and end of a digest */
	struct fz_digest_use *uses;    /* uses of tables apart */
	struct fz_digest_apart *apart; /* the table apart that is being read */
};

enum {
	/* nesting at which objects are postponed */
	FZ_DIGEST_DEPTH = 100,
	/* maximum depth of tables that are keys of each other */
	FZ_DIGEST_NEST = 8,
};

/*
 * fz_digest_tag(): write a tag. fz_digest_string(): write a tag with a string.
 * fz_digest_value(): write any value.
 */
void fz_digest_tag(struct fz_digest *d, enum fz_digest_tag tag);
void fz_digest_string(
    struct fz_digest *d, enum fz_digest_tag tag, const char *s, size_t len);
void fz_digest_value(struct fz_digest *d, int idx, const struct fz_path *at);

/* Write the contents of a function or table, which has a number or a name. */
void fz_digest_contents(struct fz_digest *d, int idx, const struct fz_path *at);

/*
 * If the object or variable at `p` was met before, write a reference and return
 * true; else give it a number.
 */
bool fz_digest_put_ref(
    struct fz_digest *d, const void *p, const struct fz_path *at);

/*
 * Append the value on top to a list of `n` values. Makes the list if it is nil.
 * [-1, +0, m]
 */
void fz_digest_append(struct fz_digest *d, int list, lua_Integer *n);

/* Keep the object at `idx` alive until the end of the digest. */
void fz_digest_keep(struct fz_digest *d, int idx);

/* Write postponed objects until `mark` are left. */
void fz_digest_put_later(struct fz_digest *d, lua_Integer mark);

/* Raise an error: the value at `at`, which is `what`, has no digest. */
void fz_digest_refuse(
    struct fz_digest *d, const char *what, const struct fz_path *at);

/*
 * Write the value at `idx`, which a function holds. For a table apart, the
 * digest of the table is written.
 */
void fz_digest_held(struct fz_digest *d, int idx, const struct fz_path *at);

/*
 * In a table that may be apart: whether the value at `idx` is plain. If it is
 * not, the table is not apart.
 */
bool fz_digest_is_plain(struct fz_digest *d, int idx, int type);

/*
 * The number of the metatable at `mt` in the digest of a table apart. The
 * metatable is outside of the table.
 */
uint32_t fz_digest_class_apart(struct fz_digest *d, int mt);

/*
 * Whether a table apart may contain a table with the metatable on top. False if
 * the class of such a table writes another value in its place.
 */
bool fz_digest_has_plain_class(struct fz_digest *d, int idx);

/* Whether the table that is being read may still be apart. */
bool fz_digest_goes_on(const struct fz_digest *d);

/*
 * If the object at `p` is in a table apart that was met, set `*number` to its
 * number and return true.
 */
bool fz_digest_find_apart(
    const struct fz_digest *d, const void *p, uint32_t *number);

/* Write the contents of the table at `t`. */
void fz_digest_table(struct fz_digest *d, int t, const struct fz_path *at);

/* Write the Lua function at `f`. */
void fz_digest_function(struct fz_digest *d, int f, const struct fz_path *at);

/*
 * Note that a function uses the module whose name is on top, unless it belongs
 * to this library, or to Lua and is unchanged. [-1, +0, e]
 */
void fz_digest_note_module(struct fz_digest *d);

/*
 * Push a table of what scripts may have put into the loaded module: its fields
 * that are strings, numbers or booleans, except those whose name begins with an
 * underscore. `standard`, for a module of Lua: also functions in Lua, and not
 * the constants of Lua. False, and nothing is pushed, if there are none.
 * [-0, +0|1, e]
 */
bool fz_digest_push_settings(lua_State *L, const char *module, bool standard);

/*
 * As fz_digest_note_module(), for a registered class, which counts by its name,
 * and by its methods if they have a digest. [-1, +0, m]
 */
void fz_digest_note_class(struct fz_digest *d);

/* Whether the object at `p` is a module that has been loaded. [-0, +0, m] */
bool fz_digest_is_module(struct fz_digest *d, const void *p);

/* Write all noted modules and classes, and those that these use. */
void fz_digest_modules(struct fz_digest *d);

/*
 * Call `body` with a state that writes into `hash`. `modules` is the index of
 * its list of modules. `session` is the index of the session that keeps the
 * state; 0: no session. [-0, +0, e]
 */
void fz_digest_with(lua_State *L, struct fz_hash *hash, int session,
    int modules, void (*body)(struct fz_digest *d, void *ctx), void *ctx);

#endif
