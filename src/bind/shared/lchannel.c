#include "bind/shared/lchannel.h"

#include <stdlib.h>
#include <string.h>

#include <lauxlib.h>

#include "base/container.h"
#include "bind/lloop.h"
#include "bind/shared/lshared.h"
#include "bind/shared/lwait.h"
#include "codec/codec.h"
#include "codec/items.h"
#include "shared/queue_buf.h"
#include "value/lerror.h"

/* For messages: the object for which a put or a take waits. */
#define ROOM "room in a queue or pipe"
#define ITEM "an item of a queue or pipe"

struct putting {
	struct fz_lwait wait;
	struct fz_queue *queue;
	uint32_t self;
	enum fz_queue_state state;
	struct fz_err err; /* the error if the state is FAILED */
	fz_lchannel_then then;
	size_t nhead, nbody;
	const void *body;
	/* blocks with the body, which the queue will own; or NULL */
	void *blocks;
	unsigned char head[FZ_ITEMS_SMALL];
};

/* A put of a value that must be encoded. */
struct message {
	struct putting putting;
	struct fz_queue_buf out;
	struct fz_lhandle_stored stored;
	/* the scratch, if the body is in it; else NULL */
	struct fz_lshared_buffer *borrowed;
	bool moved; /* a copy on the Lua stack is used */
	void *copy; /* copy of the body, made for a wait; NULL: none */
};

static bool
try_put(struct fz_lwait *wait, bool late)
{
	struct putting *p = FZ_CONTAINER_OF(wait, struct putting, wait);
	struct fz_queue_item item = { p->head, p->body, p->nhead, p->nbody,
		p->blocks };

	(void)late;
	p->state = fz_queue_put(p->queue, p->self, &item, &p->err);
	/*
	 * If a stopped process holds the lock of the queue, wait as if the
	 * queue was full.
	 */
	if (p->state == FZ_QUEUE_BUSY)
		p->state = FZ_QUEUE_WAIT;
	return p->state != FZ_QUEUE_WAIT;
}

/*
 * Wake the next waiter if there is still room. A change wakes only one waiter,
 * and this one has succeeded.
 */
static void
pass_room_on(struct fz_queue *queue)
{
	fz_eventcount_rearm(&queue->room);
	if (fz_queue_size(queue) < queue->max)
		fz_eventcount_notify(&queue->room, 1);
}

static int
put_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct putting *p = FZ_CONTAINER_OF(wait, struct putting, wait);

	if (in_time && wait->slept)
		pass_room_on(p->queue);
	if (p->state == FZ_QUEUE_FAILED) {
		p->err.kind = FZ_ERR_MEMORY;
		return fz_lerror_raise(L, &p->err);
	}
	return p->then(L, p->state);
}

static const struct fz_lwait_class putting_class = {
	.what = ROOM, .try = try_put, .end = put_end
};

/* Free the scratch, and the memory that the queue does not own. */
static void
settle(struct message *m)
{
	bool done = m->putting.state == FZ_QUEUE_DONE;

	fz_lhandle_settle(&m->stored, done);
	if (done && m->putting.blocks != NULL)
		fz_queue_buf_forget(&m->out);
	if (m->borrowed != NULL)
		m->borrowed->busy = false;
	m->borrowed = NULL;
	fz_buf_fini(&m->out.buf);
	free(m->copy);
	m->copy = NULL;
}

static int
message_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct message *m = FZ_CONTAINER_OF(wait, struct message, putting.wait);

	settle(m);
	fz_lwait_over(wait);
	return put_end(L, wait, in_time);
}

static void
message_abandon(lua_State *L, struct fz_lwait *wait)
{
	(void)L;
	settle(FZ_CONTAINER_OF(wait, struct message, putting.wait));
}

static const struct fz_lwait_class message_class = { ROOM, try_put, message_end,
	message_abandon };

static void
encode(lua_State *L, struct message *m)
{
	struct putting *p = &m->putting;
	struct fz_queue_buf *out = &m->out;

	fz_codec_encode(L, 1, 1, &out->buf);
	fz_lhandle_end(&m->stored);
	p->body = out->buf.data;
	p->nbody = out->buf.len;
	if (p->nbody > FZ_QUEUE_INLINE - FZ_ITEMS_HEAD) {
		p->blocks = fz_queue_buf_trim(out);
		return;
	}
	fz_items_store_head(p->head, (uint32_t)p->nbody);
	p->nhead = FZ_ITEMS_HEAD;
}

/*
 * Copy the body from the scratch to other memory, because other tasks may use
 * the scratch during the wait.
 */
static void
leave_scratch(lua_State *L, struct message *m)
{
	if (m->borrowed == NULL)
		return;
	m->copy = malloc(m->putting.nbody);
	if (m->copy == NULL) {
		fz_lerror_nomem(L, "an item");
		return;
	}
	memcpy(m->copy, m->putting.body, m->putting.nbody);
	m->putting.body = m->copy;
	m->borrowed->busy = false;
	m->borrowed = NULL;
}

/*
 * put_protected(value, message) -> nothing | a wait, with a copy of the
 * message, because the queue is full
 */
static int
put_protected(lua_State *L)
{
	struct message *m = lua_touserdata(L, 2);
	struct fz_lwait *wait = &m->putting.wait;

	encode(L, m);
	if (try_put(wait, true) || wait->until_ns == FZ_LCHANNEL_NOW)
		return 0;
	leave_scratch(L, m);
	fz_lwait_copy(L, wait, sizeof(*m));
	m->moved = true;
	return 1;
}

static void
prepare(struct putting *p, const struct fz_lchannel *channel, int64_t until_ns,
    fz_lchannel_then then)
{
	p->wait.class = &putting_class;
	p->wait.at = &channel->queue->room;
	p->wait.until_ns = until_ns;
	p->wait.slept = false;
	p->queue = channel->queue;
	p->self = channel->self;
	p->then = then;
	p->state = FZ_QUEUE_WAIT;
	p->nbody = 0;
	p->body = p->blocks = NULL;
}

/* Prepare `m`. The body is encoded into the scratch, unless it is in use. */
static void
prepare_message(struct message *m, const struct fz_lchannel *channel,
    struct fz_lshared_buffer *scratch)
{
	m->putting.wait.class = &message_class;
	m->putting.nhead = 0;
	m->stored = (struct fz_lhandle_stored){ 0 };
	m->copy = NULL;
	m->moved = false;
	m->borrowed = !scratch->busy ? scratch : NULL;
	fz_queue_buf_init(&m->out, channel->self,
	    m->borrowed != NULL ? scratch->bytes : NULL,
	    FZ_QUEUE_INLINE - FZ_ITEMS_HEAD);
}

/* Put a value that is encoded. Its __fzpack may put other values. */
static int
put_message(lua_State *L, const struct fz_lchannel *channel, int64_t until_ns,
    fz_lchannel_then then)
{
	struct fz_lshared_buffer *scratch =
	    &fz_lshared_scratch(L, channel->shared)->put;
	struct message m;

	prepare(&m.putting, channel, until_ns, then);
	prepare_message(&m, channel, scratch);
	luaL_checkstack(L, 8, NULL);
	lua_pushcfunction(L, put_protected);
	lua_pushvalue(L, 2);
	lua_pushlightuserdata(L, &m);
	if (m.borrowed != NULL)
		m.borrowed->busy = true; /* settle() frees it */
	fz_lhandle_begin(channel->shared, &m.stored);
	if (lua_pcall(L, 2, LUA_MULTRET, 0) != LUA_OK) {
		settle(&m);
		fz_lerror_name_value(L, "value: ");
		return lua_error(L);
	}
	if (m.moved)
		return fz_lwait_pushed(L, fz_lwait_at(L, -1));
	settle(&m);
	return put_end(L, &m.putting.wait, true);
}

int
fz_lchannel_put(lua_State *L, const struct fz_lchannel *channel,
    int64_t until_ns, fz_lchannel_then then)
{
	struct putting p;

	p.nhead = fz_items_store(L, 2, p.head);
	if (p.nhead == 0)
		return put_message(L, channel, until_ns, then);
	prepare(&p, channel, until_ns, then);
	if (try_put(&p.wait, true) || until_ns == FZ_LCHANNEL_NOW)
		return put_end(L, &p.wait, true);
	return fz_lwait(L, &p.wait, sizeof(p));
}

struct taking {
	struct fz_lwait wait;
	struct fz_lchannel channel;
	struct fz_queue_taken taken;
	enum fz_queue_state state;
	bool busy; /* whether a stopped process holds the lock of the queue */
	fz_lchannel_then then;
	void *own; /* buffer for the item; NULL: the scratch is used */
};

static void
take(struct taking *t)
{
	const struct fz_lchannel *c = &t->channel;

	t->state = fz_queue_take(c->queue, c->self, &t->taken);
	t->busy = t->state == FZ_QUEUE_BUSY;
	if (t->busy)
		t->state = FZ_QUEUE_WAIT;
}

static bool
try_take(struct fz_lwait *wait, bool late)
{
	struct taking *t = FZ_CONTAINER_OF(wait, struct taking, wait);
	struct fz_lchannel *c = &t->channel;

	take(t);
	if (t->state != FZ_QUEUE_WAIT)
		return true;
	if (t->busy || c->receiver.pipe == NULL ||
	    !fz_pipe_has_ended(&c->receiver, late))
		return false;
	/* Try again: an item may have been put just before the pipe ended. */
	take(t);
	if (t->state == FZ_QUEUE_WAIT && !t->busy)
		t->state = FZ_QUEUE_CLOSED;
	return t->state != FZ_QUEUE_WAIT;
}

/* decode(struct fz_queue_taken) -> value */
static int
decode(lua_State *L)
{
	const struct fz_queue_taken *taken = lua_touserdata(L, 1);
	struct fz_reader items;
	int n;

	if (taken->blocks == NULL) {
		fz_reader_init(&items, taken->bytes, taken->len);
		fz_items_push(L, &items);
		return 1;
	}
	n = fz_codec_decode(L, taken->blocks, taken->len, FZ_CODEC_RUN);
	return n == 1 ? 1
		      : luaL_error(L, "the item is damaged: it is not exactly "
				      "one Lua value");
}

/* Push the value of an encoded item. Its __fzunpack may take other items. */
static void
push_message(lua_State *L, struct taking *t)
{
	struct fz_lshared_buffer *scratch = &t->channel.shared->scratch->take;
	bool nested = scratch->busy;
	int rc;

	luaL_checkstack(L, 4, NULL);
	lua_pushcfunction(L, decode);
	lua_pushlightuserdata(L, &t->taken);
	scratch->busy = true;
	rc = lua_pcall(L, 1, 1, 0);
	scratch->busy = nested;
	if (t->taken.blocks != NULL)
		fz_heap_give_back(t->taken.blocks);
	if (rc != LUA_OK)
		lua_error(L);
}

static void
push_item(lua_State *L, struct taking *t)
{
	struct fz_reader items;

	if (t->taken.blocks != NULL || *t->taken.bytes == FZ_FORMAT_ITEM) {
		push_message(L, t);
		return;
	}
	fz_reader_init(&items, t->taken.bytes, t->taken.len);
	fz_items_push(L, &items);
}

/*
 * Wake the next waiter if there is another item. A change wakes only one
 * waiter, and this one has succeeded.
 */
static void
pass_items_on(struct fz_queue *queue)
{
	fz_eventcount_rearm(&queue->items);
	if (fz_queue_is_ready(queue))
		fz_eventcount_notify(&queue->items, 1);
}

static int
take_end(lua_State *L, struct fz_lwait *wait, bool in_time)
{
	struct taking *t = FZ_CONTAINER_OF(wait, struct taking, wait);

	if (in_time && wait->slept)
		pass_items_on(t->channel.queue);
	if (t->state == FZ_QUEUE_FAILED)
		return fz_lerror_fail(L, FZ_ERR_MEMORY,
		    "out of memory: cannot count the taken items");
	if (t->state == FZ_QUEUE_DONE)
		push_item(L, t);
	return t->then(L, t->state);
}

static const struct fz_lwait_class taking_class = {
	.what = ITEM, .try = try_take, .end = take_end
};

static void
free_own(lua_State *L, struct fz_lwait *wait)
{
	struct taking *t = FZ_CONTAINER_OF(wait, struct taking, wait);

	(void)L;
	free(t->own);
	t->own = NULL;
}

/* free_own() frees the buffer if the wait is closed before its end. */
static const struct fz_lwait_class taking_apart_class = { ITEM, try_take,
	take_end, free_own };

/*
 * Take with a separate buffer, because an item in the scratch is being decoded,
 * or other tasks may take items during the wait.
 */
static int
take_apart(lua_State *L, const struct taking *of)
{
	struct fz_lwait *wait = fz_lwait_new(L, sizeof(struct taking));
	struct taking *t = FZ_CONTAINER_OF(wait, struct taking, wait);

	t->channel = of->channel;
	t->taken.is_tracked = of->channel.is_tracked;
	t->then = of->then;
	wait->until_ns = of->wait.until_ns;
	wait->at = of->wait.at;
	wait->class = &taking_apart_class;
	t->taken.bytes = t->own = malloc(FZ_QUEUE_INLINE);
	if (t->own == NULL)
		return fz_lerror_nomem(L, "an item");
	if (try_take(wait, true) || wait->until_ns == FZ_LCHANNEL_NOW)
		return take_end(L, wait, true);
	return fz_lwait_pushed(L, wait);
}

int
fz_lchannel_take(lua_State *L, const struct fz_lchannel *channel,
    int64_t until_ns, fz_lchannel_then then)
{
	struct fz_lshared_buffer *scratch =
	    &fz_lshared_scratch(L, channel->shared)->take;
	struct taking t = {
		.wait = { .class = &taking_class,
		    .at = &channel->queue->items,
		    .until_ns = until_ns },
		.channel = *channel,
		.taken = { .bytes = scratch->bytes,
		    .is_tracked = channel->is_tracked },
		.then = then,
	};

	if (scratch->busy)
		return take_apart(L, &t);
	if (try_take(&t.wait, true) || until_ns == FZ_LCHANNEL_NOW)
		return take_end(L, &t.wait, true);
	if (fz_ltask_is_running(L))
		return take_apart(L, &t);
	return fz_lwait(L, &t.wait, sizeof(t));
}
