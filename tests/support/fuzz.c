#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "codec/codec.h"
#include "lua_state.h"

enum {
	/* maximum number of bytes allocated for a byte of input */
	FUZZ_MULTIPLE = 96,
	/* further bytes for errors, classes and growth */
	FUZZ_CONSTANT = 65536,
	/* number of inputs if the command has no argument */
	FUZZ_ROUNDS = 200000,
};

static struct lua_memory fuzz_memory;

/* A state with two classes, P and Q, a registered value and NULL. */
static lua_State *
fuzz_state(struct lua_memory *memory)
{
	static const char classes[] =
	    "P = {}\n"
	    "Q = { __fzpack = function(q) return { q.v } end,\n"
	    "  __fzunpack = function(t) return { v = t } end }\n"
	    "core.register_class('P', P)\n"
	    "core.register_class('Q', Q)\n"
	    "V = core.register_value('V', {})\n";
	lua_State *L = lua_state_with_codec(memory);

	lua_pushlightuserdata(L, NULL);
	lua_setglobal(L, "null");
	if (luaL_dostring(L, classes) != LUA_OK)
		abort();
	lua_gc(L, LUA_GCGEN, 0, 0);
	return L;
}

lua_State *
fuzz_try(lua_CFunction f, const uint8_t *bytes, size_t len)
{
	static lua_State *L;
	struct fuzz_input in = { bytes, len };
	size_t before;
	int status;

	if (L == NULL)
		L = fuzz_state(&fuzz_memory);
	lua_settop(L, 0);
	if (fuzz_memory.used > FUZZ_CONSTANT * 8)
		lua_gc(L, LUA_GCCOLLECT);
	before = fuzz_memory.peak = fuzz_memory.used;
	lua_pushcfunction(L, f);
	lua_pushlightuserdata(L, &in);
	status = lua_pcall(L, 1, LUA_MULTRET, 0);
	if (fuzz_memory.peak - before > len * FUZZ_MULTIPLE + FUZZ_CONSTANT) {
		fprintf(stderr, "%zu bytes allocated for %zu\n",
		    fuzz_memory.peak - before, len);
		abort();
	}
	return status != LUA_OK ? L : NULL;
}

/* Lua code that returns the values of the seeds. */
static const char *const fuzz_seeds[] = {
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
	"return { V, P, Q, null, [V] = null, { V, P } }",
};

enum { FUZZ_NSEEDS = sizeof(fuzz_seeds) / sizeof(*fuzz_seeds) };

/* xorshift: the same bytes on every machine. */
static uint32_t
fuzz_random(void)
{
	static uint32_t x = 2463534242u;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

/* Change, insert, remove, repeat or cut a few bytes of `b`. */
static size_t
fuzz_mutate(uint8_t *b, size_t len, size_t cap)
{
	size_t at = fuzz_random() % len, n = 1 + fuzz_random() % 8;

	switch (fuzz_random() % 6) {
	case 0:
		b[at] = (uint8_t)fuzz_random();
		break;
	case 1:
		b[at] ^= (uint8_t)(1u << fuzz_random() % 8);
		break;
	case 2:
		b[at] = (uint8_t)(0xc0 + fuzz_random() % 32);
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
		len = fuzz_random() % 8 == 0 ? at : len;
	}
	return len;
}

/* Change a seed, and try it as input. */
static void
fuzz_one(const struct fz_buf *seed)
{
	size_t len = seed->len, cap = len + 64;
	uint8_t *b = malloc(cap), *exact;

	if (b == NULL)
		abort();
	memcpy(b, seed->data, len);
	for (uint32_t n = fuzz_random() % 6 + 1; n > 0 && len > 0; n--)
		len = fuzz_mutate(b, len, cap);
	/* A block of the exact size, so that ASan knows its end. */
	exact = malloc(len + (len == 0));
	if (exact == NULL)
		abort();
	memcpy(exact, b, len);
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
	free(b);
}

int
fuzz_main(int argc, char **argv, void (*pack)(lua_State *L, struct fz_buf *out))
{
	long rounds = argc > 1 ? atol(argv[1]) : FUZZ_ROUNDS;
	struct fz_buf inputs[FUZZ_NSEEDS];
	struct lua_memory memory; /* memory of the state for the seeds */
	lua_State *L = fuzz_state(&memory);

	for (int i = 0; i < FUZZ_NSEEDS; i++) {
		fz_buf_init(&inputs[i]);
		lua_settop(L, 0);
		if (luaL_dostring(L, fuzz_seeds[i]) != LUA_OK)
			abort();
		pack(L, &inputs[i]);
		LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].len);
	}
	lua_close(L);
	for (long i = 0; i < rounds; i++)
		fuzz_one(&inputs[fuzz_random() % FUZZ_NSEEDS]);
	for (int i = 0; i < FUZZ_NSEEDS; i++)
		fz_buf_fini(&inputs[i]);
	printf("%ld inputs, no crash\n", rounds);
	return 0;
}
