#include "bind/shared/lhandle.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/vec.h"
#include "bind/shared/lshared.h"
#include "value/handle.h"
#include "value/lerror.h"
#include "value/luserdata.h"

/*
 * Garbage is not collected before the used shared memory has grown by this
 * number of bytes.
 */
#define COLLECT_THRESHOLD ((size_t)4 << 20)

const char fz_lhandle_mark[1];

/* The class of a handle. The type of the handle must be registered. */
static const struct fz_lhandle_class *
class_of(const struct fz_lhandle *handle)
{
	return &handle->shared->classes[handle->type];
}

static bool
is_handle(lua_State *L, int idx)
{
	return fz_lhandle_at(L, idx) != NULL;
}

static uint64_t
newest_child(const struct fz_lshared *shared)
{
	return fz_children_newest(shared->pipes.children);
}

/* Whether a child that was forked after the object was made is alive. */
static bool
may_be_used(const struct fz_lshared *shared, const struct fz_object *object)
{
	return newest_child(shared) > object->forks;
}

/*
 * Free the dropped objects that no child can use any more. A Lua state that is
 * not a member has no dropped objects.
 */
static void
free_dropped(struct fz_lshared *shared)
{
	struct fz_ref *at = &shared->membership->dropped;
	struct fz_object *object;

	if (newest_child(shared) > shared->latest)
		return;
	shared->latest = 0;
	while ((object = fz_ref_get(at)) != NULL) {
		if (may_be_used(shared, object)) {
			if (object->forks > shared->latest)
				shared->latest = object->forks;
			at = &object->next;
			continue;
		}
		fz_ref_set(at, fz_ref_get(&object->next));
		fz_heap_free(shared->membership, object);
	}
}

static void
drop(struct fz_lshared *shared, struct fz_object *object)
{
	struct fz_ref *dropped = &shared->membership->dropped;

	if (!may_be_used(shared, object)) {
		fz_heap_free(shared->membership, object);
		return;
	}
	if (object->forks > shared->latest)
		shared->latest = object->forks;
	fz_ref_set(&object->next, fz_ref_get(dropped));
	fz_ref_set(dropped, object);
}

/*
 * Called when a handle is dropped, but its object stays allocated for other
 * processes. If the parent has died, an object that was never sent may have
 * been freed, and its memory may contain another object, so the generation is
 * compared.
 */
static void
release_unneeded(const struct fz_lhandle *handle, struct fz_object *object)
{
	uint32_t type = atomic_load(&object->type);
	const struct fz_lhandle_class *class;

	if (type == 0 || type >= FZ_LHANDLE_NTYPES)
		return;
	class = &handle->shared->classes[type];
	if (class->idle != NULL && atomic_load(&object->sent) &&
	    object->generation == handle->generation &&
	    (atomic_load(&object->handles) == 0 ||
		!fz_heap_alive(object->maker)))
		class->idle(object, fz_lshared_member(handle->shared));
}

void
fz_lhandle_drop(struct fz_lhandle *handle)
{
	struct fz_object *object = handle->object;
	uint32_t self = fz_lshared_member(handle->shared);

	handle->object = NULL;
	if (object == NULL || self == 0)
		return;
	/*
	 * In a worker the object may be inherited or received. Only the process
	 * that made the object frees it.
	 */
	if (object->maker == self && atomic_fetch_sub(&object->handles, 1) != 1)
		return;
	if (object->maker != self || atomic_load(&object->sent)) {
		release_unneeded(handle, object);
		return;
	}
	drop(handle->shared, object);
	free_dropped(handle->shared);
}

/* The handle at index 1, of any class. Its object may be dropped already. */
static struct fz_lhandle *
check_any(lua_State *L, int idx)
{
	struct fz_lhandle *handle = fz_lhandle_at(L, idx);

	if (handle == NULL)
		luaL_typeerror(L, idx, "handle");
	return handle;
}

static int
handle_gc(lua_State *L)
{
	fz_lhandle_drop(check_any(L, 1));
	return 0;
}

/* Compare two userdata. Lua calls this if at least one of them is a handle. */
static int
handle_eq(lua_State *L)
{
	const struct fz_lhandle *a = fz_lhandle_at(L, 1);
	const struct fz_lhandle *b = fz_lhandle_at(L, 2);

	lua_pushboolean(L, a != NULL && b != NULL && a->type == b->type &&
			       a->object == b->object && a->side == b->side);
	return 1;
}

static int
handle_tostring(lua_State *L)
{
	const struct fz_lhandle *handle = check_any(L, 1);

	lua_pushfstring(L, "%s: %p", class_of(handle)->name, handle->object);
	return 1;
}

static bool store_handle(lua_State *L, int idx, unsigned char *bytes);
static bool load_handle(lua_State *L, const unsigned char *bytes);

static const struct fz_handle_binding binding = { is_handle, store_handle,
	load_handle };

static const luaL_Reg defaults[] = {
	{ "__gc", handle_gc },
	{ "__eq", handle_eq },
	{ "__tostring", handle_tostring },
	{ NULL, NULL },
};

void
fz_lhandle_class(lua_State *L, enum fz_lhandle_type type,
    const struct fz_lhandle_class *class)
{
	fz_handle_bind(&binding);
	fz_lshared(L)->classes[type] = *class;
}

/* Set the metatable of the handle on top. The first handle makes it. */
static void
set_metatable(lua_State *L, const struct fz_lhandle_class *class)
{
	if (fz_luserdata_begin(L, class->name)) {
		luaL_checkstack(L, 4, NULL);
		luaL_setfuncs(L, defaults, 0);
		lua_newtable(L);
		luaL_setfuncs(L, class->methods, 0);
		lua_pushvalue(L, -1);
		lua_setfield(L, -3, "__index");
		if (class->metamethods != NULL)
			luaL_setfuncs(L, class->metamethods, 1);
		else
			lua_pop(L, 1);
		fz_luserdata_end(L, class->name);
	}
	lua_setmetatable(L, -2);
}

static void
set_object(struct fz_lhandle *handle, struct fz_object *object)
{
	handle->object = object;
	handle->generation = object->generation;
	if (object->maker == fz_lshared_member(handle->shared))
		atomic_fetch_add(&object->handles, 1);
}

static struct fz_lhandle *
push(lua_State *L, struct fz_lshared *shared, enum fz_lhandle_type type,
    void *object, uint32_t side)
{
	struct fz_lhandle *handle = lua_newuserdatauv(L, sizeof(*handle), 1);

	*handle = (struct fz_lhandle){ .mark = fz_lhandle_mark,
		.shared = shared,
		.type = type,
		.side = side };
	set_metatable(L, class_of(handle));
	if (object != NULL)
		set_object(handle, object);
	return handle;
}

struct fz_lhandle *
fz_lhandle_push(
    lua_State *L, enum fz_lhandle_type type, void *object, uint32_t side)
{
	return push(L, fz_lshared(L), type, object, side);
}

/* Collect when shared memory has doubled, because Lua does not count it. */
static void
collect_if_much(lua_State *L, struct fz_lshared *shared)
{
	if (fz_heap_used() < shared->enough + COLLECT_THRESHOLD ||
	    !lua_gc(L, LUA_GCISRUNNING))
		return;
	lua_gc(L, LUA_GCCOLLECT);
	shared->enough = 2 * fz_heap_used();
}

void *
fz_lhandle_new(lua_State *L, enum fz_lhandle_type type, size_t size)
{
	struct fz_lshared *shared = fz_lshared(L);
	struct fz_lhandle *handle = push(L, shared, type, NULL, 0);
	struct fz_object *object;
	struct fz_err err = { 0 };

	/*
	 * Make no object while the Lua state is being closed, because the heap
	 * would not be released again.
	 */
	if (!shared->membership->acquired)
		fz_lerror_fail(L, FZ_ERR_CLOSED,
		    "fzlua is closed: this Lua state is being closed");
	fz_lshared_join(L, shared);
	collect_if_much(L, shared);
	free_dropped(shared);
	object = fz_heap_new(shared->membership, (uint32_t)type, size, &err);
	if (object == NULL) {
		fz_lerror_raise(L, &err);
		return NULL;
	}
	object->forks = shared->pipes.children->nforks;
	set_object(handle, object);
	return object;
}

struct fz_lhandle *
fz_lhandle_test(lua_State *L, int idx, enum fz_lhandle_type type)
{
	struct fz_lhandle *handle = fz_lhandle_at(L, idx);

	return handle != NULL && handle->type == type && handle->object != NULL
		   ? handle
		   : NULL;
}

struct fz_lhandle *
fz_lhandle_check(lua_State *L, int idx, enum fz_lhandle_type type)
{
	struct fz_lhandle *handle = fz_lhandle_at(L, idx);
	const char *name;

	if (handle != NULL && handle->type == type && handle->object != NULL)
		return handle;
	name = fz_lshared(L)->classes[type].name;
	if (handle != NULL && handle->type == type)
		fz_lerror_fail(
		    L, FZ_ERR_CLOSED, "the %s has been collected", name);
	luaL_typeerror(L, idx, name);
	return NULL;
}

uint32_t
fz_lhandle_self(lua_State *L)
{
	const struct fz_lhandle *handle = lua_touserdata(L, 1);

	return fz_lshared_join(L, handle->shared);
}

/* Keep the object allocated, and also that of a handle in the user value. */
static void
mark_sent(lua_State *L, int idx)
{
	const struct fz_lhandle *handle = lua_touserdata(L, idx);
	struct fz_object *object = handle->object;

	/*
	 * Mark the inner object first, because the process may be killed
	 * between the two marks.
	 */
	lua_getiuservalue(L, idx, 1);
	handle = fz_lhandle_at(L, -1);
	if (handle != NULL && handle->object != NULL)
		mark_sent(L, lua_gettop(L));
	lua_pop(L, 1);
	atomic_store(&object->sent, 1);
}

struct fz_lhandle_note {
	unsigned type;
	void *object;
	uint32_t side;
};

/* Note an encoded handle. If there is no memory, it counts as sent. */
static void
note(const struct fz_lhandle *handle)
{
	struct fz_lhandle_stored *s = handle->shared->storing;
	struct fz_lhandle_note *notes;

	if (s == NULL)
		return;
	notes = fz_vec_room(s->notes, &s->room, s->n + 1, sizeof(*notes));
	if (notes == NULL)
		return;
	s->notes = notes;
	s->notes[s->n++] = (struct fz_lhandle_note){ handle->type,
		handle->object, handle->side };
}

void
fz_lhandle_begin(struct fz_lshared *shared, struct fz_lhandle_stored *stored)
{
	stored->shared = shared;
	stored->outer = shared->storing;
	stored->on = true;
	shared->storing = stored;
}

void
fz_lhandle_end(struct fz_lhandle_stored *stored)
{
	if (stored->on)
		stored->shared->storing = stored->outer;
	stored->on = false;
}

void
fz_lhandle_settle(struct fz_lhandle_stored *stored, bool sent)
{
	fz_lhandle_end(stored);
	for (size_t i = 0; i < stored->n && !sent; i++) {
		const struct fz_lhandle_note *n = &stored->notes[i];

		stored->shared->classes[n->type].stored(n->object, n->side, -1);
	}
	free(stored->notes);
	*stored = (struct fz_lhandle_stored){ 0 };
}

/*
 * The first word of an encoded handle: the type is in its lower bits, and the
 * number of the heap in its upper bits.
 */
enum { TYPE_BITS = 8, TYPE_MASK = 0xff };
_Static_assert((int)FZ_LHANDLE_NTYPES <= (int)TYPE_MASK, "types fit");

static bool
store_handle(lua_State *L, int idx, unsigned char *bytes)
{
	const struct fz_lhandle *handle = fz_lhandle_at(L, idx);
	struct fz_object *object;

	if (handle == NULL || handle->object == NULL)
		return false;
	object = handle->object;
	handle->shared->has_sent = true;
	mark_sent(L, idx);
	fz_le32_store(bytes, handle->type | fz_heap_id() << TYPE_BITS);
	fz_le32_store(bytes + 4, fz_heap_name(object));
	fz_le32_store(bytes + 8, object->generation);
	fz_le32_store(bytes + 12, handle->side);
	if (class_of(handle)->stored != NULL) {
		class_of(handle)->stored(object, handle->side, 1);
		note(handle);
	}
	return true;
}

static bool
load_handle(lua_State *L, const unsigned char *bytes)
{
	struct fz_lshared *shared = fz_lshared(L);
	uint32_t word = fz_le32_load(bytes), type = word & TYPE_MASK;
	struct fz_object *object;
	struct fz_lhandle *handle;

	if (type == 0 || type >= FZ_LHANDLE_NTYPES ||
	    shared->classes[type].name == NULL)
		return false;
	if (word >> TYPE_BITS != fz_heap_id())
		fz_lerror_fail(L, FZ_ERR_UNSENDABLE,
		    "a %s cannot be sent to another machine: it works only "
		    "between processes of one machine",
		    shared->classes[type].name);
	object = fz_heap_find(
	    fz_le32_load(bytes + 4), fz_le32_load(bytes + 8), type);
	if (object == NULL)
		return false;
	handle = push(L, shared, (enum fz_lhandle_type)type, object,
	    fz_le32_load(bytes + 12));
	if (shared->classes[type].load != NULL)
		shared->classes[type].load(L, handle);
	return true;
}
