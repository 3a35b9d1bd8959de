#include "child/call.h"

#include <string.h>

#include <lauxlib.h>

#include "base/buf.h"
#include "child/call_state.h"
#include "child/random.h"
#include "codec/codec.h"
#include "codec/items.h"
#include "os/cwd.h"
#include "value/rawarray.h"
#include "wire/child_direct.h"
#include "wire/child_items.h"
#include "wire/child_port.h"

/* Indexes on the stack of the thread during a chunk. */
enum { CHUNK_HANDLER = FZ_CHILD_LIST + 1, CHUNK_FUNC, CHUNK_ITEMS, CHUNK_KEPT };

/* Maximum number of bytes that store_head() stores. */
enum { CHUNK_HEAD_MAX = FZ_WIRE_USED + 8 };

/* Whether the frame has more items than the current one. */
static bool
has_more_items(const struct fz_child_calls *c)
{
	return c->io->port != NULL &&
	       (c->io->at->nitems > 1 || c->chunk->item != c->chunk->first);
}

/*
 * Push the table of the kept values, or nil. If the frame has no list, the
 * first kept value is the list: copy it to index `items`. [-0, +1, e]
 */
static void
push_kept(lua_State *L, const struct fz_child_chunk *b, int items)
{
	if (!(b->kind & FZ_WIRE_KEPT)) {
		lua_pushnil(L);
		return;
	}
	fz_child_push_kept(L, b->kind >> FZ_WIRE_ENTRY);
	if (b->kind & FZ_WIRE_INHERITED) {
		lua_rawgeti(L, -1, 1);
		lua_replace(L, items);
	}
}

/* Whether the arguments are read item by item, immediately before each call. */
static bool
has_own_arguments(const struct fz_child_chunk *b)
{
	uint32_t kind = b->kind & FZ_WIRE_KINDS;

	return kind == FZ_WIRE_CALL || kind == FZ_WIRE_STEP;
}

/*
 * (funcs, init, call) -> function, items, kept. Prepare the values that all
 * items share. If each item brings its own function, the first result is
 * instead the table of the cells of these functions.
 */
static int
open_body(lua_State *L)
{
	struct fz_child_calls *c = lua_touserdata(L, -1);
	struct fz_child_chunk *b = c->chunk;
	int n = 0;

	fz_random_seed(b->random, b->seed + b->item);
	if (b->init)
		fz_child_run_init(L, c->io);
	b->init = false;
	c->phase = FZ_CHILD_PHASE_ARGUMENTS;
	if (!(b->kind & FZ_WIRE_INLINE))
		fz_child_push_function(L, b->func);
	if (b->nparts != 0 && !has_own_arguments(b)) {
		c->apart = has_more_items(c);
		n = fz_child_push_part(L, c, 0);
	}
	if ((b->kind & FZ_WIRE_INLINE) && n != 0) {
		fz_child_decode_function(L, 4);
		lua_replace(L, 4);
		n--;
	} else if (b->kind & FZ_WIRE_INLINE) {
		lua_rawgeti(L, FZ_CHILD_FUNCS, 0);
	}
	c->apart = false;
	lua_settop(L, 4 + n);
	while (lua_gettop(L) < 5)
		lua_pushnil(L);
	push_kept(L, b, 5);
	return 3;
}

/* Indexes on the stack of items_body(). */
enum { ITEMS_FUNC = 2, ITEMS_LIST, ITEMS_EXTRA, ITEMS_N, ITEMS_TOP = ITEMS_N };

/* Maximum number of results on the stack, until all are popped at once. */
enum { ITEMS_KEPT = 16 };

/*
 * The table on top is an item: push the function and the elements of the table.
 * Their number is the table's field n if it is an integer, else the table's
 * length. Returns that number. The field n stays on the stack below the
 * function, because popping it would cost time for each item.
 */
static int
push_elements(lua_State *L)
{
	lua_Integer n;

	lua_pushvalue(L, ITEMS_N);
	if (lua_rawget(L, -2) != LUA_TNIL && lua_isinteger(L, -1))
		n = lua_tointeger(L, -1);
	else
		n = (lua_Integer)lua_rawlen(L, -2);
	if (n < 0 || n > INT32_MAX / 2 ||
	    (n > ITEMS_KEPT && !lua_checkstack(L, (int)n + 8)))
		return luaL_error(L, "too many arguments");
	lua_pushvalue(L, ITEMS_FUNC);
	for (int i = 1; i <= (int)n; i++)
		lua_rawgeti(L, -2 - i, i);
	return (int)n;
}

/* Push item `i` of the list. Returns the type of the item. */
static inline int
push_item(lua_State *L, const struct fz_child_chunk *b, lua_Integer i)
{
	if (!(b->kind & FZ_WIRE_INHERITED))
		return lua_rawgeti(
		    L, ITEMS_LIST, i - (lua_Integer)b->first + 1);
	if (b->plain)
		return lua_rawgeti(L, ITEMS_LIST, i);
	return lua_geti(L, ITEMS_LIST, i);
}

/*
 * Reserve room for a result. A worker calls the port directly, not through
 * `io`, because this runs for each item.
 */
static inline unsigned char *
item_room(struct fz_child_calls *c)
{
	const struct fz_child_io *io = c->io;
	unsigned char *p = io->port != NULL
			       ? fz_port_item(io->port, io->at, NULL)
			       : io->room(io->ctx);

	c->gone = p == NULL;
	return p;
}

static inline void
item_end(struct fz_child_calls *c, size_t len)
{
	const struct fz_child_io *io = c->io;

	if (io->port != NULL)
		fz_port_item_end(io->port, len);
	else
		io->end(io->ctx, len);
}

static inline bool
item_advance(struct fz_child_calls *c)
{
	const struct fz_child_io *io = c->io;

	if (io->port == NULL || !fz_port_advance(io->port, io->at))
		return false;
	c->chunk->item++;
	return true;
}

/* Store what precedes a message of `len` bytes. Returns the size. */
static size_t
store_head(const struct fz_child_calls *c, unsigned char *p, size_t len)
{
	size_t head = 0;

	if ((c->chunk->kind & FZ_WIRE_KINDS) != FZ_WIRE_STEP) {
		fz_items_store_head(p, (uint32_t)len);
		return FZ_ITEMS_HEAD;
	}
	if (c->io->at->measured) {
		fz_port_store_used(c->io->port, p);
		head = FZ_WIRE_USED;
	}
	fz_le64_store(p + head, len);
	return head + 8;
}

/* Send the `n` values from stack index `first` on as one message. */
static void
put_message(lua_State *L, struct fz_child_calls *c, int first, int n)
{
	const struct fz_child_io *io = c->io;
	unsigned char *p;
	size_t len, head;

	io->begin(io->ctx, false, 1);
	fz_codec_encode(L, first, n, io->out);
	len = io->out->len;
	if (len > FZ_PORT_ITEM - CHUNK_HEAD_MAX) {
		io->put(io->ctx);
		c->gone = io->send(io->ctx) != 0;
		return;
	}
	p = item_room(c);
	if (p == NULL)
		return;
	head = store_head(c, p, len);
	memcpy(p + head, io->out->data, len);
	fz_buf_clear(io->out);
	item_end(c, head + len);
}

static void
put_item(lua_State *L, struct fz_child_calls *c)
{
	unsigned char *p = item_room(c);
	size_t len;

	if (p == NULL)
		return;
	len = fz_items_store(L, -1, p);
	if (len != 0)
		item_end(c, len);
	else
		put_message(L, c, lua_gettop(L), 1);
}

/* Make a call of the kind FZ_WIRE_CALL: one part has all its arguments. */
static void
call_with_own_arguments(lua_State *L, struct fz_child_calls *c)
{
	fz_random_seed(c->chunk->random, c->chunk->seed + c->chunk->item);
	if (c->chunk->kind & FZ_WIRE_INLINE) {
		fz_child_push_part(L, c, ITEMS_FUNC);
	} else {
		lua_pushvalue(L, ITEMS_FUNC);
		fz_child_push_part(L, c, 0);
	}
	c->phase = FZ_CHILD_PHASE_CALL;
	lua_call(L, lua_gettop(L) - ITEMS_TOP - 1, LUA_MULTRET);
	c->phase = FZ_CHILD_PHASE_RESULTS;
	put_message(L, c, ITEMS_TOP + 1, lua_gettop(L) - ITEMS_TOP);
	lua_settop(L, ITEMS_TOP);
}

/* Make a call of the kind FZ_WIRE_STEP: each argument is a part. */
static void
call_step(lua_State *L, struct fz_child_calls *c)
{
	struct fz_call *at = c->io->at;

	fz_port_step(at);
	fz_random_seed(c->chunk->random, at->seed);
	lua_pushvalue(L, ITEMS_FUNC);
	while (at->nunread != 0) {
		if (fz_child_push_part(L, c, 0) != 1)
			luaL_error(L, "an argument does not decode to exactly "
				      "one Lua value");
	}
	c->phase = FZ_CHILD_PHASE_CALL;
	lua_call(L, (int)c->chunk->nparts, 1);
	c->phase = FZ_CHILD_PHASE_RESULTS;
	put_message(L, c, ITEMS_TOP + 1, 1);
	lua_settop(L, ITEMS_TOP);
}

/*
 * Push the function and the arguments of item `i` without the Lua API, which is
 * possible if all are numbers in the array part of the list. Returns the number
 * of arguments, or 0 if it is not possible.
 */
static inline int
push_raw_arguments(
    lua_State *L, const struct fz_child_calls *c, uint32_t kind, uint64_t i)
{
	const struct fz_child_chunk *b = c->chunk;
	const struct fz_raw_value *element, *array;
	unsigned n = 1;

	if (c->list == NULL)
		return 0;
	if (!(b->kind & FZ_WIRE_INHERITED))
		i -= b->first - 1;
	array = element = fz_rawarray_find(c->raw, c->list, i);
	if (element == NULL)
		return 0;
	if (kind == FZ_WIRE_STARMAP)
		n = fz_rawarray_tuple(c->raw, element, &array);
	else if (!fz_rawarray_is_number(c->raw, element))
		return 0;
	if (n != 0)
		lua_pushvalue(L, ITEMS_FUNC);
	for (unsigned k = 0; k < n; k++)
		fz_rawarray_push_number(c->raw, L, &array[k]);
	return (int)n;
}

/* Push the kept values that each call gets; return their number. */
static int
push_extra(lua_State *L, const struct fz_child_calls *c)
{
	for (int i = 0; i < c->nextra; i++)
		lua_rawgeti(L, ITEMS_EXTRA, c->extra + i);
	return c->nextra;
}

/* Call the function with item `i`. The result is on top afterwards. */
static inline void
call_one(lua_State *L, struct fz_child_calls *c, uint32_t kind, uint64_t i)
{
	const struct fz_child_chunk *b = c->chunk;
	int n;

	c->phase = FZ_CHILD_PHASE_ARGUMENTS;
	fz_cwd_return(); /* an earlier call may have left the directory */
	fz_random_seed(b->random, b->seed + i);
	n = push_raw_arguments(L, c, kind, i);
	if (n == 0 && kind == FZ_WIRE_MAP) {
		lua_pushvalue(L, ITEMS_FUNC);
		push_item(L, b, (lua_Integer)i);
		n = 1;
	} else if (n == 0) {
		if (push_item(L, b, (lua_Integer)i) != LUA_TTABLE)
			luaL_error(L, "a list of arguments expected, got %s",
			    luaL_typename(L, -1));
		n = push_elements(L);
	}
	if (c->nextra != 0)
		n += push_extra(L, c);
	c->phase = FZ_CHILD_PHASE_CALL;
	lua_call(L, n, 1);
	c->phase = FZ_CHILD_PHASE_RESULTS;
}

/* Count a result on the stack; popping ITEMS_KEPT at once saves time. */
static inline void
keep_result(lua_State *L, struct fz_child_calls *c)
{
	if (++c->nkept == ITEMS_KEPT) {
		lua_settop(L, ITEMS_TOP);
		c->nkept = 0;
	}
}

static void
end_raw_run(struct fz_child_calls *c)
{
	if (c->storing_raw)
		c->chunk->item +=
		    fz_direct_end(c->io->port, c->io->at, &c->direct);
	c->storing_raw = false;
}

/*
 * Call the function for the current item and those after it, and store the
 * results raw. Stops at a result that cannot be stored raw: returns false, with
 * that result on top.
 */
static inline bool
store_raw_items(lua_State *L, struct fz_child_calls *c, uint32_t kind)
{
	const struct fz_child_chunk *b = c->chunk;
	uint64_t i = b->item;
	bool stored;

	c->gone =
	    fz_direct_begin(c->io->port, c->io->at, &c->direct, NULL) != 0;
	if (c->gone)
		return true;
	c->storing_raw = true;
	do {
		call_one(L, c, kind, i);
		stored = fz_rawarray_store(
		    c->raw, L, -1, &b->raw_results[i - b->first]);
		if (!stored)
			break;
		fz_direct_stored(&c->direct);
		keep_result(L, c);
		i++;
	} while (fz_direct_advance(&c->direct));
	end_raw_run(c);
	return stored;
}

static void
call_next(lua_State *L, struct fz_child_calls *c, uint32_t kind)
{
	if (has_own_arguments(c->chunk)) {
		c->phase = FZ_CHILD_PHASE_ARGUMENTS;
		fz_cwd_return();
		if (kind == FZ_WIRE_STEP)
			call_step(L, c);
		else
			call_with_own_arguments(L, c);
		return;
	}
	if (c->chunk->raw_results == NULL)
		call_one(L, c, kind, c->chunk->item);
	else if (store_raw_items(L, c, kind))
		return;
	put_item(L, c);
	keep_result(L, c);
}

/* Find the kept values that each call gets, and make room for them. */
static void
find_extra(lua_State *L, struct fz_child_calls *c)
{
	c->nextra = 0;
	if (!(c->chunk->kind & FZ_WIRE_KEPT))
		return;
	c->extra = c->chunk->kind & FZ_WIRE_INHERITED ? 2 : 1;
	lua_getfield(L, ITEMS_EXTRA, "n");
	c->nextra = (int)lua_tointeger(L, -1) - c->extra + 1;
	lua_pop(L, 1);
	luaL_checkstack(L, 5 * ITEMS_KEPT + c->nextra, "too many arguments");
}

/*
 * (call, function, list, kept): call the function for the current item and for
 * all items after it. Called in protected mode.
 */
static int
items_body(lua_State *L)
{
	struct fz_child_calls *c = lua_touserdata(L, 1);
	uint32_t kind = c->chunk->kind & FZ_WIRE_KINDS;

	luaL_checkstack(L, 5 * ITEMS_KEPT, NULL);
	find_extra(L, c);
	lua_pushliteral(L, "n");
	c->chunk->plain = !lua_getmetatable(L, ITEMS_LIST);
	lua_settop(L, ITEMS_TOP);
	c->list = NULL;
	if (c->chunk->plain && c->raw != NULL &&
	    lua_type(L, ITEMS_LIST) == LUA_TTABLE)
		c->list = lua_topointer(L, ITEMS_LIST);
	c->nkept = 0;
	do
		call_next(L, c, kind);
	while (!c->gone && item_advance(c));
	return 0;
}

/* Reply that the current item must be sent again in a frame of its own. */
static void
put_apart(struct fz_child_calls *c)
{
	c->io->begin(c->io->ctx, true, FZ_ERR_NONE);
	c->io->put(c->io->ctx);
}

/*
 * Prepare what all items share. On failure, begins an error for the current
 * item and returns false. If the items cannot be decoded together, that error
 * asks for each item in its own frame, so only a broken item will fail.
 */
static bool
open_items(lua_State *L, struct fz_child_calls *c)
{
	int status;

	if (c->apart) {
		put_apart(c);
		return false;
	}
	c->phase = FZ_CHILD_PHASE_INIT;
	lua_settop(L, CHUNK_HANDLER);
	lua_pushcfunction(L, open_body);
	lua_pushvalue(L, FZ_CHILD_FUNCS);
	lua_pushvalue(L, FZ_CHILD_INIT);
	lua_pushlightuserdata(L, c);
	status = lua_pcall(L, 3, 3, CHUNK_HANDLER);
	if (c->apart)
		put_apart(c);
	else if (status != LUA_OK)
		fz_child_put_error(L, c, status);
	return status == LUA_OK;
}

static bool
call_items(lua_State *L, struct fz_child_calls *c)
{
	int status, list = CHUNK_ITEMS;

	if ((c->chunk->kind & (FZ_WIRE_INHERITED | FZ_WIRE_KEPT)) ==
	    FZ_WIRE_INHERITED)
		list = FZ_CHILD_LIST;
	lua_settop(L, CHUNK_KEPT);
	lua_pushcfunction(L, items_body);
	lua_pushlightuserdata(L, c);
	lua_pushvalue(L, CHUNK_FUNC);
	lua_pushvalue(L, list);
	lua_pushvalue(L, CHUNK_KEPT);
	status = lua_pcall(L, 4, 0, CHUNK_HANDLER);
	end_raw_run(c); /* an error may have left a raw run open */
	if (status != LUA_OK)
		fz_child_put_error(L, c, status);
	return status == LUA_OK;
}

int
fz_child_chunk(
    lua_State *L, struct fz_child_chunk *chunk, const struct fz_child_io *io)
{
	struct fz_child_calls c = {
		.chunk = chunk, .io = io, .raw = fz_rawarray_known()
	};
	bool opened = false, failed;

	lua_settop(L, FZ_CHILD_LIST);
	lua_pushcfunction(L, fz_child_note_traceback);
	do {
		opened = opened || open_items(L, &c);
		failed = !opened || !call_items(L, &c);
		if (c.mapped)
			io->release(io->ctx);
		c.mapped = c.plain = false;
		if (failed)
			c.gone = io->send(io->ctx) != 0;
	} while (failed && !c.gone && item_advance(&c));
	lua_settop(L, FZ_CHILD_LIST);
	fz_cwd_return();
	return c.gone ? -1 : 0;
}
