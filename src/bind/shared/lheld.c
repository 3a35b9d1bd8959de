#include "bind/shared/lheld.h"

#include <stdatomic.h>
#include <stdlib.h>

#include <lauxlib.h>

#include "base/vec.h"
#include "bind/shared/lshared.h"
#include "shared/heap.h"
#include "shared/lock.h"
#include "value/luserdata.h"

struct fz_lheld_note {
	struct fz_lock *lock;
	const struct fz_object *object;
	/* generation of the object, which may have been freed */
	uint32_t generation;
	uint32_t task;
};

void
fz_lheld_add(struct fz_lshared *shared, struct fz_lock *lock,
    const struct fz_object *object, uint32_t task)
{
	struct fz_lheld *held = &shared->held;
	struct fz_lheld_note *notes =
	    fz_vec_room(held->notes, &held->room, held->n + 1, sizeof(*notes));

	if (notes == NULL)
		return;
	held->notes = notes;
	notes[held->n++] =
	    (struct fz_lheld_note){ lock, object, object->generation, task };
}

static void
remove_at(struct fz_lheld *held, size_t i)
{
	held->n--;
	for (; i < held->n; i++)
		held->notes[i] = held->notes[i + 1];
}

void
fz_lheld_remove(
    struct fz_lshared *shared, const struct fz_lock *lock, uint32_t task)
{
	struct fz_lheld *held = &shared->held;

	for (size_t i = held->n; i-- > 0;) {
		if (held->notes[i].lock == lock &&
		    held->notes[i].task == task) {
			remove_at(held, i);
			return;
		}
	}
}

/*
 * Abandon a lock of a task that has ended. If the task was in a wait for a
 * condition, another process may hold the lock now.
 */
static void
abandon(const struct fz_lheld_note *note, uint32_t self)
{
	if (note->object->generation == note->generation &&
	    atomic_load(&note->object->type) != 0 &&
	    fz_lock_is_of(note->lock, self, note->task))
		fz_lock_abandon(note->lock);
}

/* core.abandon_locks(number): release the locks of a task that has ended */
static int
abandon_locks(lua_State *L)
{
	struct fz_lshared *shared = lua_touserdata(L, lua_upvalueindex(1));
	struct fz_lheld *held = &shared->held;
	uint32_t self, task;

	if (held->n == 0)
		return 0;
	self = fz_lshared_member(shared);
	task = (uint32_t)luaL_checkinteger(L, 1);
	for (size_t i = held->n; i-- > 0;) {
		if (held->notes[i].task != task)
			continue;
		abandon(&held->notes[i], self);
		remove_at(held, i);
	}
	return 0;
}

/* Free the notes. Finalizers that run later find no notes. */
static int
held_gc(lua_State *L)
{
	struct fz_lheld *held =
	    &((struct fz_lshared *)lua_touserdata(L, 1))->held;

	free(held->notes);
	*held = (struct fz_lheld){ NULL, 0, 0 };
	return 0;
}

int
fz_lheld_open(lua_State *L)
{
	fz_lshared_push(L);
	fz_luserdata_finalize(L, held_gc);
	lua_pushcclosure(L, abandon_locks, 1);
	lua_setfield(L, -2, "abandon_locks");
	return 0;
}
