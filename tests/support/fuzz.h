/*
 * fuzz.h - shared by the fuzz_*.c: a state that counts its memory, and random
 * inputs without libFuzzer.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include <lua.h>

struct fz_buf;

/* The input for a function of fuzz_try(), which gets a pointer to it at 1. */
struct fuzz_input {
	const uint8_t *bytes;
	size_t len;
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/*
 * Call `f` with the input; all calls use the same state. Returns the state with
 * the error on top, or NULL if there was none. Calls abort() if `f` allocated
 * more than a small multiple of the input.
 */
lua_State *fuzz_try(lua_CFunction f, const uint8_t *bytes, size_t len);

/*
 * The main function of a command: `pack` appends the values on the stack to
 * a buffer, in the form under test. The argument is the number of inputs.
 */
int fuzz_main(
    int argc, char **argv, void (*pack)(lua_State *L, struct fz_buf *out));

#endif
