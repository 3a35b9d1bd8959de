/*
 * bytecode.h - reads what lua_dump() writes for a function, in the format of
 * Lua 5.4.
 */
#ifndef FZ_BYTECODE_H
#define FZ_BYTECODE_H

#include <stdbool.h>
#include <stddef.h>

#include <lua.h>

/*
 * A function in a dump. A dump of it alone would have the same head, then
 * `nupvalues`, its source and `body`.
 */
struct fz_bytecode_function {
	/*
	 * name of the source, without NUL at its end; NULL: the source of the
	 * function around it
	 */
	const char *source;
	size_t source_len;
	size_t line; /* its first line; 0 for a whole chunk */
	unsigned char nupvalues;
	const unsigned char *body; /* the bytes after the source */
	size_t len;
};

struct fz_bytecode_ops {
	/*
	 * Called with the bytes that decide what the function does, in their
	 * order.
	 */
	void (*code)(void *ctx, const void *bytes, size_t len);
	/*
	 * Called for a global that the function reads. `maybe`: the function
	 * has the name as a constant, and reads globals whose names the
	 * bytecode does not show.
	 */
	void (*global)(void *ctx, const char *name, size_t len, bool maybe);
	/*
	 * Called for a module that the function requires, and for "string" if
	 * it calls a method, which may be one of a string.
	 */
	void (*module)(void *ctx, const char *name, size_t len);
};

/*
 * Read a stripped dump. `env` is the number of the upvalue that holds the table
 * of globals, from 0; -1: none does. `all`: the function also has the table in
 * another way, so that each of its strings may be the name of a global. False:
 * not the bytecode of this Lua.
 */
bool fz_bytecode_read(const void *dump, size_t len, int env, bool all,
    const struct fz_bytecode_ops *ops, void *ctx);

/*
 * The bytes in front of the number of upvalues, which are the same in all
 * dumps.
 */
enum { FZ_BYTECODE_HEAD = 31 };

/*
 * Get the outermost function of a dump, without reading its body. False if the
 * dump is not bytecode of this Lua.
 */
bool fz_bytecode_outer(
    const void *dump, size_t len, struct fz_bytecode_function *f);

/* A writer for lua_dump(): append the bytes to `buf`, a struct fz_buf. */
int fz_bytecode_write(lua_State *L, const void *bytes, size_t len, void *buf);

/* Call `visit` for the function of a dump and all in it, inner ones first. */
bool fz_bytecode_each(const void *dump, size_t len,
    void (*visit)(void *ctx, const struct fz_bytecode_function *f), void *ctx);

#endif
