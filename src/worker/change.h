/*
 * change.h - changes of the objects that a process waits for, such as runs and
 * batches.
 *
 * An object that changes is added to the list of its engine, unless it is there
 * already. So the waiters of changed objects are found without checking any
 * other object.
 */
#ifndef FZ_CHANGE_H
#define FZ_CHANGE_H

#include <stdint.h>

#include "base/list.h"

struct fz_engine;

struct fz_change {
	struct fz_engine *engine;
	struct fz_list link; /* in the engine's list of changed objects */
	uint64_t id;         /* number of the object, unique in the engine */
};

/* Initialise the change of an object. End with fz_change_fini(). */
void fz_change_init(struct fz_change *change, struct fz_engine *engine);
void fz_change_fini(struct fz_change *change);

/* Report that the object has changed, so that its waiters check it. */
void fz_changed(struct fz_change *change);

/*
 * Remove the object that changed first from the list. Returns its id; 0 if none
 * has changed.
 */
uint64_t fz_change_take(struct fz_engine *engine);

#endif
