/*
 * handle.h - what the codec asks about userdata that stand for shared objects.
 *
 * The binding of these objects answers, from when it is opened. Without it a
 * message neither holds handles nor brings any.
 */
#ifndef FZ_HANDLE_H
#define FZ_HANDLE_H

#include <stdbool.h>

#include <lua.h>

#define FZ_HANDLE_BYTES 16

struct fz_handle_binding {
	/* Whether the value at `idx` is a handle. [-0, +0, -] */
	bool (*is)(lua_State *L, int idx);
	/* Store it; false: it is none. Takes a slot of the stack. */
	bool (*store)(lua_State *L, int idx, unsigned char *bytes);
	/* Push it; false: its object is gone. [-0, +(0|1), m] */
	bool (*load)(lua_State *L, const unsigned char *bytes);
};

/* From now on `binding` answers, for all states of the process. */
void fz_handle_bind(const struct fz_handle_binding *binding);

bool fz_handle_is(lua_State *L, int idx);
bool fz_handle_store(lua_State *L, int idx, unsigned char *bytes);
bool fz_handle_load(lua_State *L, const unsigned char *bytes);

#endif
