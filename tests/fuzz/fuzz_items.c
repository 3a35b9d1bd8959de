/*
 * fuzz_items.c - a target and a command like fuzz_codec.c: read arbitrary bytes
 * as results of items.
 *
 * It also calls abort() if skipping an item, pushing it, and pushing it as
 * a number disagree on the end or the value of the item.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "codec/codec.h"
#include "codec/items.h"
#include "fuzz.h"
#include "value/lerror.h"

static void
must(bool fact, const char *text)
{
	if (fact)
		return;
	fprintf(stderr, "%s\n", text);
	abort();
}

/* Whether the numbers at 1 and 2 are the same, to the bit. */
static bool
is_same_number(lua_State *L)
{
	lua_Number a = lua_tonumber(L, 1), b = lua_tonumber(L, 2);

	if (lua_isinteger(L, 1) || lua_isinteger(L, 2))
		return lua_rawequal(L, 1, 2) &&
		       lua_isinteger(L, 1) == lua_isinteger(L, 2);
	return memcmp(&a, &b, sizeof(a)) == 0;
}

static int
call_push(lua_State *L)
{
	const struct fuzz_input *in = lua_touserdata(L, 1);
	struct fz_reader items;

	fz_reader_init(&items, in->bytes, in->len);
	while (fz_reader_left(&items) != 0) {
		struct fz_reader over = items, quick = items;
		bool whole = fz_items_skip(&over) == 0, number;

		lua_settop(L, 0);
		number = fz_items_push_number(L, &quick);
		must(!number || (whole && quick.p == over.p),
		    "a number that is none");
		fz_items_push(L, &items);
		must(whole, "a value that is cut short");
		must(items.p == over.p, "an item that ends elsewhere");
		must(!number || is_same_number(L), "another number");
	}
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	lua_State *L = fuzz_try(call_push, bytes, len);

	must(L == NULL || fz_lerror_is(L, -1) || lua_type(L, -1) == LUA_TSTRING,
	    "an error that says nothing");
	return 0;
}

#ifdef FZ_FUZZ_MAIN

static void
pack(lua_State *L, struct fz_buf *out)
{
	int n = lua_gettop(L);

	for (int i = 1; i <= n; i++) {
		unsigned char *p = fz_buf_reserve(out, FZ_ITEMS_SMALL);
		size_t at = out->len, len = fz_items_store(L, i, p);

		out->len += len != 0 ? len : FZ_ITEMS_HEAD;
		if (len != 0)
			continue;
		fz_codec_encode(L, i, 1, out);
		fz_items_store_head(
		    out->data + at, (uint32_t)(out->len - at - FZ_ITEMS_HEAD));
	}
}

int
main(int argc, char **argv)
{
	return fuzz_main(argc, argv, pack);
}

#endif
