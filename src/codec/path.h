/* path.h - the position of a value in a message, for error texts. */
#ifndef FZ_PATH_H
#define FZ_PATH_H

#include <lua.h>

#include "base/err.h"

enum fz_path_kind {
	FZ_PATH_ROOT,    /* a value of the message */
	FZ_PATH_DEEP,    /* somewhere below the depth limit: "..." */
	FZ_PATH_INDEX,   /* element `index`: "[3]" */
	FZ_PATH_FIELD,   /* field with the key at stack index `key`: ".name" */
	FZ_PATH_KEY,     /* a key itself: "<key>" */
	FZ_PATH_UPVALUE, /* upvalue `name`: "<upvalue x>" */
	/* the result of __fzpack of class `name`: "<packed X>" */
	FZ_PATH_PACKED,
	FZ_PATH_GLOBAL, /* global `name` of a function: "<global x>" */
	FZ_PATH_MODULE, /* module `name` of a function: "<module x>" */
};

/* One step of a path; on the C stack of the call that writes the parent. */
struct fz_path {
	const struct fz_path *up; /* the step before; NULL at the start */
	enum fz_path_kind kind;
	int key;
	lua_Integer index;
	const char *name;
};

/*
 * Replace the string on top by an fz.Error of `kind` whose message is the path
 * to `at`, ": " and the string; only the string if the path is empty. A long
 * path has "..." in its middle. [-1, +1, m]
 */
void fz_path_push_error(
    lua_State *L, enum fz_err_kind kind, const struct fz_path *at);

#endif
