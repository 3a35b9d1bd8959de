/*
 * bytecode.h - reads what lua_dump() writes for a function, in the format of
 * Lua 5.4.
 */
#ifndef FZ_BYTECODE_H
#define FZ_BYTECODE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * A function in a dump: with the same head, its own dump has `nupvalues` and
 * its source in front of `body`.
 */
struct fz_bytecode_function {
	const char *source; /* not ended by NUL; NULL: that of the one around */
	size_t source_len;
	size_t line; /* its first one; 0 for a whole chunk */
	unsigned char nupvalues;
	const unsigned char *body; /* behind the source */
	size_t len;
};

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

/* Bytes in front of the number of upvalues, the same in all dumps. */
enum { FZ_BYTECODE_HEAD = 31 };

/*
 * The function of a dump, whose body is not read. False: it is not the bytecode
 * of this Lua.
 */
bool fz_bytecode_outer(
    const void *dump, size_t len, struct fz_bytecode_function *f);

/* Call `visit` for the function of a dump and all in it, inner ones first. */
bool fz_bytecode_each(const void *dump, size_t len,
    void (*visit)(void *ctx, const struct fz_bytecode_function *f), void *ctx);

#endif
