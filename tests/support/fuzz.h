/*
 * fuzz.h - what the fuzz_*.c share: a state that counts what it allocates, and
 * inputs changed at random where there is no libFuzzer to do it.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include <lua.h>

struct fz_buf;

/* What a function called by fuzz_try() finds at index 1, as a pointer. */
struct fuzz_input {
	const uint8_t *bytes;
	size_t len;
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/*
 * Call `f` with the input, always in one state. Returns the state with the
 * error on top, NULL where there was none. Ends by abort() where it allocated
 * more than a small multiple of the input.
 */
lua_State *fuzz_try(lua_CFunction f, const uint8_t *bytes, size_t len);

/*
 * The main of a command: `pack` appends the values on the stack to a buffer,
 * in the form that is tested. The argument is how many inputs to try.
 */
int fuzz_main(
    int argc, char **argv, void (*pack)(lua_State *L, struct fz_buf *out));

#endif
