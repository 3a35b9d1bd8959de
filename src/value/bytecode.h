/*
 * bytecode.h - reads what lua_dump() writes for a function, in the format of
 * Lua 5.4, without what only says where the source was, and in which variables
 * around it the function found its upvalues.
 */
#ifndef FZ_BYTECODE_H
#define FZ_BYTECODE_H

#include <stdbool.h>
#include <stddef.h>

struct fz_bytecode_ops {
	/* Bytes that decide what the function does, in their order. */
	void (*code)(void *ctx, const void *bytes, size_t len);
	/*
	 * The function reads the global of this name. `maybe`: it has the name
	 * as a constant, and reads globals in a way that does not show which.
	 */
	void (*global)(void *ctx, const char *name, size_t len, bool maybe);
	/* The function requires the module of this name. */
	void (*module)(void *ctx, const char *name, size_t len);
};

/*
 * Read a stripped dump. `env` is the number of the upvalue that is the table of
 * globals, from 0, or -1: none is. False: it is not the bytecode of this Lua.
 */
bool fz_bytecode_read(const void *dump, size_t len, int env,
    const struct fz_bytecode_ops *ops, void *ctx);

#endif
