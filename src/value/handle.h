/*
 * handle.h - functions of the codec for the userdata of shared objects.
 *
 * The binding of the shared objects registers itself here when it is opened.
 * Without this binding the codec neither writes nor reads handles.
 */
#ifndef FZ_HANDLE_H
#define FZ_HANDLE_H

#include <stdbool.h>

#include <lua.h>

#define FZ_HANDLE_BYTES 16

struct fz_handle_binding {
	/* Whether the value at `idx` is a handle. [-0, +0, -] */
	bool (*is)(lua_State *L, int idx);
	/*
	 * Store the handle at `idx`; false if it is not a handle. [-0, +0, m]
	 */
	bool (*store)(lua_State *L, int idx, unsigned char *bytes);
	/*
	 * Push the handle; false if its object does not exist any more. [-0,
	 * +(0|1), m]
	 */
	bool (*load)(lua_State *L, const unsigned char *bytes);
};

/* Use `binding` from now on, in all states of the process. */
void fz_handle_bind(const struct fz_handle_binding *of_objects);

bool fz_handle_is(lua_State *L, int idx);
bool fz_handle_store(lua_State *L, int idx, unsigned char *bytes);
bool fz_handle_load(lua_State *L, const unsigned char *bytes);

#endif
