#include "bind/shared/lchannel.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "bind/lloop.h"
#include "bind/shared/lhandle.h"
#include "bind/shared/lwait.h"
#include "value/codec.h"
#include "value/items.h"
#include "value/lerror.h"

/* A message as it is encoded or copied; a nested one has another. */
static struct {
	unsigned char bytes[FZ_QUEUE_INLINE];
	bool busy;
} scratch[2];

/* ---- putting ----------------------------------------------------------- */

struct putting {
	struct fz_queue *queue;
	uint32_t self;
	struct fz_queue_item item;
	enum fz_queue_state state;
	bool busy; /* one that was stopped is in the way */
	struct fz_err err;
	int64_t until_ns;
	struct fz_queue_buf out;
	unsigned char small[FZ_ITEMS_SMALL];
};

static bool
try_put(void *ctx, bool late)
{
	struct putting *p = ctx;

	(void)late;
	p->state = fz_queue_put(p->queue, p->self, &p->item, &p->err);
	p->busy = p->state == FZ_QUEUE_BUSY;
	if (p->busy)
		p->state = FZ_QUEUE_WAIT;
	return p->state != FZ_QUEUE_WAIT;
}

/* Put the item; what it is made of stays the caller's unless that is done. */
static void
put_item(lua_State *L, struct putting *p)
{
	struct fz_eventcount *room = &p->queue->room;
	bool slept, done = try_put(p, true);

	if (done || p->until_ns == FZ_LCHANNEL_NOW)
		return;
	if (!fz_lwait(L, room, try_put, p, p->until_ns, &slept) || !slept)
		return;
	fz_eventcount_again(room);
	if (fz_queue_size(p->queue) < p->queue->max)
		fz_eventcount_wake(room, 1);
}

/* (value, struct putting) */
static int
put_message(lua_State *L)
{
	struct putting *p = lua_touserdata(L, 2);
	struct fz_queue_buf *out = &p->out;
	struct fz_queue_item *item = &p->item;

	fz_codec_encode(L, 1, 1, &out->buf);
	fz_lhandle_end();
	item->body = out->buf.data;
	item->nbody = out->buf.len;
	if (item->nbody <= FZ_QUEUE_INLINE - FZ_ITEMS_HEAD) {
		fz_items_store_head(p->small, (uint32_t)item->nbody);
		item->head = p->small;
		item->nhead = FZ_ITEMS_HEAD;
	} else {
		item->chunks = fz_queue_buf_trim(out);
	}
	put_item(L, p);
	if (p->state == FZ_QUEUE_DONE && item->chunks != NULL)
		fz_queue_buf_forget(out);
	return 0;
}

/* Say in the error on top that it is about the value, if it is. */
static void
name_value(lua_State *L)
{
	if (!fz_lerror_is(L, -1))
		return;
	luaL_checkstack(L, 4, NULL);
	if (lua_getfield(L, -1, "value") == LUA_TNUMBER) {
		lua_pushliteral(L, "value: ");
		lua_getfield(L, -3, "message");
		lua_concat(L, 2);
		lua_setfield(L, -3, "message");
	}
	lua_pop(L, 1);
}

/* A value of any kind: while it is encoded, others may be put. */
static void
put_any(lua_State *L, int idx, struct putting *p)
{
	bool nested = scratch[0].busy;
	size_t stored;
	int rc;

	p->state = FZ_QUEUE_WAIT;
	lua_pushcfunction(L, put_message);
	lua_pushvalue(L, idx);
	lua_pushlightuserdata(L, p);
	fz_queue_buf_init(&p->out, nested ? NULL : scratch[0].bytes,
	    FZ_QUEUE_INLINE - FZ_ITEMS_HEAD);
	scratch[0].busy = true;
	stored = fz_lhandle_begin();
	rc = lua_pcall(L, 2, 0, 0);
	fz_lhandle_settle(stored, p->state == FZ_QUEUE_DONE);
	scratch[0].busy = nested;
	fz_buf_fini(&p->out.buf);
	if (rc == LUA_OK)
		return;
	name_value(L);
	lua_error(L);
}

enum fz_queue_state
fz_lchannel_put(lua_State *L, struct fz_queue *queue, uint32_t self, int idx,
    int64_t until_ns)
{
	struct putting p;

	p.queue = queue;
	p.self = self;
	p.until_ns = until_ns;
	p.item.body = NULL;
	p.item.nbody = 0;
	p.item.chunks = NULL;
	p.item.head = p.small;
	p.item.nhead = fz_items_store(L, idx, p.small);
	luaL_checkstack(L, 8, NULL);
	if (p.item.nhead != 0)
		put_item(L, &p);
	else
		put_any(L, idx, &p);
	if (p.state == FZ_QUEUE_FAILED) {
		p.err.kind = FZ_ERR_MEMORY;
		fz_lerror_raise(L, &p.err);
	}
	return p.state;
}

/* ---- taking ------------------------------------------------------------ */

struct taking {
	const struct fz_lchannel *channel;
	struct fz_queue_taken taken;
	enum fz_queue_state state;
	bool busy; /* one that was stopped is in the way */
};

static void
take(struct taking *t)
{
	const struct fz_lchannel *c = t->channel;

	t->state = fz_queue_take(c->queue, c->self, &t->taken);
	t->busy = t->state == FZ_QUEUE_BUSY;
	if (t->busy)
		t->state = FZ_QUEUE_WAIT;
}

static bool
try_take(void *ctx, bool late)
{
	struct taking *t = ctx;
	const struct fz_lchannel *c = t->channel;

	take(t);
	if (t->state != FZ_QUEUE_WAIT)
		return true;
	if (t->busy || c->is_over == NULL || !c->is_over(c->ctx, late))
		return false;
	/* It may have put one before its end. */
	take(t);
	if (t->state == FZ_QUEUE_WAIT && !t->busy)
		t->state = FZ_QUEUE_CLOSED;
	return t->state != FZ_QUEUE_WAIT;
}

static void
take_item(lua_State *L, struct taking *t, int64_t until_ns)
{
	struct fz_queue *queue = t->channel->queue;
	bool slept, done = try_take(t, true);

	if (done || until_ns == FZ_LCHANNEL_NOW)
		return;
	if (!fz_lwait(L, &queue->items, try_take, t, until_ns, &slept) ||
	    !slept)
		return;
	fz_eventcount_again(&queue->items);
	if (fz_queue_is_ready(queue))
		fz_eventcount_wake(&queue->items, 1);
}

/* (struct fz_queue_taken) -> value */
static int
decode(lua_State *L)
{
	const struct fz_queue_taken *taken = lua_touserdata(L, 1);
	struct fz_reader items;
	int n;

	if (taken->chunks == NULL) {
		fz_reader_init(&items, taken->bytes, taken->len);
		fz_items_push(L, &items);
		return 1;
	}
	n = fz_codec_decode(L, taken->chunks, taken->len, FZ_CODEC_RUN);
	return n == 1 ? 1 : luaL_error(L, "an item is not one value");
}

/* What is decoded may take others meanwhile. */
static void
push_message(lua_State *L, struct taking *t)
{
	bool nested = scratch[1].busy;
	int rc;

	luaL_checkstack(L, 4, NULL);
	lua_pushcfunction(L, decode);
	lua_pushlightuserdata(L, &t->taken);
	scratch[1].busy = true;
	rc = lua_pcall(L, 1, 1, 0);
	scratch[1].busy = nested;
	if (t->taken.chunks != NULL)
		fz_heap_give(t->taken.chunks);
	if (rc != LUA_OK)
		lua_error(L);
}

static void
push_item(lua_State *L, struct taking *t)
{
	struct fz_reader items;

	if (t->taken.chunks != NULL || *t->taken.bytes == FZ_FORMAT_ITEM) {
		push_message(L, t);
		return;
	}
	fz_reader_init(&items, t->taken.bytes, t->taken.len);
	fz_items_push(L, &items);
}

/* (struct taking, until_ns) -> value */
static int
take_nested(lua_State *L)
{
	struct taking *t = lua_touserdata(L, 1);

	take_item(L, t, lua_tointeger(L, 2));
	if (t->state != FZ_QUEUE_DONE)
		return 0;
	push_item(L, t);
	return 1;
}

static void
raise_uncounted(lua_State *L)
{
	struct fz_err err;

	fz_err_set(
	    &err, FZ_ERR_MEMORY, "no memory to count who has taken items");
	fz_lerror_raise(L, &err);
}

/* From within the decoding of another one, which has the scratch. */
static void
take_apart(lua_State *L, struct taking *t, int64_t until_ns)
{
	struct fz_err err;
	int rc;

	luaL_checkstack(L, 4, NULL);
	lua_pushcfunction(L, take_nested);
	lua_pushlightuserdata(L, t);
	lua_pushinteger(L, until_ns);
	t->taken.bytes = malloc(FZ_QUEUE_INLINE);
	if (t->taken.bytes == NULL) {
		fz_err_nomem(&err, "an item");
		fz_lerror_raise(L, &err);
	}
	rc = lua_pcall(L, 2, LUA_MULTRET, 0);
	free(t->taken.bytes);
	if (rc != LUA_OK)
		lua_error(L);
}

enum fz_queue_state
fz_lchannel_take(
    lua_State *L, const struct fz_lchannel *channel, int64_t until_ns)
{
	struct taking t = { .channel = channel,
		.taken = {
		    .bytes = scratch[1].bytes, .is_owed = channel->is_owed } };

	if (scratch[1].busy) {
		take_apart(L, &t, until_ns);
	} else {
		take_item(L, &t, until_ns);
		if (t.state == FZ_QUEUE_DONE)
			push_item(L, &t);
	}
	if (t.state == FZ_QUEUE_FAILED)
		raise_uncounted(L);
	return t.state;
}
