#include "bind/shared/lhandle.h"

#include <stdlib.h>

#include "base/buf.h"
#include "base/err.h"
#include "os/proc.h"
#include "shared/heap.h"
#include "value/handle.h"
#include "value/lerror.h"

#define COLLECT_THRESHOLD ((size_t)4 << 20) /* bytes of shared memory */

struct class
{
	const char *name; /* NULL: no such class */
	void (*load)(lua_State *L, struct fz_lhandle *handle);
	void (*stored)(void *object, uint32_t part, int n);
	void (*idle)(void *object);
};

/* Shared by all Lua states of the process. */
static struct class classes[FZ_LHANDLE_NTYPES];

/* The type of the handle at `idx`, 0 if it is none. */
static unsigned
type_of(lua_State *L, int idx)
{
	const struct fz_lhandle *handle = lua_touserdata(L, idx);
	unsigned type = FZ_LHANDLE_NTYPES;

	if (handle == NULL || lua_rawlen(L, idx) != sizeof(*handle))
		return 0;
	while (--type > 0) {
		if (classes[type].name != NULL &&
		    handle->name == classes[type].name)
			break;
	}
	return type;
}

static bool
is_handle(lua_State *L, int idx)
{
	return type_of(L, idx) != 0;
}

/* Upper bound of `forks` of all dropped objects. */
static uint64_t latest;

/* Whether a child that was forked after its creation may use the object. */
static bool
may_be_used(const struct fz_object *object)
{
	return fz_proc_newest() > object->forks;
}

static void
free_dropped(void)
{
	struct fz_ref *at = fz_heap_dropped();
	struct fz_object *object;

	if (fz_proc_newest() > latest)
		return;
	latest = 0;
	while ((object = fz_ref_get(at)) != NULL) {
		if (may_be_used(object)) {
			if (object->forks > latest)
				latest = object->forks;
			at = &object->next;
			continue;
		}
		fz_ref_set(at, fz_ref_get(&object->next));
		fz_heap_free(object);
	}
}

static void
drop(struct fz_object *object)
{
	if (!may_be_used(object)) {
		fz_heap_free(object);
		return;
	}
	if (object->forks > latest)
		latest = object->forks;
	fz_ref_set(&object->next, fz_ref_get(fz_heap_dropped()));
	fz_ref_set(fz_heap_dropped(), object);
}

/*
 * The object stays allocated, because another process may use it. If this
 * process outlived its parent, an object that was never sent may be freed and
 * its memory be another object by now, so the generation is compared.
 */
static void
release_unneeded(struct fz_object *object, uint32_t generation)
{
	uint32_t type = atomic_load(&object->type);

	if (type != 0 && type < FZ_LHANDLE_NTYPES &&
	    classes[type].idle != NULL && atomic_load(&object->sent) &&
	    object->generation == generation &&
	    (atomic_load(&object->handles) == 0 ||
		!fz_heap_alive(object->maker)))
		classes[type].idle(object);
}

void
fz_lhandle_drop(struct fz_lhandle *handle)
{
	struct fz_object *object = handle->object;

	handle->object = NULL;
	if (object == NULL || fz_heap_self() == 0)
		return;
	/* In a worker the object may be inherited or received. */
	if (object->maker == fz_heap_self() &&
	    atomic_fetch_sub(&object->handles, 1) != 1)
		return;
	if (object->maker != fz_heap_self() || atomic_load(&object->sent)) {
		release_unneeded(object, handle->generation);
		return;
	}
	drop(object);
	free_dropped();
}

/* A handle of any class; its object may be dropped. */
static struct fz_lhandle *
check_any(lua_State *L, int idx)
{
	if (!is_handle(L, idx))
		luaL_typeerror(L, idx, "handle");
	return lua_touserdata(L, idx);
}

static int
handle_gc(lua_State *L)
{
	fz_lhandle_drop(check_any(L, 1));
	return 0;
}

/* Lua calls this for two userdata if at least one is a handle. */
static int
handle_eq(lua_State *L)
{
	const struct fz_lhandle *a = lua_touserdata(L, 1);
	const struct fz_lhandle *b = lua_touserdata(L, 2);

	lua_pushboolean(L, is_handle(L, 1) && is_handle(L, 2) &&
			       a->name == b->name && a->object == b->object &&
			       a->part == b->part);
	return 1;
}

static int
handle_tostring(lua_State *L)
{
	const struct fz_lhandle *handle = check_any(L, 1);

	lua_pushfstring(L, "%s: %p", handle->name, handle->object);
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
fz_lhandle_class(lua_State *L, enum fz_lhandle_type type, const char *name,
    const luaL_Reg *methods, const luaL_Reg *metamethods,
    void (*load)(lua_State *L, struct fz_lhandle *handle))
{
	fz_handle_bind(&binding);
	classes[type] = (struct class){ name, load, NULL, NULL };
	if (luaL_newmetatable(L, name)) {
		luaL_setfuncs(L, defaults, 0);
		if (metamethods != NULL)
			luaL_setfuncs(L, metamethods, 0);
		if (methods != NULL &&
		    lua_getfield(L, -1, "__index") == LUA_TNIL) {
			lua_pop(L, 1);
			lua_newtable(L);
			luaL_setfuncs(L, methods, 0);
			lua_setfield(L, -2, "__index");
		} else if (methods != NULL) {
			lua_pop(L, 1);
		}
	}
	lua_pop(L, 1);
}

void
fz_lhandle_on_store(enum fz_lhandle_type type,
    void (*stored)(void *object, uint32_t part, int n))
{
	classes[type].stored = stored;
}

void
fz_lhandle_on_idle(enum fz_lhandle_type type, void (*idle)(void *object))
{
	classes[type].idle = idle;
}

static void
set_object(struct fz_lhandle *handle, struct fz_object *object)
{
	handle->object = object;
	handle->generation = object->generation;
	if (object->maker == fz_heap_self())
		atomic_fetch_add(&object->handles, 1);
}

struct fz_lhandle *
fz_lhandle_push(
    lua_State *L, enum fz_lhandle_type type, void *object, uint32_t part)
{
	struct fz_lhandle *handle = lua_newuserdatauv(L, sizeof(*handle), 1);

	*handle =
	    (struct fz_lhandle){ .name = classes[type].name, .part = part };
	luaL_setmetatable(L, handle->name);
	if (object != NULL)
		set_object(handle, object);
	return handle;
}

/*
 * Lua's collector does not see the size of shared objects: collect when the
 * shared memory has doubled.
 */
static void
collect_if_much(lua_State *L)
{
	static size_t enough = COLLECT_THRESHOLD;

	if (fz_heap_used() < enough || !lua_gc(L, LUA_GCISRUNNING))
		return;
	lua_gc(L, LUA_GCCOLLECT);
	enough = 2 * fz_heap_used() + COLLECT_THRESHOLD;
}

void *
fz_lhandle_new(lua_State *L, enum fz_lhandle_type type, size_t size)
{
	struct fz_lhandle *handle = fz_lhandle_push(L, type, NULL, 0);
	struct fz_object *object;
	struct fz_err err = { 0 };

	if (!fz_heap_is_acquired()) /* no later call would close the heap again
				     */
		fz_lerror_fail(L, FZ_ERR_CLOSED,
		    "fzlua is closed: this Lua state is at its end");
	collect_if_much(L);
	free_dropped();
	object = fz_heap_new((uint32_t)type, size, &err);
	if (object == NULL) {
		fz_lerror_raise(L, &err);
		return NULL;
	}
	object->forks = fz_proc_forks();
	set_object(handle, object);
	return object;
}

struct fz_lhandle *
fz_lhandle_test(lua_State *L, int idx, enum fz_lhandle_type type)
{
	struct fz_lhandle *handle = lua_touserdata(L, idx);

	if (handle == NULL || lua_rawlen(L, idx) != sizeof(*handle) ||
	    handle->name != classes[type].name || handle->object == NULL)
		return NULL;
	return handle;
}

struct fz_lhandle *
fz_lhandle_check(lua_State *L, int idx, enum fz_lhandle_type type)
{
	struct fz_lhandle *handle = fz_lhandle_test(L, idx, type);

	if (handle != NULL)
		return handle;
	if (type_of(L, idx) == type)
		fz_lerror_fail(L, FZ_ERR_CLOSED, "the %s has been collected",
		    classes[type].name);
	luaL_typeerror(L, idx, classes[type].name);
	return NULL;
}

uint32_t
fz_lhandle_self(lua_State *L)
{
	uint32_t self = fz_heap_self();
	struct fz_err err = { 0 };

	if (self != 0)
		return self;
	self = fz_heap_join(&err);
	if (self == 0)
		fz_lerror_raise(L, &err);
	return self;
}

/* Keep the object, and the object of the handle in its user value, alive. */
static void
mark_sent(lua_State *L, int idx)
{
	const struct fz_lhandle *handle = lua_touserdata(L, idx);
	struct fz_object *object = handle->object;

	/* The inner object first, because the process may be killed in between.
	 */
	lua_getiuservalue(L, idx, 1);
	handle = lua_touserdata(L, -1);
	if (type_of(L, -1) != 0 && handle->object != NULL)
		mark_sent(L, lua_gettop(L));
	lua_pop(L, 1);
	atomic_store(&object->sent, 1);
}

struct fz_lhandle_note {
	unsigned type;
	void *object;
	uint32_t part;
};

static struct fz_lhandle_stored
    *storing; /* the innermost that records; or NULL */

/* Out of memory: the handle counts as sent. */
static void
note(unsigned type, void *object, uint32_t part)
{
	struct fz_lhandle_stored *s = storing;

	if (s == NULL)
		return;
	if (s->n == s->room) {
		size_t room = s->room != 0 ? 2 * s->room : 16;
		void *notes = realloc(s->notes, room * sizeof(*s->notes));

		if (notes == NULL)
			return;
		s->notes = notes;
		s->room = room;
	}
	s->notes[s->n++] = (struct fz_lhandle_note){ type, object, part };
}

void
fz_lhandle_begin(struct fz_lhandle_stored *stored)
{
	stored->outer = storing;
	stored->on = true;
	storing = stored;
}

void
fz_lhandle_end(struct fz_lhandle_stored *stored)
{
	if (stored->on)
		storing = stored->outer;
	stored->on = false;
}

void
fz_lhandle_settle(struct fz_lhandle_stored *stored, bool sent)
{
	fz_lhandle_end(stored);
	for (size_t i = 0; i < stored->n && !sent; i++) {
		const struct fz_lhandle_note *n = &stored->notes[i];

		classes[n->type].stored(n->object, n->part, -1);
	}
	free(stored->notes);
	*stored = (struct fz_lhandle_stored){ 0 };
}

static bool
store_handle(lua_State *L, int idx, unsigned char *bytes)
{
	const struct fz_lhandle *handle = lua_touserdata(L, idx);
	unsigned type = type_of(L, idx);
	struct fz_object *object;

	if (type == 0 || handle->object == NULL)
		return false;
	object = handle->object;
	mark_sent(L, idx);
	fz_le32_store(bytes, type);
	fz_le32_store(bytes + 4, fz_heap_name(object));
	fz_le32_store(bytes + 8, object->generation);
	fz_le32_store(bytes + 12, handle->part);
	if (classes[type].stored != NULL) {
		classes[type].stored(object, handle->part, 1);
		note(type, object, handle->part);
	}
	return true;
}

static bool
load_handle(lua_State *L, const unsigned char *bytes)
{
	uint32_t type = fz_le32_load(bytes);
	struct fz_object *object;
	struct fz_lhandle *handle;

	if (type == 0 || type >= FZ_LHANDLE_NTYPES ||
	    classes[type].name == NULL)
		return false;
	object = fz_heap_find(
	    fz_le32_load(bytes + 4), fz_le32_load(bytes + 8), type);
	if (object == NULL)
		return false;
	handle = fz_lhandle_push(
	    L, (enum fz_lhandle_type)type, object, fz_le32_load(bytes + 12));
	if (classes[type].load != NULL)
		classes[type].load(L, handle);
	return true;
}
