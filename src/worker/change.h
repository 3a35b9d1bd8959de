/*
 * change.h - objects whose changes a process waits for: runs, batches, others.
 *
 * An object that changes enters the engine's list, once until it is taken. So
 * the waiters of what changed are found without asking any other object.
 */
#ifndef FZ_CHANGE_H
#define FZ_CHANGE_H

#include <stdint.h>

#include "base/list.h"

struct fz_engine;

struct fz_change {
	struct fz_engine *engine;
	struct fz_list link; /* in the engine's list of changed objects */
	uint64_t id;         /* of the object: no other of the engine has it */
};

/* Initialise the change of an object. End with fz_change_fini(). */
void fz_change_init(struct fz_change *change, struct fz_engine *engine);
void fz_change_fini(struct fz_change *change);

/* Report that the object has changed, so that its waiters check it. */
void fz_changed(struct fz_change *change);

/* Take the object that changed first. Returns its id; 0: none has changed. */
uint64_t fz_change_take(struct fz_engine *engine);

#endif
