/*
 * fuzz_codec.c - any bytes whatever given to the decoder.
 *
 * With libFuzzer as it is; with -DFZ_FUZZ_MAIN a command that tries mutations
 * of a few messages: fuzz_codec [rounds]. Ends by abort() where the decoder
 * allocates more than a small multiple of its input.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>
#include <lualib.h>

#include "base/buf.h"
#include "bind/codec.h"
#include "bind/lerror.h"

enum {
	MULTIPLE = 96,    /* bytes allocated per byte of input, at most */
	CONSTANT = 65536, /* and this much for errors, classes and growth */
};

struct memory {
	size_t used;
	size_t peak;
};

struct input {
	const uint8_t *bytes;
	size_t len;
};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static struct memory memory;

static void *
allocate(void *ud, void *p, size_t osize, size_t nsize)
{
	struct memory *m = ud;
	void *q;

	if (p == NULL)
		osize = 0;
	if (nsize == 0) {
		free(p);
		m->used -= osize;
		return NULL;
	}
	q = realloc(p, nsize);
	if (q == NULL)
		return NULL;
	m->used += nsize - osize;
	if (m->used > m->peak)
		m->peak = m->used;
	return q;
}

static lua_State *
open_state(void)
{
	static const char classes[] =
	    "core.register_class('P', {})\n"
	    "core.register_class('Q', {\n"
	    "  __fzpack = function(q) return { q.v } end,\n"
	    "  __fzunpack = function(t) return { v = t } end })\n";
	lua_State *L = lua_newstate(allocate, &memory);

	if (L == NULL)
		abort();
	luaL_openlibs(L);
	lua_newtable(L);
	fz_lerror_open(L);
	fz_lcodec_open(L);
	lua_setglobal(L, "core");
	if (luaL_dostring(L, classes) != LUA_OK)
		abort();
	lua_gc(L, LUA_GCGEN, 0, 0);
	return L;
}

static int
call_decode(lua_State *L)
{
	const struct input *in = lua_touserdata(L, 1);

	lua_settop(L, 0);
	return fz_codec_decode(L, in->bytes, in->len, false);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	static lua_State *L;
	struct input in = { bytes, len };
	size_t before;

	if (L == NULL)
		L = open_state();
	lua_settop(L, 0);
	if (memory.used > CONSTANT * 8)
		lua_gc(L, LUA_GCCOLLECT);
	before = memory.peak = memory.used;
	lua_pushcfunction(L, call_decode);
	lua_pushlightuserdata(L, &in);
	if (lua_pcall(L, 1, LUA_MULTRET, 0) != LUA_OK && !fz_lerror_is(L, -1)) {
		fprintf(stderr, "no fz.Error: %s\n", fz_lerror_text(L, -1));
		abort();
	}
	if (memory.peak - before > len * MULTIPLE + CONSTANT) {
		fprintf(stderr, "%zu bytes allocated for %zu\n",
		    memory.peak - before, len);
		abort();
	}
	return 0;
}

#ifdef FZ_FUZZ_MAIN

static const char *const seeds[] = {
	"return 1, -1, 300, 1 << 20, 1 << 40, 1.5, 'abc', nil, true, false",
	"local t = {} for i = 1, 100 do t[i] = i * 1000 end return t, t",
	"local t = {} for i = 1, 300 do t['k' .. i] = i end return t",
	"local t = {} for i = 1, 20 do t[i] = { id = i, s = i / 4 } end return "
	"t",
	"local t = {} local a = t for i = 1, 250 do a[1] = { i } a = a[1] end\n"
	"return t",
	"local t = { 1, nil, 3, x = 'y' } t.t, t[t] = t, { t } return t, t",
	"return { ('x'):rep(5000), ('y'):rep(100), ('y'):rep(100), io.stdout }",
	"return { setmetatable({ 1 }, P), setmetatable({ v = 2 }, Q) }",
};

enum { NSEEDS = sizeof(seeds) / sizeof(*seeds), ROUNDS = 200000 };

/* xorshift: the same bytes on every machine. */
static uint32_t
next_random(void)
{
	static uint32_t x = 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static void
pack_seeds(struct fz_buf *messages)
{
	lua_State *L = open_state();

	if (luaL_dostring(L, "P = {} Q = { __fzpack = function(q)\n"
			     "  return { q.v } end }\n"
			     "core.register_class('P', P)\n"
			     "core.register_class('Q', Q)") != LUA_OK)
		abort();
	for (int i = 0; i < NSEEDS; i++) {
		fz_buf_init(&messages[i]);
		lua_settop(L, 0);
		if (luaL_dostring(L, seeds[i]) != LUA_OK)
			abort();
		fz_codec_encode(L, 1, lua_gettop(L), &messages[i]);
	}
	lua_close(L);
}

/* Change, insert, remove, repeat or cut a few bytes of `b`. */
static size_t
mutate(uint8_t *b, size_t len, size_t cap)
{
	size_t at = next_random() % len, n = 1 + next_random() % 8;

	switch (next_random() % 6) {
	case 0:
		b[at] = (uint8_t)next_random();
		break;
	case 1:
		b[at] ^= (uint8_t)(1u << next_random() % 8);
		break;
	case 2:
		b[at] = (uint8_t)(0xc0 + next_random() % 32);
		break;
	case 3:
		n = n > len - at ? len - at : n;
		memmove(b + at, b + at + n, len - at - n);
		len -= n;
		break;
	case 4:
		if (n > len - at || len + n > cap)
			break;
		memmove(b + at + n, b + at, len - at);
		len += n;
		break;
	default:
		len = next_random() % 8 == 0 ? at : len;
	}
	return len;
}

int
main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : ROUNDS;
	struct fz_buf messages[NSEEDS];

	pack_seeds(messages);
	for (long i = 0; i < rounds; i++) {
		const struct fz_buf *seed = &messages[next_random() % NSEEDS];
		size_t len = seed->len, cap = len + 64;
		uint8_t *b = malloc(cap), *exact;

		if (b == NULL)
			abort();
		memcpy(b, seed->data, len);
		for (uint32_t n = next_random() % 6 + 1; n > 0 && len > 0; n--)
			len = mutate(b, len, cap);
		/* A block of just this size, so that ASan sees its end. */
		exact = malloc(len + (len == 0));
		if (exact == NULL)
			abort();
		memcpy(exact, b, len);
		LLVMFuzzerTestOneInput(exact, len);
		free(exact);
		free(b);
	}
	for (int i = 0; i < NSEEDS; i++)
		fz_buf_fini(&messages[i]);
	printf("%ld messages, no crash\n", rounds);
	return 0;
}

#endif
