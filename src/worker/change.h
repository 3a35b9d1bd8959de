/*
 * change.h - changes of the objects that a process waits for, such as runs and
 * batches.
 *
 * An object that changes is added to the list of its engine, unless it is in
 * the list already. The waiters of changed objects are found through this list,
 * without a check of other objects.
 */
#ifndef FZ_CHANGE_H
#define FZ_CHANGE_H

#include <stdint.h>

#include "base/list.h"

struct fz_engine;

struct fz_change {
	struct fz_engine *engine;
	struct fz_list link; /* link in the engine's list of changed objects */
	uint64_t id;         /* number of the object, unique in the engine */
};

/* The caller ends `change` with fz_change_fini(). */
void fz_change_init(struct fz_change *change, struct fz_engine *engine);
void fz_change_fini(struct fz_change *change);

/* Report that the object has changed: its waiters will check it. */
void fz_changed(struct fz_change *change);

/*
 * Remove the first object from the list of changed objects. Returns its id; 0
 * if the list is empty.
 */
uint64_t fz_change_take(struct fz_engine *engine);

#endif
