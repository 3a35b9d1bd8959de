/*
 * lheld.h - the locks that tasks of this process hold.
 *
 * A task that ends abandons the locks that it still holds, like a process that
 * dies. Therefore a note is made when a task acquires a lock.
 */
#ifndef FZ_LHELD_H
#define FZ_LHELD_H

#include <stddef.h>
#include <stdint.h>

#include <lua.h>

struct fz_lock;
struct fz_lshared;
struct fz_object;

struct fz_lheld {
	/* the notes, in the order in which they were made */
	struct fz_lheld_note *notes;
	size_t n, room;
};

/*
 * Note that the task has acquired the lock, which is a part of `object`. If
 * there is no memory for the note, the lock is not released when the task ends.
 */
void fz_lheld_add(struct fz_lshared *shared, struct fz_lock *lock,
    const struct fz_object *object, uint32_t task);

/*
 * Remove the note, because the task has released the lock. Does nothing if
 * there is no note.
 */
void fz_lheld_remove(
    struct fz_lshared *shared, const struct fz_lock *lock, uint32_t task);

/* Add core.abandon_locks to the core table on top. [-0, +0, e] */
int fz_lheld_open(lua_State *L);

#endif
