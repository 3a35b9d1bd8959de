/*
 * fuzz_codec.c - decode arbitrary bytes.
 *
 * This is a target for libFuzzer. Compiled with -DFZ_FUZZ_MAIN it is a command
 * that decodes mutations of a few messages: fuzz_codec [rounds]. It calls
 * abort() if the decoder allocates more than a small multiple of its input, or
 * if a message that is recognized as plain cannot be decoded to one value.
 */
#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>

#include "codec/codec.h"
#include "codec/plain.h"
#include "fuzz.h"
#include "value/lerror.h"

static int
call_decode(lua_State *L)
{
	const struct fuzz_input *in = lua_touserdata(L, 1);

	lua_settop(L, 0);
	return fz_codec_decode(L, in->bytes, in->len, FZ_CODEC_VALUES);
}

static int
call_decode_recorded(lua_State *L)
{
	const struct fuzz_input *in = lua_touserdata(L, 1);
	int n;

	lua_settop(L, 0);
	n = fz_codec_decode(L, in->bytes, in->len, FZ_CODEC_RECORDED);
	if (n != 1)
		luaL_error(L, "%d values", n);
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	lua_State *L = fuzz_try(call_decode, bytes, len);

	if (L != NULL && !fz_lerror_is(L, -1)) {
		fprintf(stderr, "no fz.Error: %s\n", fz_lerror_text(L, -1));
		abort();
	}
	if (fz_plain_is(bytes, len) &&
	    (L = fuzz_try(call_decode_recorded, bytes, len)) != NULL) {
		fprintf(stderr, "plain, but: %s\n", fz_lerror_text(L, -1));
		abort();
	}
	return 0;
}

#ifdef FZ_FUZZ_MAIN

static void
pack(lua_State *L, struct fz_buf *out)
{
	fz_codec_encode(L, 1, lua_gettop(L), out);
}

int
main(int argc, char **argv)
{
	return fuzz_main(argc, argv, pack);
}

#endif
